"""What a person decides about an order that Failed or needs a decision; each is recorded with who decided.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection

from portal.domain.ids import whmcs_id
from portal.domain.model import (
    NotFound,
    State,
)
from portal.ledger import events
from portal.ledger.fulfillments import Fulfillment, by_elected, get, hurry, start_again
from portal.ledger.schema import fulfillments

_F = fulfillments.c


def adopt(connection: Connection, sf_order_id: str, whmcs_order_id: str, *, now: float, actor: str) -> Fulfillment:
    """A person names the WHMCS order that is this Salesforce order; the fulfillment goes on with it.

    Raises NotFound for an order nobody asked to fulfil, ValueError while it is being run and for a WHMCS order that is
    another Salesforce order's.
    """
    row = _to_decide(connection, sf_order_id)
    whmcs_order_id = whmcs_id(whmcs_order_id)
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
        confirmed=True,
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
        confirmed=True,
        plan=None,
    )


def _to_decide(connection: Connection, sf_order_id: str) -> Fulfillment:
    row = get(connection, sf_order_id)
    if row is None:
        raise NotFound(f"no fulfillment of {sf_order_id} in the ledger")
    if row.state not in (State.NEEDS_DECISION, State.FAILED):
        raise ValueError(f"{sf_order_id} is {row.state}: only an order that Failed or needs a decision can be decided")
    return row


def resume(connection: Connection, sf_order_id: str, *, now: float, actor: str, why: str) -> bool:
    """Start a Failed order again without a click in Salesforce (the customer added a payment method, an operator).

    So does one that needs a decision before anything was sent to WHMCS; one that waits is tried now. Returns whether
    it will be run now.
    """
    row = get(connection, sf_order_id)
    if row is None:
        return False
    if row.state is State.WAITING:
        events.record(connection, "hurried", now=now, subject=sf_order_id, actor=actor, detail={"why": why})
        return hurry(connection, sf_order_id, now=now)
    if row.state is not State.FAILED and not row.undecided_before_whmcs:
        return False
    again = start_again(connection, row, now=now, requested_by=actor)
    events.record(connection, "resumed", now=now, subject=sf_order_id, actor=actor, detail={"why": why})
    return again.attempt == row.attempt + 1
