"""A run's writes: claiming an order under a new fence, its steps, what the protocol remembers, the one election.

Every write is conditional on the lease: its fence and its owner. A row count of zero means that somebody else owns the
order now. The owner is part of it because a restored ledger counts its fences a second time.
Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
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
from portal.ledger.fulfillments import COLUMNS, Fulfillment, fulfillment_of, get, show
from portal.ledger.lists import Among
from portal.ledger.schema import fulfillments, services, steps, workers

_F = fulfillments.c


@dataclass(frozen=True)
class Lease:
    """What a run holds its order by."""

    sf_order_id: str
    fence: int
    owner: str | None  # workers.worker_id; None for an audit: the order has ended


# Statements of every run are built once: to build one, and to find out that it was compiled before, takes SQLAlchemy
# several times as long as to run it.
_CLAIM = (
    sa.update(fulfillments)
    .where(
        _F.sf_order_id == sa.bindparam("wanted"),
        _F.state == sa.bindparam("was"),
        _F.due_at <= sa.bindparam("moment"),
    )
    .values(state=State.RUNNING, fence=_F.fence + 1)
    .returning(*COLUMNS)
)
# Locked, so that a takeover that declares us dead comes either before (we see it) or after (it sees our order).
_DEAD = sa.select(workers.c.dead).where(workers.c.worker_id == sa.bindparam("wanted")).with_for_update(read=True)
_OWNED = sa.update(fulfillments).where(
    _F.sf_order_id == sa.bindparam("held_id"),
    _F.fence == sa.bindparam("held_fence"),
    _F.owner == sa.bindparam("held_owner"),
)
_ENDED = sa.update(fulfillments).where(
    _F.sf_order_id == sa.bindparam("held_id"), _F.fence == sa.bindparam("held_fence"), _F.owner.is_(None)
)
_NEXT_AUDIT = sa.case(
    (_F.hints != sa.bindparam("hints_seen"), sa.bindparam("at_once", type_=sa.Double)),
    else_=sa.bindparam("as_planned", type_=sa.Double),
)
_FINISH = _OWNED.values(audit_due_at=_NEXT_AUDIT)
_ELECT = _OWNED.where(_F.elected_whmcs_id.is_(None)).returning(_F.elected_whmcs_id)
_BEGIN_STEP = sa.insert(steps)
_END_STEP = sa.update(steps).where(steps.c.id == sa.bindparam("step")).returning(steps.c.name, steps.c.started_at)
_STEPS_DONE = sa.select(steps.c.name).where(
    steps.c.sf_order_id == sa.bindparam("order"),
    steps.c.attempt == sa.bindparam("this"),
    steps.c.state == StepState.DONE,
)


def claim(connection: Connection, sf_order_id: str, worker_id: str, *, now: float) -> Fulfillment | None:
    """Make this worker the owner, under a new fence; None when it isn't to be run now or is another's.

    Raises LeaseLost when the worker itself has been declared dead.
    """
    if installation.paused(connection):
        return None
    for state in (State.QUEUED, State.WAITING):
        values = {"wanted": sf_order_id, "was": state, "moment": now, "owner": worker_id, "updated_at": now}
        row = connection.execute(_CLAIM, values).one_or_none()
        if row is not None:
            totals.moved(connection, state, State.RUNNING)
            break
    else:
        return None
    if connection.execute(_DEAD, {"wanted": worker_id}).scalar_one_or_none() is not False:
        raise LeaseLost("this worker has been declared dead")
    return fulfillment_of(row)


def update(connection: Connection, lease: Lease, *, now: float, **values: Any) -> None:
    """Write to a run's row. Raises LeaseLost when the order isn't held by this lease any more."""
    _write(connection, _OWNED if lease.owner is not None else _ENDED, lease, {"updated_at": now, **values})


def _write(connection: Connection, statement: sa.Update, lease: Lease, values: dict[str, Any]) -> None:
    held = {"held_id": lease.sf_order_id, "held_fence": lease.fence}
    if lease.owner is not None:
        held["held_owner"] = lease.owner
    if connection.execute(statement, held | values).rowcount != 1:
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
    kept: Mapping[str, Any] | None = None,
    then: Callable[[Connection], None] = lambda _connection: None,
    **values: Any,
) -> None:
    """End a run: the fulfillment's state, what its customer sees, and what is counted. Raises LeaseLost.

    kept: what else its row is to hold; then: called once the row is written, before its customer sees the end.
    hints: how many the run had seen. One that came meanwhile brings the next audit on at once.
    requested_at: the signed moment of the click, from which on the attempt's duration counts.
    """
    ended = {
        **(kept or {}),
        "updated_at": now,
        "state": state,
        "owner": None,
        "job_id": None,
        "enqueued_at": None,
        "waiting_for": None,
        "waiting_code": None,
        "error_code": error_code,
        "error_message": error_message,
        "finished_at": now,
        "service_ids": list(service_ids),
        "audits": 0,
        **values,
    }
    _write(connection, _FINISH, lease, ended | {"hints_seen": hints, "at_once": now, "as_planned": audit_due_at})
    then(connection)
    _index_services(connection, lease.sf_order_id, service_ids)
    show(connection, lease.sf_order_id, state, now=now, error_code=error_code)
    totals.attempt_ended(connection, success=state is State.PROVISIONED, seconds=now - requested_at)
    hourly.note(connection, state, now - requested_at, now=now)


@cache
def _index_service(dialect: str) -> Any:
    index = insert(dialect, services)
    taken = {"sf_order_id": index.excluded.sf_order_id}
    return index.on_conflict_do_update(index_elements=[services.c.service_id], set_=taken)


def _index_services(connection: Connection, sf_order_id: str, service_ids: Sequence[str]) -> None:
    """Let events about these services find their order."""
    rows = [{"service_id": str(service_id), "sf_order_id": sf_order_id} for service_id in service_ids]
    if rows:
        connection.execute(_index_service(connection.dialect.name), rows)


def save_facts(connection: Connection, lease: Lease, facts: Facts, *, now: float, **values: Any) -> None:
    """Write what the protocol remembers, all but the election, and `values` of the order's row. Raises LeaseLost."""
    update(connection, lease, now=now, **{**values, **columns_of(facts)})


