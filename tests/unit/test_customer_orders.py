"""The ledger's orders: placing under a lease, withdrawing at every moment, learning without forgetting."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.clients.salesforce import errors
from portal.clients.salesforce.records import ChangedOrders, OrderChange
from portal.customers.placing import SCHEDULE, place
from portal.customers.salesforce_sync import customer_status_of, sync_changes
from portal.domain.model import CustomerStatus, ErrorCode, SalesforceOrder, State, UpstreamError
from portal.ledger import fulfillments, order_sync, orders, placements, withdrawals
from portal.ledger.engine import Ledger
from portal.ledger.orders import Order
from portal.ledger.placements import PLACE_LEASE_SECONDS
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.ledger.schema import outbox
from tests.fakes import ACCOUNT, Clock, FakeOrg, salesforce_order
from tests.fakes import ORDER as SF

NOW = 1_700_000_000.0
REF = "PO-AAAA-BBBB"

SNAPSHOT = salesforce_order()


def insert(ledger: Ledger, reference: str = REF, key: str = "key") -> None:
    item = orders.Item(
        name="Starter",
        quantity=1,
        unitPrice="5.00",
        cycle="Monthly",
        domain="a.example",
        hostname=None,
        entryId="01u000000000001AAA",
    )
    with ledger.write() as connection:
        orders.insert_placed_here(
            connection,
            reference=reference,
            checkout_key=key,
            account_id=ACCOUNT,
            email="ada@lovelace.example",
            items=[item],
            currency="USD",
            total="5.00",
            now=NOW,
        )


def row(ledger: Ledger, reference: str = REF) -> Order:
    with ledger.read() as connection:
        found = orders.get(connection, reference)
    assert found is not None
    return found


def told_salesforce(ledger: Ledger) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(sa.select(outbox.c.payload).where(outbox.c.kind == "salesforce")).scalars())


CANCELLED_THERE = [{"fields": {"Provisioning_Status__c": "Cancelled"}}]


# --- placing --------------------------------------------------------------------------------------------------


def portal(ledger: Ledger, *answers: str | Exception, known: dict[str, str] | None = None) -> Any:
    return SimpleNamespace(
        ledger=ledger,
        salesforce=FakeOrg(answers, known or {}),
        now=Clock(now=NOW),
        settings=SimpleNamespace(portal_pricebook_id="01s000000000001AAA"),
    )


def failure(code: str = "", *, permanent: bool = False, unknown: bool = False) -> UpstreamError:
    return UpstreamError("Salesforce", "no", permanent=permanent, unknown=unknown, code=code, status=400)


def refused(code: str, message: str = "no") -> UpstreamError:
    """What Salesforce's own answer to creating the order is read as."""
    return errors.refusal([{"errorCode": code, "message": message, "fields": []}], 400, effect=True)


def test_a_form_is_one_row(ledger: Ledger) -> None:
    insert(ledger)
    with pytest.raises(orders.AlreadyPlaced):
        insert(ledger, "PO-CCCC-DDDD", "key")
    with ledger.read() as connection:
        found = orders.by_checkout_key(connection, "key")
    assert found is not None
    assert found.reference == REF


def test_the_usual_way_is_one_call(ledger: Ledger) -> None:
    insert(ledger)
    services = portal(ledger, SF)
    place(services, REF)
    assert services.salesforce.calls == ["create"]
    assert (row(ledger).placing, row(ledger).sf_order_id, row(ledger).place_due_at) == ("placed", SF, None)
    place(services, REF)
    assert services.salesforce.calls == ["create"], "settled is settled"


def test_one_tries_at_a_time_and_a_dead_one_is_followed_after_its_lease(ledger: Ledger) -> None:
    insert(ledger)
    with ledger.write() as connection:
        assert placements.claim(connection, REF, now=NOW) is not None
        assert placements.claim(connection, REF, now=NOW + PLACE_LEASE_SECONDS - 1) is None
        assert placements.due(connection, now=NOW + PLACE_LEASE_SECONDS - 1, limit=10) == []
        assert placements.due(connection, now=NOW + PLACE_LEASE_SECONDS, limit=10) == [REF]
        assert placements.claim(connection, REF, now=NOW + PLACE_LEASE_SECONDS) is not None


