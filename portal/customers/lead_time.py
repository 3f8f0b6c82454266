"""How long orders usually take, measured from the ledger's own recent ones: their review, and setting them up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from statistics import quantiles
from typing import Final

from sqlalchemy.engine import Connection

from portal.ledger.statistics import recent_lead_times, recent_review_times
from portal.services import Services

#: The newest orders looked at, and how few of them say nothing.
SAMPLE: Final = 200
FEWEST: Final = 20
KEPT_SECONDS: Final = 60.0


def lead_time_seconds(connection: Connection) -> float | None:
    """Within how many seconds of the click three of four recent orders were set up; None where too few are known."""
    return _three_of_four(recent_lead_times(connection, limit=SAMPLE))


def review_seconds(connection: Connection) -> float | None:
    """Within how many seconds of the checkout three of four recent orders were clicked on; None where too few are."""
    return _three_of_four(recent_review_times(connection, limit=SAMPLE))


def _three_of_four(seconds: list[float]) -> float | None:
    return quantiles(seconds, n=4)[2] if len(seconds) >= FEWEST else None


class LeadTime:
    """Both figures, each read at most once a minute in each process."""

    def __init__(self, services: Services) -> None:
        self._set_up = _Kept(services, lead_time_seconds)
        self._review = _Kept(services, review_seconds)

    def seconds(self, connection: Connection) -> float | None:
        """As `lead_time_seconds`, up to KEPT_SECONDS old; a connection of `Ledger.read()`."""
        return self._set_up.seconds(connection)

    def review(self, connection: Connection) -> float | None:
        """As `review_seconds`, up to KEPT_SECONDS old; a connection of `Ledger.read()`."""
        return self._review.seconds(connection)


class _Kept:
    """A figure and when it was read; safe for threads."""

    def __init__(self, services: Services, read: Callable[[Connection], float | None]) -> None:
        self._services, self._read = services, read
        self._guard = threading.Lock()
        self._known: float | None = None
        self._read_at = float("-inf")

    def seconds(self, connection: Connection) -> float | None:
        now = self._services.now()
        with self._guard:
            if 0 <= now - self._read_at < KEPT_SECONDS:
                return self._known
            self._read_at = now
        known = self._read(connection)
        self._known = known
        return known
