"""Salesforce's receiver: an operator pressed "Provision in WHMCS", and the answer is the order's outcome.

The order is durable in the ledger before anything but a refusal is answered. Then the request waits for the outcome,
because the guide's own Apex takes 200 for Provisioned and everything else for Failed; see docs/webhooks.md.

Moments are seconds since 1970.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from flask import Blueprint, Response, request
from flask_limiter import RateLimitExceeded

from portal import logs
from portal.domain.model import ErrorCode, State
from portal.ledger import deliveries, fulfillments, outbox
from portal.ledger.accepting import Accepted, Delivery, KeyReused, NonceUsed, find_accepted
from portal.ledger.engine import CommitUnknown, LedgerUnavailable
from portal.ledger.fulfillments import Fulfillment
from portal.web.batch import leave, together
from portal.web.context import public_path, services
from portal.web.problems import Problem, problem_response
from portal.webhooks import nonces, receivers
from portal.webhooks.verifier import FulfillCall, Refused, verify_fulfill

log = logging.getLogger("portal.webhooks")

blueprint = Blueprint("salesforce_receiver", __name__)
blueprint.register_error_handler(RateLimitExceeded, receivers.over_limit(receivers.SALESFORCE))

#: The guide's own Apex writes Failed over our outcome on any answer but 200: so many seconds later we say it once more.
CORRECTION_SECONDS: Final = 5.0

#: A resync that is planned for so many seconds earlier or later needn't be moved.
_ABOUT_SECONDS: Final = 1.0

_PREFERENCE = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*"?([^",;]*)"?)?\s*(?:;.*)?', re.ASCII)

#: By its bytes, a delivery whose sender doesn't wait. Where that is wrong, the request leaves its batch.
_ADDRESS = re.compile(rb"POST (?:/[^ ?]*)?/orders/[^/ ?]+/fulfill[ ?]")
_WAITS_FOR_NOTHING = re.compile(rb"\r\nprefer:[ \t]*(?:respond-async|wait=0)[ \t]*\r\n", re.IGNORECASE)

#: What the runbook calls each failure; the codes are the fulfillment's own, lower-cased.
_FAILURES: Final = {
    ErrorCode.PAYMENT_METHOD_MISSING: (409, "Payment method missing"),
    ErrorCode.ORDER_NOT_FOUND: (404, "Order not found"),
    ErrorCode.ORDER_NOT_FULFILLABLE: (422, "Order not fulfillable"),
    ErrorCode.ORDER_HAS_NO_ITEMS: (422, "Order has no items"),
    ErrorCode.CLIENT_NOT_MAPPED: (422, "Client not mapped"),
    ErrorCode.PRODUCT_MAPPING_MISSING: (422, "Product mapping missing"),
    ErrorCode.WHMCS_ADD_ORDER_FAILED: (422, "WHMCS add order failed"),
    ErrorCode.WHMCS_ACCEPT_ORDER_FAILED: (422, "WHMCS accept order failed"),
    ErrorCode.WHMCS_SERVICE_NOT_ACTIVE: (422, "WHMCS service not active"),
    ErrorCode.WHMCS_UNAVAILABLE: (422, "WHMCS unavailable"),
    ErrorCode.SALESFORCE_UNAVAILABLE: (422, "Salesforce unavailable"),
}


@dataclass(frozen=True)
class Answer:
    """What a sender is told, and whether it is the last word on its Idempotency-Key."""

    status: int
    body: dict[str, Any]
    final: bool


@dataclass(frozen=True)
class Preference:
    """RFC 7240's Prefer header, as far as it concerns us."""

    seconds: float  # to wait at most
    applied: str | None  # for Preference-Applied
    asynchronous: bool = False  # the sender doesn't take the answer for the outcome


@blueprint.post("/orders/<sf_order_id>/fulfill", provide_automatic_options=False)
def fulfill(sf_order_id: str) -> Response:
    """Take one order and wait for its outcome; docs/webhooks.md has the checks and answers. Raises Problem."""
    portal = services()
    now = portal.now()
    call = _verified(sf_order_id, now=now)
    preference = read_preference(request.headers.get("Prefer"), portal.settings.fulfillment_wait_seconds)
    until = time.monotonic() + preference.seconds
    if preference.seconds > 0:
        leave()

    # A waiter begins before the commit: no wake-up is missed.
    waits = receivers.here().waiting.waiter(call.sf_order_id) if preference.seconds > 0 else nullcontext()
    with (
        portal.traces.delivery(call.sf_order_id) as traceparent,
        waits as waiter,
    ):
        logs.bind(sfOrderId=call.sf_order_id, idempotencyKey=call.idempotency_key)
        accepted = _accept(call, preference, traceparent, now=now)
        key, row = accepted.key, accepted.row
        log.info(
            "Salesforce order fulfillment request received",
            extra={
                "attempt": row.attempt,
                "state": row.state,
                "again": not key.new,
            },
        )
        if key.answer_status is not None and key.answer_body is not None:
            answer = Answer(key.answer_status, key.answer_body, True)
            _conclude(call, accepted, answer, preference, now=now)
            return _respond(call, answer, preference)
        if row.state == State.QUEUED and row.enqueued_at is None:
            receivers.enqueue(call.sf_order_id, at_once=preference.seconds > 0)
        if waiter is not None and not row.finished:
            row = waiter.wait(lambda: _worth_telling(call.sf_order_id, until), until - time.monotonic()) or row
    answer = answer_of(row)
    _conclude(call, accepted, answer, preference, now=now)
    return _respond(call, answer, preference)


