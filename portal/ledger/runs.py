"""A run's writes: claiming an order under a new fence, its steps, what the protocol remembers, the one election.

Every write is conditional on the lease: its fence and its owner. A row count of zero means that somebody else owns the
order now. The owner is part of it because a restored ledger counts its fences a second time.
Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import (
    ErrorCode,
    JsonObject,
    LeaseLost,
    State,
    Step,
    StepState,
)
from portal.domain.protocol import Facts
from portal.ledger import hourly, installation, totals
from portal.ledger.engine import insert
from portal.ledger.fulfillments import Fulfillment, get, show
from portal.ledger.schema import fulfillments, services, steps, workers

_F = fulfillments.c


@dataclass(frozen=True)
class Lease:
    """What a run holds its order by."""

    sf_order_id: str
    fence: int
    owner: str | None  # workers.worker_id; None for an audit: the order has ended


def _held(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return _F.sf_order_id == lease.sf_order_id, _F.fence == lease.fence, _F.owner == lease.owner


def claim(connection: Connection, sf_order_id: str, worker_id: str, *, now: float) -> Fulfillment | None:
    """Make this worker the owner, under a new fence; None when it isn't to be run now or is another's.

    Raises LeaseLost when the worker itself has been declared dead.
    """
    if installation.paused(connection):
        return None
    for state in (State.QUEUED, State.WAITING):
        claimed = connection.execute(
            sa.update(fulfillments)
            .where(_F.sf_order_id == sf_order_id, _F.state == state, _F.due_at <= now)
            .values(state=State.RUNNING, owner=worker_id, fence=_F.fence + 1, updated_at=now)
        )
        if claimed.rowcount == 1:
            totals.moved(connection, state, State.RUNNING)
            break
    else:
        return None
    # Locked, so that a takeover that declares us dead comes either before (we see it) or after (it sees our order).
    query = sa.select(workers.c.dead).where(workers.c.worker_id == worker_id)
    alive = connection.execute(query.with_for_update(read=True)).scalar_one_or_none()
    if alive is not False:
        raise LeaseLost("this worker has been declared dead")
    return get(connection, sf_order_id)


def update(connection: Connection, lease: Lease, *, now: float, **values: Any) -> None:
    """Write to a run's row. Raises LeaseLost when the order isn't held by this lease any more."""
    done = connection.execute(sa.update(fulfillments).where(*_held(lease)).values(updated_at=now, **values))
    if done.rowcount != 1:
        raise LeaseLost("another worker owns this order now")
    if "state" in values:
        totals.moved(connection, State.RUNNING, values["state"])  # whoever holds a lease under its name runs it


def finish(
    connection: Connection,
    lease: Lease,
    state: State,
    *,
    now: float,
    error_code: ErrorCode | None,
    error_message: str | None,
    service_ids: Sequence[str],
    audit_due_at: float | None,
    hints: int,
    requested_at: float,
    **values: Any,
) -> None:
    """End a run: the fulfillment's state, what its customer sees, and what is counted. Raises LeaseLost.

    hints: how many the run had seen. One that came meanwhile brings the next audit on at once.
    requested_at: the signed moment of the click, from which on the attempt's duration counts.
    """
    update(
        connection,
        lease,
        now=now,
        state=state,
        owner=None,
        job_id=None,
        enqueued_at=None,
        waiting_for=None,
        waiting_code=None,
        error_code=error_code,
        error_message=error_message,
        finished_at=now,
        service_ids=list(service_ids),
        audit_due_at=sa.case((_F.hints != hints, now), else_=audit_due_at),
        audits=0,
        **values,
    )
    _index_services(connection, lease.sf_order_id, service_ids)
    show(connection, lease.sf_order_id, state, now=now, error_code=error_code)
    totals.attempt_ended(connection, success=state is State.PROVISIONED, seconds=now - requested_at)
    hourly.note(connection, state, now - requested_at, now=now)


def _index_services(connection: Connection, sf_order_id: str, service_ids: Sequence[str]) -> None:
    """Let events about these services find their order."""
    for service_id in service_ids:
        row = {"service_id": str(service_id), "sf_order_id": sf_order_id}
        connection.execute(
            insert(connection, services)
            .values(row)
            .on_conflict_do_update(index_elements=[services.c.service_id], set_={"sf_order_id": sf_order_id})
        )


def save_facts(connection: Connection, lease: Lease, facts: Facts, *, now: float) -> None:
    """Write what the protocol remembers, all but the election. Raises LeaseLost."""
    values = asdict(facts)
    for mine, column in (("adopt", "adopt_whmcs_id"), ("answered", "answered_whmcs_id")):
        values[column] = values.pop(mine)
    del values["elected"]
    update(connection, lease, now=now, **values)


def elect(connection: Connection, lease: Lease, whmcs_order_id: str, *, now: float) -> str:
    """Elect a WHMCS order, once and for all; returns the elected one (an earlier election stands).

    The one election: AcceptOrder takes its id from here, and only others are ever cancelled. Raises LeaseLost, and
    IntegrityError where that WHMCS order is another Salesforce order's (ask `by_elected` first).
    """
    connection.execute(
        sa.update(fulfillments)
        .where(*_held(lease), _F.elected_whmcs_id.is_(None))
        .values(elected_whmcs_id=whmcs_order_id, updated_at=now)
    )
    row = get(connection, lease.sf_order_id)
    if row is None or (row.fence, row.owner) != (lease.fence, lease.owner) or row.elected_whmcs_id is None:
        raise LeaseLost("another worker owns this order now")
    return row.elected_whmcs_id


@dataclass(frozen=True)
class StepRow:
    """One row of `steps`."""

    id: int
    sf_order_id: str
    attempt: int
    name: str
    state: str
    fence: int
    started_at: float
    ended_at: float | None
    detail: JsonObject | None


def begin_step(connection: Connection, sf_order_id: str, attempt: int, fence: int, step: Step, *, now: float) -> int:
    """Record a step's intent; returns its id. To be called in the transaction of a fenced write."""
    inserted = connection.execute(
        sa.insert(steps).values(
            sf_order_id=sf_order_id, attempt=attempt, name=step, state=StepState.INTENT, fence=fence, started_at=now
        )
    )
    assert inserted.inserted_primary_key is not None
    return int(inserted.inserted_primary_key[0])


