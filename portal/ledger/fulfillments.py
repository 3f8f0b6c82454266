"""The fulfillments in the ledger: asking for one, claiming it, running it under a fence, taking it over.

Every write of a run is conditional on its fence; a row count of zero means that somebody else owns the order now.
Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import (
    FINISHED_STATES,
    CustomerStatus,
    ErrorCode,
    JsonObject,
    LeaseLost,
    NotFound,
    State,
    Step,
    StepState,
)
from portal.domain.protocol import Facts
from portal.ledger import events, installation, orders, outbox
from portal.ledger.engine import insert
from portal.ledger.schema import fulfillments, services, steps, workers

_F = fulfillments.c

#: Seconds after a takeover at which Salesforce is told once more what it may have been told wrongly.
RESYNC_AFTER_TAKEOVER = 15.0


@dataclass(frozen=True)
class Fulfillment:
    """One row of `fulfillments`; the columns are explained in portal.ledger.schema."""

    sf_order_id: str
    state: State
    attempt: int
    tries: int
    first_failed_at: float | None
    due_at: float
    waiting_for: str | None
    owner: str | None
    fence: int
    job_id: str | None
    enqueued_at: float | None
    elected_whmcs_id: str | None
    adopt_whmcs_id: str | None
    answered_whmcs_id: str | None
    history_complete: bool
    duplicate_possible: bool
    add_attempts: int
    add_open: bool
    add_in_doubt_until: float | None
    accept_attempts: int
    accept_open: bool
    accept_in_doubt_until: float | None
    active: bool
    audit_due_at: float | None
    audits: int
    plan: JsonObject | None
    client_id: str | None
    service_ids: list[str]
    error_code: str | None
    error_message: str | None
    salesforce_status: str | None
    requested_at: float
    requested_by: str | None
    created_at: float
    updated_at: float
    finished_at: float | None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED_STATES

    @property
    def facts(self) -> Facts:
        """What the exactly-once protocol decides on."""
        return Facts(
            elected=self.elected_whmcs_id,
            adopt=self.adopt_whmcs_id,
            answered=self.answered_whmcs_id,
            history_complete=self.history_complete,
            duplicate_possible=self.duplicate_possible,
            add_attempts=self.add_attempts,
            add_open=self.add_open,
            add_in_doubt_until=self.add_in_doubt_until,
            accept_attempts=self.accept_attempts,
            accept_open=self.accept_open,
            accept_in_doubt_until=self.accept_in_doubt_until,
            active=self.active,
        )


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


_COLUMNS = tuple(fulfillments.c[f.name] for f in fields(Fulfillment))


def _fulfillment(row: Any) -> Fulfillment:
    values = dict(zip((f.name for f in fields(Fulfillment)), row, strict=True))
    return Fulfillment(**{**values, "state": State(values["state"]), "service_ids": values["service_ids"] or []})


def get(connection: Connection, sf_order_id: str) -> Fulfillment | None:
    """The fulfillment of a Salesforce order (18 characters), if it was ever asked for."""
    row = connection.execute(sa.select(*_COLUMNS).where(_F.sf_order_id == sf_order_id)).one_or_none()
    return None if row is None else _fulfillment(row)


def steps_of(connection: Connection, sf_order_id: str, limit: int = 200) -> list[StepRow]:
    """The recorded steps of an order, in their order; the newest `limit` of them."""
    query = (
        sa.select(*(steps.c[f.name] for f in fields(StepRow)))
        .where(steps.c.sf_order_id == sf_order_id)
        .order_by(steps.c.attempt.desc(), steps.c.id.desc())
        .limit(limit)
    )
    return [StepRow(*row) for row in reversed(connection.execute(query).all())]


# --- asking for a fulfillment --------------------------------------------------------------------------


def request_fulfillment(
    connection: Connection,
    sf_order_id: str,
    *,
    now: float,
    requested_at: float,
    requested_by: str | None = None,
    new_click: bool = True,
) -> Fulfillment:
    """Make sure the order has a fulfillment, and return it.

    The first request inserts it; a new click on a Failed one starts a new attempt, which resumes what was begun.
    Anything unfinished, Provisioned or waiting for a decision is returned as it is. `requested_at`: the signed moment.
    """
    row = get(connection, sf_order_id)
    if row is None:
        _insert(connection, sf_order_id, now=now, requested_at=requested_at, requested_by=requested_by)
        orders.set_status(connection, sf_order_id, CustomerStatus.ACTIVATING, now)
        row = get(connection, sf_order_id)
        assert row is not None
        return row
    if new_click and row.state == State.FAILED:
        return start_again(connection, row, now=now, requested_at=requested_at, requested_by=requested_by)
    return row


def request_unheard(connection: Connection, sf_order_id: str, *, now: float) -> Fulfillment:
    """An order that Salesforce marked `Requested` although its call never arrived.

    A new one isn't history_complete for: an earlier ledger may have known it. A Failed one is started again.
    """
    row = get(connection, sf_order_id)
    if row is None:
        _insert(connection, sf_order_id, now=now, requested_at=now, requested_by=None, history_complete=False)
        orders.set_status(connection, sf_order_id, CustomerStatus.ACTIVATING, now)
        events.record(connection, "request_found", now=now, subject=sf_order_id)
        row = get(connection, sf_order_id)
        assert row is not None
    elif row.state == State.FAILED and row.salesforce_status == CustomerStatus.FAILED:
        # It was Failed in Salesforce and is Requested again: a click we never heard of.
        row = start_again(connection, row, now=now)
    elif row.finished and row.salesforce_status is not None:
        plan_resync(connection, sf_order_id, now=now, due_at=now)
    return row


def _insert(
    connection: Connection,
    sf_order_id: str,
    *,
    now: float,
    requested_at: float,
    requested_by: str | None,
    history_complete: bool = True,
) -> None:
    values = {
        "sf_order_id": sf_order_id,
        "state": State.QUEUED,
        "attempt": 1,
        "tries": 0,
        "due_at": now,
        "fence": 0,
        "history_complete": history_complete and installation.history_complete(connection),
        "duplicate_possible": False,
        "add_attempts": 0,
        "add_open": False,
        "accept_attempts": 0,
        "accept_open": False,
        "active": False,
        "audits": 0,
        "service_ids": [],
        "requested_at": requested_at,
        "requested_by": requested_by,
        "created_at": now,
        "updated_at": now,
    }
    connection.execute(insert(connection, fulfillments).values(values).on_conflict_do_nothing())


def start_again(
    connection: Connection,
    row: Fulfillment,
    *,
    now: float,
    requested_at: float | None = None,
    requested_by: str | None = None,
    **changes: Any,
) -> Fulfillment:
    """A new attempt of a finished fulfillment: it resumes at what the ledger knows, never from nothing.

    Returns the row as it now is (another caller may have been first).
    """
    connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == row.sf_order_id, _F.state == row.state, _F.attempt == row.attempt)
        .values(
            state=State.QUEUED,
            attempt=row.attempt + 1,
            tries=0,
            first_failed_at=None,
            due_at=now,
            waiting_for=None,
            owner=None,
            fence=_F.fence + 1,
            job_id=None,
            enqueued_at=None,
            error_code=None,
            error_message=None,
            requested_at=now if requested_at is None else requested_at,
            requested_by=requested_by,
            updated_at=now,
            finished_at=None,
            audit_due_at=None,
            **{"history_complete": row.history_complete and installation.history_complete(connection), **changes},
        )
    )
    orders.set_status(connection, row.sf_order_id, CustomerStatus.ACTIVATING, now)
    again = get(connection, row.sf_order_id)
    assert again is not None
    return again


def resume(connection: Connection, sf_order_id: str, *, now: float, actor: str, why: str) -> bool:
    """Start a Failed order again without a click in Salesforce (the customer added a payment method, an operator).

    Returns whether it was Failed and now is queued.
    """
    row = get(connection, sf_order_id)
    if row is None or row.state != State.FAILED:
        return False
    again = start_again(connection, row, now=now, requested_by=actor)
    events.record(connection, "resumed", now=now, subject=sf_order_id, actor=actor, detail={"why": why})
    return again.attempt == row.attempt + 1


def failed_for_payment_method(connection: Connection, client_id: str, limit: int = 50) -> list[str]:
    """Orders of a WHMCS client that Failed for the lack of a payment method."""
    query = (
        sa.select(_F.sf_order_id)
        .where(
            _F.client_id == client_id,
            _F.state == State.FAILED,
            _F.error_code == ErrorCode.PAYMENT_METHOD_MISSING,
        )
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def by_elected(connection: Connection, whmcs_order_id: str) -> Fulfillment | None:
    """The fulfillment whose elected WHMCS order this is."""
    row = connection.execute(sa.select(*_COLUMNS).where(_F.elected_whmcs_id == whmcs_order_id).limit(1)).one_or_none()
    return None if row is None else _fulfillment(row)


def by_service(connection: Connection, service_id: str) -> Fulfillment | None:
    """The fulfillment this WHMCS service came of."""
    query = sa.select(services.c.sf_order_id).where(services.c.service_id == service_id)
    sf_order_id = connection.execute(query).scalar_one_or_none()
    return None if sf_order_id is None else get(connection, sf_order_id)


def elected_elsewhere(connection: Connection, sf_order_id: str, whmcs_order_ids: list[str]) -> set[str]:
    """Which of these WHMCS orders are the elected ones of other Salesforce orders."""
    if not whmcs_order_ids:
        return set()
    query = sa.select(_F.elected_whmcs_id).where(
        _F.elected_whmcs_id.in_(whmcs_order_ids), _F.sf_order_id != sf_order_id
    )
    return {str(row) for row in connection.execute(query).scalars()}


def audit_now(connection: Connection, sf_order_id: str, *, now: float) -> bool:
    """Ask for a look at WHMCS by the sweep's next round: a hint came from WHMCS that something changed there."""
    done = connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == sf_order_id, _F.state.in_(FINISHED_STATES))
        .values(audit_due_at=now)
    )
    return done.rowcount == 1


