"""Takes an authentic delivery into the ledger, waits for its outcome where its sender does, and says what it is told.

The order is durable in the ledger before anything but a refusal is answered. Then the request waits for the outcome,
because the guide's own Apex takes 200 for Provisioned and everything else for Failed; see docs/webhooks.md. The
receiver's view (salesforce.py) and the way past it (door.py) both come through here.

Moments are seconds since 1970.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

from flask import Response

from portal import logs
from portal.domain.model import ErrorCode, State
from portal.ledger import deliveries, fulfillments, outbox
from portal.ledger.accepting import Accepted, Delivery, KeyReused, NonceUsed, find_accepted
from portal.ledger.engine import CommitUnknown, LedgerUnavailable
from portal.ledger.fulfillments import Fulfillment
from portal.web.batch import together
from portal.web.context import Portal, path_of
from portal.web.problems import Problem, problem_response
from portal.webhooks import nonces, receivers
from portal.webhooks.receivers import Receivers
from portal.webhooks.verifier import FulfillCall

log = logging.getLogger("portal.webhooks")

#: The guide's own Apex writes Failed over our outcome on any answer but 200: so many seconds later we say it once more.
CORRECTION_SECONDS: Final = 5.0

#: A resync that is planned for so many seconds earlier or later needn't be moved.
_ABOUT_SECONDS: Final = 1.0

_PREFERENCE = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*"?([^",;]*)"?)?\s*(?:;.*)?', re.ASCII)

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


#: Counts a request and claims its nonce (a nonce_id): false where that is taken.
Claim = Callable[[str], bool]


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


def take(portal: Portal, call: FulfillCall, preference: Preference, claim: Claim, *, now: float) -> Response:
    """Take an authentic delivery, wait for its outcome as long as `preference` has it, and answer it.

    now: when the request came. Raises NonceUsed and KeyReused, where nothing was accepted, what `claim` raises,
    LedgerUnavailable where nothing was accepted, CommitUnknown where that can't be told.
    """
    taking = _Taking(portal, portal.part(Receivers), call, preference, now)
    answer = taking.answer(claim)
    return _respond(portal, call, answer, preference)


@dataclass(frozen=True)
class _Taking:
    """One delivery on its way."""

    portal: Portal
    parts: Receivers
    call: FulfillCall
    preference: Preference
    now: float

    def answer(self, claim: Claim) -> Answer:
        call, waits = self.call, self.preference.seconds > 0
        until = time.monotonic() + self.preference.seconds
        with (
            self.portal.services.traces.delivery(call.sf_order_id) as traceparent,
            # A waiter begins before the commit: no wake-up is missed.
            self.parts.waiting.waiter(call.sf_order_id) if waits else nullcontext() as waiter,
        ):
            logs.bind(sfOrderId=call.sf_order_id, idempotencyKey=call.idempotency_key)
            accepted = self._accept(claim, traceparent)
            key, row = accepted.key, accepted.row
            log.info(
                "Salesforce order fulfillment request received",
                extra={"attempt": row.attempt, "state": row.state, "again": not key.new},
            )
            if key.answer_status is not None and key.answer_body is not None:
                answer = Answer(key.answer_status, key.answer_body, True)
            else:
                if row.state == State.QUEUED and row.enqueued_at is None:
                    receivers.enqueue(self.portal, call.sf_order_id, at_once=waits)
                if waiter is not None and not row.finished:
                    row = waiter.wait(lambda: self._worth_telling(until), until - time.monotonic()) or row
                answer = answer_of(row)
        self._conclude(accepted, answer)
        return answer

    def _accept(self, claim: Claim, traceparent: str | None) -> Accepted:
        """Nonce, key and fulfillment into the ledger, all or nothing. Raises as `take` does."""
        call, settings = self.call, self.portal.services.settings
        origin = {"requestId": logs.bound_now().get("requestId"), "idempotencyKey": call.idempotency_key}
        if traceparent is not None:
            origin["traceparent"] = traceparent
        delivery = Delivery(
            sf_order_id=call.sf_order_id,
            idempotency_key=call.idempotency_key,
            nonce_id=nonces.nonce_id(receivers.SALESFORCE.name, call.nonce),
            nonce_seconds=nonces.lifetime(settings.webhook_timestamp_tolerance / 1000),
            requested_at=call.sent_at,
            requested_by=call.requested_by,
            origin=origin,
            # Planned before the answer, because this process may die before it gives one.
            resync_at=None if self.preference.asynchronous else self._planned_resync,
        )
        if not claim(delivery.nonce_id):
            self._refuse_used_nonce(delivery)
        try:
            return together(self.parts.acceptor.accept, (delivery, self.now))
        except NonceUsed:
            raise
        except CommitUnknown as unknown:
            known = self._what_became_of(delivery, unknown)
            if known is None:
                self.parts.nonces.give_back(delivery.nonce_id)
                raise LedgerUnavailable("the database went away before the delivery was in it") from unknown
            return known
        except BaseException:
            self.parts.nonces.give_back(delivery.nonce_id)
            raise

    def _refuse_used_nonce(self, delivery: Delivery) -> None:
        """A key of another order is what is wrong first: who sends the same again is told the same again.

        Raises KeyReused or NonceUsed; neither where the ledger knows nothing of it.
        """
        with self.portal.services.ledger.read() as connection:
            key = deliveries.key_of(connection, delivery.idempotency_key, now=self.now)
            used = deliveries.recorded(connection, delivery.nonce_id)
        if key is not None and key.sf_order_id != delivery.sf_order_id:
            raise KeyReused
        if used:
            raise NonceUsed

    def _what_became_of(self, delivery: Delivery, unknown: CommitUnknown) -> Accepted | None:
        """Whether a delivery whose commit was lost is in the ledger. Raises `unknown` where that can't be asked."""
        try:
            with self.portal.services.ledger.read() as connection:
                return find_accepted(connection, delivery, now=self.portal.services.now())
        except LedgerUnavailable:
            raise unknown from None

    @property
    def _planned_resync(self) -> float:
        return self.now + self.preference.seconds + CORRECTION_SECONDS

    def _conclude(self, accepted: Accepted, answer: Answer) -> None:
        """Keep a final answer, and see to it that what the sender makes of any answer but 200 is put right.

        The order is accepted by now, and the answer says so, whether the ledger can still be written to or not: the
        resync that was planned with the acceptance is sent all the same, and the same key is answered from the order's
        state. A resync that comes about when it should is left as it is.
        """
        services = self.portal.services
        keep = answer.final and accepted.key.answer_status is None
        resync_at = services.now() + CORRECTION_SECONDS
        as_planned = answer.status != 200 and abs(resync_at - self._planned_resync) < _ABOUT_SECONDS
        if not keep and (accepted.resync is None or as_planned):
            return
        try:
            with services.ledger.write() as connection:
                if keep:
                    deliveries.keep_answer(connection, self.call.idempotency_key, answer.status, answer.body)
                if accepted.resync is not None and answer.status == 200:
                    outbox.drop(connection, accepted.resync, now=services.now())
                elif accepted.resync is not None:
                    outbox.put_off(connection, accepted.resync, due_at=resync_at)
        except (LedgerUnavailable, CommitUnknown) as error:
            log.warning("An answer couldn't be kept", extra={"sfOrderId": self.call.sf_order_id, "error": str(error)})

    def _worth_telling(self, until: float) -> Fulfillment | None:
        """The fulfillment once it is finished, or put off beyond what this request may wait (until: time.monotonic).

        None, too, while the ledger can't be read: the order is accepted, so its sender waits on, for a 202 in the end.
        """
        services, sf_order_id = self.portal.services, self.call.sf_order_id
        try:
            with services.ledger.read() as connection:
                row = fulfillments.get(connection, sf_order_id)
        except LedgerUnavailable as error:
            log.warning("The outcome can't be read now", extra={"sfOrderId": sf_order_id, "error": str(error)})
            return None
        if row is None or row.finished:
            return row
        put_off = row.state == State.WAITING and row.due_at - services.now() > until - time.monotonic()
        return row if put_off else None


def _respond(portal: Portal, call: FulfillCall, answer: Answer, preference: Preference) -> Response:
    extra = {} if preference.applied is None else {"Preference-Applied": preference.applied}
    if answer.status >= 400:
        return problem_response(answer.status, answer.body, extra)
    response = Response(json.dumps(answer.body), status=answer.status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    if answer.status == 202:
        response.headers["Location"] = path_of(portal.services.settings, f"/api/orders/{call.sf_order_id}")
    response.headers.update(extra)
    return response
