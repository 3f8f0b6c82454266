"""Reads in bulk what changed with orders in Salesforce: rejected in review, cancelled later, placed elsewhere.

The sweep calls it; pages never ask Salesforce. How far it has read is kept in the ledger, with the last order's id,
because Salesforce tells changes to the second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy.engine import Connection

from portal.clients.salesforce.records import OrderChange
from portal.domain.ids import whmcs_id
from portal.domain.model import CustomerStatus, PortalError, SalesforceOrder
from portal.ledger import adopting, fulfillments, installation, order_sync, orders, unheard
from portal.services import Services

log = logging.getLogger("portal.customers.salesforce_sync")

#: One query's worth, and how many of them one round reads at most: a new ledger catches up over several rounds.
PAGE: Final = 500
PAGES: Final = 10
#: As many are learnt in one transaction: short enough for others.
BATCH: Final = 50

_KEY: Final = "orders_synced"
#: Read again each time, in seconds: a transaction in Salesforce may show up this long after the moment it bears.
_OVERLAP: Final = 30.0
#: Seconds by which an order's own provisioning may seem to come before its creation: Salesforce keeps such moments to
#: the second, and one is by the portal's clock, the other by Salesforce's.
_SAME_MOMENT: Final = 2.0

#: Order.Status values that end an order, as the portal tells them to its customer.
_CANCELLED: Final = frozenset({"cancelled", "canceled"})
_REJECTED: Final = frozenset({"rejected", "declined", "denied"})
#: A quote somebody is still writing: not yet anything a customer should see.
_UNFINISHED: Final = frozenset({"draft"})


def sync_changes(services: Services) -> bool:
    """Read the orders that changed since the last time. At most PAGES of PAGE orders a call; whether that was all.

    Raises UpstreamError when Salesforce can't be asked; what was read before that is kept.
    """
    with services.ledger.read() as connection:
        kept = installation.get(connection, _KEY)
    moment, after_id = (float(kept[0]), str(kept[1])) if isinstance(kept, list) else (0.0, "")
    for _ in range(PAGES):
        page = services.salesforce.orders_changed_since(moment, PAGE, after_id)
        moment, after_id = page.changed_at, page.last_id
        _skip(page.odd, "it can't be read")
        for start in range(0, len(page.changes), BATCH):
            _sync_page(services, page.changes[start : start + BATCH])
        caught_up = page.rows < PAGE
        _keep(services, moment - _OVERLAP if caught_up else moment, "" if caught_up else after_id)
        if caught_up:
            _note_follows(services)
            return True
    return False


def _sync_page(services: Services, changes: Sequence[OrderChange]) -> None:
    """Sync these in one transaction; where one can't be, each in its own, so that it stops no other."""
    try:
        _sync_orders(services, changes)
    except PortalError:
        raise
    except Exception as error:
        if len(changes) == 1:
            _skip([changes[0].id], type(error).__name__)  # its text may hold the row
            return
    else:
        return
    for change in changes:
        _sync_page(services, [change])


def _skip(sf_order_ids: Iterable[str], why: str) -> None:
    for sf_order_id in sf_order_ids:
        log.error("An order of Salesforce can't be synced", extra={"sfOrderId": sf_order_id, "error": why})


def _sync_orders(services: Services, changes: Sequence[OrderChange]) -> None:
    with services.ledger.write() as connection:
        for change in changes:
            copied = _copied(connection, change)
            status, reason = customer_status_of(change, copied=copied)
            if status is not None:
                order_sync.sync(
                    connection,
                    change.order,
                    now=services.now(),
                    created_at=change.created_at,
                    status=status,
                    reason=reason,
                )
            # One that was cancelled meanwhile is run, too: it ends as such, and Salesforce is told.
            if not copied and (status is not CustomerStatus.CANCELLED or _in_hands(change.order)):
                _remind(connection, change.order, now=services.now())


def _copied(connection: Connection, change: OrderChange) -> bool:
    """Whether what the order shows of provisioning is another's: a clone has the fields of the order it was made of."""
    order = change.order
    if order.last_provisioning_at is not None and order.last_provisioning_at < change.created_at - _SAME_MOMENT:
        return True
    if not order.whmcs_order_id:
        return False
    owner = fulfillments.by_elected(connection, whmcs_id(order.whmcs_order_id))
    return owner is not None and owner.sf_order_id != order.id


def _remind(connection: Connection, order: SalesforceOrder, *, now: float) -> None:
    """Salesforce shows the order in the portal's hands or done, and this ledger has forgotten why: it was restored."""
    row = fulfillments.get(connection, order.id)
    if row is None and adopting.forgotten(connection, order):
        if adopting.take_in(connection, order, now=now):
            log.warning("A provisioned order that this ledger had forgotten is audited", extra={"sfOrderId": order.id})
        return
    provisioned = order.provisioning_status == CustomerStatus.PROVISIONED
    in_hands = _in_hands(order)
    if row is None:
        forgotten = in_hands
    else:
        told_at, written_at = order.last_provisioning_at, row.salesforce_written_at
        later = told_at is not None and (written_at is None or told_at > written_at + 1.0)
        forgotten = later and (in_hands or provisioned)
    if forgotten and unheard.request_forgotten(connection, order.id, now=now, provisioned=provisioned):
        log.warning("An order that this ledger had forgotten goes on", extra={"sfOrderId": order.id})


def _in_hands(order: SalesforceOrder) -> bool:
    return order.provisioning_status == CustomerStatus.ACTIVATING or _accepted_by_guide(order)


def _accepted_by_guide(order: SalesforceOrder) -> bool:
    """The guide's own Apex shows "Failed" and "HTTP 202" for what the portal has accepted and isn't done with."""
    shown = (order.provisioning_status, order.provisioning_error_code, order.provisioning_error_message)
    return shown == (CustomerStatus.FAILED, None, "HTTP 202")


def customer_status_of(change: OrderChange, *, copied: bool = False) -> tuple[CustomerStatus | None, str | None]:
    """What a customer is told of an order this ledger hasn't fulfilled itself, and why; (None, None): nothing yet.

    copied: what it shows of provisioning is another order's.
    """
    status = change.order.status.casefold()
    provisioning = None if copied else change.order.provisioning_status
    if status in _REJECTED:
        return CustomerStatus.CANCELLED, orders.UNWANTED
    if status in _CANCELLED or provisioning == CustomerStatus.CANCELLED.value:
        return CustomerStatus.CANCELLED, None
    if provisioning in (CustomerStatus.ACTIVATING.value, CustomerStatus.PROVISIONED.value, CustomerStatus.FAILED.value):
        return CustomerStatus(provisioning), None
    if status in _UNFINISHED and change.order.portal_reference is None:
        return None, None
    return CustomerStatus.PENDING_REVIEW, None


def _note_follows(services: Services) -> None:
    with services.ledger.read() as connection:
        if adopting.follows(connection):
            return
    with services.ledger.write() as connection:
        adopting.note_follows(connection, now=services.now())


def _keep(services: Services, moment: float, after_id: str) -> None:
    with services.ledger.read() as connection:
        if installation.get(connection, _KEY) == [max(moment, 0.0), after_id]:
            return
    with services.ledger.write() as connection:
        installation.put(connection, _KEY, [max(moment, 0.0), after_id], now=services.now())
