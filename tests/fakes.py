"""Stand-ins for what the portal asks of the outside, in memory: the clock, Salesforce, WHMCS, the queue.

Where the real part can run, tests use that (a ledger on SQLite or PostgreSQL, Valkey, the sandboxes); these are for
tests of decisions, which must set the scene to the letter. mypy holds them against the Protocols they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from portal.clients.salesforce.records import NewOrder
from portal.domain.model import (
    AddedOrder,
    OrderLine,
    PayMethod,
    SalesforceItem,
    SalesforceOrder,
    Updates,
    UpstreamError,
    WhmcsClient,
    WhmcsOrder,
    WhmcsProduct,
    WhmcsService,
)
from portal.domain.ports import SalesforcePort, WhmcsPort
from portal.fulfillment.run import RunContext
from portal.ledger.engine import Ledger
from portal.settings import Settings

#: An order, its account, and the worker that runs it.
ORDER, ACCOUNT, ADA = "801000000000001AAA", "001000000000001AAA", "ada"


class Clock:
    """Stands still until it is set; `clock()` and `clock.now` are seconds since 1970."""

    def __init__(self, *, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The moment it shows."""
        return self.now


def salesforce_order(order: str = ORDER, **changes: Any) -> SalesforceOrder:
    """An order of one item, in review, of an account that is a WHMCS client."""
    made = SalesforceOrder(
        id=order,
        order_number="00000100",
        status="Pending Review",
        account_id=ACCOUNT,
        account_name="Lovelace",
        whmcs_client_id="9",
        email=None,
        provisioning_status=None,
        whmcs_order_id=None,
        portal_reference=None,
        items=(SalesforceItem("802000000000001AAA", "Starter Hosting", 1, "5.00", "7", "Monthly"),),
        total="5.00",
    )
    return replace(made, **changes)


class FakeSalesforce(SalesforcePort):
    """Has one order, and takes every write-back."""

    def __init__(self, order: SalesforceOrder | None = None) -> None:
        self.order = order or salesforce_order()
        self.written: list[dict[str, Any]] = []  # the fields of each write-back, oldest first

    def fetch_order(self, sf_order_id: str) -> SalesforceOrder | None:
        """The order, if it is asked for."""
        return self.order if sf_order_id == self.order.id else None

    def fetch_orders(self, sf_order_ids: Sequence[str]) -> list[SalesforceOrder]:
        """The order, if it is among those asked for."""
        return [self.order] if self.order.id in sf_order_ids else []

    def update_order(self, sf_order_id: str, fields: Mapping[str, Any]) -> None:
        """Note the fields."""
        self.written.append(dict(fields))

    def update_orders(self, updates: Updates) -> list[UpstreamError | None]:
        """Note each one's fields."""
        for order, fields in updates:
            self.update_order(order, fields)
        return [None] * len(updates)

    def set_whmcs_client(self, account_id: str, client_id: str) -> None:
        """Note the account's client."""
        self.order = replace(self.order, whmcs_client_id=client_id)

    def accounts_with_email(self, email: str) -> int:
        """The order's own."""
        return 1

    def requested_orders(self, limit: int) -> list[str]:
        """Nobody pressed the button without telling us."""
        return []


