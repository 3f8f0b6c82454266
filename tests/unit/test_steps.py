"""What the steps make of answers that come rarely: from WHMCS about its clients, and after a long wait for a slot.

The orchestrator, the steps and the ledger are real; both other sides are a few rows in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from portal.domain.model import ErrorCode, PayMethod, State, UpstreamError, WhmcsClient
from portal.fulfillment.executor import APPROVAL_KEPT
from portal.fulfillment.orchestrator import fulfill
from portal.fulfillment.run import RunContext
from portal.ledger import fulfillments, outbox, payment_hints, workers
from portal.ledger.engine import Ledger
from portal.ledger.fulfillments import Fulfillment
from tests.fakes import ACCOUNT, ADA, ORDER, Clock, FakeSalesforce, FakeWhmcs, run_context, salesforce_order


class Whmcs(FakeWhmcs):
    """Knows its clients by number and by address."""

    def __init__(self) -> None:
        super().__init__()
        self.clients = {"9": "ada@example.com"}
        self.cards = [PayMethod("1", "CreditCard", "stripe")]
        self.on_pay_methods: Callable[[], object] = lambda: None
        self.on_add_client: Callable[[], object] = lambda: None

    def client(self, *, client_id: str | None = None, email: str | None = None) -> WhmcsClient | None:
        """The one of this number or address."""
        found = next((key for key, value in self.clients.items() if client_id == key or email == value), None)
        return None if found is None else WhmcsClient(found, "", "Active", "stripe")

    def pay_methods(self, client_id: str) -> list[PayMethod]:
        """The cards."""
        self.on_pay_methods()
        return self.cards

    def add_client(self, details: Mapping[str, str]) -> str:
        """As told."""
        self.on_add_client()
        raise UpstreamError("WHMCS", "WHMCS: A user already exists with that email address", permanent=True)


@pytest.fixture
def whmcs() -> Whmcs:
    return Whmcs()


def context_of(ledger: Ledger, clock: Clock, salesforce: FakeSalesforce, whmcs: Whmcs, **settings: Any) -> RunContext:
    with ledger.write() as connection:
        workers.register(connection, ADA, "fulfill", "host", 1, now=0.0)
        fulfillments.request_fulfillment(connection, ORDER, now=clock.now, requested_at=clock.now)
    return run_context(ledger, clock, salesforce, whmcs, **settings)


def run(context: RunContext) -> Fulfillment:
    """The order's row after a run."""
    assert fulfill(context, ORDER) is not None
    with context.ledger.read() as connection:
        row = fulfillments.get(connection, ORDER)
    assert row is not None
    return row


def test_a_client_that_whmcs_doesnt_have(ledger: Ledger, clock: Clock, whmcs: Whmcs) -> None:
    """Its payment methods are an empty list: that isn't what the customer has to mend."""
    whmcs.clients, whmcs.cards = {}, []
    row = run(context_of(ledger, clock, FakeSalesforce(), whmcs))
    assert (row.state, row.error_code) == (State.FAILED, ErrorCode.CLIENT_NOT_MAPPED)
    assert row.error_message == "WHMCS has no client 9"
    assert whmcs.sent == []


@pytest.mark.parametrize("made_meanwhile", [True, False])
def test_a_client_that_is_refused_because_it_is_there_by_now_is_found(
    ledger: Ledger, clock: Clock, whmcs: Whmcs, made_meanwhile: bool
) -> None:
    whmcs.clients = {}
    if made_meanwhile:  # by our own AddClient, whose answer got lost, or by the customer
        whmcs.on_add_client = lambda: whmcs.clients.update({"9": "ada@example.com"})
    salesforce = FakeSalesforce(salesforce_order(whmcs_client_id=None, email="ada@example.com"))
    row = run(context_of(ledger, clock, salesforce, whmcs, whmcs_create_clients=True))
    with ledger.read() as connection:
        told = [each.payload for each in outbox.due(connection, "salesforce", now=clock.now, limit=9)]
    about_account = {"account": ACCOUNT, "fields": {"WHMCS_Client_ID__c": "9"}}
    if made_meanwhile:
        assert (row.state, row.client_id) == (State.PROVISIONED, "9")
        assert about_account in told
    else:
        assert (row.state, row.error_code) == (State.FAILED, ErrorCode.CLIENT_NOT_MAPPED)
        assert "WHMCS refused to make a client" in (row.error_message or "")
        assert about_account not in told


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_payment_method_that_is_added_while_the_order_fails_for_it_is_asked_for_at_once(
    ledger: Ledger, clock: Clock, whmcs: Whmcs, when: str
) -> None:
    def hear(moment: float) -> None:
        with ledger.write() as connection:
            payment_hints.hear(connection, "9", now=moment)

    def answer() -> None:
        clock.now += 1.0
        hear(clock.now)
        clock.now += 1.0

    whmcs.cards = []
    context = context_of(ledger, clock, FakeSalesforce(), whmcs)
    if when == "before":
        hear(clock.now - 1.0)
    else:
        whmcs.on_pay_methods = answer
    row = run(context)
    assert (row.state, row.error_code) == (State.FAILED, ErrorCode.PAYMENT_METHOD_MISSING)
    later = context.settings.whmcs_audit_schedule[0] if when == "before" else 0.0
    assert row.audit_due_at == clock.now + later


def test_what_salesforce_approved_long_ago_is_asked_again_before_it_is_created(
    ledger: Ledger, clock: Clock, whmcs: Whmcs
) -> None:
    """The one who waited had to wait for one of WHMCS_MAX_IN_FLIGHT; the order was cancelled meanwhile."""
    salesforce = FakeSalesforce()
    waits = [APPROVAL_KEPT + 1.0]

    @contextmanager
    def slot() -> Iterator[None]:
        clock.now += waits.pop() if waits else 0.0
        yield

    context = replace(context_of(ledger, clock, salesforce, whmcs), whmcs_slot=slot)
    row = run(context)
    assert (row.state, row.due_at, row.tries) == (State.WAITING, clock.now, 0)
    assert whmcs.sent == []
    salesforce.order = replace(salesforce.order, status="Cancelled")
    row = run(context)
    assert (row.state, row.error_code) == (State.FAILED, ErrorCode.ORDER_NOT_FULFILLABLE)
    assert whmcs.sent == []
