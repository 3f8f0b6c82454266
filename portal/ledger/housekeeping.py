"""Deletes what has expired, a little at a time. Orders, fulfillments, steps, events and messages are all kept.

Moments are seconds since 1970.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection

from portal.ledger import deliveries, hourly, operator_sessions, payment_hints, sessions, workers

DEAD_WORKERS_KEPT = 86_400.0  # seconds


def tidy(connection: Connection, *, now: float) -> int:
    """Delete expired deliveries, keys, sessions and links, and old dead workers; a bounded number of each."""
    count = deliveries.forget_expired(connection, now=now) + sessions.forget_expired(connection, now=now)
    count += payment_hints.forget_old(connection, now=now) + operator_sessions.forget_expired(connection, now=now)
    count += hourly.forget_old(connection, now=now)
    for kind in ("fulfill", "relay", "sweep"):
        count += workers.forget_dead(connection, kind=kind, started_before=now - DEAD_WORKERS_KEPT)
    return count
