"""Deleting what nothing needs any more, a little at a time, so that no table grows for ever."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger import workers
from portal.ledger.schema import deliveries, idempotency_keys, sessions, used_links

BATCH = 500
DEAD_WORKERS_KEPT = 86_400.0  # seconds


def tidy(connection: Connection, *, now: float) -> int:
    """Delete expired deliveries, keys, sessions and links, and old dead workers; at most BATCH of each."""
    count = 0
    for table, key in (
        (deliveries, deliveries.c.nonce),
        (idempotency_keys, idempotency_keys.c.key),
        (sessions, sessions.c.id),
        (used_links, used_links.c.id),
    ):
        doomed = sa.select(key).where(table.c.expires_at < now).limit(BATCH)
        ids = list(connection.execute(doomed).scalars())
        if ids:
            connection.execute(sa.delete(table).where(key.in_(ids)))
        count += len(ids)
    for kind in ("fulfill", "deliver", "sweep"):
        count += workers.forget_dead(connection, kind=kind, started_before=now - DEAD_WORKERS_KEPT)
    return count