def wake(connection: Connection, sf_order_id: str, *, now: float) -> bool:
    """Let a waiting fulfillment look again at once: a hint came that its wait may be over."""
    done = connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == sf_order_id, _F.state == State.WAITING, _F.due_at > now)
        .values(due_at=now)
    )
    return done.rowcount == 1


# --- running it under a fence --------------------------------------------------------------------------


def claim(connection: Connection, sf_order_id: str, worker_id: str, *, now: float) -> Fulfillment | None:
    """Make this worker the owner, under a new fence; None when it isn't to be run now or is another's.

    Raises LeaseLost when the worker itself has been declared dead.
    """
    if installation.paused(connection):
        return None
    claimed = connection.execute(
        sa.update(fulfillments)
        .where(
            _F.sf_order_id == sf_order_id,
            _F.state.in_((State.QUEUED, State.WAITING)),
            _F.due_at <= now,
        )
        .values(state=State.RUNNING, owner=worker_id, fence=_F.fence + 1, waiting_for=None, updated_at=now)
    )
    if claimed.rowcount != 1:
        return None
    # Locked, so that a takeover that declares us dead comes either before (we see it) or after (it sees our order).
    query = sa.select(workers.c.dead).where(workers.c.worker_id == worker_id)
    alive = connection.execute(query.with_for_update(read=True)).scalar_one_or_none()
    if alive is not False:
        raise LeaseLost("this worker has been declared dead")
    return get(connection, sf_order_id)


