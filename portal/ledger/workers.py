"""The heartbeats: one row per process that may own orders. A process whose beat updates no row must exit at once.

Moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger.schema import workers


@dataclass(frozen=True)
class Worker:
    """One row of `workers`; `started_at` is in seconds since 1970."""

    worker_id: str
    kind: str
    host: str
    pid: int
    slots: int  # how many orders it runs at once
    heartbeats: int
    started_at: float


_BEAT = (
    sa.update(workers)
    .where(workers.c.worker_id == sa.bindparam("wanted"), workers.c.dead == sa.false())
    .values(heartbeats=workers.c.heartbeats + 1)
)
_ALIVE = (
    sa.select(*(workers.c[name] for name in Worker.__dataclass_fields__))
    .where(workers.c.dead == sa.false())
    .limit(sa.bindparam("most"))
)


def register(
    connection: Connection, worker_id: str, kind: str, host: str, pid: int, *, slots: int = 1, now: float
) -> None:
    """Enter a worker process that may own fulfillments from now on, `slots` at once; `now` is in seconds since 1970."""
    connection.execute(
        sa.insert(workers).values(
            worker_id=worker_id,
            kind=kind,
            host=host,
            pid=pid,
            slots=slots,
            heartbeats=0,
            dead=False,
            started_at=now,
        )
    )


def count_heartbeat(connection: Connection, worker_id: str, *, now: float) -> bool:
    """Count one more heartbeat, at `now` by the process' own clock. False: this process has been declared dead."""
    done = connection.execute(_BEAT, {"wanted": worker_id, "beaten_at": now})
    return done.rowcount == 1


def alive(connection: Connection, limit: int = 2000) -> list[Worker]:
    """Every worker not declared dead."""
    return [Worker(*row) for row in connection.execute(_ALIVE, {"most": limit})]


def last_heartbeats(connection: Connection) -> dict[str, float]:
    """Kind of process → the latest heartbeat of any that lives, by its own clock; for people, not for takeovers."""
    query = (
        sa.select(workers.c.kind, sa.func.max(sa.func.coalesce(workers.c.beaten_at, workers.c.started_at)))
        .where(workers.c.dead == sa.false())
        .group_by(workers.c.kind)
    )
    return {kind: float(moment) for kind, moment in connection.execute(query)}


def count_alive(connection: Connection) -> dict[str, int]:
    """Kind of process → how many nobody has declared dead."""
    query = sa.select(workers.c.kind, sa.func.count()).where(workers.c.dead == sa.false()).group_by(workers.c.kind)
    return {row.kind: int(row[1]) for row in connection.execute(query)}


def forget_dead(connection: Connection, *, kind: str, started_before: float, limit: int) -> int:
    """Delete old rows of the dead, so that the table stays small."""
    doomed = (
        sa.select(workers.c.worker_id)
        .where(workers.c.dead == sa.true(), workers.c.kind == kind, workers.c.started_at < started_before)
        .limit(limit)
    )
    ids = list(connection.execute(doomed).scalars())
    if ids:
        connection.execute(sa.delete(workers).where(workers.c.worker_id.in_(ids)))
    return len(ids)