@blueprint.post("/orders/<sf_order_id>/provision", provide_automatic_options=False)
def provision(sf_order_id: str) -> NoReturn:
    """The endpoint's old name."""
    raise Problem(
        410,
        "endpoint_renamed",
        "Endpoint renamed",
        "Send this to POST /orders/{sfOrderId}/fulfill instead; nothing was done.",
        endpoint=public_path("/orders/{sfOrderId}/fulfill"),
    )


def comes_with_others(sent: bytes) -> bool:
    """Whether a whole request may be taken together with others (portal.web.batch)."""
    return _ADDRESS.match(sent) is not None and _WAITS_FOR_NOTHING.search(sent) is not None


def read_preference(header: str | None, longest: float) -> Preference:
    """How long a Prefer header lets us wait: `respond-async` not at all, `wait=N` at most N seconds, both together: N.

    Never longer than `longest` (seconds). What can't be read is ignored, as RFC 7240 has it.
    """
    asynchronous = False
    wait: int | None = None
    for word in (header or "").split(","):
        match = _PREFERENCE.fullmatch(word)
        if match is None:
            continue
        name, value = match.group(1).lower(), match.group(2)
        if name == "respond-async" and not value:
            asynchronous = True
        elif name == "wait" and wait is None and value is not None and re.fullmatch("[0-9]{1,6}", value, re.ASCII):
            wait = int(value)
    applied = [f"wait={wait}"] if wait is not None and wait <= longest else []
    if asynchronous:
        applied.insert(0, "respond-async")
    seconds = longest if wait is None else min(longest, float(wait))
    if asynchronous and wait is None:
        seconds = 0.0
    return Preference(seconds, ", ".join(applied) or None, asynchronous)


def answer_of(row: Fulfillment) -> Answer:
    """What the state of a fulfillment means to Salesforce: docs/webhooks.md, "What is answered"."""
    if row.state == State.PROVISIONED:
        return Answer(
            200, {"success": True, "status": "Provisioned", "whmcsOrderId": str(row.elected_whmcs_id or "")}, True
        )
    if row.state == State.FAILED:
        code = str(row.error_code or ErrorCode.PROVISIONING_ERROR)
        status, title = _FAILURES.get(code, (422, "Provisioning error"))  # type: ignore[call-overload]
        return Answer(status, Problem(status, code.lower(), title, row.error_message or "").body(), True)
    if row.state == State.NEEDS_DECISION:
        return Answer(409, Problem(409, "needs_decision", "Needs a decision", row.error_message or "").body(), False)
    return Answer(202, {"status": "Activating"}, False)


def _verified(path_id: str, *, now: float) -> FulfillCall:
    settings = services().settings
    verdict = verify_fulfill(
        receivers.read_body(),
        receivers.headers(),
        path_id,
        secrets=receivers.SALESFORCE.secrets(settings),
        now=now,
        tolerance=settings.webhook_timestamp_tolerance / 1000,
    )
    if isinstance(verdict, Refused):
        receivers.refuse(receivers.SALESFORCE, verdict)
    receivers.authentic(receivers.SALESFORCE, verdict.secret)
    return verdict