def columns_of(facts: Facts) -> dict[str, Any]:
    """What the protocol remembers as columns of the order's row, all but the election, which is made once."""
    columns = {**vars(facts)}
    for mine, column in (("adopt", "adopt_whmcs_id"), ("answered", "answered_whmcs_id")):
        columns[column] = columns.pop(mine)
    del columns["elected"]
    return columns


def elect(connection: Connection, lease: Lease, whmcs_order_id: str, *, now: float) -> str:
    """Elect a WHMCS order, once and for all; returns the elected one (an earlier election stands).

    The one election: AcceptOrder takes its id from here, and only others are ever cancelled. Raises LeaseLost, and
    IntegrityError where that WHMCS order is another Salesforce order's (ask `by_elected` first).
    """
    held = {"held_id": lease.sf_order_id, "held_fence": lease.fence, "held_owner": lease.owner}
    values = held | {"elected_whmcs_id": whmcs_order_id, "updated_at": now}
    elected: str | None = connection.execute(_ELECT, values).scalar_one_or_none()
    if elected is not None:
        return elected
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
    row = {"sf_order_id": sf_order_id, "attempt": attempt, "name": step, "state": StepState.INTENT, "fence": fence}
    inserted = connection.execute(_BEGIN_STEP, row | {"started_at": now})
    assert inserted.inserted_primary_key is not None
    return int(inserted.inserted_primary_key[0])


def end_step(connection: Connection, step_id: int, state: StepState, detail: JsonObject | None, *, now: float) -> None:
    """Record a step's outcome. To be called in the transaction of a fenced write."""
    ended = connection.execute(
        _END_STEP, {"step": step_id, "state": state, "ended_at": now, "detail": detail}
    ).one_or_none()
    if ended is not None:
        totals.step_ended(connection, Step(ended.name), seconds=now - ended.started_at)


def record_step(
    connection: Connection,
    lease: Lease,
    attempt: int,
    step: Step,
    detail: JsonObject | None,
    *,
    started_at: float,
    ended_at: float,
) -> None:
    """Record a step that ended well before its intent was written. To be called in the transaction of a fenced write.

    started_at, ended_at: seconds since 1970.
    """
    row = {"sf_order_id": lease.sf_order_id, "attempt": attempt, "name": step, "fence": lease.fence, "detail": detail}
    ended = {"state": StepState.DONE, "started_at": started_at, "ended_at": ended_at}
    connection.execute(_BEGIN_STEP, row | ended)
    totals.step_ended(connection, step, seconds=ended_at - started_at)


def take_step(connection: Connection, sf_order_id: str, attempt: int, fence: int, step: Step, *, now: float) -> None:
    """Take a step of an attempt as done by an earlier one: it isn't run, and no duration is counted."""
    detail = {"taken": "from an earlier attempt"}
    connection.execute(
        sa.insert(steps).values(
            sf_order_id=sf_order_id,
            attempt=attempt,
            name=step,
            state=StepState.DONE,
            fence=fence,
            started_at=now,
            ended_at=now,
            detail=detail,
        )
    )


def steps_done(connection: Connection, sf_order_id: str, attempt: int) -> set[str]:
    """Names of the steps of this attempt that have a good outcome."""
    return set(connection.execute(_STEPS_DONE, {"order": sf_order_id, "this": attempt}).scalars())


def begun_before(connection: Connection, sf_order_id: str, attempt: int, fence: int) -> bool:
    """Whether a run before the one with this fence began a step of this attempt."""
    query = sa.select(steps.c.id).where(
        steps.c.sf_order_id == sf_order_id, steps.c.attempt == attempt, steps.c.fence < fence
    )
    return connection.execute(query.limit(1)).first() is not None


# Made once: polls of customers run it.
_DONE_AT = (
    sa.select(steps.c.sf_order_id, steps.c.name, sa.func.max(steps.c.ended_at))
    .where(Among(steps.c.sf_order_id, "orders"), steps.c.state == StepState.DONE)
    .group_by(steps.c.sf_order_id, steps.c.name)
)


def done_at(connection: Connection, sf_order_ids: Collection[str]) -> dict[str, dict[str, float]]:
    """When each step of these orders last had a good outcome, whichever attempt it was of: by order, then by name."""
    found: dict[str, dict[str, float]] = {}
    for sf_order_id, name, ended_at in connection.execute(_DONE_AT, {"orders": list(sf_order_ids)}):
        found.setdefault(sf_order_id, {})[name] = ended_at
    return found


_STEPS_OF = (
    sa.select(*(steps.c[f.name] for f in fields(StepRow)))
    .where(steps.c.sf_order_id == sa.bindparam("wanted"))
    .order_by(steps.c.attempt.desc(), steps.c.id.desc())
    .limit(sa.bindparam("most"))
)


def steps_of(connection: Connection, sf_order_id: str, limit: int = 200, *, before: int | None = None) -> list[StepRow]:
    """The recorded steps of an order, in their order; the newest `limit` of them, or of those before a step's id."""
    query = _STEPS_OF if before is None else _STEPS_OF.where(steps.c.id < before)
    rows = connection.execute(query, {"wanted": sf_order_id, "most": limit}).all()
    return [StepRow(*row) for row in reversed(rows)]
