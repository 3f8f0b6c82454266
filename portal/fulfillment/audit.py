"""What is set right after the fact: looks at WHMCS after an order has ended, planned ones and those a hint brought on.

They find a second order that a call sent long ago made, what staff changed in WHMCS without telling anybody, and a
payment method for which an order waited. Their cost is bounded: WHMCS_AUDIT_SCHEDULE plans them ever further apart.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from portal.domain.completeness import claim_fault
from portal.domain.model import (
    CustomerStatus,
    ErrorCode,
    LeaseLost,
    NeedsDecision,
    State,
    UpstreamError,
    WhmcsService,
)
from portal.domain.protocol import Do, decide_audit
from portal.domain.seen import ACTIVE, LIVE_SERVICE
from portal.errors import PortalError
from portal.fulfillment.executor import cancel_stray, look
from portal.fulfillment.run import Run, RunContext, WaitUntil
from portal.fulfillment.steps import can_pay
from portal.ledger import adopting, audits, decisions, events, fulfillments, orders, payment_hints
from portal.ledger.fulfillments import Fulfillment

log = logging.getLogger("portal.fulfillment")

#: An audit that was begun and not ended is done again after so many seconds.
AUDIT_CLAIM = 120.0

#: Seconds after the possible late commit of an AddOrder at which an order that may have a duplicate is looked at.
DUPLICATE_AUDITS = (0.0, 3600.0, 86_400.0)

_NO_CLAIM = (
    "Salesforce names WHMCS order {}, which {}. Clear WHMCS_Order_ID__c and provision again, or adopt the order on "
    "purpose"
)

#: WHMCS' words for an order, and for a service, that is over.
ENDED_ORDER = frozenset({"Cancelled", "Fraud"})
ENDED_SERVICE = frozenset({"Cancelled", "Terminated", "Fraud"})


def audit(context: RunContext, sf_order_id: str) -> bool:
    """Do an ended order's audit if it is due: cancel strays, follow the elected order, find what a person must decide.

    Returns whether there was one to do. Where WHMCS can't be asked, or mustn't be written to, or where we make a
    mistake, it is done again later. Raises LedgerUnavailable and CommitUnknown.
    """
    now = context.now()
    with context.ledger.read() as connection:  # a job that has nothing to do waits for nobody's transaction
        row = fulfillments.get(connection, sf_order_id)
    if row is None or not row.finished or row.audit_due_at is None or row.audit_due_at > now:
        return False
    with context.ledger.write() as connection:
        if not audits.claim_audit(connection, row, due_again_at=now + AUDIT_CLAIM):
            return False
    try:
        if row.state is State.FAILED and row.error_code == ErrorCode.PAYMENT_METHOD_MISSING:
            _ask_for_payment_method(context, row)
        elif row.plan is not None and "clientId" in row.plan:
            if adopting.UNVERIFIED in row.plan:
                row = _verify_claim(context, row)
            run = Run(context, row, set())
            if _doubtful(row) or row.audits == 0:
                _look_after(run)
            _follow_elected(run, row)
    except NeedsDecision as doubt:
        log.error("Order needs a decision", extra={"sfOrderId": row.sf_order_id, "error": doubt.message})
        with context.ledger.write() as connection:
            audits.doubt(connection, row, doubt.code, doubt.message, now=context.now())
        return True
    except LeaseLost:
        return True  # somebody asked for the order again meanwhile: its new run looks for itself
    except (UpstreamError, WaitUntil) as trouble:
        log.warning("Audit put off", extra={"sfOrderId": sf_order_id, "error": str(trouble)})
        later = trouble.until if isinstance(trouble, WaitUntil) else context.now() + (trouble.retry_after or 15.0)
        with context.ledger.write() as connection:
            audits.settle(connection, row, due_at=later, audits=row.audits)
        return True
    except PortalError:
        raise
    except Exception:
        # A fault of ours: it must not end the process, which runs other orders, too. The claim brings it on again.
        log.exception("Audit raised an unexpected error", extra={"sfOrderId": sf_order_id})
        return True
    _settle(context, row)
    return True


def _ask_for_payment_method(context: RunContext, row: Fulfillment) -> None:
    """A client is said to have a payment method now: ask WHMCS once, and let all of the client's orders go on."""
    client_id = row.client_id or ""
    with context.ledger.write() as connection:
        payment_hints.note_asked(connection, client_id, now=context.now())
    if not can_pay(context, client_id):
        return
    with context.ledger.write() as connection:
        for sf_order_id in fulfillments.failed_for_payment_method(connection, client_id):
            decisions.resume(
                connection, sf_order_id, now=context.now(), actor="whmcs", why="a payment method was added"
            )


