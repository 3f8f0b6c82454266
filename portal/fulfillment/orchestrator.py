"""The fulfillment of one order, top to bottom: claim it, do the seven steps, and end, wait or give up truthfully.

Moments are seconds since 1970.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

from portal import logs
from portal.domain.model import (
    FRACTIONAL_QUANTITY,
    NO_ACCOUNT,
    NO_CLIENT,
    UNKNOWN_WORDS,
    ErrorCode,
    FulfillmentFailed,
    LeaseLost,
    NeedsDecision,
    State,
    Step,
    UpstreamError,
)
from portal.fulfillment import steps
from portal.fulfillment.run import Run, RunContext, WaitUntil
from portal.ledger import runs
from portal.ledger.engine import CommitUnknown, LedgerUnavailable
from portal.ledger.fulfillments import Fulfillment

log = logging.getLogger("portal.fulfillment")

#: Seconds until whoever met a fault of the set-up comes back, as a rule to be the circuit's probe: it sets the pace.
SETUP_PAUSE = 1.5

#: So often what WHMCS refuses in words nobody knows is tried again: they may be about the moment, or about the order.
REFUSED_TRIES = 3

#: The codes of what WHMCS didn't do, by action.
_CODES = {
    "AddOrder": ErrorCode.WHMCS_ADD_ORDER_FAILED,
    "AcceptOrder": ErrorCode.WHMCS_ACCEPT_ORDER_FAILED,
}


@dataclass(frozen=True)
class Ended:
    """How a run ended: the fulfillment's state now, and for a failure its code and message."""

    state: State
    code: ErrorCode | None = None
    message: str = ""


def fulfill(context: RunContext, sf_order_id: str) -> Ended | None:
    """Run an order if it is to be run now; None when it isn't, or is another worker's.

    Raises LeaseLost when this process may not own orders any more, and LedgerUnavailable or CommitUnknown when the
    ledger can't be used: the order then stays this worker's until it is taken over.
    """
    with context.ledger.write() as connection:
        row = runs.claim(connection, sf_order_id, context.worker_id, now=context.now())
        if row is None:
            return None
        run = Run(context, row, _still_done(row, runs.steps_done(connection, sf_order_id, row.attempt)))
        run.begin_with_claim(connection, Step.VALIDATION)
    origin = row.origin or {}
    bound = logs.bound(
        sfOrderId=sf_order_id,
        attempt=row.attempt,
        requestId=origin.get("requestId"),
        idempotencyKey=origin.get("idempotencyKey"),
    )
    with bound, context.span(row):
        return _run(run, row)


def _run(run: Run, row: Fulfillment) -> Ended:
    """The seven steps, and the end they come to. Raises as `fulfill`."""
    log.info("Starting fulfillment orchestration", extra={"fence": row.fence})
    run.context.fault_point("claimed")
    sf_order_id = run.id
    try:
        run.step(Step.VALIDATION, steps.validation)
        run.step(Step.SF_STATUS_UPDATE, steps.sf_status_update)
        run.step(Step.ORDER_DETAILS, steps.order_details)
        run.step(Step.MAPPING, steps.mapping)
        run.step(Step.WHMCS_CREATE, steps.whmcs_create)
        run.step(Step.WHMCS_ACCEPT, steps.whmcs_accept)
        run.step(Step.SF_SUCCESS_UPDATE, steps.sf_success_update)
        run.provisioned()
    except FulfillmentFailed as failure:
        return _failed(run, State.FAILED, failure.code, failure.message)
    except NeedsDecision as doubt:
        return _failed(run, State.NEEDS_DECISION, doubt.code, doubt.message)
    except WaitUntil as waiting:
        return _waiting(run, waiting.until, waiting.why, uncertain=True, code=waiting.code)
    except UpstreamError as error:
        return _upstream_error(run, error)
    except (LeaseLost, LedgerUnavailable, CommitUnknown):
        raise
    except Exception:
        # A fault of ours. What was sent stays recorded as without outcome; try again as for any passing trouble.
        log.exception("Fulfillment step raised an unexpected error", extra={"sfOrderId": sf_order_id})
        unexpected = UpstreamError("portal", "an unexpected error in the portal, see its log", permanent=False)
        return _upstream_error(run, unexpected)
    log.info(
        "Order provisioned",
        extra={"sfOrderId": sf_order_id, "whmcsOrderId": run.facts.elected, "serviceIds": run.service_ids},
    )
    return Ended(State.PROVISIONED)


