"""Security events of the doors: logged one by one, counted in the ledger, told to operators when they get many.

A forger must not be able to make us work: events are gathered in memory and written together, at most every two
seconds, so that a flood of forgeries costs the ledger one small transaction now and then.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from portal.ledger.engine import Ledger
from portal.ledger.schema import counters
from portal.webhooks.verifier import Secret

log = logging.getLogger("portal.webhooks.security")

COUNTER: Final = "webhook_security_events_total"
SECRET_COUNTER: Final = "webhook_secret_matched_total"
_GATHER_SECONDS: Final = 2.0

_instances: list[SecurityEvents] = []


class SecurityEvents:
    """The events of one process on their way into the ledger."""

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._now = now
        self._lock = threading.Lock()
        self._gathered: Counter[tuple[str, str]] = Counter()
        self._timer: threading.Timer | None = None
        _instances.append(self)

    def record(self, door: str, event: str, address: str) -> None:
        """One refused request. Logs it; never fails, never blocks."""
        log.warning("Webhook refused", extra={"event": event, "door": door, "address": address})
        self._gather(COUNTER, event)

    def matched(self, door: str, secret: Secret) -> None:
        """One right signature, and which secret made it (label `sf:previous`)."""
        self._gather(SECRET_COUNTER, f"{door}:{secret.value}")

    def flush(self) -> None:
        """Write what was gathered. Keeps it when the ledger is away."""
        with self._lock:
            gathered, self._gathered = self._gathered, Counter()
            self._timer = None
        if not gathered:
            return
        try:
            with self._ledger.write() as connection:
                for (name, label), count in sorted(gathered.items()):
                    add(connection, name, label, count)
        except Exception as error:
            log.error("Security events couldn't be counted yet", extra={"error": type(error).__name__})
            with self._lock:
                self._gathered.update(gathered)

    def _gather(self, name: str, label: str) -> None:
        with self._lock:
            self._gathered[name, label] += 1
            if self._timer is None or not self._timer.is_alive():
                self._timer = threading.Timer(_GATHER_SECONDS, self.flush)
                self._timer.daemon = True
                self._timer.start()


def flush_all() -> None:
    """The process is about to end: write what was gathered."""
    for events in _instances:
        events.flush()


def add(connection: Connection, name: str, label: str, count: float) -> None:
    """Add to a counter of the ledger."""
    values = {"name": name, "label": label, "value": count}
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(counters).values(values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[counters.c.name, counters.c.label],
            set_={"value": counters.c.value + sa.literal(count)},
        )
    )