def update(connection: Connection, sf_order_id: str, fence: int, *, now: float, **values: Any) -> None:
    """Write to a run's row. Raises LeaseLost when its fence is no longer `fence`."""
    done = connection.execute(
        sa.update(fulfillments).where(_F.sf_order_id == sf_order_id, _F.fence == fence).values(updated_at=now, **values)
    )
    if done.rowcount != 1:
        raise LeaseLost("another worker owns this order now")
    if values.get("finished_at") is not None:
        _index_services(connection, sf_order_id, values.get("service_ids") or ())


def _index_services(connection: Connection, sf_order_id: str, service_ids: Sequence[str]) -> None:
    """Let events about these services find their order."""
    for service_id in service_ids:
        row = {"service_id": str(service_id), "sf_order_id": sf_order_id}
        connection.execute(
            insert(connection, services)
            .values(row)
            .on_conflict_do_update(index_elements=[services.c.service_id], set_={"sf_order_id": sf_order_id})
        )


def save_facts(connection: Connection, sf_order_id: str, fence: int, facts: Facts, *, now: float) -> None:
    """Write what the protocol remembers, all but the election. Raises LeaseLost."""
    values = asdict(facts)
    for mine, column in (("adopt", "adopt_whmcs_id"), ("answered", "answered_whmcs_id")):
        values[column] = values.pop(mine)
    del values["elected"]
    update(connection, sf_order_id, fence, now=now, **values)


