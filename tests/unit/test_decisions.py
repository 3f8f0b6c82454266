"""Decisions that only a rare course of events asks for; the message is what the runbook explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from portal.domain.ids import external_reference
from portal.domain.model import ErrorCode, State, UpstreamError
from portal.fulfillment.audit import audit
from portal.fulfillment.orchestrator import fulfill
from portal.ledger import audits, decisions, fulfillments, outbox, totals, workers
from portal.ledger.engine import Ledger
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.schema import fulfillments as table
from tests.fakes import ADA, ORDER, Clock, FakeSalesforce, FakeWhmcs, run_context

OTHER = "801000000000002AAA"
REFUSED = UpstreamError("WHMCS", "WHMCS: Order Not Pending", permanent=True)


def asked_for(ledger: Ledger, clock: Clock, sf_order_id: str = ORDER, **values: Any) -> None:
    """A fulfillment whose row has these values."""
    with ledger.write() as connection:
        fulfillments.request_fulfillment(connection, sf_order_id, now=clock.now, requested_at=clock.now)
        if values:
            connection.execute(sa.update(table).where(table.c.sf_order_id == sf_order_id).values(values))


def ended(state: State, clock: Clock, **values: Any) -> dict[str, Any]:
    """The values of an ended one whose audit is due."""
    about = {"state": state, "plan": {"clientId": "9"}, "client_id": "9", "duplicate_possible": True}
    return {**about, "finished_at": clock.now, "audit_due_at": clock.now, **values}


def decision(ledger: Ledger, sf_order_id: str = ORDER) -> Fulfillment:
    with ledger.read() as connection:
        row = fulfillments.get(connection, sf_order_id)
    assert row is not None
    assert row.state is State.NEEDS_DECISION, row.error_message
    return row


def test_a_second_order_that_whmcs_doesnt_cancel(ledger: Ledger, clock: Clock) -> None:
    whmcs = FakeWhmcs()
    for _ in range(2):
        whmcs.add("Pending", external_reference(ORDER))
    whmcs.on_cancel = [REFUSED, REFUSED, REFUSED]
    asked_for(ledger, clock)
    with ledger.write() as connection:
        workers.register(connection, ADA, "fulfill", "host", 1, now=clock.now)
    fulfill(run_context(ledger, clock, FakeSalesforce(), whmcs), ORDER)
    assert "WHMCS doesn't cancel this order's second WHMCS order 2" in (decision(ledger).error_message or "")
    assert "AcceptOrder" not in whmcs.sent


def test_an_order_that_failed_and_is_active_all_the_same(ledger: Ledger, clock: Clock) -> None:
    whmcs = FakeWhmcs()
    whmcs.add("Active", external_reference(ORDER))
    asked_for(ledger, clock, **ended(State.FAILED, clock))
    audit(run_context(ledger, clock, FakeSalesforce(), whmcs), ORDER)
    assert decision(ledger).error_message == "WHMCS order 1 is Active although this order Failed"


class Leaky(FakeWhmcs):
    """Its CancelOrder leaves the service running."""

    def cancel_order(self, order_id: str) -> None:
        """The order, and nothing of it."""
        kept = list(self.rows)
        super().cancel_order(order_id)
        self.rows = kept


def test_a_cancelled_stray_whose_service_lives(ledger: Ledger, clock: Clock) -> None:
    whmcs = Leaky()
    whmcs.add("Active", external_reference(ORDER))
    whmcs.add("Pending", external_reference(ORDER))
    whmcs.rows = [whmcs.rows[0], type(whmcs.rows[1])("2", "2", "7", "Monthly", 1, "Active")]
    asked_for(ledger, clock, **ended(State.PROVISIONED, clock, elected_whmcs_id="1"))
    audit(run_context(ledger, clock, FakeSalesforce(), whmcs), ORDER)
    assert decision(ledger).error_message == "the stray WHMCS order 2 has a live service: 2"


def test_adopting_what_is_another_orders(ledger: Ledger, clock: Clock) -> None:
    asked_for(ledger, clock, OTHER, **ended(State.PROVISIONED, clock, elected_whmcs_id="12"))
    asked_for(ledger, clock, **ended(State.FAILED, clock))
    with (
        ledger.write() as connection,
        pytest.raises(ValueError, match=f"WHMCS order 12 is already Salesforce order {OTHER}"),
    ):
        decisions.adopt(connection, ORDER, "012", now=clock.now, actor="ada")


def test_what_was_asked_for_again_while_it_was_audited_isnt_doubted(ledger: Ledger, clock: Clock) -> None:
    """The audit looked at an attempt that is over: the new one looks for itself."""
    asked_for(ledger, clock, **ended(State.FAILED, clock))
    with ledger.write() as connection:
        seen = fulfillments.get(connection, ORDER)
        assert seen is not None
        again = fulfillments.request_fulfillment(connection, ORDER, now=clock.now, requested_at=clock.now)
    with ledger.write() as connection:
        before = totals.states(connection)
        assert not audits.doubt(connection, seen, ErrorCode.OUTCOME_UNCERTAIN, "two are live", now=clock.now)
    with ledger.read() as connection:
        assert fulfillments.get(connection, ORDER) == again
        assert totals.states(connection) == before
        assert outbox.longest_overdue(connection, "salesforce") is None


def test_whmcs_numbers_a_new_order_as_one_it_had_before(ledger: Ledger, clock: Clock) -> None:
    """So it is after WHMCS' database was restored: what this order's AddOrder made isn't taken for the other's."""
    asked_for(ledger, clock, OTHER, **ended(State.PROVISIONED, clock, elected_whmcs_id="1"))
    asked_for(ledger, clock)
    with ledger.write() as connection:
        workers.register(connection, ADA, "fulfill", "host", 1, now=clock.now)
    whmcs = FakeWhmcs()
    fulfill(run_context(ledger, clock, FakeSalesforce(), whmcs), ORDER)
    assert decision(ledger).error_message == f"WHMCS order 1 is already Salesforce order {OTHER}"
    assert whmcs.sent == ["AddOrder"]


class ByHand(FakeWhmcs):
    """Its services are set up by staff: AcceptOrder leaves them Pending, and so does ModuleCreate."""

    def accept_order(self, order_id: str, *, before_send: Callable[[], None] | None = None) -> None:
        """The order, and nothing of it."""
        super().accept_order(order_id, before_send=before_send)
        self.set_services("Pending")

    def set_services(self, status: str) -> None:
        """What staff did."""
        self.rows = [replace(row, status=status) for row in self.rows]


def test_a_service_that_staff_have_set_up_since_leaves_nothing_to_decide(ledger: Ledger, clock: Clock) -> None:
    whmcs = ByHand()
    asked_for(ledger, clock)
    with ledger.write() as connection:
        workers.register(connection, ADA, "fulfill", "host", 1, now=clock.now)
    context = run_context(ledger, clock, FakeSalesforce(), whmcs)
    fulfill(context, ORDER)
    assert decision(ledger).error_code == ErrorCode.WHMCS_SERVICE_NOT_ACTIVE

    def look() -> Fulfillment:
        with ledger.write() as connection:
            audits.hint(connection, ORDER, now=clock.now)
        assert audit(context, ORDER)
        with ledger.read() as connection:
            row = fulfillments.get(connection, ORDER)
        assert row is not None
        return row

    assert (look().state, look().attempt) == (State.NEEDS_DECISION, 1)  # not before
    whmcs.set_services("Active")
    row = look()
    assert (row.state, row.attempt, row.requested_by) == (State.QUEUED, 2, "whmcs")
    ran = fulfill(context, ORDER)
    assert ran is not None
    assert ran.state is State.PROVISIONED
    assert whmcs.sent == ["AddOrder", "AcceptOrder"]  # each once, by the first attempt