def _verify_claim(context: RunContext, row: Fulfillment) -> Fulfillment:
    """An order that Salesforce showed Provisioned when this ledger didn't know it: is that WHMCS order its own?

    Returns its row, with the client. What became of the order since is the audit's.
    """
    plan, number = row.plan or {}, row.elected_whmcs_id or ""
    order = context.whmcs.order(number)
    if order is None:
        raise NeedsDecision(_NO_CLAIM.format(number, "WHMCS doesn't have"))
    client_id = row.client_id or order.client_id
    services = [service for service in context.whmcs.services(client_id) if service.order_id == number]
    fault = claim_fault(
        order,
        services,
        sf_order_id=row.sf_order_id,
        client_id=client_id,
        ordered_at=plan.get("orderedAt"),
        reference_field=context.settings.whmcs_marker_custom_field,
    )
    if fault is not None:
        raise NeedsDecision(_NO_CLAIM.format(number, fault))
    with context.ledger.write() as connection:
        adopting.note_verified(connection, row.sf_order_id, client_id)
        verified = fulfillments.get(connection, row.sf_order_id)
    assert verified is not None
    return verified


def _look_after(run: Run) -> None:
    while True:
        action = decide_audit(run.facts, run.seen)
        if action.do is Do.DONE:
            return
        if action.do is Do.NEED_DECISION:
            raise NeedsDecision(action.why, action.code)
        if action.do is Do.LOOK:
            run.seen = run.seen.with_look(look(run), run.facts.elected)
        else:
            assert action.do is Do.CANCEL_STRAY
            assert action.order_id is not None
            cancel_stray(run, action.order_id)
            _verify_cancelled(run, action.order_id)
            run.seen = run.seen.after_cancel(action.order_id)


def _follow_elected(run: Run, row: Fulfillment) -> None:
    """What became of the elected order in WHMCS, and of its services, after the fulfillment had ended there."""
    if row.elected_whmcs_id is None:
        return
    order = run.seen.order if run.seen.order_read else None
    if order is None:  # not found by its reference (adopted, or WHMCS doesn't keep it), or cancelled beside others
        order = run.context.whmcs.order(row.elected_whmcs_id)
    status = "deleted" if order is None else order.status
    services = [s for s in run.context.whmcs.services(run.client_id) if s.order_id == row.elected_whmcs_id]
    now = run.context.now()
    with run.context.ledger.write() as connection:
        seen = {service.id: service.status for service in services}
        gone = {each: "Deleted" for each in row.service_ids if each not in seen}
        audits.note_services(connection, row.sf_order_id, seen | gone, now=now)
    if row.state is State.PROVISIONED:
        _follow_provisioned(run, row, status, services)
        return
    set_up = bool(services) and all(service.status in LIVE_SERVICE for service in services)
    if set_up and row.state is State.NEEDS_DECISION and row.error_code == ErrorCode.WHMCS_SERVICE_NOT_ACTIVE:
        # Somebody has set the service up in WHMCS since: nothing is left to decide.
        with run.context.ledger.write() as connection:
            fulfillments.start_again(connection, row, now=now, requested_by="whmcs")


