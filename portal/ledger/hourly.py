"""How many orders ended in each hour, how, and how long they took: counted as they end, so that no chart scans orders.

A counter's label is `hour|state|bucket`: the hour in UTC, the bucket the most seconds from the click to the end.
Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import State
from portal.ledger import counters
from portal.ledger.schema import counters as counters_table

NAME: Final = "orders_ended_by_hour"
#: Most seconds of each bucket; what took longer is in the last one.
BUCKETS: Final = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400, 864_000)
KEPT_SECONDS: Final = 8 * 86_400.0

_C = counters_table.c


@dataclass
class Hour:
    """One hour's ends. `start`: in seconds since 1970; ended: state → how many; took: bucket → provisioned ones."""

    start: float
    ended: dict[str, int] = field(default_factory=dict)
    took: dict[int, int] = field(default_factory=dict)

    def percentile(self, share: float) -> float | None:
        """Seconds that `share` (0–1) of the hour's provisioned orders took at most, within a bucket evenly spread."""
        total = sum(self.took.values())
        seen, low = 0, 0.0
        for bucket in BUCKETS:
            here = self.took.get(bucket, 0)
            if here and seen + here >= share * total:
                return low + (bucket - low) * (share * total - seen) / here
            seen, low = seen + here, float(bucket)
        return None


def note(connection: Connection, state: State, seconds: float, *, now: float) -> None:
    """Count one end, `seconds` after its click."""
    bucket = next((each for each in BUCKETS if seconds <= each), BUCKETS[-1])
    counters.add(connection, NAME, f"{_label(now)}|{state.value}|{bucket}")


def last(connection: Connection, hours: int, *, now: float) -> list[Hour]:
    """The last `hours` hours, the present one included, the oldest first."""
    first = now - now % 3600 - (hours - 1) * 3600
    found = {_label(first + each * 3600): Hour(first + each * 3600) for each in range(hours)}
    query = sa.select(_C.label, _C.value).where(_C.name == NAME, _C.label >= _label(first))
    for label, value in connection.execute(query):
        moment, state, bucket = label.split("|")
        hour = found.get(moment)
        if hour is None:
            continue
        hour.ended[state] = hour.ended.get(state, 0) + int(value)
        if state == State.PROVISIONED:
            hour.took[int(bucket)] = hour.took.get(int(bucket), 0) + int(value)
    return list(found.values())


def forget_old(connection: Connection, *, now: float) -> int:
    """Delete the hours that no chart shows any more; returns how many rows."""
    old = sa.delete(counters_table).where(_C.name == NAME, _C.label < _label(now - KEPT_SECONDS))
    return connection.execute(old).rowcount


def _label(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H")