def elect(connection: Connection, sf_order_id: str, fence: int, whmcs_order_id: str, *, now: float) -> str:
    """Elect a WHMCS order, once and for all; returns the elected one (an earlier election stands).

    The one election: AcceptOrder takes its id from here, and only others are ever cancelled. Raises LeaseLost.
    """
    connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == sf_order_id, _F.fence == fence, _F.elected_whmcs_id.is_(None))
        .values(elected_whmcs_id=whmcs_order_id, updated_at=now)
    )
    row = get(connection, sf_order_id)
    if row is None or row.fence != fence or row.elected_whmcs_id is None:
        raise LeaseLost("another worker owns this order now")
    return row.elected_whmcs_id


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
    connection.execute(sa.update(steps).where(steps.c.id == step_id).values(state=state, ended_at=now, detail=detail))


def steps_done(connection: Connection, sf_order_id: str, attempt: int) -> set[str]:
    """Names of the steps of this attempt that have a good outcome."""
    query = sa.select(steps.c.name).where(
        steps.c.sf_order_id == sf_order_id, steps.c.attempt == attempt, steps.c.state == StepState.DONE
    )
    return set(connection.execute(query).scalars())


# --- who runs what: jobs and takeovers --------------------------------------------------------------


def due(connection: Connection, *, now: float, limit: int) -> list[Fulfillment]:
    """Unfinished, unowned fulfillments whose time has come and that have no job out, oldest first."""
    rows: list[Fulfillment] = []
    for state in (State.QUEUED, State.WAITING):
        query = (
            sa.select(*_COLUMNS)
            .where(_F.state == state, _F.due_at <= now, _F.enqueued_at.is_(None))
            .order_by(_F.due_at)
            .limit(limit)
        )
        rows += map(_fulfillment, connection.execute(query))
    return sorted(rows, key=lambda row: row.due_at)[:limit]


def enqueued(connection: Connection, *, limit: int) -> list[Fulfillment]:
    """Unowned fulfillments with a job out, the oldest jobs first."""
    rows: list[Fulfillment] = []
    for state in (State.QUEUED, State.WAITING):
        query = (
            sa.select(*_COLUMNS)
            .where(_F.state == state, _F.enqueued_at.is_not(None))
            .order_by(_F.enqueued_at)
            .limit(limit)
        )
        rows += map(_fulfillment, connection.execute(query))
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


def doubt_unfinished(connection: Connection, *, now: float, until: float) -> int:
    """The ledger was restored: unfinished orders may have been created in WHMCS since its backup was made.

    `until`: then nothing sent before can take effect any more. Returns how many orders are doubted.
    """
    count = 0
    for state in (State.QUEUED, State.WAITING, State.RUNNING):
        done = connection.execute(
            sa.update(fulfillments)
            .where(_F.state == state)
            .values(history_complete=False, add_in_doubt_until=until, updated_at=now)
        )
        count += done.rowcount
    return count


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


def take_over(connection: Connection, worker_id: str, *, now: float, heartbeats: int | None = None) -> list[str] | None:
    """Declare a worker dead and free its orders, in one transaction; returns their ids.

    With `heartbeats`, only if its counter still stands there. None when another declared it dead, or its heart beats
    again. What it had sent may still take effect: its orders look before they create.
    """
    guard = [workers.c.worker_id == worker_id, workers.c.dead == sa.false()]
    if heartbeats is not None:
        guard.append(workers.c.heartbeats == heartbeats)
    if connection.execute(sa.update(workers).where(*guard).values(dead=True)).rowcount != 1:
        return None
    taken = list(connection.execute(sa.select(_F.sf_order_id).where(_F.owner == worker_id)).scalars())
    for sf_order_id in taken:
        connection.execute(
            sa.update(fulfillments)
            .where(_F.sf_order_id == sf_order_id, _F.owner == worker_id)
            .values(
                state=State.QUEUED,
                owner=None,
                fence=_F.fence + 1,
                due_at=now,
                job_id=None,
                enqueued_at=None,
                history_complete=False,
                duplicate_possible=sa.or_(_F.duplicate_possible, _F.add_open),
                updated_at=now,
            )
        )
    for kind, subject in outbox.release_all(connection, worker_id):
        if kind == "salesforce":
            # Stopped rather than dead, it may yet send the old state over a newer one: say the present one once more.
            plan_resync(connection, subject, now=now, due_at=now + RESYNC_AFTER_TAKEOVER)
    return taken