def _follow_provisioned(run: Run, row: Fulfillment, status: str, services: Sequence[WhmcsService]) -> None:
    """A provisioned order that is over in WHMCS is Cancelled to its customer and in Salesforce; one that is live again
    is Provisioned again."""
    over = status in ENDED_ORDER or status == "deleted"
    over = over or (bool(row.service_ids) and all(each.status in ENDED_SERVICE for each in services))
    live = status == ACTIVE and any(service.status in LIVE_SERVICE for service in services)
    now = run.context.now()
    with run.context.ledger.write() as connection:
        if over:
            changed, kind = orders.set_cancelled_in_whmcs(connection, row.sf_order_id, now=now), "cancelled_in_whmcs"
        else:
            changed, kind = live and orders.set_live_again(connection, row.sf_order_id, now=now), "live_again_in_whmcs"
        if not changed and not (over and row.salesforce_status != CustomerStatus.CANCELLED):
            return  # nothing new, and Salesforce shows it
        detail = {"whmcsOrderId": row.elected_whmcs_id, "status": status}
        events.record(connection, kind, now=now, subject=row.sf_order_id, detail=detail)
        fulfillments.plan_resync(connection, row.sf_order_id, now=now, due_at=now)
    log.warning(
        "A provisioned order was cancelled in WHMCS" if over else "A cancelled order is live again in WHMCS",
        extra={"sfOrderId": row.sf_order_id, "whmcsOrderId": row.elected_whmcs_id, "status": status},
    )


def _verify_cancelled(run: Run, order_id: str) -> None:
    """A cancelled stray must leave nothing the customer pays or is served for: no open invoice, no live service."""
    order = run.context.whmcs.order(order_id)
    live = [s for s in run.context.whmcs.services(run.client_id) if s.order_id == order_id and s.status == "Active"]
    if live:
        raise NeedsDecision(f"the stray WHMCS order {order_id} has a live service: {', '.join(s.id for s in live)}")
    if order is not None and order.invoice_id is not None:
        status = run.context.whmcs.invoice_status(order.invoice_id)
        if status not in (None, "Cancelled", "Refunded"):
            log.error(
                "A cancelled stray order left an open invoice: cancel it in WHMCS",
                extra={"sfOrderId": run.id, "strayWhmcsOrderId": order_id, "invoiceId": order.invoice_id},
            )
            with run.context.ledger.write() as connection:
                events.record(
                    connection,
                    "stray_invoice_open",
                    now=run.context.now(),
                    subject=run.id,
                    detail={"whmcsOrderId": order_id, "invoiceId": order.invoice_id, "status": status},
                )


def _settle(context: RunContext, row: Fulfillment) -> None:
    """Note an audit as done, tell Salesforce the present state once more after the first, and plan the next.

    An audit that a hint from WHMCS brought on early stands in for none of the planned ones: what they wait for may
    not have happened yet.
    """
    now = context.now()
    planned = _planned(context, row)
    early = planned is not None and now < planned[0]
    done = row.audits if early or planned is None else row.audits + 1
    if planned is None:
        due_at = None
    elif early:
        due_at = planned[0]
    else:
        due_at = max(planned[1], now) if planned[1] is not None else None
    with context.ledger.write() as connection:
        audits.settle(connection, row, due_at=due_at, audits=done)
        if _doubtful(row) and row.audits == 0 and not early:
            # A write-back that a stopped process sent late may have overtaken ours.
            fulfillments.plan_resync(connection, row.sf_order_id, now=now, due_at=now)


def _doubtful(row: Fulfillment) -> bool:
    """Whether WHMCS may have more orders of this one than the elected."""
    return row.duplicate_possible or row.add_open


def _planned(context: RunContext, row: Fulfillment) -> tuple[float, float | None] | None:
    """When the audit that is next in the plan is due, and the one after it; None where none is planned."""
    schedule = context.settings.whmcs_audit_schedule
    ended = row.finished_at or 0.0
    moments: list[float] = []
    if _doubtful(row):
        first = max(ended, row.add_in_doubt_until or 0.0) + context.settings.whmcs_max_request_seconds
        moments = [first + later for later in DUPLICATE_AUDITS]
    unpaid = row.state is State.FAILED and row.error_code == ErrorCode.PAYMENT_METHOD_MISSING
    if row.elected_whmcs_id is not None or unpaid:
        begin = moments[-1] if moments else ended
        for pause in schedule:
            moments.append(begin + pause)
        while len(moments) < row.audits + 2:
            moments.append(moments[-1] + schedule[-1])
    if row.audits >= len(moments):
        return None
    return moments[row.audits], moments[row.audits + 1] if row.audits + 1 < len(moments) else None
