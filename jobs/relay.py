"""Carries the ledger's outbox: a thread for write-backs to Salesforce, one for mails and alerts, one for sign-in links.

A hung mail server holds no order back, and no mail to a customer waits for sign-in links that anybody may ask for. A
write-back tells how the order stands when it is sent.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from sqlalchemy.engine import Connection

from jobs.process import WorkerProcess
from portal.clients.salesforce.errors import MENDABLE_CODES
from portal.domain.model import CustomerStatus, JsonObject, UpstreamError
from portal.domain.write_back import Standing, order_fields
from portal.errors import PortalError
from portal.fulfillment.crowd import CROWD
from portal.ledger import events, outbox, queueing, unheard, write_backs
from portal.ledger.outbox import Message
from portal.mail.mailer import Mailer
from portal.ops.alerts import sender
from portal.ops.alerts.evaluate import EVERY, evaluate
from portal.services import Services

log = logging.getLogger("jobs.relay")

POLL_SECONDS = 0.5
COLLECT_SECONDS = 2.0  # write-backs are collected for so long while many orders wait
BATCH = 200  # what one composite call to Salesforce takes
AFTER_RUN_SECONDS = 1.0  # so much later a write-back is looked at again whose order's run is telling Salesforce itself
SETTLED_AT_ONCE = 25  # orders in one transaction: others want to write meanwhile
CLAIM_SECONDS = 60.0
LONGEST_PAUSE = 60.0  # seconds between two tries of one write-back while Salesforce is in trouble
LONGEST_AFTER_REFUSAL = 900.0  # the same where it was refused, and of mails and alerts
REQUESTED = 2000  # orders that were clicked and not heard: as many as one page of an answer holds
REFUSALS = 6  # so often a message that can never be taken is tried
LATE_SECONDS = 5.0  # after which the sweep carries an alert that no relay has carried
REVIVE_EVERY = 10.0  # seconds
GONE_AFTER = 86_400.0  # seconds for which a record that isn't found may come back


@dataclass(frozen=True)
class Told:
    """What Salesforce was to take of an order, and of which attempt."""

    fields: JsonObject
    standing: Standing
    attempt: int
    repeats_failed: bool = False  # Salesforce has taken before that this attempt Failed


def run(services: Services, worker_id: str) -> None:
    """A child's life: carry messages until SIGTERM."""
    stopping = threading.Event()

    def stop(_signum: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    if not WorkerProcess(services, worker_id, stopping=stopping.is_set).start("relay"):
        return
    relay_ = Relay(services, worker_id)
    carriers = [
        _Carrier(stopping, {"salesforce"}, relay_.write_back),
        _Carrier(stopping, {"mail", "alert"}, relay_.mail),
        _Carrier(stopping, {outbox.SIGN_IN}, relay_.sign_in),
    ]
    for carrier in carriers:
        carrier.start()
    while not stopping.wait(POLL_SECONDS):
        due = relay_.due()
        for carrier in carriers:
            if carrier.kinds & due:
                carrier.wake.set()
    for carrier in carriers:
        carrier.wake.set()
        carrier.join(timeout=5)


class _Carrier(threading.Thread):
    """Carries some kinds of messages when it is woken, as long as there are any."""

    def __init__(self, stopping: threading.Event, kinds: set[str], carry: Callable[[], int]) -> None:
        super().__init__(name=f"carries {'-'.join(sorted(kinds))}", daemon=True)
        self.kinds = kinds
        self.wake = threading.Event()
        self._stopping = stopping
        self._carry = carry

    def run(self) -> None:
        while not self._stopping.is_set():
            self.wake.wait()
            self.wake.clear()
            try:
                while not self._stopping.is_set() and self._carry():
                    pass
            except PortalError as error:
                log.warning("Can't carry messages now", extra={"error": str(error)})
                self._stopping.wait(1.0)
            except Exception:
                log.exception("Carrying messages failed")
                self._stopping.wait(5.0)


class Relay:
    """Sends due messages; each method returns how many it took up."""

    def __init__(self, services: Services, worker_id: str) -> None:
        self._services = services
        self._worker_id = worker_id
        self._mailer = Mailer(services)
        self._alert = partial(sender.send, services)
        self._next_look = 0.0
        self._revived_at = float("-inf")
        self._wrote_back_at = float("-inf")  # on the monotonic clock

    def due(self) -> set[str]:
        """The kinds of messages to be sent now; none while the ledger is away.

        While a crowd of orders waits, write-backs are collected for a moment: many go into one call.
        """
        try:
            with self._services.ledger.read() as connection:
                now = self._services.now()
                kinds = outbox.kinds_due(connection, now=now)
                lately = time.monotonic() - self._wrote_back_at < COLLECT_SECONDS
                if "salesforce" in kinds and lately:
                    crowd = len(queueing.waiting(connection, now=now, limit=CROWD)) == CROWD
                    kinds -= {"salesforce"} if crowd else set()
                # Alerts are looked for now and then: their carrier does it.
                return kinds | ({"alert"} if time.monotonic() >= self._next_look else set())
        except PortalError as error:
            log.warning("Can't look for messages now", extra={"error": str(error)})
            return set()

    # --- write-backs ---

    def write_back(self) -> int:
        """Tell Salesforce how the due orders stand now, many in one call; of one order once, however many are due."""
        self._wrote_back_at = time.monotonic()
        messages = self._claim("salesforce", BATCH)
        accounts = [each for each in messages if "account" in each.payload]
        for message in accounts:
            self._settle([message], self._tell_account(message))
        by_order: dict[str, list[Message]] = {}
        for message in messages:
            if message not in accounts:
                by_order.setdefault(message.subject, []).append(message)
        if by_order:
            self._tell_orders(by_order)
        return len(messages)

    def _tell_orders(self, by_order: dict[str, list[Message]]) -> None:
        services = self._services
        now = services.now()
        told: list[tuple[str, Told]] = []
        with services.ledger.write() as connection:
            held = outbox.claim_held(
                connection, [each.id for some in by_order.values() for each in some], self._worker_id, now=now
            )
            write_backs.note_write(connection, list(by_order), now=now)
            # What a run tells itself must not be overtaken by how the order was before. Asked after note_write, which
            # waits for a run that is just about to.
            told_by_runs = outbox.sent_by_others(connection, "salesforce", list(by_order), self._worker_id, now=now)
            standings = write_backs.standings(connection, list(by_order))
            for sf_order_id, messages in by_order.items():
                if sf_order_id in told_by_runs:
                    ids = [each.id for each in messages]
                    outbox.leave(connection, ids, self._worker_id, due_at=now + AFTER_RUN_SECONDS)
                    continue
                standing, row = standings[sf_order_id]
                fields = order_fields(standing, now=now)
                if all(each.id not in held for each in messages):
                    continue  # another process has taken them over: what we know may be older than what it tells
                if fields is None:
                    self._sent(connection, messages)
                else:
                    attempt = row.attempt if row else 0
                    failed = fields["Provisioning_Status__c"] == CustomerStatus.FAILED
                    repeats = failed and row is not None and row.salesforce_status == CustomerStatus.FAILED
                    told.append((sf_order_id, Told(fields, standing, attempt, repeats)))
        told = self._without_clicks(told, by_order)
        outcomes = self._update([(sf_order_id, each.fields) for sf_order_id, each in told])
        settled = list(zip(told, outcomes, strict=True))
        for start in range(0, len(settled), SETTLED_AT_ONCE):
            some = settled[start : start + SETTLED_AT_ONCE]
            with services.ledger.write() as connection:
                now_standing = write_backs.standings(connection, [sf_order_id for (sf_order_id, _), _ in some])
                for (sf_order_id, each), outcome in some:
                    changed = now_standing[sf_order_id][0] != each.standing
                    self._write(connection, by_order[sf_order_id], outcome, each, changed=changed)
            for (sf_order_id, each), outcome in some:
                self._log(by_order[sf_order_id][0], outcome, each)

    def _without_clicks(
        self, told: list[tuple[str, Told]], by_order: dict[str, list[Message]]
    ) -> list[tuple[str, Told]]:
        """Those that may be told. A Failed that Salesforce knows already may not cover up a click that got lost: where
        the order is Requested again, it is started again instead.
        """
        again = [sf_order_id for sf_order_id, each in told if each.repeats_failed]
        if not again:
            return told
        try:
            clicked = set(self._services.salesforce.requested_orders(limit=REQUESTED)) & set(again)
        except UpstreamError as error:
            for sf_order_id in again:
                self._settle(by_order[sf_order_id], error)
            return [each for each in told if each[0] not in again]
        for sf_order_id in clicked:
            with self._services.ledger.write() as connection:
                unheard.request_unheard(connection, sf_order_id, now=self._services.now())
                self._sent(connection, by_order[sf_order_id])
        return [each for each in told if each[0] not in clicked]

    def _update(self, updates: list[tuple[str, JsonObject]]) -> list[UpstreamError | None]:
        """One call for all; for each, None or what was wrong with it."""
        if not updates:
            return []
        try:
            if len(updates) > 1:
                return self._services.salesforce.update_orders(updates)
            self._services.salesforce.update_order(*updates[0])
        except UpstreamError as error:
            return [error] * len(updates)
        return [None]

    def _tell_account(self, message: Message) -> UpstreamError | None:
        try:
            client_id = str(message.payload["fields"]["WHMCS_Client_ID__c"])
            self._services.salesforce.set_whmcs_client(str(message.payload["account"]), client_id)
        except UpstreamError as error:
            return error
        return None

    # --- mails and alerts ---

    def mail(self) -> int:
        """Send one due mail to a customer and one due alert."""
        if time.monotonic() >= self._next_look:  # the sweep looks, too: it may be what there is to tell of
            self._next_look = time.monotonic() + EVERY
            evaluate(self._services)
        return self._send({"mail": self._mailer.send, "alert": self._alert})

    def late_alerts(self) -> int:
        """Carry an alert that nobody has carried for LATE_SECONDS: that no worker runs may be what it says."""
        with self._services.ledger.read() as connection:
            due = outbox.longest_overdue(connection, "alert")
        if due is None or self._services.now() - due < LATE_SECONDS:
            return 0
        return self._send({"alert": self._alert})

    def sign_in(self) -> int:
        """Answer one ask for a sign-in link, unless mails to customers are due: those go first."""
        with self._services.ledger.read() as connection:
            if outbox.due(connection, "mail", now=self._services.now(), limit=1):
                return 0
        return self._send({outbox.SIGN_IN: self._mailer.send})

    def _send(self, senders: dict[str, Callable[[dict[str, Any]], None]]) -> int:
        count = 0
        for kind, send in senders.items():
            for message in self._claim(kind, 1):
                count += 1
                try:
                    send(message.payload)
                except UpstreamError as error:
                    self._settle([message], error)
                else:
                    self._settle([message], None)
        return count

    # --- what became of a message ---

    def _claim(self, kind: str, limit: int) -> list[Message]:
        services = self._services
        now = services.now()
        with services.ledger.read() as connection:
            if not outbox.due(connection, kind, now=now, limit=1):
                return []
        with services.ledger.write() as connection:
            messages = outbox.due(connection, kind, now=now, limit=limit)
            ids = [message.id for message in messages]
            mine = outbox.claim(connection, ids, self._worker_id, now=now, until=now + CLAIM_SECONDS)
            return [message for message in messages if message.id in mine]

    def _settle(self, messages: list[Message], error: UpstreamError | None) -> None:
        """Write what became of messages about one subject."""
        with self._services.ledger.write() as connection:
            self._write(connection, messages, error)
        self._log(messages[0], error)

    def _write(
        self,
        connection: Connection,
        messages: list[Message],
        error: UpstreamError | None,
        told: Told | None = None,
        *,
        changed: bool = False,
    ) -> None:
        """`told`: what Salesforce was to take of an order; changed: the order stands otherwise by now."""
        first = messages[0]
        if error is not None:
            for message in messages:
                self._refused(connection, message, error)
        elif changed:
            for message in messages:  # it changed while it was told: say it again
                now = self._services.now()
                outbox.again(connection, message.id, now=now, due_at=now, error="the order changed meanwhile")
        else:
            self._sent(connection, messages, told.fields if told is not None else None)
            if told is not None:
                status = told.fields["Provisioning_Status__c"]
                write_backs.note_status(connection, first.subject, told.attempt, status)
            self._revive(connection, first)

    def _log(self, first: Message, error: UpstreamError | None, told: Told | None = None) -> None:
        extra: dict[str, Any] = {"kind": first.kind, "sfOrderId": first.subject, "outboxId": first.id}
        if told is not None:
            extra["status"] = told.fields["Provisioning_Status__c"]
        if error is None:
            if first.kind == "salesforce":
                log.info("Order status updated in Salesforce", extra=extra)
        elif error.code != "circuit_open":
            what = "Failed to update order status in Salesforce" if first.kind == "salesforce" else "Message not sent"
            log.error(what, extra=extra | {"error": str(error)})

    def _sent(self, connection: Connection, messages: list[Message], told: JsonObject | None = None) -> None:
        for message in messages:
            outbox.sent(connection, message.id, now=self._services.now(), told=told)

    def _refused(self, connection: Connection, message: Message, error: UpstreamError) -> None:
        """Try again, ever more seldom, without end, unless this very message can never be taken.

        What refuses it for good may be mended all the same: a permission, a field, a lock. Only an order or an address
        that isn't there is no matter of time.
        """
        now = self._services.now()
        if message.kind == "salesforce":
            gone = error.code == "NOT_FOUND" and now - message.created_at > GONE_AFTER  # or hidden from us for a while
            hopeless = gone or error.code == "ENTITY_IS_DELETED"
        else:
            hopeless = error.permanent
        if hopeless and message.tries + 1 >= REFUSALS:
            outbox.dead(connection, message.id, error=str(error))
            events.record(
                connection,
                "message_given_up",
                now=now,
                subject=message.subject,
                detail={"kind": message.kind, "outboxId": message.id, "error": str(error)[:255]},
            )
            return
        if error.code == "circuit_open":
            pause = error.retry_after or 1.0
        else:
            seldom = error.refused or message.kind != "salesforce"
            longest = LONGEST_AFTER_REFUSAL if seldom else LONGEST_PAUSE
            pause = min(2.0 ** min(message.tries, 16), longest) * random.uniform(0.8, 1.2)
        due_at = now + max(pause, error.retry_after or 0.0)
        outbox.again(
            connection,
            message.id,
            now=now,
            due_at=due_at,
            error=str(error),
            code=error.code,
            refused=error.refused,
        )

    def _revive(self, connection: Connection, message: Message) -> None:
        """This one got through: what was refused for its last reason, or for a fault of the set-up, is due now."""
        codes = {message.error_code} if message.error_code else set()
        moment = time.monotonic()
        if message.kind == "salesforce" and moment - self._revived_at > REVIVE_EVERY:
            codes |= MENDABLE_CODES
            self._revived_at = moment
        if codes:
            outbox.revive(connection, message.kind, sorted(codes), now=self._services.now())
