"""Who is to run what: orders that are due, those with an RQ job out, and those of a worker that died.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import ErrorCode, State
from portal.ledger import outbox, totals
from portal.ledger.fulfillments import COLUMNS, Fulfillment, fulfillment_of, plan_resync
from portal.ledger.schema import fulfillments, workers

_F = fulfillments.c


#: Seconds after a takeover at which Salesforce is told once more what it may have been told wrongly.
RESYNC_AFTER_TAKEOVER = 15.0

#: How many waiting orders are woken at once; the others keep their own time.
MOST_WOKEN = 2000


def longest_overdue(connection: Connection) -> float | None:
    """Since when (seconds since 1970) the order has been due that was due first of those nobody runs; None: none is."""
    moments = [
        connection.execute(
            sa.select(_F.due_at).where(_F.state == state).order_by(_F.due_at).limit(1)
        ).scalar_one_or_none()
        for state in (State.QUEUED, State.WAITING)
    ]
    return min((moment for moment in moments if moment is not None), default=None)


def due(connection: Connection, *, now: float, limit: int) -> list[Fulfillment]:
    """Unfinished, unowned fulfillments whose time has come and that have no job out, oldest first."""
    rows: list[Fulfillment] = []
    for state in (State.QUEUED, State.WAITING):
        query = (
            sa.select(*COLUMNS)
            .where(_F.state == state, _F.due_at <= now, _F.enqueued_at.is_(None))
            .order_by(_F.due_at)
            .limit(limit)
        )
        rows += map(fulfillment_of, connection.execute(query))
    return sorted(rows, key=lambda row: row.due_at)[:limit]


_WAITING = (
    sa.select(_F.sf_order_id)
    .where(_F.state == State.QUEUED, _F.due_at <= sa.bindparam("moment"))
    .order_by(_F.due_at)
    .limit(sa.bindparam("most"))
)


def waiting(connection: Connection, *, now: float, limit: int) -> list[str]:
    """Orders that nobody has taken up yet although they may be run, the longest due first."""
    return list(connection.execute(_WAITING, {"moment": now, "most": limit}).scalars())


def any_unfinished(connection: Connection) -> bool:
    """Whether there is an order that is run, or is to be run."""
    return any(
        connection.execute(sa.select(_F.sf_order_id).where(_F.state == state).limit(1)).first() is not None
        for state in (State.RUNNING, State.QUEUED, State.WAITING)
    )


def enqueued(connection: Connection, *, limit: int) -> list[Fulfillment]:
    """Unowned fulfillments with a job out, the oldest jobs first."""
    rows: list[Fulfillment] = []
    for state in (State.QUEUED, State.WAITING):
        query = (
            sa.select(*COLUMNS)
            .where(_F.state == state, _F.enqueued_at.is_not(None))
            .order_by(_F.enqueued_at)
            .limit(limit)
        )
        rows += map(fulfillment_of, connection.execute(query))
    return rows


def note_job(connection: Connection, sf_order_id: str, job_id: str | None, *, now: float | None) -> None:
    """Remember the job that was sent (None: none is out)."""
    connection.execute(
        sa.update(fulfillments).where(_F.sf_order_id == sf_order_id).values(job_id=job_id, enqueued_at=now)
    )


def forget_job(connection: Connection, sf_order_id: str, job_id: str | None) -> None:
    """This job_id is lost, unless another was sent meanwhile."""
    connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == sf_order_id, _F.job_id == job_id)
        .values(job_id=None, enqueued_at=None)
    )


def forget_jobs(connection: Connection) -> int:
    """After a flush of Redis: no job is out. Returns how many orders are to be enqueued again."""
    count = 0
    for state in (State.QUEUED, State.WAITING):
        done = connection.execute(
            sa.update(fulfillments)
            .where(_F.state == state, _F.enqueued_at.is_not(None))
            .values(job_id=None, enqueued_at=None)
        )
        count += done.rowcount
    return count


def doubt_unfinished(connection: Connection, *, now: float, until: float) -> int:
    """The ledger was restored: unfinished orders may have been created in WHMCS since its backup was made.

    Runs under way lose their orders, for what they believe may be older than the world. `until`: then nothing sent
    before can take effect any more. Returns how many orders are doubted.
    """
    count = 0
    for state in (State.QUEUED, State.WAITING, State.RUNNING):
        lost = {"state": State.QUEUED, "owner": None, "fence": _F.fence + 1, "due_at": now}
        done = connection.execute(
            sa.update(fulfillments)
            .where(_F.state == state)
            .values(
                history_complete=False,
                add_in_doubt_until=until,
                updated_at=now,
                **(lost if state is State.RUNNING else {}),
            )
        )
        if state is State.RUNNING:
            totals.moved(connection, State.RUNNING, State.QUEUED, done.rowcount)
        count += done.rowcount
    return count


def wake_waiting(connection: Connection, code: ErrorCode, *, now: float, per_second: float) -> int:
    """The side these orders wait for is back: they are due soon, spread over time. Returns how many.

    Whose next try is the soonest comes first; `per_second` of them are due each second.
    """
    query = (
        sa.select(_F.sf_order_id)
        .where(
            _F.waiting_code == code,
            _F.state == State.WAITING,
            _F.due_at > now,
            sa.or_(_F.add_in_doubt_until.is_(None), _F.add_in_doubt_until <= now),  # else only time can help
        )
        .order_by(_F.due_at)
        .limit(MOST_WOKEN)
    )
    waiting = list(connection.execute(query).scalars())
    step = max(1, int(per_second))
    for start in range(0, len(waiting), step):
        connection.execute(
            sa.update(fulfillments)
            .where(_F.sf_order_id.in_(waiting[start : start + step]), _F.state == State.WAITING)
            .values(due_at=now + start / per_second)
        )
    return len(waiting)


def take_over(connection: Connection, worker_id: str, *, now: float, heartbeats: int | None = None) -> list[str] | None:
    """Declare a worker dead and free its orders, in one transaction; returns their ids.

    With `heartbeats`, only if its counter still stands there. None when another declared it dead, or its heart beats
    again. What it had sent may still take effect: its orders look, and wait that out, before they create.
    """
    guard = [workers.c.worker_id == worker_id, workers.c.dead == sa.false()]
    if heartbeats is not None:
        guard.append(workers.c.heartbeats == heartbeats)
    if connection.execute(sa.update(workers).where(*guard).values(dead=True)).rowcount != 1:
        return None
    taken = list(connection.execute(sa.select(_F.sf_order_id).where(_F.owner == worker_id)).scalars())
    for sf_order_id in taken:
        freed = connection.execute(
            sa.update(fulfillments)
            .where(_F.sf_order_id == sf_order_id, _F.owner == worker_id)
            .values(
                state=State.QUEUED,
                owner=None,
                fence=_F.fence + 1,
                due_at=now,
                job_id=None,
                enqueued_at=None,
                duplicate_possible=sa.or_(_F.duplicate_possible, _F.add_open),
                updated_at=now,
            )
        )
        totals.moved(connection, State.RUNNING, State.QUEUED, freed.rowcount)
    for kind, subject in outbox.release_all(connection, worker_id):
        if kind == "salesforce":
            # Stopped rather than dead, it may yet send the old state over a newer one: say the present one once more.
            plan_resync(connection, subject, now=now, due_at=now + RESYNC_AFTER_TAKEOVER)
    return taken
