"""The ledger's orders: what the portal placed or learnt of, and what each customer may see of it.

Every function takes a connection of `Ledger.read()` or `Ledger.write()`; moments are seconds since 1970 UTC.
`reference` is the portal's own name of an order; an order placed elsewhere goes by its Salesforce id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypedDict

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from portal.domain.model import FINAL_STATUSES, CustomerStatus, ErrorCode
from portal.errors import PortalError
from portal.ledger import outbox
from portal.ledger.engine import insert
from portal.ledger.lists import Among
from portal.ledger.schema import fulfillments, order_domains, orders

PLACING: Final = "placing"  # Salesforce hasn't confirmed it yet
PLACED: Final = "placed"
REFUSED: Final = "refused"  # Salesforce won't have it, or it was withdrawn before it got there

WITHDRAWN: Final = "WITHDRAWN"  # error_code of an order its customer took back
UNWANTED: Final = "REJECTED"  # error_code of an order its review turned down


class AlreadyPlaced(PortalError):
    """This checkout form has become an order before (or, once in ages, the reference is taken)."""


class Item(TypedDict):
    """One line of an order, as customers see it."""

    name: str
    quantity: int
    unitPrice: str  # decimal text
    cycle: str | None  # as Salesforce spells it
    domain: str | None
    hostname: str | None
    entryId: str | None  # PricebookEntry, for those placed here


@dataclass(frozen=True)
class Order:
    """One row of `orders`."""

    reference: str
    sf_order_id: str | None
    order_number: str | None
    account_id: str
    email: str | None
    checkout_key: str | None
    placing: str
    place_due_at: float | None
    place_tries: int
    status: CustomerStatus
    sf_status: str | None
    items: list[Item]
    currency: str | None
    total: str | None
    error_code: str | None
    created_at: float
    updated_at: float
    withdrawal_asked_at: float | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.status in FINAL_STATUSES

    @property
    def needs_customer(self) -> bool:
        """Whether it goes on once its customer has added a payment method; a refused order never does."""
        missing = self.error_code == ErrorCode.PAYMENT_METHOD_MISSING.value
        return self.status is CustomerStatus.FAILED and self.placing != REFUSED and missing


_NAMES = tuple(field.name for field in fields(Order))
_COLUMNS = [orders.c[name] for name in _NAMES]

# Made once: every poll of every customer runs the first, and building a statement costs more than running it.
_BY_REFERENCE = sa.select(*_COLUMNS).where(orders.c.reference == sa.bindparam("wanted"))
_BY_SF_ORDER_ID = sa.select(*_COLUMNS).where(orders.c.sf_order_id == sa.bindparam("wanted"))
_BY_REFERENCES = sa.select(*_COLUMNS).where(Among(orders.c.reference, "wanted"))
_BY_SF_ORDER_IDS = sa.select(*_COLUMNS).where(Among(orders.c.sf_order_id, "wanted"))
_WITHDRAWN_OF = sa.select(orders.c.sf_order_id).where(
    Among(orders.c.sf_order_id, "wanted"), orders.c.status == CustomerStatus.CANCELLED.value
)
_BY_CHECKOUT_KEY = sa.select(*_COLUMNS).where(orders.c.checkout_key == sa.bindparam("wanted"))
_INDEX_DOMAIN = {each: insert(each, order_domains).on_conflict_do_nothing() for each in ("sqlite", "postgresql")}


def _order(row: Row[Any] | None) -> Order | None:
    if row is None:
        return None
    values = dict(zip(_NAMES, row, strict=True))
    return Order(**{**values, "status": CustomerStatus(values["status"])})


# --- reading ------------------------------------------------------------------------------------------------


def get(connection: Connection, reference: str) -> Order | None:
    """The order of that reference (as stored: case matters)."""
    return _order(connection.execute(_BY_REFERENCE, {"wanted": reference}).first())


def by_sf_order_id(connection: Connection, sf_order_id: str) -> Order | None:
    """The order of that Salesforce id (18 characters)."""
    return _order(connection.execute(_BY_SF_ORDER_ID, {"wanted": sf_order_id}).first())


def named(connection: Connection, references: Collection[str]) -> dict[str, Order]:
    """Those of these references that there are (as stored: case matters)."""
    rows = connection.execute(_BY_REFERENCES, {"wanted": list(references)})
    return {order.reference: order for order in map(_order, rows) if order is not None}


def named_in_salesforce(connection: Connection, sf_order_ids: Collection[str]) -> dict[str, Order]:
    """Those of these Salesforce ids (18 characters) that there are."""
    rows = connection.execute(_BY_SF_ORDER_IDS, {"wanted": list(sf_order_ids)})
    return {str(order.sf_order_id): order for order in map(_order, rows) if order is not None}


def by_checkout_key(connection: Connection, checkout_key: str) -> Order | None:
    """The order a checkout form has already become."""
    return _order(connection.execute(_BY_CHECKOUT_KEY, {"wanted": checkout_key}).first())


def page_of_account(
    connection: Connection,
    account_id: str,
    *,
    limit: int,
    status: CustomerStatus | None = None,
    needs_customer: bool | None = None,
    before: tuple[float, str] | None = None,
) -> list[Order]:
    """The account's newest orders, at most `limit`; `before`: (created_at, reference) of the last one seen.

    needs_customer: only those that wait for their customer (`Order.needs_customer`), or only those that don't.
    """
    query = sa.select(*_COLUMNS).where(orders.c.account_id == account_id)
    if status is not None:
        query = query.where(orders.c.status == status.value)
    if needs_customer is not None:
        waits = sa.and_(
            sa.func.coalesce(orders.c.error_code, "") == ErrorCode.PAYMENT_METHOD_MISSING.value,
            orders.c.status == CustomerStatus.FAILED.value,
            orders.c.placing != REFUSED,
        )
        query = query.where(waits if needs_customer else sa.not_(waits))
    if before is not None:
        moment, reference = before
        query = query.where(
            sa.tuple_(orders.c.created_at, orders.c.reference) < sa.tuple_(sa.literal(moment), sa.literal(reference))
        )
    query = query.order_by(orders.c.created_at.desc(), orders.c.reference.desc()).limit(limit)
    return [order for order in map(_order, connection.execute(query)) if order is not None]


def open_of_account(connection: Connection, account_id: str, *, limit: int) -> list[Order]:
    """The account's newest orders that are being worked on, or wait for a payment method."""
    wanted = sa.or_(
        orders.c.status.in_([CustomerStatus.PENDING_REVIEW.value, CustomerStatus.ACTIVATING.value]),
        sa.and_(
            orders.c.status == CustomerStatus.FAILED.value,
            orders.c.error_code == ErrorCode.PAYMENT_METHOD_MISSING.value,
        ),
    )
    query = (
        sa.select(*_COLUMNS)
        .where(orders.c.account_id == account_id, wanted)
        .order_by(orders.c.created_at.desc(), orders.c.reference.desc())
        .limit(limit)
    )
    return [order for order in map(_order, connection.execute(query)) if order is not None]


