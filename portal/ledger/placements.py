"""Orders on their way into Salesforce: when each is tried again, who tries it, and what came of it.

Every function takes a connection of `Ledger.read()` or `Ledger.write()`; moments are seconds since 1970 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import CustomerStatus
from portal.ledger import fulfillments
from portal.ledger.orders import PLACED, PLACING, REFUSED, Order, get, tell_salesforce_cancelled
from portal.ledger.schema import NOT_PLACED, orders

#: How long one try at creating the order in Salesforce is left alone before another may begin, in seconds.
PLACE_LEASE_SECONDS: Final = 90.0


def due(connection: Connection, *, now: float, limit: int) -> list[str]:
    """References of orders that Salesforce hasn't got for certain and that may be tried now, longest due first."""
    query = (
        sa.select(orders.c.reference).where(orders.c.place_due_at <= now).order_by(orders.c.place_due_at).limit(limit)
    )
    return list(connection.execute(query).scalars())


@dataclass(frozen=True)
class NotPlaced:
    """An order that Salesforce doesn't have; moments are seconds since 1970."""

    reference: str
    created_at: float
    tries: int
    due_at: float | None  # when it is tried next; None: Salesforce refuses it
    error_code: str | None  # Salesforce's


_NOT_PLACED: Final = sa.select(
    orders.c.reference, orders.c.created_at, orders.c.place_tries, orders.c.place_due_at, orders.c.error_code
).where(NOT_PLACED)


def waiting(connection: Connection, *, until: float, limit: int) -> list[NotPlaced]:
    """Orders placed here until that moment that Salesforce hasn't got for certain, the longest first."""
    query = _NOT_PLACED.where(orders.c.placing == PLACING, orders.c.created_at <= until)
    return [NotPlaced(*row) for row in connection.execute(query.order_by(orders.c.created_at).limit(limit))]


def refused(connection: Connection, *, since: float, limit: int) -> list[NotPlaced]:
    """Orders placed here since that moment that Salesforce won't have, newest first, without withdrawn ones."""
    query = _NOT_PLACED.where(
        orders.c.placing == REFUSED, orders.c.created_at >= since, orders.c.status == CustomerStatus.FAILED.value
    )
    return [NotPlaced(*row) for row in connection.execute(query.order_by(orders.c.created_at.desc()).limit(limit))]


def claim(connection: Connection, reference: str, *, now: float) -> Order | None:
    """Take the right to try creating this order; None when it isn't due, is settled, or somebody else has it."""
    claimed = connection.execute(
        orders.update()
        .where(orders.c.reference == reference, orders.c.placing == PLACING, orders.c.place_due_at <= now)
        .values(place_due_at=now + PLACE_LEASE_SECONDS, place_tries=orders.c.place_tries + 1)
    ).rowcount
    return get(connection, reference) if claimed else None


def postpone(connection: Connection, reference: str, until: float) -> None:
    """Try again at `until`: Salesforce couldn't be asked, or gave no answer."""
    connection.execute(
        orders.update().where(orders.c.reference == reference, orders.c.placing == PLACING).values(place_due_at=until)
    )


def settle_placed(connection: Connection, reference: str, sf_order_id: str, *, now: float) -> None:
    """Salesforce has the order, perhaps later than anybody thought. One withdrawn meanwhile is cancelled there, too.

    It may be fulfilled already, when the click came before Salesforce's answer did: its customer sees that now.
    """
    settled = connection.execute(
        orders.update()
        .where(orders.c.reference == reference, orders.c.sf_order_id.is_(None))
        .values(placing=PLACED, place_due_at=None, sf_order_id=sf_order_id, updated_at=now)
    ).rowcount
    if not settled:
        return
    fulfillment = fulfillments.get(connection, sf_order_id)
    if fulfillment is not None:
        fulfillments.show(connection, sf_order_id, fulfillment.state, now=now, error_code=fulfillment.error_code)
    order = get(connection, reference)
    if order is not None and order.status is CustomerStatus.CANCELLED:
        tell_salesforce_cancelled(connection, sf_order_id, now=now)


def settle_refused(connection: Connection, reference: str, error_code: str, *, now: float) -> None:
    """Salesforce definitely won't have the order; the customer is told on its page."""
    connection.execute(
        orders.update()
        .where(orders.c.reference == reference, orders.c.placing == PLACING)
        .values(
            placing=REFUSED,
            place_due_at=None,
            error_code=error_code[:40],
            updated_at=now,
            status=sa.case(
                (orders.c.status == CustomerStatus.CANCELLED.value, orders.c.status),
                else_=CustomerStatus.FAILED.value,
            ),
        )
    )
