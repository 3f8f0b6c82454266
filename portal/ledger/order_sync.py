"""Orders as Salesforce shows them: what a snapshot of one adds to, or changes in, the row its customer sees.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import CustomerStatus, SalesforceOrder, State, customer_status
from portal.ledger import accounts, orders, placements
from portal.ledger.engine import insert
from portal.ledger.schema import fulfillments
from portal.ledger.schema import orders as orders_table


def sync(
    connection: Connection,
    snapshot: SalesforceOrder,
    *,
    now: float,
    created_at: float | None = None,
    status: CustomerStatus | None = None,
    reason: str | None = None,
) -> None:
    """Insert or refresh the row of an order seen in Salesforce.

    What was placed here keeps its items, prices and account: only its Salesforce id, number and Status are taken.
    `status` (with its `reason`, kept as error_code) is what the customer is to be told, as far as this ledger doesn't
    know better: a fulfillment's own outcome stands, unless the order was cancelled after it ended.
    """
    known = orders.by_sf_order_id(connection, snapshot.id)
    reference = snapshot.portal_reference
    if known is None and reference:
        known = orders.get(connection, reference)
        if known is not None and known.sf_order_id is None and known.account_id == snapshot.account_id:
            # Salesforce's answer to our creating it was lost, or is still on its way: the reference says it is ours.
            placements.settle_placed(connection, known.reference, snapshot.id, now=now)
            known = orders.get(connection, reference)
        elif known is not None:
            known, reference = None, None  # somebody else's reference: this order goes by its Salesforce id
    seen: dict[str, Any] = {"order_number": snapshot.order_number, "sf_status": snapshot.status}
    if known is None or known.checkout_key is None:  # Salesforce is its only source
        seen |= {
            "account_id": snapshot.account_id,
            "items": _items_of(snapshot),
            "total": snapshot.total,
        }
        seen |= {"currency": snapshot.currency} if snapshot.currency else {}
        seen |= {"email": snapshot.email} if snapshot.email else {}
        began = known.created_at if known is not None else now if created_at is None else created_at
        forgotten = accounts.forgotten_at(connection, snapshot.account_id)
        if forgotten is not None and began <= forgotten:
            seen |= {"email": None, "items": [accounts.nameless(item) for item in seen["items"]]}
        seen |= {"created_at": created_at} if created_at is not None else {}
    if status is not None and (known is None or _may_tell(connection, known, status)):
        seen |= {"status": status.value, "error_code": reason}
    if known is None:
        _insert(connection, reference or snapshot.id, snapshot.id, seen, now=now)
    elif any(getattr(known, name) != value for name, value in seen.items()):
        update = orders_table.update().where(orders_table.c.reference == known.reference)
        if "status" in seen:  # told only as long as nobody has told anything else meanwhile
            update = update.where(orders_table.c.status == known.status.value)
        changed = connection.execute(update.values(updated_at=now, **seen)).rowcount
        if changed and seen.get("status") == CustomerStatus.CANCELLED.value != known.status.value:
            orders.put_cancelled_mail(connection, snapshot.id, now=now)
        if "items" in seen and seen["items"] != known.items:
            orders.index_domains(connection, known.reference, seen["items"])


def _items_of(snapshot: SalesforceOrder) -> list[orders.Item]:
    return [
        orders.Item(
            name=item.product_name,
            quantity=item.quantity,
            unitPrice=item.unit_price,
            cycle=item.billing_cycle,
            domain=item.domain,
            hostname=item.hostname,
            entryId=None,
        )
        for item in snapshot.items
    ]


# Statements of every run are built once: see portal.ledger.runs.
_STATE_OF = sa.select(fulfillments.c.state).where(fulfillments.c.sf_order_id == sa.bindparam("wanted"))


@cache
def _insert_order(dialect: str) -> Any:
    return insert(dialect, orders_table).on_conflict_do_nothing()  # another process has learnt of it in this moment


def _insert(connection: Connection, reference: str, sf_order_id: str, seen: dict[str, Any], *, now: float) -> None:
    row = {
        "reference": reference,
        "sf_order_id": sf_order_id,
        "placing": orders.PLACED,
        "place_tries": 0,
        "updated_at": now,
        "created_at": now,
        "status": _first_status(connection, sf_order_id).value,
        **seen,
    }
    connection.execute(_insert_order(connection.dialect.name), row)
    orders.index_domains(connection, reference, seen.get("items", []))


def _first_status(connection: Connection, sf_order_id: str) -> CustomerStatus:
    """What the customer of an order seen for the first time is told: its fulfillment may have begun before."""
    state = connection.execute(_STATE_OF, {"wanted": sf_order_id}).scalar()
    return CustomerStatus.PENDING_REVIEW if state is None else customer_status(state)


def _may_tell(connection: Connection, known: orders.Order, status: CustomerStatus) -> bool:
    """Whether what Salesforce says of an order overrides what the customer is told of it."""
    if known.status is status or known.error_code == orders.WITHDRAWN:
        return False
    state = connection.execute(_STATE_OF, {"wanted": known.sf_order_id}).scalar()
    return state is None or (status is CustomerStatus.CANCELLED and state in (State.PROVISIONED, State.FAILED))
