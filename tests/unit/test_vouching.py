"""When this ledger may send an AddOrder without looking, and when an unanswered one may be sent again.

The orchestrator, the steps and the ledger are real; both other sides are a few rows in memory.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from portal.domain.ids import external_reference
from portal.domain.model import AddedOrder, State
from portal.fulfillment.orchestrator import fulfill
from portal.ledger import fulfillments, installation, workers
from portal.ledger.engine import Ledger
from tests.fakes import ADA, ORDER, Clock, FakeSalesforce, FakeWhmcs, run_context, salesforce_order

MAX_REQUEST = 120.0


class World:
    """One order, its worker, and both other sides."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger, self.clock = ledger, clock
        self.salesforce, self.whmcs = FakeSalesforce(), FakeWhmcs()
        with ledger.write() as connection:
            workers.register(connection, ADA, "fulfill", "host", 1, now=0.0)
            fulfillments.request_fulfillment(connection, ORDER, now=clock.now, requested_at=clock.now)

    def remember(self, **known: bool) -> None:
        with self.ledger.write() as connection:
            for key, value in known.items():
                installation.put(connection, key, value, now=self.clock.now)

    def run(self) -> State:
        """Run the order until it rests, time passing where it waits."""
        context = run_context(
            self.ledger,
            self.clock,
            self.salesforce,
            self.whmcs,
            whmcs_payment_method="stripe",
            whmcs_marker_custom_field="Mark",
            whmcs_max_request_seconds=MAX_REQUEST,
        )
        for _ in range(10):
            ended = fulfill(context, ORDER)
            assert ended is not None
            if ended.state is not State.WAITING:
                return ended.state
            with self.ledger.read() as connection:
                row = fulfillments.get(connection, ORDER)
            assert row is not None
            self.clock.now = max(self.clock.now, row.due_at)
        raise AssertionError("it waits for ever")


@pytest.fixture
def world(ledger: Ledger, clock: Clock) -> World:
    return World(ledger, clock)


@pytest.mark.parametrize(("status", "attempted_at"), [("Requested", 9e5), (None, 9e5), ("Activating", None)])
def test_a_new_ledger_looks_first_where_salesforce_was_told_of_an_attempt(
    world: World, status: str | None, attempted_at: float | None
) -> None:
    world.salesforce.order = salesforce_order(provisioning_status=status, last_provisioning_at=attempted_at)
    world.whmcs.add("Active", external_reference(ORDER))
    assert world.run() is State.PROVISIONED
    assert [row.status for row in world.whmcs.placed] == ["Active"]


def test_what_the_field_of_one_product_tells_says_nothing_of_a_product_without_it(world: World) -> None:
    world.remember(references_readable=False, references_in_field_readable=True)
    world.whmcs = FakeWhmcs(notes=False, field=False)
    world.whmcs.answer_lost = True
    assert world.run() is State.NEEDS_DECISION
    assert [row.status for row in world.whmcs.placed] == ["Pending"]


@pytest.mark.parametrize(("notes", "field"), [(True, False), (False, True), (True, True)])
def test_a_lost_answer_is_found_by_either_mark(world: World, notes: bool, field: bool) -> None:
    world.whmcs = FakeWhmcs(notes=notes, field=field)
    world.whmcs.answer_lost = True
    assert world.run() is State.PROVISIONED
    assert [row.status for row in world.whmcs.placed] == ["Active"]


@pytest.mark.parametrize(("notes", "field"), [(True, False), (False, True), (False, False)])
def test_where_the_mark_was_read_back_is_remembered(world: World, notes: bool, field: bool) -> None:
    world.whmcs = FakeWhmcs(notes=notes, field=field)
    assert world.run() is State.PROVISIONED
    with world.ledger.read() as connection:
        assert installation.references_readable(connection) is notes
        assert installation.references_in_field_readable(connection) is (True if field else None)


@pytest.mark.parametrize(("kept", "warned"), [(True, False), (False, True)])
def test_who_gives_no_mark_back_in_notes_or_field_is_warned_of(
    world: World, caplog: pytest.LogCaptureFixture, kept: bool, warned: bool
) -> None:
    """The product has the field; an AddOrder's answer that gets lost is found only if WHMCS keeps what is in it."""

    class Whmcs(FakeWhmcs):
        """Drops notes, and perhaps the field's value, too."""

        def add(self, status: str, mark: str) -> AddedOrder:
            """As WHMCS' AddOrder, which ignores what it doesn't know."""
            added = super().add(status, mark)
            if not kept:
                self.rows = [replace(row, custom_fields={"Mark": ""}) for row in self.rows]
            return added

    world.whmcs = Whmcs(notes=False, field=True)
    assert world.run() is State.PROVISIONED
    with world.ledger.read() as connection:
        assert installation.references_in_field_readable(connection) is kept
    assert ("WHMCS doesn't give an order's mark back" in caplog.text) is warned


def test_a_call_that_connected_too_slowly_is_not_sent_and_tried_again(world: World) -> None:
    slow = ["AddOrder", "AcceptOrder"]

    def connect(action: str) -> None:
        if action in slow:  # a name that takes eight seconds to be found, once
            slow.remove(action)
            world.clock.now += 8.0

    world.whmcs.connect = connect
    assert world.run() is State.PROVISIONED
    assert slow == []
    assert world.whmcs.sent == ["AddOrder", "AcceptOrder"]  # each once: the late one never left
    assert [row.status for row in world.whmcs.placed] == ["Active"]
