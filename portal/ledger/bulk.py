"""One act of an operator on many orders: the orders are frozen first, so that nothing is hit that wasn't counted.

frozen → running → done, or cancelled from either. Each order is judged anew when its turn comes; one that needs a
decision by then, was marked as handled or went on by itself, is left alone.
Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import State
from portal.ledger import decisions, events, fulfillments, search
from portal.ledger.schema import bulk_acts, bulk_orders

_B, _O = bulk_acts.c, bulk_orders.c

#: More orders than that are two acts: an operator should have seen what the first did.
MOST_ORDERS: Final = 10_000
#: Orders of one turn: a transaction stays short.
BATCH: Final = 50

#: Act → the states in which an order may be acted on at all. Never on one that needs a decision.
ACTS: Final[dict[str, tuple[State, ...]]] = {
    "retry": (State.FAILED,),
    "try_now": (State.WAITING,),
    "write_back": (State.PROVISIONED, State.FAILED),
}


class TooMany(ValueError):
    """The filter has more than MOST_ORDERS orders."""


@dataclass(frozen=True)
class BulkAct:
    """One row of `bulk_acts`; moments are in seconds since 1970."""

    id: int
    act: str
    filter: dict[str, Any]
    actor: str
    why: str
    state: str
    total: int
    done: int
    refused: int
    created_at: float
    updated_at: float


_COLUMNS = tuple(_B[each.name] for each in fields(BulkAct))


def freeze(
    connection: Connection,
    act: str,
    wanted: search.Filter,
    *,
    shown: dict[str, Any],
    actor: str,
    why: str,
    now: float,
) -> int:
    """Write down exactly the orders the filter has now; nothing is done to them yet. Returns the act's id.

    shown: the filter as people chose it. Raises ValueError for a filter whose orders this act isn't for, TooMany.
    """
    if wanted.state not in ACTS[act]:
        states = " or ".join(state.value for state in ACTS[act])
        raise ValueError(f"choose the state {states} first: this is for no other order")
    orders = search.ids(connection, wanted, limit=MOST_ORDERS + 1)
    if len(orders) > MOST_ORDERS:
        raise TooMany(f"more than {MOST_ORDERS} orders: narrow the filter")
    if not orders:
        raise ValueError("the filter has no order")
    inserted = connection.execute(
        sa.insert(bulk_acts).values(
            act=act,
            filter=shown,
            actor=actor[:120],
            why=why[:255],
            state="frozen",
            total=len(orders),
            done=0,
            refused=0,
            created_at=now,
            updated_at=now,
        )
    )
    assert inserted.inserted_primary_key is not None
    number = int(inserted.inserted_primary_key[0])
    rows = [{"bulk_id": number, "position": place, "sf_order_id": each} for place, each in enumerate(orders)]
    connection.execute(sa.insert(bulk_orders), rows)
    return number


def get(connection: Connection, bulk_id: int) -> BulkAct | None:
    """One act."""
    row = connection.execute(sa.select(*_COLUMNS).where(_B.id == bulk_id)).one_or_none()
    return None if row is None else BulkAct(*row)


def newest(connection: Connection, *, limit: int) -> list[BulkAct]:
    """The acts that were frozen last, the newest first."""
    query = sa.select(*_COLUMNS).where(_B.id > 0).order_by(_B.id.desc()).limit(limit)
    return [BulkAct(*row) for row in connection.execute(query)]


def some_orders(connection: Connection, bulk_id: int, *, limit: int) -> list[tuple[str, str | None]]:
    """The first orders of an act, each with its outcome so far."""
    query = sa.select(_O.sf_order_id, _O.outcome).where(_O.bulk_id == bulk_id).order_by(_O.position).limit(limit)
    return [(row.sf_order_id, row.outcome) for row in connection.execute(query)]


def begin(connection: Connection, bulk_id: int, *, actor: str, now: float) -> bool:
    """Carry out what was frozen; False when it isn't frozen any more."""
    return _move(connection, bulk_id, ("frozen",), "running", actor=actor, now=now)


def cancel(connection: Connection, bulk_id: int, *, actor: str, now: float) -> bool:
    """Do nothing to those whose turn hasn't come; False when it has ended."""
    return _move(connection, bulk_id, ("frozen", "running"), "cancelled", actor=actor, now=now)


def _move(connection: Connection, bulk_id: int, before: tuple[str, ...], state: str, *, actor: str, now: float) -> bool:
    done = connection.execute(
        sa.update(bulk_acts).where(_B.id == bulk_id, _B.state.in_(before)).values(state=state, updated_at=now)
    )
    if done.rowcount == 1:
        events.record(connection, f"bulk_{state}", now=now, actor=actor, detail={"bulk": bulk_id})
    return done.rowcount == 1


def any_running(connection: Connection) -> bool:
    """Whether an act has been begun that isn't done."""
    return connection.execute(sa.select(_B.id).where(_B.state == "running").limit(1)).first() is not None


def advance(connection: Connection, *, now: float) -> list[str]:
    """Act on the next orders of the act that was begun first; returns those that are to be run now."""
    query = sa.select(*_COLUMNS).where(_B.state == "running").order_by(_B.id).limit(1)
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is None:
        return []
    each = BulkAct(*row)
    turn = (
        sa.select(_O.position, _O.sf_order_id)
        .where(_O.bulk_id == each.id, _O.position >= each.done)
        .order_by(_O.position)
        .limit(BATCH)
    )
    todo = connection.execute(turn).all()
    to_run, refused = [], 0
    for position, sf_order_id in todo:
        outcome = _act(connection, each, sf_order_id, now=now)
        refused += outcome.startswith("left alone")
        if outcome == "queued":
            to_run.append(sf_order_id)
        place = sa.update(bulk_orders).where(_O.bulk_id == each.id, _O.position == position)
        connection.execute(place.values(outcome=outcome[:255]))
    done = each.done + len(todo)
    values: dict[str, Any] = {"done": done, "refused": each.refused + refused, "updated_at": now}
    if done >= each.total:
        values["state"] = "done"
    connection.execute(sa.update(bulk_acts).where(_B.id == each.id).values(values))
    return to_run


def _act(connection: Connection, bulk: BulkAct, sf_order_id: str, *, now: float) -> str:
    """What became of one order."""
    row = fulfillments.get(connection, sf_order_id)
    if row is None or row.state not in ACTS[bulk.act]:
        return f"left alone: it is {row.state.value if row else 'gone'} now"
    if row.handled_at is not None:
        return "left alone: it is marked as handled now"
    why = f"{bulk.why} (bulk act {bulk.id})"
    if bulk.act == "write_back":
        fulfillments.plan_resync(connection, sf_order_id, now=now, due_at=now)
        events.record(
            connection, "write_back_ordered", now=now, subject=sf_order_id, actor=bulk.actor, detail={"why": why}
        )
        return "Salesforce is told again"
    decisions.resume(connection, sf_order_id, now=now, actor=bulk.actor, why=why)
    return "queued"
