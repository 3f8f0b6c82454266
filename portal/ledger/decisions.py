"""What a person decides about an order that Failed or needs a decision; each is recorded with who decided.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.ids import whmcs_id
from portal.domain.model import NotFound, State, Step
from portal.ledger import events, runs
from portal.ledger.fulfillments import Fulfillment, by_elected, get, hurry, start_again
from portal.ledger.schema import fulfillments

_F = fulfillments.c

#: What a new attempt takes as done where it begins with whmcs_accept: all that came before the elected order.
_BEFORE_ACCEPT: Final = (Step.VALIDATION, Step.ORDER_DETAILS, Step.MAPPING, Step.WHMCS_CREATE)


def adopt(
    connection: Connection, sf_order_id: str, whmcs_order_id: str, *, now: float, actor: str, why: str = ""
) -> Fulfillment:
    """A person names the WHMCS order that is this Salesforce order; the fulfillment goes on with it.

    Raises NotFound for an order nobody asked to fulfil, ValueError while it is being run and for a WHMCS order that is
    another Salesforce order's.
    """
    row = _to_decide(connection, sf_order_id)
    whmcs_order_id = whmcs_id(whmcs_order_id)
    taken = by_elected(connection, whmcs_order_id)
    if taken is not None and taken.sf_order_id != sf_order_id:
        raise ValueError(f"WHMCS order {whmcs_order_id} is already Salesforce order {taken.sf_order_id}")
    detail = {"whmcsOrderId": whmcs_order_id} | ({"why": why} if why else {})
    events.record(connection, "adopted", now=now, subject=sf_order_id, actor=actor, detail=detail)
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


def create_afresh(connection: Connection, sf_order_id: str, *, now: float, actor: str, why: str = "") -> Fulfillment:
    """A person has seen that WHMCS has no order for this one, and orders a new AddOrder. Raises as `adopt`."""
    row = _to_decide(connection, sf_order_id)
    events.record(
        connection, "create_ordered", now=now, subject=sf_order_id, actor=actor, detail={"why": why} if why else {}
    )
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


def restart_points(row: Fulfillment) -> dict[Step, str]:
    """For each step why an order can't be retried from it; "" where it can.

    The protocol decides, not the wish: what is created is what is approved now, so as long as no WHMCS order is elected
    every attempt begins with validation; an elected one stands.
    """
    held = _why_not_retried(row)
    if held:
        return dict.fromkeys(Step, held)
    reasons = dict.fromkeys(
        Step, "an attempt begins with validation: what is created is what Salesforce has approved now"
    )
    reasons[Step.VALIDATION] = ""
    reasons[Step.SF_SUCCESS_UPDATE] = "it isn't provisioned: Salesforce can't be told so"
    if row.elected_whmcs_id is None:
        reasons[Step.WHMCS_ACCEPT] = "no WHMCS order is elected yet: there is nothing to accept"
    elif not (row.plan or {}).get("lines"):
        reasons[Step.WHMCS_ACCEPT] = "what was ordered isn't known to the ledger: begin with validation"
    else:
        reasons[Step.WHMCS_CREATE] = f"WHMCS order {row.elected_whmcs_id} is elected: a second one is never made"
        reasons[Step.WHMCS_ACCEPT] = ""
    return reasons


def _why_not_retried(row: Fulfillment) -> str:
    if row.state is State.FAILED or row.undecided_before_whmcs:
        return ""
    return {
        State.NEEDS_DECISION: "it needs a decision: adopt its WHMCS order, or order a fresh one",
        State.PROVISIONED: "it is provisioned: nothing is left to be done",
        State.WAITING: "it waits and goes on by itself: have it tried now instead",
        State.RUNNING: "a worker runs it now",
        State.QUEUED: "it is queued already",
    }[row.state]


def retry_from(
    connection: Connection, sf_order_id: str, step: Step, *, now: float, actor: str, why: str
) -> Fulfillment:
    """A new attempt that begins with this step. Raises NotFound, and ValueError with why it can't (restart_points)."""
    row = get(connection, sf_order_id)
    if row is None:
        raise NotFound(f"no fulfillment of {sf_order_id} in the ledger")
    reason = restart_points(row)[step]
    if reason:
        raise ValueError(f"not from {step.value}: {reason}")
    again = start_again(connection, row, now=now, requested_by=actor)
    if step is Step.WHMCS_ACCEPT:
        for done in _BEFORE_ACCEPT:
            runs.take_step(connection, sf_order_id, again.attempt, again.fence, done, now=now)
    detail = {"why": why, "step": step.value}
    events.record(connection, "resumed", now=now, subject=sf_order_id, actor=actor, detail=detail)
    return again


def mark_handled(connection: Connection, sf_order_id: str, *, now: float, actor: str, why: str) -> None:
    """A person has seen to it elsewhere: nobody is told of it or asked about it any more, and it stays as it is.

    Raises as `adopt`. A new attempt, and whatever an audit finds, brings it back.
    """
    _to_decide(connection, sf_order_id)
    connection.execute(sa.update(fulfillments).where(_F.sf_order_id == sf_order_id).values(handled_at=now))
    events.record(connection, "handled", now=now, subject=sf_order_id, actor=actor, detail={"why": why})
