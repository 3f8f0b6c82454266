"""How long setting up an order usually takes, measured from the ledger's own recent orders."""

from __future__ import annotations

import threading
from statistics import quantiles
from typing import Final

from sqlalchemy.engine import Connection

from portal.ledger.statistics import recent_lead_times
from portal.services import Services

#: The newest orders looked at, and how few of them say nothing.
SAMPLE: Final = 200
FEWEST: Final = 20
KEPT_SECONDS: Final = 60.0


def lead_time_seconds(connection: Connection) -> float | None:
    """Within how many seconds of the click three of four recent orders were set up; None where too few are known."""
    seconds = recent_lead_times(connection, limit=SAMPLE)
    return quantiles(seconds, n=4)[2] if len(seconds) >= FEWEST else None


class LeadTime:
    """The figure, read at most once a minute in each process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._guard = threading.Lock()
        self._known: float | None = None
        self._read_at = float("-inf")

    def seconds(self, connection: Connection) -> float | None:
        """As `lead_time_seconds`, up to KEPT_SECONDS old; a connection of `Ledger.read()`."""
        now = self._services.now()
        with self._guard:
            if 0 <= now - self._read_at < KEPT_SECONDS:
                return self._known
            self._read_at = now
        known = lead_time_seconds(connection)
        self._known = known
        return known