@pytest.mark.parametrize(
    "first",
    [
        failure(unknown=True),
        failure("UNABLE_TO_LOCK_ROW"),
        refused("INSUFFICIENT_ACCESS_OR_READONLY"),
        refused("INVALID_FIELD"),
        refused("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded"),
        refused("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
        refused("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "System.LimitException: Too many SOQL queries: 101"),
        refused("NOT_FOUND"),
    ],
)
def test_what_says_nothing_about_the_order_is_tried_again_after_a_look(ledger: Ledger, first: UpstreamError) -> None:
    insert(ledger)
    services = portal(ledger, first, SF)
    place(services, REF)
    assert row(ledger).placing == "placing"
    assert row(ledger).place_due_at == NOW + SCHEDULE[0]
    place(services, REF)
    assert services.salesforce.calls == ["create"], "not due yet"
    services.now.now += SCHEDULE[0]
    place(services, REF)
    assert services.salesforce.calls == ["create", "find", "create"]
    assert row(ledger).sf_order_id == SF


def test_an_order_that_arrived_without_an_answer_is_found_and_not_sent_again(ledger: Ledger) -> None:
    insert(ledger)
    services = portal(ledger, failure(unknown=True), known={})
    place(services, REF)
    services.salesforce.known[REF] = SF
    services.now.now += 100
    place(services, REF)
    assert services.salesforce.calls == ["create", "find"]
    assert row(ledger).sf_order_id == SF


def test_a_reference_that_is_taken_means_it_arrived(ledger: Ledger) -> None:
    insert(ledger)
    services = portal(ledger, failure("DUPLICATE_VALUE", permanent=True), known={REF: SF})
    place(services, REF)
    assert row(ledger).placing == "placed"
    assert row(ledger).sf_order_id == SF


def test_taken_but_not_yet_to_be_seen_waits(ledger: Ledger) -> None:
    insert(ledger)
    place(portal(ledger, failure("DUPLICATE_VALUE", permanent=True)), REF)
    assert row(ledger).placing == "placing"
    assert row(ledger).place_due_at == NOW + SCHEDULE[0]


def test_pauses_grow_and_stay(ledger: Ledger) -> None:
    insert(ledger)
    services = portal(ledger, *[failure(unknown=True)] * 8)
    pauses = []
    for _ in range(8):
        place(services, REF)
        due = row(ledger).place_due_at
        assert due is not None
        pauses.append(due - services.now.now)
        services.now.now = due
    assert pauses == [*SCHEDULE, SCHEDULE[-1], SCHEDULE[-1], SCHEDULE[-1]]


def test_a_definite_refusal_ends_it(ledger: Ledger) -> None:
    insert(ledger)
    place(portal(ledger, refused("FIELD_CUSTOM_VALIDATION_EXCEPTION")), REF)
    settled = row(ledger)
    assert (settled.placing, settled.status, settled.place_due_at) == ("refused", CustomerStatus.FAILED, None)


# --- withdrawing ----------------------------------------------------------------------------------------------


def withdraw(ledger: Ledger) -> bool:
    with ledger.write() as connection:
        return orders.withdraw(connection, REF, now=NOW)


def test_withdrawn_before_it_was_ever_sent(ledger: Ledger) -> None:
    insert(ledger)
    assert withdraw(ledger)
    assert not withdraw(ledger)
    services = portal(ledger, SF)
    place(services, REF)
    assert services.salesforce.calls == []
    assert told_salesforce(ledger) == []
    assert row(ledger).status is CustomerStatus.CANCELLED


def test_withdrawn_while_it_is_on_its_way(ledger: Ledger) -> None:
    insert(ledger)
    with ledger.write() as connection:
        assert placements.claim(connection, REF, now=NOW) is not None
    assert withdraw(ledger)
    assert told_salesforce(ledger) == []
    with ledger.write() as connection:
        placements.settle_placed(connection, REF, SF, now=NOW)
    assert told_salesforce(ledger) == CANCELLED_THERE
    assert row(ledger).status is CustomerStatus.CANCELLED


def test_withdrawn_when_nobody_knows_whether_it_arrived(ledger: Ledger) -> None:
    """Not found, so settled; it commits late all the same, is learnt, and is cancelled in Salesforce."""
    insert(ledger)
    services = portal(ledger, failure(unknown=True))
    place(services, REF)
    assert withdraw(ledger)
    services.now.now += 100
    place(services, REF)
    assert services.salesforce.calls == ["create", "find"], "never sent again"
    assert (row(ledger).placing, row(ledger).status) == ("refused", CustomerStatus.CANCELLED)
    with ledger.write() as connection:
        order_sync.sync(
            connection, replace(SNAPSHOT, portal_reference=REF), now=NOW, status=CustomerStatus.PENDING_REVIEW
        )
    assert told_salesforce(ledger) == CANCELLED_THERE
    assert (row(ledger).sf_order_id, row(ledger).status) == (SF, CustomerStatus.CANCELLED)


def test_withdrawn_in_review(ledger: Ledger) -> None:
    insert(ledger)
    place(portal(ledger, SF), REF)
    assert withdraw(ledger)
    assert told_salesforce(ledger) == CANCELLED_THERE
    with ledger.write() as connection:
        assert orders.withdrawn(connection, SF)
        orders.set_status(connection, SF, CustomerStatus.ACTIVATING, now=NOW)
        orders.set_status(connection, SF, CustomerStatus.FAILED, now=NOW, error_code="ORDER_NOT_FULFILLABLE")
    assert row(ledger).status is CustomerStatus.CANCELLED
    with ledger.write() as connection:
        orders.set_status(connection, SF, CustomerStatus.PROVISIONED, now=NOW)
    assert row(ledger).status is CustomerStatus.PROVISIONED, "what is true is said"


def test_once_it_is_asked_for_it_cannot_be_withdrawn(ledger: Ledger) -> None:
    insert(ledger)
    place(portal(ledger, SF), REF)
    with ledger.write() as connection:
        fulfillments.request_fulfillment(connection, SF, now=NOW, requested_at=NOW)
    assert not withdraw(ledger)
    assert told_salesforce(ledger) == []


def test_one_that_is_being_fulfilled_cannot_be_withdrawn_whatever_its_customer_was_told(ledger: Ledger) -> None:
    """Asked for while Salesforce's answer was on its way, by a transaction that the settling didn't see."""
    insert(ledger)
    place(portal(ledger, SF), REF)
    with ledger.write() as connection:
        fulfillments.request_fulfillment(connection, SF, now=NOW, requested_at=NOW)
        orders.set_status(connection, SF, CustomerStatus.PENDING_REVIEW, now=NOW)
    assert not withdraw(ledger)
    assert (row(ledger).status, told_salesforce(ledger)) == (CustomerStatus.PENDING_REVIEW, [])


def test_a_contract_is_withdrawn_from_once(ledger: Ledger) -> None:
    insert(ledger)
    for moment, done in ((NOW + 1, True), (NOW + 2, False)):
        with ledger.write() as connection:
            assert (
                withdrawals.ask_withdrawal(
                    connection, REF, merchant="shop@example.com", email="b@example.com", now=moment
                )
                is done
            )
            assert not withdrawals.ask_withdrawal(
                connection, "PO-NONE-NONE", merchant="shop@example.com", email="", now=moment
            )
    assert row(ledger).withdrawal_asked_at == NOW + 1
    with ledger.read() as connection:
        sent = connection.execute(sa.select(outbox.c.payload).where(outbox.c.kind == "mail")).scalars().all()
    assert [(each["to"], each["template"]) for each in sent] == [
        ("ada@lovelace.example", "withdrawal_received"),
        ("shop@example.com", "withdrawal_asked"),
    ]


def fulfilled(ledger: Ledger, state: State, error_code: ErrorCode | None = None) -> None:
    """A fulfillment of an order whose Salesforce id this ledger hasn't got yet."""
    with ledger.write() as connection:
        fulfillments.request_fulfillment(connection, SF, now=NOW, requested_at=NOW)
        connection.execute(fulfillments_table.update().values(state=state, error_code=error_code))


@pytest.mark.parametrize(
    ("state", "error_code", "status", "mails"),
    [
        (State.RUNNING, None, CustomerStatus.ACTIVATING, []),
        (State.PROVISIONED, None, CustomerStatus.PROVISIONED, ["provisioned"]),
        (State.FAILED, ErrorCode.CLIENT_NOT_MAPPED, CustomerStatus.FAILED, []),
        (State.FAILED, ErrorCode.PAYMENT_METHOD_MISSING, CustomerStatus.FAILED, ["needs_you"]),
    ],
)
@pytest.mark.parametrize("learnt", ["by asking", "by a sync"])
def test_an_order_fulfilled_before_salesforces_answer_came_is_told_as_it_stands(
    ledger: Ledger,
    state: State,
    error_code: ErrorCode | None,
    status: CustomerStatus,
    mails: list[str],
    learnt: str,
) -> None:
    """2026: its customer saw it in review for ever, and got no mail."""
    insert(ledger)
    services = portal(ledger, failure(unknown=True), known={REF: SF})
    place(services, REF)
    fulfilled(ledger, state, error_code)
    services.now.now += 100
    if learnt == "by asking":
        place(services, REF)
    else:
        # What Salesforce shows of it may be the guide's own "Failed": the fulfillment knows better.
        learn(
            ledger, replace(SNAPSHOT, portal_reference=REF), status=CustomerStatus.FAILED, reason="PROVISIONING_ERROR"
        )
        assert row(ledger).order_number == SNAPSHOT.order_number
    assert (row(ledger).sf_order_id, row(ledger).status, row(ledger).error_code) == (SF, status, error_code)
    with ledger.read() as connection:
        sent = connection.execute(sa.select(outbox.c.payload).where(outbox.c.kind == "mail")).scalars()
        assert [each["template"] for each in sent] == mails


def test_one_withdrawn_that_was_provisioned_all_the_same_is_not_cancelled_in_salesforce(ledger: Ledger) -> None:
    insert(ledger)
    services = portal(ledger, failure(unknown=True), known={REF: SF})
    place(services, REF)
    assert withdraw(ledger)
    fulfilled(ledger, State.PROVISIONED)
    services.now.now += 100
    place(services, REF)
    assert (row(ledger).status, told_salesforce(ledger)) == (CustomerStatus.PROVISIONED, [])


# --- learning -------------------------------------------------------------------------------------------------


def learn(ledger: Ledger, snapshot: SalesforceOrder, **more: Any) -> None:
    with ledger.write() as connection:
        order_sync.sync(connection, snapshot, now=NOW, **more)


def test_an_order_of_another_channel_goes_by_its_salesforce_id(ledger: Ledger) -> None:
    learn(ledger, SNAPSHOT, created_at=NOW - 1000, status=CustomerStatus.PENDING_REVIEW)
    found = row(ledger, SF)
    assert (found.sf_order_id, found.created_at, found.items[0]["name"]) == (SF, NOW - 1000, "Starter Hosting")
    learn(ledger, replace(SNAPSHOT, items=(), total="9.00"))
    assert row(ledger, SF).items == []
    assert row(ledger, SF).total == "9.00"


def test_what_was_placed_here_keeps_what_its_customer_saw(ledger: Ledger) -> None:
    insert(ledger)
    place(portal(ledger, SF), REF)
    learn(ledger, replace(SNAPSHOT, portal_reference=REF, items=(), total="9.00", status="Activated"))
    found = row(ledger)
    assert (found.total, found.sf_status, found.order_number) == ("5.00", "Activated", "00000100")
    assert found.items[0]["name"] == "Starter"
    assert found.created_at == NOW


def test_a_webhook_may_be_quicker_than_salesforces_answer_to_us(ledger: Ledger) -> None:
    insert(ledger)
    learn(ledger, replace(SNAPSHOT, portal_reference=REF))
    assert (row(ledger).sf_order_id, row(ledger).placing) == (SF, "placed")


def test_somebody_elses_reference_is_not_believed(ledger: Ledger) -> None:
    insert(ledger)
    learn(ledger, replace(SNAPSHOT, portal_reference=REF, account_id="001000000000002AAA"))
    assert row(ledger).sf_order_id is None
    assert row(ledger, SF).account_id == "001000000000002AAA"


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        (None, CustomerStatus.CANCELLED, CustomerStatus.CANCELLED),
        (None, CustomerStatus.PROVISIONED, CustomerStatus.PROVISIONED),
        (State.RUNNING, CustomerStatus.CANCELLED, CustomerStatus.ACTIVATING),
        (State.RUNNING, CustomerStatus.FAILED, CustomerStatus.ACTIVATING),
        (State.PROVISIONED, CustomerStatus.FAILED, CustomerStatus.PROVISIONED),
        (State.PROVISIONED, CustomerStatus.CANCELLED, CustomerStatus.CANCELLED),
        (State.FAILED, CustomerStatus.CANCELLED, CustomerStatus.CANCELLED),
        (State.NEEDS_DECISION, CustomerStatus.FAILED, CustomerStatus.ACTIVATING),
    ],
)
def test_the_ledgers_own_outcome_stands(
    ledger: Ledger, state: State | None, status: CustomerStatus, expected: CustomerStatus
) -> None:
    insert(ledger)
    place(portal(ledger, SF), REF)
    if state is not None:
        own = CustomerStatus.PROVISIONED if state is State.PROVISIONED else CustomerStatus.ACTIVATING
        with ledger.write() as connection:
            fulfillments.request_fulfillment(connection, SF, now=NOW, requested_at=NOW)
            connection.execute(
                fulfillments_table.update().where(fulfillments_table.c.sf_order_id == SF).values(state=state.value)
            )
            orders.set_status(connection, SF, own, now=NOW)
    learn(ledger, replace(SNAPSHOT, portal_reference=REF), status=status)
    assert row(ledger).status is expected


