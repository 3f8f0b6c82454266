"""A circuit breaker for one upstream, shared through the ledger by every process.

After some failures in a row no call is made but one probe at a time, at growing intervals; the first good answer
closes it. Orders that meet an open circuit wait without having tried, so that no herd comes after an outage.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from sqlalchemy.engine import Connection

from portal.domain.model import PortalError, UpstreamError
from portal.ledger import circuits
from portal.ledger.engine import Ledger

log = logging.getLogger("portal.clients.circuit_breaker")

OPENS_AT = 5  # failures in a row
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0  # seconds between probes; a probe costs little, each second of waiting much
#: Passing trouble that is an answer all the same: the other side is there.
ANSWERS = frozenset({"UNABLE_TO_LOCK_ROW", "ENTITY_IS_LOCKED", "listing_unstable"})
OK_EVERY = 15.0  # seconds between two notes that all is well
LOOK_EVERY = 1.0  # seconds between two looks at what others found out


class Breaker:
    """One upstream's breaker in one process."""

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        *,
        now: Callable[[], float],
        recovered: Callable[[Connection], object] = lambda _connection: None,
    ) -> None:
        """`name`: the upstream's row in the ledger; `now`: the clock, in seconds since 1970.

        recovered: called in the transaction that closes the circuit, so that who waited for this side goes on.
        """
        self._ledger = ledger
        self._name = name
        self._now = now
        self._recovered = recovered
        self._open: circuits.Upstream | None = None
        self._failures = 0
        self._looked = -LOOK_EVERY
        self._noted_ok = -OK_EVERY

    def check(self) -> None:
        """Raises a transient UpstreamError (`circuit_open`, with retry_after) when no call may be made now."""
        if time.monotonic() - self._looked >= LOOK_EVERY or self._open:
            self._look()
        state = self._open
        if state is None or state.probe_at is None:
            return
        now = self._now()
        if now >= state.probe_at:
            with self._ledger.write() as connection:
                if circuits.claim_probe(connection, self._name, now=now, next_at=now + _pause(state.failures)):
                    return
        raise UpstreamError(
            self._name,
            f"{_title(self._name)} doesn't answer; the order waits until it does",
            permanent=False,
            code="circuit_open",
            retry_after=max(state.probe_at - now, 0.5) + random.uniform(0.0, 1.0),
            reached=False,
        )

    def heard(self, _upstream: str, _action: str, _outcome: str, _seconds: float, error: UpstreamError | None) -> None:
        """An observer of calls (portal.clients.http.Hooks.after_call)."""
        self.note(error)

    def note(self, error: UpstreamError | None) -> None:
        """Note how a call ended; a refusal is a good answer too. Never raises."""
        try:
            if error is None or error.permanent or error.code in ANSWERS:
                self._note_ok()
            elif error.code != "circuit_open":
                self._note_failure(error)
        except PortalError:
            log.warning("Couldn't note an upstream's state", extra={"upstream": self._name})

    def _look(self) -> None:
        with self._ledger.read() as connection:
            row = circuits.get(connection, self._name)
        self._looked = time.monotonic()
        self._failures = row.failures if row else 0
        self._open = row if row and row.opened_at is not None else None

    def _note_ok(self) -> None:
        if not self._failures and time.monotonic() - self._noted_ok < OK_EVERY:
            return
        with self._ledger.write() as connection:
            if circuits.note_ok(connection, self._name, now=self._now()):
                self._recovered(connection)
        if self._open:
            log.info("Upstream answers again", extra={"upstream": self._name})
        self._failures, self._open, self._noted_ok = 0, None, time.monotonic()

    def _note_failure(self, error: UpstreamError) -> None:
        now = self._now()
        pause = max(_pause(self._failures), error.retry_after or 0.0)
        with self._ledger.write() as connection:
            opened = circuits.note_failure(
                connection, self._name, now=now, error=str(error), opens_at=OPENS_AT, pause=pause
            )
        self._failures += 1
        if opened and not self._open:
            log.error("Upstream doesn't answer: circuit opened", extra={"upstream": self._name, "error": str(error)})
        if opened:
            self._look()


def _pause(failures: int) -> float:
    return float(min(FIRST_PAUSE * 2 ** max(failures - OPENS_AT, 0), LONGEST_PAUSE) * random.uniform(0.8, 1.2))


def _title(name: str) -> str:
    return {"whmcs": "WHMCS", "salesforce": "Salesforce"}.get(name, name)