def end_step(connection: Connection, step_id: int, state: StepState, detail: JsonObject | None, *, now: float) -> None:
    """Record a step's outcome. To be called in the transaction of a fenced write."""
    ended = connection.execute(
        sa.update(steps)
        .where(steps.c.id == step_id)
        .values(state=state, ended_at=now, detail=detail)
        .returning(steps.c.name, steps.c.started_at)
    ).one_or_none()
    if ended is not None:
        totals.step_ended(connection, Step(ended.name), seconds=now - ended.started_at)


def steps_done(connection: Connection, sf_order_id: str, attempt: int) -> set[str]:
    """Names of the steps of this attempt that have a good outcome."""
    query = sa.select(steps.c.name).where(
        steps.c.sf_order_id == sf_order_id, steps.c.attempt == attempt, steps.c.state == StepState.DONE
    )
    return set(connection.execute(query).scalars())


def begun(connection: Connection, sf_order_id: str, attempt: int) -> bool:
    """Whether any step of this attempt was ever begun."""
    query = sa.select(steps.c.id).where(steps.c.sf_order_id == sf_order_id, steps.c.attempt == attempt)
    return connection.execute(query.limit(1)).first() is not None


def steps_of(connection: Connection, sf_order_id: str, limit: int = 200, *, before: int | None = None) -> list[StepRow]:
    """The recorded steps of an order, in their order; the newest `limit` of them, or of those before a step's id."""
    query = (
        sa.select(*(steps.c[f.name] for f in fields(StepRow)))
        .where(steps.c.sf_order_id == sf_order_id, *([] if before is None else [steps.c.id < before]))
        .order_by(steps.c.attempt.desc(), steps.c.id.desc())
        .limit(limit)
    )
    return [StepRow(*row) for row in reversed(connection.execute(query).all())]
