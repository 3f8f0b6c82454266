"""While many orders wait, Salesforce is read and told of many in one call; a lone order is read and told by its run.

The runs and their ledger are real; Salesforce and WHMCS stand in memory and note what they are asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.relay import Relay
from portal.domain.model import SalesforceOrder, State
from portal.fulfillment.crowd import CROWD, READ_AHEAD_KEPT
from portal.fulfillment.orchestrator import fulfill
from portal.fulfillment.run import RunContext
from portal.ledger import fulfillments, installation, outbox, workers, write_backs
from portal.ledger.engine import Ledger
from tests.fakes import ADA, Clock, FakeSalesforce, FakeWhmcs, run_context, salesforce_order

ORDERS = [f"801{number:012d}AAA" for number in range(1, CROWD + 3)]


class Org(FakeSalesforce):
    """Has all of ORDERS, and notes how it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.orders = {order: salesforce_order(order) for order in ORDERS}
        self.read_alone: list[str] = []
        self.read_together: list[list[str]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def fetch_order(self, sf_order_id: str) -> SalesforceOrder | None:
        """One."""
        self.read_alone.append(sf_order_id)
        self.meanwhile()
        return self.orders.get(sf_order_id)

    def fetch_orders(self, sf_order_ids: Sequence[str]) -> list[SalesforceOrder]:
        """Many."""
        self.read_together.append(list(sf_order_ids))
        return [self.orders[order] for order in sf_order_ids]


@pytest.fixture
def org() -> Org:
    return Org()


@pytest.fixture
def context(ledger: Ledger, clock: Clock, org: Org) -> RunContext:
    with ledger.write() as connection:
        workers.register(connection, ADA, "fulfill", "host", 1, now=0.0)
        installation.put(connection, "references_readable", True, now=clock.now)
    return run_context(ledger, clock, org, FakeWhmcs())


def ask_for(context: RunContext, orders: Sequence[str]) -> None:
    with context.ledger.write() as connection:
        for order in orders:
            fulfillments.request_fulfillment(connection, order, now=context.now(), requested_at=context.now())


def run(context: RunContext, order: str) -> State:
    ended = fulfill(context, order)
    assert ended is not None
    return ended.state


def due_write_backs(context: RunContext) -> list[str]:
    with context.ledger.read() as connection:
        return [message.subject for message in outbox.due(connection, "salesforce", now=context.now(), limit=99)]


def test_a_lone_order_is_read_and_told_by_its_run(context: RunContext, org: Org) -> None:
    ask_for(context, ORDERS[:1])
    assert run(context, ORDERS[0]) is State.PROVISIONED
    assert (org.read_alone, org.read_together) == (ORDERS[:1], [])
    assert [fields["Provisioning_Status__c"] for fields in org.written] == ["Activating", "Provisioned"]
    assert due_write_backs(context) == []


def test_a_crowd_is_read_together_and_left_to_the_relay_to_tell(context: RunContext, org: Org) -> None:
    ask_for(context, ORDERS)
    assert run(context, ORDERS[0]) is State.PROVISIONED
    assert run(context, ORDERS[1]) is State.PROVISIONED
    assert org.read_alone == []
    assert [set(read) for read in org.read_together] == [set(ORDERS)]
    assert org.written == []
    # Activating and Provisioned of each; the relay tells of an order once, as it then stands.
    assert due_write_backs(context) == [ORDERS[0]] * 2 + [ORDERS[1]] * 2


def test_who_was_read_ahead_waits_for_nobody_elses_reading(context: RunContext, org: Org) -> None:
    ask_for(context, ORDERS)
    crowd = context.crowd
    assert crowd.read_ahead(context, ORDERS[0]) is not None
    reading, answer = threading.Event(), threading.Event()

    def slowly(sf_order_ids: Sequence[str]) -> list[SalesforceOrder]:
        reading.set()
        assert answer.wait(20)
        return [org.orders[order] for order in sf_order_ids]

    org.fetch_orders = slowly  # type: ignore[method-assign]
    again = threading.Thread(target=crowd.read_ahead, args=(context, ORDERS[0]), daemon=True)  # it is given once
    again.start()
    assert reading.wait(20)
    found: list[object] = []
    other = threading.Thread(target=lambda: found.append(crowd.read_ahead(context, ORDERS[1])), daemon=True)
    other.start()
    other.join(20)
    try:
        assert found, "it waited"
    finally:
        answer.set()
        again.join(20)
    assert found[0] is not None


def test_what_was_read_ahead_is_good_for_some_seconds(context: RunContext, org: Org, clock: Clock) -> None:
    ask_for(context, ORDERS)
    run(context, ORDERS[0])
    clock.now += READ_AHEAD_KEPT + 0.1
    run(context, ORDERS[1])
    assert len(org.read_together) == 2
    assert ORDERS[1] in org.read_together[1]
    assert ORDERS[0] not in org.read_together[1]


def test_an_order_isnt_refused_for_how_it_was_when_it_was_read_ahead(context: RunContext, org: Org) -> None:
    ask_for(context, ORDERS)
    order = org.orders[ORDERS[1]]
    org.orders[ORDERS[1]] = replace(order, status="Draft")
    run(context, ORDERS[0])
    org.orders[ORDERS[1]] = order  # an operator has put it right since
    assert run(context, ORDERS[1]) is State.PROVISIONED
    assert org.read_alone == [ORDERS[1]]


def test_where_whmcs_gives_no_reference_back_salesforce_is_told_before_an_order_is_made(
    context: RunContext, org: Org
) -> None:
    with context.ledger.write() as connection:
        installation.put(connection, "references_readable", False, now=context.now())
    ask_for(context, ORDERS)
    run(context, ORDERS[0])
    assert [fields["Provisioning_Status__c"] for fields in org.written] == ["Activating"]


def test_what_the_relay_told_meanwhile_is_no_attempt_of_a_forgotten_ledger(
    context: RunContext, org: Org, clock: Clock
) -> None:
    """It tells the order's state between a run's claim and its look at Salesforce."""
    ask_for(context, ORDERS[:1])

    def relay_tells() -> None:
        with context.ledger.write() as connection:
            write_backs.note_write(connection, ORDERS[:1], now=clock.now)
        org.orders[ORDERS[0]] = replace(
            org.orders[ORDERS[0]], provisioning_status="Activating", last_provisioning_at=clock.now
        )

    org.meanwhile = relay_tells
    assert run(context, ORDERS[0]) is State.PROVISIONED


def test_the_relay_waits_while_a_run_tells_salesforce_itself(context: RunContext, org: Org, clock: Clock) -> None:
    """Else how the order was before may arrive after its end, and stay."""
    ask_for(context, ORDERS[:1])
    services: Any = SimpleNamespace(ledger=context.ledger, now=clock, salesforce=org, settings=context.settings)
    relay = Relay(services, "relay")
    with context.ledger.write() as connection:
        outbox.put(connection, "salesforce", ORDERS[0], {}, now=clock.now)
        mine = outbox.put(
            connection, "salesforce", ORDERS[0], {}, now=clock.now, claimed_by=ADA, claimed_until=clock.now + 45
        )
        assert mine is not None
    relay.write_back()
    assert org.written == []
    with context.ledger.write() as connection:
        outbox.sent(connection, mine, now=clock.now)
    clock.now += 1.1
    relay.write_back()
    assert [fields["Provisioning_Status__c"] for fields in org.written] == ["Activating"]
