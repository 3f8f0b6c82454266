"""When this ledger may send an AddOrder without looking, and when an unanswered one may be sent again.

The orchestrator, the steps and the ledger are real; both other sides are a few rows in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from portal.domain.ids import external_reference
from portal.domain.model import (
    AddedOrder,
    OrderLine,
    PayMethod,
    SalesforceItem,
    SalesforceOrder,
    State,
    UpstreamError,
    WhmcsOrder,
    WhmcsProduct,
    WhmcsService,
)
from portal.fulfillment.orchestrator import fulfill
from portal.fulfillment.run import RunContext
from portal.ledger import fulfillments, installation, workers
from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade
from portal.settings import Settings

ORDER = "801000000000001AAA"
MAX_REQUEST = 120.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Salesforce:
    order = SalesforceOrder(
        id=ORDER,
        order_number="1",
        status="Pending Review",
        account_id="001000000000001AAA",
        account_name="Acme",
        whmcs_client_id="9",
        email=None,
        provisioning_status="Requested",
        whmcs_order_id=None,
        portal_reference=None,
        items=(SalesforceItem("802000000000001AAA", "Hosting", 1, "10.00", "7", "Monthly"),),
    )

    def fetch_order(self, _sf_order_id: str) -> SalesforceOrder:
        return self.order

    def update_order(self, _sf_order_id: str, _fields: Mapping[str, Any]) -> None: ...


class Whmcs:
    """Drops notes or keeps them; product 7 has the custom field of the mark, or not; AddOrder's answer may be lost."""

    def __init__(self, *, notes: bool = True, field: bool = False) -> None:
        self.notes, self.field, self.answer_lost = notes, field, False
        self.orders: list[WhmcsOrder] = []
        self.rows: list[WhmcsService] = []
        self.connect: Callable[[str], None] = lambda _action: None
        self.sent: list[str] = []

    def add(self, status: str, mark: str) -> AddedOrder:
        number = str(len(self.orders) + 1)
        notes = mark if self.notes else ""
        self.orders.append(WhmcsOrder(number, "9", status, notes, "10.00", "1", True, (number,), 1))
        self.rows.append(
            WhmcsService(number, number, "7", "Monthly", 1, status, custom_fields={"Mark": mark} if self.field else {})
        )
        return AddedOrder(number, (number,), None)

    def pay_methods(self, _client_id: str) -> list[PayMethod]:
        return [PayMethod("1", "CreditCard", "stripe")]

    def products(self, pids: Sequence[str]) -> list[WhmcsProduct]:
        return [
            WhmcsProduct(pid, "Hosting", frozenset({"monthly"}), {"Mark": "5"} if self.field else {}) for pid in pids
        ]

    def add_order(
        self,
        _client: str,
        _gateway: str,
        _lines: Sequence[OrderLine],
        *,
        notes: str,
        before_send: Callable[[], None],
        **_: Any,
    ) -> AddedOrder:
        self.connect("AddOrder")
        before_send()
        self.sent.append("AddOrder")
        added = self.add("Pending", notes)
        if self.answer_lost:
            raise UpstreamError("WHMCS", "no answer", permanent=False, unknown=True)
        return added

    def order(self, order_id: str) -> WhmcsOrder | None:
        return next((row for row in self.orders if row.id == order_id), None)

    def orders_of(self, _client_id: str) -> list[WhmcsOrder]:
        return self.orders

    def accept_order(self, order_id: str, *, before_send: Callable[[], None]) -> None:
        self.connect("AcceptOrder")
        before_send()
        self.sent.append("AcceptOrder")
        self.orders = [replace(row, status="Active") if row.id == order_id else row for row in self.orders]
        self.rows = [replace(row, status="Active") if row.order_id == order_id else row for row in self.rows]

    def services(self, _client_id: str, service_id: str | None = None) -> list[WhmcsService]:
        return [row for row in self.rows if service_id in (None, row.id)]


class World:
    def __init__(self, folder: Path) -> None:
        self.clock, self.salesforce, self.whmcs = Clock(), Salesforce(), Whmcs()
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite3'}")
        upgrade(self.ledger)
        with self.ledger.write() as connection:
            workers.register(connection, "ada", "fulfill", "host", 1, now=0.0)
            fulfillments.request_fulfillment(connection, ORDER, now=self.clock.now, requested_at=self.clock.now)

    def remember(self, **known: bool) -> None:
        with self.ledger.write() as connection:
            for key, value in known.items():
                installation.put(connection, key, value, now=self.clock.now)

    def run(self) -> State:
        """Run the order until it rests, time passing where it waits."""
        context = RunContext(
            ledger=self.ledger,
            salesforce=cast(Any, self.salesforce),
            whmcs=cast(Any, self.whmcs),
            settings=Settings(
                whmcs_payment_method="stripe", whmcs_marker_custom_field="Mark", whmcs_max_request_seconds=MAX_REQUEST
            ),
            now=self.clock,
            worker_id="ada",
            whmcs_slot=nullcontext,
            fault_point=lambda _name: None,
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
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.ledger.dispose()


@pytest.mark.parametrize(("status", "attempted_at"), [("Requested", 9e5), (None, 9e5), ("Activating", None)])
def test_a_new_ledger_looks_first_where_salesforce_was_told_of_an_attempt(
    world: World, status: str | None, attempted_at: float | None
) -> None:
    world.salesforce.order = replace(Salesforce.order, provisioning_status=status, last_provisioning_at=attempted_at)
    world.whmcs.add("Active", external_reference(ORDER))
    assert world.run() is State.PROVISIONED
    assert [row.status for row in world.whmcs.orders] == ["Active"]


def test_what_the_field_of_one_product_tells_says_nothing_of_a_product_without_it(world: World) -> None:
    world.remember(references_readable=False, references_in_field_readable=True)
    world.whmcs = Whmcs(notes=False, field=False)
    world.whmcs.answer_lost = True
    assert world.run() is State.NEEDS_DECISION
    assert [row.status for row in world.whmcs.orders] == ["Pending"]


@pytest.mark.parametrize(("notes", "field"), [(True, False), (False, True), (True, True)])
def test_a_lost_answer_is_found_by_either_mark(world: World, notes: bool, field: bool) -> None:
    world.whmcs = Whmcs(notes=notes, field=field)
    world.whmcs.answer_lost = True
    assert world.run() is State.PROVISIONED
    assert [row.status for row in world.whmcs.orders] == ["Active"]


@pytest.mark.parametrize(("notes", "field"), [(True, False), (False, True), (False, False)])
def test_where_the_mark_was_read_back_is_remembered(world: World, notes: bool, field: bool) -> None:
    world.whmcs = Whmcs(notes=notes, field=field)
    assert world.run() is State.PROVISIONED
    with world.ledger.read() as connection:
        assert installation.references_readable(connection) is notes
        assert installation.references_in_field_readable(connection) is (True if field else None)


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
    assert [row.status for row in world.whmcs.orders] == ["Active"]
