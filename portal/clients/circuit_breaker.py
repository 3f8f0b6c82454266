"""A circuit breaker for one upstream, shared through the ledger by every process.

After some failures in a row no call is made but one probe at a time, at growing intervals; the first good answer
closes it. Orders that meet an open circuit wait without having tried, so that no herd comes after an outage.

A fault of the set-up over there (a lost permission, a retired version, a field that isn't there) opens a circuit at
once, for the action it concerns or for all of them: orders wait for whoever mends it, and operators are told once.

Moments are seconds since 1970.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy.engine import Connection

from portal.domain.model import PortalError, Setup, UpstreamError
from portal.ledger import circuits, events
from portal.ledger.engine import Ledger

log = logging.getLogger("portal.clients.circuit_breaker")

OPENS_AT = 5  # failures in a row
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0  # seconds between probes; a probe costs little, each second of waiting much
LONGEST_SETUP_PAUSE = 60.0  # the same while the set-up is at fault: a person has to mend it
#: Passing trouble that is an answer all the same: the other side is there.
ANSWERS = frozenset({"UNABLE_TO_LOCK_ROW", "ENTITY_IS_LOCKED", "listing_unstable"})
OK_EVERY = 15.0  # seconds between two notes that all is well
LOOK_EVERY = 1.0  # seconds between two looks at what others found out
TELL_EVERY = 3600.0  # seconds in which operators are told of one fault of the set-up once, however often it comes back

_NEVER: Final = 2**31 - 1
_EVERY_ACTION: Final = "*"


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

        recovered: called in the transaction that closes a circuit, so that who waited for this side goes on.
        """
        self._ledger = ledger
        self._name = name
        self._now = now
        self._recovered = recovered
        self._rows: dict[str, circuits.Upstream] = {}  # as last looked at, the side's own and those of its set-up
        self._failures = 0
        self._looked = -LOOK_EVERY
        self._noted_ok = -OK_EVERY

    def check(self, action: str = "") -> None:
        """Raises a transient UpstreamError (`circuit_open`, with retry_after) when this call may not be made now."""
        if time.monotonic() - self._looked >= LOOK_EVERY or self._opened(action):
            self._look()
        for row in self._opened(action):
            self._claim_probe(row)

    def heard(self, _upstream: str, action: str, _outcome: str, _seconds: float, error: UpstreamError | None) -> None:
        """An observer of calls (portal.clients.http.Hooks.after_call)."""
        self.note(error, action)

    def note(self, error: UpstreamError | None, action: str = "") -> None:
        """Note how a call ended; a refusal is a good answer too. Never raises."""
        try:
            if error is not None and error.code == "circuit_open":
                return
            if error is not None and error.setup:
                self._note_ok("")  # it answers
                self._note_setup(action, error)
            elif error is None or error.permanent or error.code in ANSWERS:
                self._note_ok(action)
            else:
                self._note_failure(error)
        except PortalError:
            log.warning("Couldn't note an upstream's state", extra={"upstream": self._name})

    def _names(self, action: str) -> tuple[str, ...]:
        """The rows that have a say in a call."""
        if not action:
            return (self._name,)
        return (
            self._name,
            circuits.setup_name(self._name, _EVERY_ACTION),
            circuits.setup_name(self._name, action),
        )

    def _opened(self, action: str) -> list[circuits.Upstream]:
        rows = [self._rows[name] for name in self._names(action) if name in self._rows]
        return [row for row in rows if row.opened_at is not None]

    def _claim_probe(self, row: circuits.Upstream) -> None:
        """Be the one that tries; raises where another is, or where it is too early."""
        now = self._now()
        assert row.probe_at is not None
        mends = row.name != self._name
        if now >= row.probe_at:
            pause = _setup_pause(row.failures) if mends else _pause(row.failures)
            with self._ledger.write() as connection:
                if circuits.claim_probe(connection, row.name, now=now, next_at=now + pause):
                    return
        title = _title(self._name)
        raise UpstreamError(
            self._name,
            row.last_error or f"{title}'s set-up is at fault"
            if mends
            else f"{title} doesn't answer; the order waits until it does",
            permanent=False,
            setup=Setup.ACTION if mends else None,
            code="circuit_open",
            retry_after=max(row.probe_at - now, 0.5) + random.uniform(0.0, 1.0),
            reached=False,
        )

    def _look(self) -> None:
        with self._ledger.read() as connection:
            self._rows = circuits.of_side(connection, self._name)
        self._looked = time.monotonic()
        mine = self._rows.get(self._name)
        self._failures = mine.failures if mine else 0

    def _note_ok(self, action: str) -> None:
        mended = [name for name in self._names(action)[1:] if name in self._rows and self._rows[name].failures]
        if not mended and not self._failures and time.monotonic() - self._noted_ok < OK_EVERY:
            return
        was_open = bool(self._opened(action))
        with self._ledger.write() as connection:
            closed = [circuits.note_ok(connection, name, now=self._now()) for name in (self._name, *mended)]
            if any(closed):
                self._recovered(connection)
        if was_open:
            log.info("Upstream answers again", extra={"upstream": self._name})
        for name in (self._name, *mended):
            self._rows.pop(name, None)
        self._failures, self._noted_ok = 0, time.monotonic()

    def _note_failure(self, error: UpstreamError) -> None:
        now = self._now()
        pause = max(_pause(self._failures), error.retry_after or 0.0)
        with self._ledger.write() as connection:
            opened = circuits.note_failure(
                connection, self._name, now=now, error=str(error), opens_at=OPENS_AT, pause=pause
            )
        self._failures += 1
        if opened and not self._opened(""):
            log.error("Upstream doesn't answer: circuit opened", extra={"upstream": self._name, "error": str(error)})
        if opened:
            self._look()

    def _note_setup(self, action: str, error: UpstreamError) -> None:
        """A refusal that isn't about the order: what it concerns stops at once, but for some records' faults."""
        name = circuits.setup_name(self._name, _EVERY_ACTION if error.setup is Setup.SIDE else action)
        now = self._now()
        told = False
        with self._ledger.write() as connection:
            before = circuits.get(connection, name)
            failures = before.failures if before else 0
            pause = max(_setup_pause(failures), error.retry_after or 0.0)
            opens_at = _NEVER if error.setup is Setup.RECORDS else 1
            circuits.note_failure(connection, name, now=now, error=str(error), opens_at=opens_at, pause=pause)
            if not failures:
                told = self._tell(connection, name, action, error, now=now)
        if told:
            log.error(
                "The set-up needs mending: what depends on it waits",
                extra={"upstream": self._name, "action": action, "code": error.code, "error": str(error)},
            )
        self._look()

    def _tell(self, connection: Connection, name: str, action: str, error: UpstreamError, *, now: float) -> bool:
        last = events.of_subject(connection, name, limit=1)
        if last and now - last[0].at < TELL_EVERY and (last[0].detail or {}).get("code") == error.code:
            return False
        detail = {"upstream": self._name, "action": action, "code": error.code, "error": str(error)}
        events.record(connection, "setup_fault", now=now, subject=name, detail=detail)
        return True


def _pause(failures: int) -> float:
    return float(min(FIRST_PAUSE * 2 ** max(failures - OPENS_AT, 0), LONGEST_PAUSE) * random.uniform(0.8, 1.2))


def _setup_pause(failures: int) -> float:
    return float(min(FIRST_PAUSE * 2 ** min(failures, 16), LONGEST_SETUP_PAUSE) * random.uniform(0.8, 1.2))


def _title(name: str) -> str:
    return {"whmcs": "WHMCS", "salesforce": "Salesforce"}.get(name, name)
