"""Orders that Salesforce shows Provisioned and this ledger doesn't know: taken in as ended, to be audited in WHMCS.

So it is after a restore, when they were provisioned after the copy, and after a rebuild. They aren't run again:
what was true when they were provisioned (a payment method, a product's mapping) needn't be true any more.
Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.ids import whmcs_id
from portal.domain.model import CustomerStatus, SalesforceOrder, State
from portal.ledger import events, fulfillments, installation
from portal.ledger.schema import fulfillments as table

#: Since when (seconds since 1970) this ledger hears of every change in Salesforce; kept from the first time on.
_FOLLOWS_SINCE: Final = "orders_followed_since"

#: They are audited one after the other: WHMCS has others to serve. Until then, in seconds since 1970, it is busy so.
_AUDITED_UNTIL: Final = "taken_in_audited_until"
AUDITS_PER_SECOND: Final = 1.0

#: What marks the plan of an order whose claim to its WHMCS order nobody has checked yet.
UNVERIFIED: Final = "unverified"


def follows(connection: Connection) -> bool:
    """Whether the sync has once read everything there was."""
    return installation.get(connection, _FOLLOWS_SINCE) is not None


def note_follows(connection: Connection, *, now: float) -> None:
    """The sync has read everything there is: what is provisioned from now on, this ledger ought to know."""
    installation.put(connection, _FOLLOWS_SINCE, now, now=now)


def forgotten(connection: Connection, order: SalesforceOrder) -> bool:
    """Whether an order that is Provisioned in Salesforce, and unknown here, must have been this ledger's.

    A new ledger beside an old org isn't to audit what others provisioned there before.
    """
    if order.provisioning_status != CustomerStatus.PROVISIONED or not order.whmcs_order_id:
        return False
    if not installation.history_complete(connection):
        return True  # it was restored, or is being rebuilt
    since = installation.get(connection, _FOLLOWS_SINCE)
    at = order.last_provisioning_at
    return isinstance(since, int | float) and at is not None and at > since


def take_in(connection: Connection, order: SalesforceOrder, *, now: float) -> bool:
    """Take such an order in as ended; an audit of it is due soon. False where it is known already."""
    written = order.last_provisioning_at
    busy_until = installation.get(connection, _AUDITED_UNTIL)
    due_at = max(now, float(busy_until or 0.0) + 1.0 / AUDITS_PER_SECOND)
    row = fulfillments.new_row(
        order.id, now=now, requested_at=written or now, requested_by=None, history_complete=False
    )
    values = row | {
        "state": State.PROVISIONED,
        "due_at": written or now,
        "fence": 1,
        "elected_whmcs_id": whmcs_id(order.whmcs_order_id or ""),
        "duplicate_possible": True,
        "active": True,
        "audit_due_at": due_at,
        "plan": {"clientId": order.whmcs_client_id, "orderedAt": order.created_at, UNVERIFIED: True},
        "client_id": order.whmcs_client_id,
        "salesforce_status": CustomerStatus.PROVISIONED,
        "salesforce_written_at": written,
        "finished_at": now,  # from now on it is audited by the schedule
    }
    if not fulfillments.insert_row(connection, values):
        return False
    installation.put(connection, _AUDITED_UNTIL, due_at, now=now)
    detail = {"whmcsOrderId": order.whmcs_order_id}
    events.record(connection, "provisioned_order_taken_in", now=now, subject=order.id, detail=detail)
    return True


def note_verified(connection: Connection, sf_order_id: str, client_id: str) -> None:
    """The order's claim to its WHMCS order was checked: this is the client it belongs to."""
    connection.execute(
        sa.update(table)
        .where(table.c.sf_order_id == sf_order_id)
        .values(client_id=client_id, plan={"clientId": client_id})
    )