def plan_resync(connection: Connection, sf_order_id: str, *, now: float, due_at: float) -> int:
    """Have Salesforce told at `due_at` how the order stands then, whatever it was told before. Returns the message id.

    The guide's own Apex writes Failed over our outcome on any answer but 200, and a stopped process may send late.
    """
    message_id = outbox.put(connection, "resync", sf_order_id, {}, now=now, due_at=due_at)
    assert message_id is not None
    return message_id


def note_salesforce_status(connection: Connection, sf_order_id: str, status: str) -> None:
    """Salesforce took this status from the outbox."""
    connection.execute(sa.update(fulfillments).where(_F.sf_order_id == sf_order_id).values(salesforce_status=status))


def audits_due(connection: Connection, *, now: float, limit: int) -> list[Fulfillment]:
    """Finished fulfillments whose next look at WHMCS is due."""
    query = (
        sa.select(*_COLUMNS)
        .where(_F.audit_due_at <= now)  # and nothing of the state: most orders have ended
        .order_by(_F.audit_due_at)
        .limit(limit)
    )
    return [row for row in map(_fulfillment, connection.execute(query)) if row.finished]


def claim_audit(connection: Connection, row: Fulfillment, *, due_again_at: float) -> bool:
    """Take one due audit, so that no other sweep does it too; it comes again at `due_again_at` unless settled."""
    done = connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == row.sf_order_id, _F.fence == row.fence, _F.audit_due_at == row.audit_due_at)
        .values(audit_due_at=due_again_at)
    )
    return done.rowcount == 1


# --- a person's decisions ------------------------------------------------------------------------------


def adopt(connection: Connection, sf_order_id: str, whmcs_order_id: str, *, now: float, actor: str) -> Fulfillment:
    """A person names the WHMCS order that is this Salesforce order; the fulfillment goes on with it.

    Raises NotFound for an order nobody asked to fulfil, ValueError while it is being run and for a WHMCS order that is
    another Salesforce order's.
    """
    row = _to_decide(connection, sf_order_id)
    taken = by_elected(connection, whmcs_order_id)
    if taken is not None and taken.sf_order_id != sf_order_id:
        raise ValueError(f"WHMCS order {whmcs_order_id} is already Salesforce order {taken.sf_order_id}")
    events.record(
        connection, "adopted", now=now, subject=sf_order_id, actor=actor, detail={"whmcsOrderId": whmcs_order_id}
    )
    return start_again(
        connection,
        row,
        now=now,
        requested_by=actor,
        elected_whmcs_id=whmcs_order_id,
        answered_whmcs_id=None,
        adopt_whmcs_id=whmcs_order_id,
        add_open=False,
        accept_open=False,
        accept_in_doubt_until=None,
        active=False,
        duplicate_possible=True,
    )


def create_afresh(connection: Connection, sf_order_id: str, *, now: float, actor: str) -> Fulfillment:
    """A person has seen that WHMCS has no order for this one, and orders a new AddOrder. Raises as `adopt`."""
    row = _to_decide(connection, sf_order_id)
    events.record(connection, "create_ordered", now=now, subject=sf_order_id, actor=actor, detail={})
    return start_again(
        connection,
        row,
        now=now,
        requested_by=actor,
        elected_whmcs_id=None,
        answered_whmcs_id=None,
        adopt_whmcs_id=None,
        history_complete=True,
        add_attempts=0,
        add_open=False,
        add_in_doubt_until=None,
        accept_attempts=0,
        accept_open=False,
        accept_in_doubt_until=None,
        active=False,
        duplicate_possible=True,
        plan=None,
    )


def _to_decide(connection: Connection, sf_order_id: str) -> Fulfillment:
    row = get(connection, sf_order_id)
    if row is None:
        raise NotFound(f"no fulfillment of {sf_order_id} in the ledger")
    if row.state not in (State.NEEDS_DECISION, State.FAILED):
        raise ValueError(f"{sf_order_id} is {row.state}: only an order that Failed or needs a decision can be decided")
    return row