@pytest.mark.parametrize(
    ("status", "provisioning", "expected"),
    [
        ("Pending Review", None, (CustomerStatus.PENDING_REVIEW, None)),
        ("Pending Review", "Requested", (CustomerStatus.PENDING_REVIEW, None)),
        ("Activated", "Provisioned", (CustomerStatus.PROVISIONED, None)),
        ("Pending Review", "Failed", (CustomerStatus.FAILED, None)),
        ("Rejected", "Failed", (CustomerStatus.CANCELLED, orders.UNWANTED)),
        ("canceled", None, (CustomerStatus.CANCELLED, None)),
        ("Pending Review", "Cancelled", (CustomerStatus.CANCELLED, None)),
        ("Draft", None, (None, None)),
        ("Draft", "Activating", (CustomerStatus.ACTIVATING, None)),
    ],
)
def test_salesforces_words_become_the_customers(
    status: str, provisioning: str | None, expected: tuple[CustomerStatus | None, str | None]
) -> None:
    change = OrderChange(replace(SNAPSHOT, status=status, provisioning_status=provisioning), NOW, NOW)
    assert customer_status_of(change) == expected


def test_an_odd_order_stops_no_other_from_being_synced(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def order(number: int) -> OrderChange:
        sf_order_id = f"80100000000000{number}AAA"
        return OrderChange(order=replace(SNAPSHOT, id=sf_order_id), created_at=NOW, changed_at=NOW + number)

    changes = tuple(order(number) for number in range(1, 6))
    sync = order_sync.sync

    def sync_but_one(connection: Connection, snapshot: SalesforceOrder, **about: Any) -> None:
        sync(connection, snapshot, **about)
        if snapshot.id == changes[2].id:
            raise ValueError("ada@lovelace.example")

    monkeypatch.setattr(order_sync, "sync", sync_but_one)
    page = ChangedOrders(changes, ("801000000000009AAA",), 6, NOW + 9, "801000000000009AAA")
    asked: list[tuple[float, str]] = []

    def changed_since(moment: float, _limit: int, after_id: str) -> ChangedOrders:
        asked.append((moment, after_id))
        return page

    salesforce = SimpleNamespace(orders_changed_since=changed_since)
    services: Any = SimpleNamespace(ledger=ledger, salesforce=salesforce, now=lambda: NOW)
    sync_changes(services)
    with ledger.read() as connection:
        known = [orders.get(connection, change.id) is not None for change in changes]
    assert known == [True, True, False, True, True]
    assert caplog.text.count("can't be synced") == 2
    assert "ada@" not in caplog.text
    sync_changes(services)
    assert asked == [(0.0, ""), (NOW + 9 - 30.0, "")]  # read on behind the odd ones
