"""What time it is for all hosts: the database's, so that a host whose clock is off neither delays nor hurries an order.

Each process measures how far its own clock is from the database's, and counts with that in between: no statement asks
the database for the time. On SQLite there is one host, and so one clock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from portal.errors import PortalError
from portal.ledger.engine import Ledger

log = logging.getLogger("portal.ledger.clock")

#: Seconds between two measurements.
EVERY_SECONDS: Final = 30.0
#: Seconds of difference above which operators are told.
TELL_SECONDS: Final = 1.0
_TRIES: Final = 3


class LedgerClock:
    """Called, it gives the database's time in seconds since 1970, as far as this process knows. Safe for threads.

    background: whether it measures anew by itself, in a thread; not in a process that forks.
    """

    def __init__(self, ledger: Ledger, *, own: Callable[[], float] = time.time) -> None:
        self.background = True
        self._ledger = ledger
        self._own = own
        self._ahead = 0.0  # seconds the database's clock is ahead of this host's
        self._next = time.monotonic() + EVERY_SECONDS
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Now, in seconds since 1970."""
        if self.background and not self._ledger.sqlite and time.monotonic() >= self._next:
            with self._lock:
                due = time.monotonic() >= self._next
                self._next = time.monotonic() + EVERY_SECONDS
            if due:
                threading.Thread(target=self._measure_again, name="clock", daemon=True).start()
        return self._own() + self._ahead

    def measure(self) -> float:
        """Ask the database; gives the seconds that its clock is ahead of this host's. Raises LedgerUnavailable."""
        if self._ledger.sqlite:
            return 0.0
        best = float("inf")
        for _ in range(_TRIES):
            with self._ledger.read() as connection:
                connection.execute(sa.text("SELECT 1"))  # the connection is there: what follows is one round trip
                asked, begun = self._own(), time.monotonic()
                told = connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
                took = time.monotonic() - begun
            if took < best:
                best, ahead = took, float(told) - (asked + took / 2)
        # Less than the measurement's own error is no difference.
        self._ahead = ahead if abs(ahead) > max(best, 0.05) else 0.0
        if abs(ahead) > TELL_SECONDS:
            log.warning(
                "This host's clock differs from the database's, whose time counts",
                extra={"databaseAheadSeconds": round(ahead, 1)},
            )
        return ahead

    def _measure_again(self) -> None:
        try:
            self.measure()
        except PortalError as error:
            log.debug("The clock couldn't be compared", extra={"error": str(error)})