def withdrawn(connection: Connection, sf_order_id: str) -> bool:
    """Whether the customer (or WHMCS) has cancelled this order: it must not be fulfilled any more."""
    return sf_order_id in withdrawn_of(connection, [sf_order_id])


def withdrawn_of(connection: Connection, sf_order_ids: Sequence[str]) -> set[str]:
    """Which of these orders are."""
    return set(connection.execute(_WITHDRAWN_OF, {"wanted": list(sf_order_ids)}).scalars())


# --- placing ------------------------------------------------------------------------------------------------


def insert_placed_here(
    connection: Connection,
    *,
    reference: str,
    checkout_key: str,
    account_id: str,
    email: str,
    items: Sequence[Item],
    currency: str | None,
    total: str,
    now: float,
) -> None:
    """Record a checkout before anything is sent. Raises AlreadyPlaced, with the transaction unusable after it."""
    try:
        connection.execute(
            orders.insert().values(
                reference=reference,
                checkout_key=checkout_key,
                account_id=account_id,
                email=email,
                placing=PLACING,
                place_due_at=now,
                place_tries=0,
                status=CustomerStatus.PENDING_REVIEW.value,
                items=list(items),
                currency=currency,
                total=total,
                created_at=now,
                updated_at=now,
            )
        )
    except IntegrityError as error:
        raise AlreadyPlaced("this checkout has become an order already") from error
    index_domains(connection, reference, items)