class FakeWhmcs(WhmcsPort):
    """One client's orders. Drops notes or keeps them; its product has the mark's field or not; answers may be lost."""

    def __init__(self, *, notes: bool = True, field: bool = False) -> None:
        self.notes, self.field, self.answer_lost = notes, field, False
        self.on_cancel: list[UpstreamError] = []  # what the next CancelOrders are refused with
        self.placed: list[WhmcsOrder] = []
        self.rows: list[WhmcsService] = []
        self.connect: Callable[[str], None] = lambda _action: None  # on the way there, before the last check
        self.sent: list[str] = []  # the actions whose bytes left

    def add(self, status: str, mark: str) -> AddedOrder:
        """Put an order there, whoever sent it."""
        number = str(len(self.placed) + 1)
        self.placed.append(
            WhmcsOrder(number, "9", status, mark if self.notes else "", "10.00", "1", True, (number,), 1)
        )
        fields = {"Mark": mark} if self.field else {}
        self.rows.append(WhmcsService(number, number, "7", "Monthly", 1, status, custom_fields=fields))
        return AddedOrder(number, (number,), None)

    def status_of(self, order_id: str) -> str:
        """How an order stands."""
        return next(row.status for row in self.placed if row.id == order_id)

    def pay_methods(self, client_id: str) -> list[PayMethod]:
        """A card."""
        return [PayMethod("1", "CreditCard", "stripe")]

    def client(self, *, client_id: str | None = None, email: str | None = None) -> WhmcsClient | None:
        """The one client."""
        return WhmcsClient("9", "", "Active", "stripe")

    def add_client(self, details: Mapping[str, str]) -> str:
        """It is there already."""
        return "9"

    def products(self, pids: Sequence[str]) -> list[WhmcsProduct]:
        """All that are asked for, monthly."""
        fields = {"Mark": "5"} if self.field else {}
        return [WhmcsProduct(pid, "Hosting", frozenset({"monthly"}), fields) for pid in pids]

    def add_order(
        self,
        client_id: str,
        payment_method: str,
        lines: Sequence[OrderLine],
        *,
        notes: str,
        custom_fields: Mapping[str, Mapping[str, str]],
        before_send: Callable[[], None] | None = None,
    ) -> AddedOrder:
        """Add it, and perhaps lose the answer."""
        self._send("AddOrder", before_send)
        added = self.add("Pending", notes)
        if self.answer_lost:
            raise UpstreamError("WHMCS", "no answer", permanent=False, unknown=True)
        return added

    def order(self, order_id: str) -> WhmcsOrder | None:
        """One order."""
        return next((row for row in self.placed if row.id == order_id), None)

    def orders_of(self, client_id: str) -> list[WhmcsOrder]:
        """All of them."""
        return list(self.placed)

    def accept_order(self, order_id: str, *, before_send: Callable[[], None] | None = None) -> None:
        """Make it Active, with its services."""
        self._send("AcceptOrder", before_send)
        self._set(order_id, "Active")

    def cancel_order(self, order_id: str) -> None:
        """Make it Cancelled, or refuse."""
        if self.on_cancel:
            raise self.on_cancel.pop()
        self._set(order_id, "Cancelled")

    def services(self, client_id: str, service_id: str | None = None) -> list[WhmcsService]:
        """All, or the one."""
        return [row for row in self.rows if service_id in (None, row.id)]

    def invoice_status(self, invoice_id: str) -> str | None:
        """Paid."""
        return "Paid"

    def module_create(self, service_id: str) -> None:
        """Set up at once."""

    def _send(self, action: str, before_send: Callable[[], None] | None) -> None:
        self.connect(action)
        if before_send is not None:
            before_send()
        self.sent.append(action)

    def _set(self, order_id: str, status: str) -> None:
        self.placed = [replace(row, status=status) if row.id == order_id else row for row in self.placed]
        self.rows = [replace(row, status=status) if row.order_id == order_id else row for row in self.rows]


def run_context(
    ledger: Ledger, clock: Clock, salesforce: SalesforcePort, whmcs: WhmcsPort, **settings: Any
) -> RunContext:
    """What the runs of worker ADA work with."""
    return RunContext(
        ledger=ledger,
        salesforce=salesforce,
        whmcs=whmcs,
        settings=Settings(**settings),
        now=clock,
        worker_id=ADA,
        whmcs_slot=nullcontext,
        fault_point=lambda _name: None,
    )


class FakeOrg:
    """The Salesforce of the customers' pages, as far as placing goes: does as it is told."""

    def __init__(self, answers: Sequence[str | Exception], known: Mapping[str, str]) -> None:
        self.answers = list(answers)  # what each create_order gives or raises
        self.known = dict(known)  # Salesforce ids by reference
        self.calls: list[str] = []
        self.created: list[NewOrder] = []

    def create_order(self, order: NewOrder) -> str:
        """Note it, and give the next answer."""
        self.calls.append("create")
        self.created.append(order)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def find_order_by_reference(self, reference: str) -> str | None:
        """The id, if it is known."""
        self.calls.append("find")
        return self.known.get(reference)


class FakeQueue:
    """Stands where the queue is: remembers what was sent, and lets a test play the worker."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.on_send: Callable[[str], None] = lambda sf_order_id: None

    def send(self, sf_order_id: str, *, front: bool = False) -> str:
        """Remember it."""
        self.sent.append(sf_order_id)
        self.on_send(sf_order_id)
        return f"{sf_order_id}-job"

    def send_many(self, sf_order_ids: list[str], *, front: bool = False) -> list[str]:
        """Remember them."""
        return [self.send(each, front=front) for each in sf_order_ids]