def _still_done(row: Fulfillment, done: set[str]) -> set[str]:
    """The steps that needn't be done again.

    As long as no WHMCS order is elected, what was checked is checked anew: what is created is what is approved now, and
    meanwhile hours may have passed.
    """
    return done if row.elected_whmcs_id is not None else done & {Step.SF_STATUS_UPDATE}


def _failed(run: Run, state: State, code: ErrorCode, message: str) -> Ended:
    log.error(
        "Order fulfillment failed" if state is State.FAILED else "Order needs a decision",
        extra={"sfOrderId": run.id, "step": run.current, "code": code.value, "error": message},
    )
    run.failed(state, code, message)
    return Ended(state, code, message)


def _waiting(run: Run, until: float, why: str, *, uncertain: bool, code: ErrorCode | None = None) -> Ended:
    log.info(
        "Order waits",
        extra={"sfOrderId": run.id, "step": run.current, "seconds": round(until - run.context.now(), 1), "why": why},
    )
    run.reschedule(until, why, uncertain=uncertain, code=code)
    return Ended(State.WAITING, message=why)


def _upstream_error(run: Run, error: UpstreamError) -> Ended:
    """A refusal fails the order. Passing trouble is tried again by the schedule, until that is exhausted; a fault of
    the set-up without end, for it says nothing about the order: the circuit's recovery wakes it."""
    if error.permanent:
        return _failed(run, State.FAILED, _code_of_refusal(error), str(error))
    now = run.context.now()
    waits_for = _code_of_outage(error.upstream)
    if error.setup:
        run.tries, run.first_failed_at = 0, None  # that is no trouble of this order's
        pause = error.retry_after or SETUP_PAUSE * random.uniform(0.8, 1.2)
        return _waiting(run, now + pause, str(error), uncertain=False, code=waits_for)
    schedule = run.context.settings.fulfillment_retry_schedule
    if run.first_failed_at is None:
        run.first_failed_at = now
    if error.code == "circuit_open":  # nothing was tried: this isn't one of the order's own tries
        given_up, refused = now - run.first_failed_at > 1.25 * sum(schedule), False
    else:
        run.tries += 1
        refused = error.code == UNKNOWN_WORDS and error.action in _CODES
        given_up = run.tries > (min(len(schedule), REFUSED_TRIES) if refused else len(schedule))
    if given_up:
        code = _CODES[error.action] if refused else waits_for
        return _failed(run, State.FAILED, code, f"Given up after {run.tries} tries: {error}")
    pause = schedule[max(run.tries, 1) - 1] * random.uniform(0.8, 1.2)
    if error.retry_after is not None:
        pause = error.retry_after if error.code == "circuit_open" else max(pause, error.retry_after)
    return _waiting(run, now + pause, str(error), uncertain=error.unknown, code=waits_for)


def _code_of_refusal(error: UpstreamError) -> ErrorCode:
    """By what was refused, not by the step: a read within a step is no AcceptOrder."""
    if error.code in (NO_CLIENT, NO_ACCOUNT):
        return ErrorCode.CLIENT_NOT_MAPPED
    if error.code == FRACTIONAL_QUANTITY:
        return ErrorCode.PRODUCT_MAPPING_MISSING
    return _CODES.get(error.action, ErrorCode.PROVISIONING_ERROR)


def _code_of_outage(upstream: str) -> ErrorCode:
    return {
        "whmcs": ErrorCode.WHMCS_UNAVAILABLE,
        "salesforce": ErrorCode.SALESFORCE_UNAVAILABLE,
    }.get(upstream.casefold(), ErrorCode.PROVISIONING_ERROR)