def index_domains(connection: Connection, reference: str, items: Sequence[Item]) -> None:
    """Let the order be found by its items' domains and hostnames."""
    names = {(name or "").lower()[:255] for item in items for name in (item["domain"], item["hostname"])} - {""}
    if names:
        rows = [{"domain": name, "reference": reference} for name in sorted(names)]
        connection.execute(_INDEX_DOMAIN[connection.dialect.name], rows)


def withdraw(connection: Connection, reference: str, *, email: str = "", name: str = "", now: float) -> bool:
    """Cancel an order that is still in review; False when it no longer is. Salesforce is told through the outbox.

    The receipt goes to the order's own address, else to `email`; `name`: as its customer gave it.
    """
    order = get(connection, reference)
    if order is None or order.status is not CustomerStatus.PENDING_REVIEW:
        return False
    if order.sf_order_id is not None and _being_fulfilled(connection, order.sf_order_id):
        return False
    values: dict[str, Any] = {"status": CustomerStatus.CANCELLED.value, "error_code": WITHDRAWN, "updated_at": now}
    if order.placing == PLACING and order.place_tries == 0:  # never sent: there is nothing to take back
        values |= {"placing": REFUSED, "place_due_at": None}
    changed = connection.execute(
        orders.update()
        .where(
            orders.c.reference == reference,
            orders.c.status == CustomerStatus.PENDING_REVIEW.value,
            orders.c.place_tries == order.place_tries,
        )
        .values(**values)
    ).rowcount
    if changed:
        receipt = replace(order, email=order.email or email)
        put_mail(connection, receipt, "withdrawn", now=now, withdrawn_at=now, name=name)
    if changed and order.sf_order_id is not None:
        tell_salesforce_cancelled(connection, order.sf_order_id, now=now)
    return bool(changed)


def _being_fulfilled(connection: Connection, sf_order_id: str) -> bool:
    query = sa.select(fulfillments.c.sf_order_id).where(fulfillments.c.sf_order_id == sf_order_id)
    return connection.execute(query).first() is not None


def tell_salesforce_cancelled(connection: Connection, sf_order_id: str, *, now: float) -> None:
    """Tell Salesforce that its customer has withdrawn the order; once, however often this is called."""
    outbox.put(
        connection,
        "salesforce",
        sf_order_id,
        {"fields": {"Provisioning_Status__c": CustomerStatus.CANCELLED.value}},
        now=now,
        once=f"cancelled:{sf_order_id}",
    )


# --- status -------------------------------------------------------------------------------------------------

_MAILS: Final[Mapping[tuple[CustomerStatus, str | None], str]] = {
    (CustomerStatus.PROVISIONED, None): "provisioned",
    (CustomerStatus.FAILED, ErrorCode.PAYMENT_METHOD_MISSING.value): "needs_you",
}


def set_status(
    connection: Connection, sf_order_id: str, status: CustomerStatus, *, now: float, error_code: str | None = None
) -> None:
    """What the customer is told from now on; with it, once, the e-mail that goes with it.

    Called in the transaction that changes the fulfillment. An order nobody has learnt of has nothing to be told, and
    a cancelled one stays cancelled unless it got set up all the same.
    """
    # What a withdrawal may have changed any moment is said in the statement.
    update = _SHOW if status is CustomerStatus.PROVISIONED else _SHOW_UNLESS_CANCELLED
    values = {"order": sf_order_id, "status_now": status.value, "error_now": error_code, "moment": now}
    order = _order(connection.execute(update, values).first())
    template = _MAILS.get((status, error_code))
    if order is not None and template is not None:
        put_mail(connection, order, template, now=now)


