"""Figures about fulfillments: for metrics, and for what customers are told of how long theirs will take."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import State
from portal.ledger import totals
from portal.ledger.schema import fulfillments, orders

#: States a fulfillment leaves again: few rows at any time, found by an index.
UNSETTLED: Final = (State.QUEUED, State.WAITING, State.RUNNING, State.NEEDS_DECISION)

#: What counts beside the states: Failed or undecided ones that a person has marked as handled.
HANDLED: Final = "handled"


def standings(connection: Connection) -> dict[str, int]:
    """How many fulfillments are in each state; those that a person has marked as handled count as HANDLED instead.

    Exact: the states are counted as they change, and the others are as many as people pressed a button for.
    """
    counted: dict[str, int] = {state.value: count for state, count in totals.states(connection).items()}
    handled = (State.FAILED, State.NEEDS_DECISION)
    query = sa.select(*(sa.func.count(sa.case((fulfillments.c.state == state, 1))) for state in handled)).where(
        fulfillments.c.handled_at.is_not(None),
        fulfillments.c.created_at >= 0.0,  # by its own index
    )
    counts = connection.execute(query).one()
    for state, count in zip(handled, counts, strict=True):
        counted[state] = max(0, counted[state] - count)
    return counted | {HANDLED: sum(counts)}


def oldest(connection: Connection) -> dict[State, tuple[str, float]]:
    """The oldest fulfillment of each unsettled state: its order, and when (seconds since 1970) it was asked for.

    Those that a person has marked as handled are none.
    """
    found = {}
    for state in UNSETTLED:
        query = sa.select(fulfillments.c.sf_order_id, fulfillments.c.requested_at).where(
            fulfillments.c.state == state, fulfillments.c.handled_at.is_(None)
        )
        row = connection.execute(query.order_by(fulfillments.c.requested_at).limit(1)).one_or_none()
        if row is not None:
            found[state] = (str(row.sf_order_id), float(row.requested_at))
    return found


def any_fulfillment(connection: Connection) -> bool:
    """Whether the ledger knows of any."""
    query = sa.select(fulfillments.c.sf_order_id).where(fulfillments.c.sf_order_id > "").limit(1)
    return connection.execute(query).first() is not None


def recent_lead_times(connection: Connection, *, limit: int) -> list[float]:
    """Seconds from the request to the end of the newest Provisioned fulfillments, at most `limit` of them."""
    query = (
        sa.select(fulfillments.c.requested_at, fulfillments.c.finished_at)
        .where(fulfillments.c.state == State.PROVISIONED.value, fulfillments.c.add_attempts > 0)  # made here
        .order_by(fulfillments.c.due_at.desc())
        .limit(limit)
    )
    return [end - start for start, end in connection.execute(query) if end is not None and end >= start]


def recent_review_times(connection: Connection, *, limit: int) -> list[float]:
    """Seconds from the checkout to the first request of the newest `limit` Provisioned fulfillments.

    Only of orders that were placed in this portal: of others nobody knows when their review began.
    """
    placed_at = (
        sa.select(orders.c.created_at)
        .where(orders.c.sf_order_id == fulfillments.c.sf_order_id, orders.c.checkout_key.is_not(None))
        .scalar_subquery()
    )
    query = (
        sa.select(placed_at, fulfillments.c.created_at)
        .where(fulfillments.c.state == State.PROVISIONED.value, fulfillments.c.add_attempts > 0)  # made here
        .order_by(fulfillments.c.due_at.desc())
        .limit(limit)
    )
    return [end - start for start, end in connection.execute(query) if start is not None and end >= start]