def _accept(call: FulfillCall, preference: Preference, traceparent: str | None, *, now: float) -> Accepted:
    """Nonce, key and fulfillment into the ledger, all or nothing.

    Raises Problem, LedgerUnavailable where nothing was accepted, CommitUnknown where that can't be told.
    """
    portal = services()
    store = receivers.here().nonces
    origin = {"requestId": logs.bound_now().get("requestId"), "idempotencyKey": call.idempotency_key}
    if traceparent is not None:
        origin["traceparent"] = traceparent
    delivery = Delivery(
        sf_order_id=call.sf_order_id,
        idempotency_key=call.idempotency_key,
        nonce_id=nonces.nonce_id(receivers.SALESFORCE.name, call.nonce),
        nonce_seconds=nonces.lifetime(portal.settings.webhook_timestamp_tolerance / 1000),
        requested_at=call.sent_at,
        requested_by=call.requested_by,
        origin=origin,
        # Planned before the answer, because this process may die before it gives one.
        resync_at=None if preference.asynchronous else _planned_resync(preference, now=now),
    )
    if not receivers.claim(receivers.SALESFORCE, delivery.nonce_id):
        _refuse_used_nonce(call, delivery, now=now)
    try:
        return together(receivers.here().acceptor.accept, (delivery, now))
    except NonceUsed:
        receivers.nonce_used(receivers.SALESFORCE)
    except CommitUnknown as unknown:
        known = _what_became_of(delivery, unknown)
        if known is None:
            store.give_back(delivery.nonce_id)
            raise LedgerUnavailable("the database went away before the delivery was in it") from unknown
        return known
    except BaseException as error:
        store.give_back(delivery.nonce_id)
        if isinstance(error, KeyReused):
            _key_reused()
        raise


def _refuse_used_nonce(call: FulfillCall, delivery: Delivery, *, now: float) -> None:
    """A key of another order is what is wrong first: who sends the same again is told the same again."""
    with services().ledger.read() as connection:
        key = deliveries.key_of(connection, call.idempotency_key, now=now)
        used = deliveries.recorded(connection, delivery.nonce_id)
    if key is not None and key.sf_order_id != call.sf_order_id:
        _key_reused()
    if used:
        receivers.nonce_used(receivers.SALESFORCE)


def _what_became_of(delivery: Delivery, unknown: CommitUnknown) -> Accepted | None:
    """Whether a delivery whose commit was lost is in the ledger. Raises `unknown` where that can't be asked either."""
    portal = services()
    try:
        with portal.ledger.read() as connection:
            return find_accepted(connection, delivery, now=portal.now())
    except LedgerUnavailable:
        raise unknown from None


def _planned_resync(preference: Preference, *, now: float) -> float:
    return now + preference.seconds + CORRECTION_SECONDS


def _conclude(call: FulfillCall, accepted: Accepted, answer: Answer, preference: Preference, *, now: float) -> None:
    """Keep a final answer, and see to it that what the sender makes of any answer but 200 is put right.

    The order is accepted by now, and the answer says so, whether the ledger can still be written to or not: the resync
    that was planned with the acceptance is sent all the same, and the same key is answered from the order's state. A
    resync that comes about when it should is left as it is. now: when the request came.
    """
    portal = services()
    keep = answer.final and accepted.key.answer_status is None
    resync_at = portal.now() + CORRECTION_SECONDS
    as_planned = answer.status != 200 and abs(resync_at - _planned_resync(preference, now=now)) < _ABOUT_SECONDS
    if not keep and (accepted.resync is None or as_planned):
        return
    try:
        with portal.ledger.write() as connection:
            if keep:
                deliveries.keep_answer(connection, call.idempotency_key, answer.status, answer.body)
            if accepted.resync is not None and answer.status == 200:
                outbox.drop(connection, accepted.resync, now=portal.now())
            elif accepted.resync is not None:
                outbox.put_off(connection, accepted.resync, due_at=resync_at)
    except (LedgerUnavailable, CommitUnknown) as error:
        log.warning("An answer couldn't be kept", extra={"sfOrderId": call.sf_order_id, "error": str(error)})


def _key_reused() -> NoReturn:
    raise Problem(
        422,
        "idempotency_key_reused",
        "Idempotency-Key reused",
        "This Idempotency-Key was sent for another order: use a new one for every click.",
    )


def _worth_telling(sf_order_id: str, until: float) -> Fulfillment | None:
    """The fulfillment once it is finished, or put off beyond what this request may wait.

    None, too, while the ledger can't be read: the order is accepted, so its sender waits on, for a 202 in the end.
    """
    portal = services()
    try:
        with portal.ledger.read() as connection:
            row = fulfillments.get(connection, sf_order_id)
    except LedgerUnavailable as error:
        log.warning("The outcome can't be read now", extra={"sfOrderId": sf_order_id, "error": str(error)})
        return None
    if row is None or row.finished:
        return row
    put_off = row.state == State.WAITING and row.due_at - portal.now() > until - time.monotonic()
    return row if put_off else None


def _respond(call: FulfillCall, answer: Answer, preference: Preference) -> Response:
    extra = {} if preference.applied is None else {"Preference-Applied": preference.applied}
    if answer.status >= 400:
        return problem_response(answer.status, answer.body, extra)
    response = Response(json.dumps(answer.body), status=answer.status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    if answer.status == 202:
        response.headers["Location"] = public_path(f"/api/orders/{call.sf_order_id}")
    response.headers.update(extra)
    return response
