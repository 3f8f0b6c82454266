"""Carries the ledger's outbox: write-backs to Salesforce in one thread, mails and alerts in another.

A hung mail server holds no order back, and an order's write-backs go in the order they were written.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from sqlalchemy.engine import Connection

from jobs.process import WorkerProcess
from portal.domain.model import JsonObject, UpstreamError
from portal.errors import PortalError
from portal.fulfillment.audit import present_fields
from portal.ledger import fulfillments, outbox
from portal.ledger.outbox import Message
from portal.mail.mailer import Mailer
from portal.services import Services
from portal.webhooks.alerts import send_alert

log = logging.getLogger("jobs.relay")

POLL_SECONDS = 0.3
BATCH = 200  # what one composite call to Salesforce takes
CLAIM_SECONDS = 60.0
LONGEST_PAUSE = 60.0  # seconds between two tries of one message
REFUSALS = 6  # a message refused so often for good isn't tried again


def run(services: Services, worker_id: str) -> None:
    """A child's life: carry messages until SIGTERM."""
    stopping = threading.Event()

    def stop(_signum: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    WorkerProcess(services, worker_id).start("relay")
    relay_ = Relay(services, worker_id)
    threads = [
        threading.Thread(target=_repeat, args=(stopping, relay_.write_back), name="write-backs", daemon=True),
        threading.Thread(target=_repeat, args=(stopping, relay_.mail), name="mail", daemon=True),
    ]
    for thread in threads:
        thread.start()
    while not stopping.wait(1.0):
        pass
    for thread in threads:
        thread.join(timeout=5)


def _repeat(stopping: threading.Event, carry: Callable[[], int]) -> None:
    """Carry what there is; rest when there is nothing, or when the ledger or the other side is away."""
    while not stopping.is_set():
        try:
            carried = carry()
        except PortalError as error:
            log.warning("Can't carry messages now", extra={"error": str(error)})
            carried = 0
            stopping.wait(1.0)
        except Exception:
            log.exception("Carrying messages failed")
            carried = 0
            stopping.wait(5.0)
        if not carried:
            stopping.wait(POLL_SECONDS)


class Relay:
    """Sends due messages; each method returns how many it took up."""

    def __init__(self, services: Services, worker_id: str) -> None:
        self._services = services
        self._mailer = Mailer(services)
        self._incarnation = worker_id
        self._resyncs: dict[int, float] = {}  # assertion → the moment of the state it tells

    # --- write-backs ---

    def write_back(self) -> int:
        """Send due write-backs, many in one call; of one order only its earliest."""
        services = self._services
        claimed = self._claim("salesforce", BATCH)
        claimed += self._claim("resync", BATCH - len(claimed)) if len(claimed) < BATCH else []
        updates: list[tuple[Message, JsonObject]] = []
        for message in claimed:
            fields = self._fields(message)
            if "account" in message.payload:
                self._settle(message, self._tell_account(message))
            elif fields is None:
                self._settle(message, None)
            else:
                updates.append((message, fields))
        if len(updates) == 1:
            self._settle(updates[0][0], self._tell_order(*updates[0]))
        elif updates:
            try:
                results = services.salesforce.update_orders([(m.subject, fields) for m, fields in updates])
            except UpstreamError as error:
                results = [error] * len(updates)
            for (message, _), outcome in zip(updates, results, strict=True):
                self._settle(message, outcome)
        return len(claimed)

    def _fields(self, message: Message) -> JsonObject | None:
        """What to write: what was decided then, or for an assertion the order's state as it is now."""
        if message.kind != "resync":
            fields = message.payload["fields"]
            assert isinstance(fields, dict)
            return fields
        with self._services.ledger.read() as connection:
            row = fulfillments.get(connection, message.subject)
        if row is None:
            return None
        self._resyncs[message.id] = row.updated_at
        return present_fields(row, self._services.now())

    def _tell_order(self, message: Message, fields: JsonObject) -> UpstreamError | None:
        try:
            self._services.salesforce.update_order(message.subject, fields)
        except UpstreamError as error:
            return error
        return None

    def _tell_account(self, message: Message) -> UpstreamError | None:
        try:
            client_id = str(message.payload["fields"]["WHMCS_Client_ID__c"])
            self._services.salesforce.set_whmcs_client(str(message.payload["account"]), client_id)
        except UpstreamError as error:
            return error
        return None

    # --- mails and alerts ---

    def mail(self) -> int:
        """Send one due mail and one due alert."""
        services = self._services
        senders: dict[str, Callable[[JsonObject], None]] = {
            "mail": self._mailer.send,
            "alert": lambda payload: send_alert(services, payload),
        }
        count = 0
        for kind, send in senders.items():
            for message in self._claim(kind, 1):
                count += 1
                try:
                    send(message.payload)
                except UpstreamError as error:
                    self._settle(message, error)
                else:
                    self._settle(message, None)
        return count

    # --- what became of a message ---

    def _claim(self, kind: str, limit: int) -> list[Message]:
        services = self._services
        now = services.now()
        with services.ledger.read() as connection:
            if not outbox.due(connection, kind, now=now, limit=1):
                return []
        claimed: list[Message] = []
        with services.ledger.write() as connection:
            for message in outbox.due(connection, kind, now=now, limit=limit):
                if any(message.subject == other.subject for other in claimed):
                    continue
                if kind == "salesforce" and outbox.earlier_pending(connection, message.id, kind, message.subject):
                    continue
                if kind == "resync" and outbox.earlier_pending(connection, None, "salesforce", message.subject):
                    continue  # what is still to be told comes first
                if outbox.claim(connection, message.id, self._incarnation, now=now, until=now + CLAIM_SECONDS):
                    claimed.append(message)
        return claimed

    def _settle(self, message: Message, error: UpstreamError | None) -> None:
        services = self._services
        extra: dict[str, Any] = {"kind": message.kind, "sfOrderId": message.subject, "outboxId": message.id}
        salesforce = message.kind in ("salesforce", "resync")
        if salesforce:
            extra["status"] = message.payload.get("fields", {}).get("Provisioning_Status__c", "as it is")
        with services.ledger.write() as connection:
            if error is None and not self._overtaken(connection, message):
                outbox.sent(connection, message.id, now=services.now())
                if message.kind == "salesforce" and "fields" in message.payload:
                    fulfillments.note_salesforce_status(connection, message.subject, extra["status"])
            elif error is None:
                outbox.again(connection, message.id, due_at=services.now(), error="the order changed meanwhile")
            elif error.permanent and message.tries + 1 >= REFUSALS:
                outbox.dead(connection, message.id, error=str(error))
            else:
                pause = min(2.0**message.tries, LONGEST_PAUSE) * random.uniform(0.8, 1.2)
                due_at = services.now() + max(pause, error.retry_after or 0.0)
                outbox.again(connection, message.id, due_at=due_at, error=str(error))
        if not salesforce:
            if error is not None:
                log.error("Message not sent", extra=extra | {"error": str(error)})
        elif error is None:
            log.info("Order status updated in Salesforce", extra=extra)
        elif error.code != "circuit_open":
            log.error("Failed to update order status in Salesforce", extra=extra | {"error": str(error)})

    def _overtaken(self, connection: Connection, message: Message) -> bool:
        """Whether the order changed while an assertion of its state was under way: then it must be said again."""
        moment = self._resyncs.pop(message.id, None)
        if moment is None:
            return False
        row = fulfillments.get(connection, message.subject)
        return row is not None and row.updated_at != moment