def set_status_of_all(
    connection: Connection, sf_order_ids: Sequence[str], status: CustomerStatus, *, now: float
) -> None:
    """As `set_status` for each of them, for a status that no e-mail goes with, other than Provisioned."""
    assert status is not CustomerStatus.PROVISIONED
    assert (status, None) not in _MAILS
    connection.execute(_SHOW_ALL, {"orders": list(sf_order_ids), "status_now": status.value, "moment": now})


# Made once: every accepted delivery goes through it.
_SHOW_ALL = (
    orders.update()
    .where(Among(orders.c.sf_order_id, "orders"), orders.c.status != CustomerStatus.CANCELLED.value)
    .values(status=sa.bindparam("status_now"), error_code=None, updated_at=sa.bindparam("moment"))
)

# Statements of every run are built once: see portal.ledger.runs.
_SHOW = (
    orders.update()
    .where(orders.c.sf_order_id == sa.bindparam("order"))
    .values(status=sa.bindparam("status_now"), error_code=sa.bindparam("error_now"), updated_at=sa.bindparam("moment"))
    .returning(*_COLUMNS)
)
_SHOW_UNLESS_CANCELLED = _SHOW.where(orders.c.status != CustomerStatus.CANCELLED.value)


def set_cancelled_in_whmcs(connection: Connection, sf_order_id: str, *, now: float) -> bool:
    """A provisioned order was cancelled in WHMCS; False when the customer knows already, or nobody has the order."""
    done = connection.execute(
        orders.update()
        .where(orders.c.sf_order_id == sf_order_id, orders.c.status != CustomerStatus.CANCELLED.value)
        .values(status=CustomerStatus.CANCELLED.value, updated_at=now)
    )
    if done.rowcount:
        put_cancelled_mail(connection, sf_order_id, now=now)
    return done.rowcount == 1


def set_live_again(connection: Connection, sf_order_id: str, *, now: float) -> bool:
    """An order that was cancelled in WHMCS is live there again; False for one that isn't cancelled, or not there."""
    done = connection.execute(
        orders.update()
        .where(
            orders.c.sf_order_id == sf_order_id,
            orders.c.status == CustomerStatus.CANCELLED.value,
            orders.c.error_code.is_(None),
            sa.func.coalesce(orders.c.sf_status, "").not_in(("Cancelled", "Canceled")),
        )
        .values(status=CustomerStatus.PROVISIONED.value, updated_at=now)
    )
    return done.rowcount == 1


def put_cancelled_mail(connection: Connection, sf_order_id: str, *, now: float) -> None:
    """Queue what tells that an order was rejected in review or cancelled later; nothing where its customer withdrew."""
    order = by_sf_order_id(connection, sf_order_id)
    if order is not None and order.status is CustomerStatus.CANCELLED and order.error_code != WITHDRAWN:
        put_mail(connection, order, "rejected" if order.error_code == UNWANTED else "cancelled", now=now)


def put_mail(connection: Connection, order: Order, template: str, *, now: float, **more: object) -> None:
    """Queue one of an order's e-mails, once for each template; nothing where nobody's address is known.

    `more`: what else its template shows.
    """
    if not order.email:
        return
    outbox.put(
        connection,
        "mail",
        order.reference,
        {
            "to": order.email,
            "template": template,
            "account_id": order.account_id,
            "context": {
                "reference": order.reference,
                "items": order.items,
                "currency": order.currency,
                "total": order.total,
                **more,
            },
            "message_id": f"{order.reference}.{template}".lower(),
        },
        now=now,
        once=f"mail:{template}:{order.reference}",
    )
