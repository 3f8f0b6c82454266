"""The exactly-once protocol on the running processes: whatever happens to AddOrder and AcceptOrder, one WHMCS order is
active, or a person is asked; a person's decision ends it. WHMCS' own state and journal are the witness."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fulfilling import (
    check_failure,
    check_nothing_told,
    client_of,
    command,
    customer,
    logged,
    one,
    provisioned,
    sends,
    statuses,
    until,
    whmcs_orders,
    whmcs_services,
)
from tests.stack import Stack

LONGEST = 2.0  # WHMCS_MAX_REQUEST_SECONDS
WINDOW = 5.0 + LONGEST  # after an intent, its call can't take effect any more

#: What WHMCS does to the first AddOrder or AcceptOrder of each order.
FAULTS: dict[str, dict[str, Any]] = {
    "add answer lost": {"kind": "drop_after", "action": "AddOrder"},
    "add never arrived": {"kind": "drop_before", "action": "AddOrder"},
    "add answered with a page": {"kind": "html", "action": "AddOrder", "when": "after"},
    "add commits late": {"kind": "late_commit", "action": "AddOrder", "seconds": 1.5},
    "add commits too late": {"kind": "pause_point", "action": "AddOrder"},
    "half built for a while": {"kind": "half_built", "action": "AddOrder", "seconds": LONGEST + 2},
    "half built for good": {"kind": "half_built", "action": "AddOrder", "seconds": 600},
    "accept answer lost": {"kind": "drop_after", "action": "AcceptOrder"},
    "accept never arrived": {"kind": "drop_before", "action": "AcceptOrder"},
    "accepted by staff": {"kind": "pause_point", "action": "AcceptOrder"},
    "cancelled by staff": {"kind": "pause_point", "action": "AcceptOrder"},
    "two pending": {"kind": "drop_before", "action": "AddOrder"},
    "two active": {"kind": "drop_before", "action": "AddOrder"},
    "one active, one pending": {"kind": "drop_before", "action": "AddOrder"},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack in which a call to WHMCS takes effect within two seconds, or never."""
    folder: Path = tmp_path_factory.mktemp("protocol")
    settings = {
        "WHMCS_MAX_REQUEST_SECONDS": f"{LONGEST:g}",
        "FULFILLMENT_SLOTS": "6",
        "FULFILLMENT_RETRY_SCHEDULE": "0.2,0.5,1,2,5,10,20,20",
    }
    with Stack(folder, settings=settings) as running:
        yield running


def put(stack: Stack, client: int, *, order: str | None = None, status: str = "Pending", complete: bool = True) -> int:
    """An order that somebody else (or a call sent long ago) put into WHMCS, perhaps with the mark of `order`."""
    mark = f"sfOrderId={order}" if order else ""
    row = {"userid": client, "status": status, "notes": mark, "sent_notes": mark}
    number = int(stack.whmcs.post("seed", {"orders": [row]})["orders"][0])
    if complete:
        stack.whmcs.post(
            "seed",
            {
                "services": [
                    {
                        "userid": client,
                        "orderid": number,
                        "pid": 1,
                        "name": "Starter Hosting",
                        "billingcycle": "Monthly",
                        "status": status,
                    }
                ]
            },
        )
    return number


def stand(stack: Stack, number: int | str, status: str) -> None:
    """Staff sets an order and its services to a status."""
    changes = [{"kind": "orders", "id": int(number), "status": status}]
    changes += [{"kind": "services", "id": s["id"], "status": status} for s in whmcs_services(stack, number)]
    stack.whmcs.post("seed", {"update": changes})


@pytest.fixture(scope="module")
def scenes(shop: Stack) -> dict[str, str]:
    """All of FAULTS at the same time: Salesforce order ids by name, each on its way."""
    orders = {name: one(shop) for name in FAULTS}
    for name, fault in FAULTS.items():
        shop.whmcs.fault(**fault, order=orders[name])
    for order in orders.values():
        assert shop.fulfill(order, prefer="respond-async").status == 202
    for name in ("two pending", "two active", "one active, one pending"):
        order = orders[name]
        until(shop, order, lambda row: bool(row["add_open"] and row["state"] == "waiting"))
        client = client_of(shop, order)
        first, second = {
            "two pending": ("Pending", "Pending"),
            "two active": ("Active", "Active"),
            "one active, one pending": ("Pending", "Active"),
        }[name]
        put(shop, client, order=order, status=first)
        put(shop, client, order=order, status=second)
    for name, status in (("accepted by staff", "Active"), ("cancelled by staff", "Cancelled")):
        held = shop.whmcs.wait_for_call(action="AcceptOrder", state="held", order=orders[name])
        (made,) = whmcs_orders(shop, orders[name])
        stand(shop, made["id"], status)
        shop.whmcs.post("release", {"call": held["id"]})
    late = orders["add commits too late"]
    shop.wait_for(lambda: sends(shop, late, "AddOrder") == 2, "the second AddOrder")
    shop.pause("sweep")  # no audit before the first AddOrder has taken effect after all
    try:
        held = next(e for e in shop.whmcs.journal(order=late) if e["action"] == "AddOrder")
        shop.whmcs.post("release", {"call": held["id"]})
        shop.wait_for(lambda: len(whmcs_orders(shop, late)) == 2, "the late order")
    finally:
        shop.resume("sweep")
    return orders


def test_an_answer_that_got_lost_is_looked_up(shop: Stack, scenes: dict[str, str]) -> None:
    for name in ("add answer lost", "add answered with a page"):
        provisioned(shop, scenes[name])
        assert sends(shop, scenes[name], "AddOrder") == 1
        assert [s["state"] for s in shop.steps(scenes[name]) if s["name"] == "whmcs_create"] == ["done"]


def test_a_call_that_never_arrived_is_sent_again_when_it_can_have_no_effect_any_more(
    shop: Stack, scenes: dict[str, str]
) -> None:
    order = scenes["add never arrived"]
    provisioned(shop, order)
    first, second = [e for e in shop.whmcs.journal(order=order) if e["action"] == "AddOrder"]
    assert second["received"] - first["received"] >= WINDOW - 0.5  # 0.5: the call itself was under way
    assert statuses(shop, order) == ["Active"]
    waited = [s for s in shop.steps(order) if s["name"] == "whmcs_create"]
    assert [s["state"] for s in waited] == ["uncertain", "done"]
    assert logged(shop, "Order waits", "worker", sfOrderId=order)


def test_a_call_that_commits_late_is_found(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["add commits late"]
    provisioned(shop, order)
    assert sends(shop, order, "AddOrder") == 1
    assert statuses(shop, order) == ["Active"]


def test_a_half_built_order_is_accepted_once_it_is_whole(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["half built for a while"]
    active = provisioned(shop, order)
    assert sends(shop, order, "AddOrder") == 1
    assert active["complete"] is True


def test_an_order_that_stays_half_built_is_for_a_person(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["half built for good"]
    message = check_failure(shop, order, "OUTCOME_UNCERTAIN", state="needs_decision")
    assert "not complete" in message
    assert sends(shop, order, "AddOrder") == 1
    assert sends(shop, order, "AcceptOrder") == 0


def test_an_acceptance_that_got_lost_isnt_repeated(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["accept answer lost"]
    active = provisioned(shop, order)
    assert len([e for e in shop.whmcs.journal(order=str(active["id"])) if e["action"] == "AcceptOrder"]) == 1


def test_an_acceptance_that_never_arrived_is_sent_again_after_its_time(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["accept never arrived"]
    active = provisioned(shop, order)
    first, second = [e for e in shop.whmcs.journal(order=str(active["id"])) if e["action"] == "AcceptOrder"]
    assert second["received"] - first["received"] >= WINDOW - 0.5


def test_an_order_that_staff_accepted_first_is_a_success(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["accepted by staff"]
    active = provisioned(shop, order)
    (call,) = [e for e in shop.whmcs.journal(order=str(active["id"])) if e["action"] == "AcceptOrder"]
    assert "Status not Pending" in str(call["outcome"])


def test_an_elected_order_that_staff_cancelled_is_for_a_person(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["cancelled by staff"]
    (made,) = whmcs_orders(shop, order)
    message = check_failure(shop, order, "OUTCOME_UNCERTAIN", state="needs_decision")
    assert f"{made['id']} is Cancelled" in message
    assert sends(shop, order, "AddOrder") == 1


def test_of_two_pending_orders_the_first_is_elected_and_the_other_cancelled(
    shop: Stack, scenes: dict[str, str]
) -> None:
    order = scenes["two pending"]
    active = provisioned(shop, order)
    first, second = whmcs_orders(shop, order)
    assert active["id"] == first["id"]
    assert second["status"] == "Cancelled"
    assert sends(shop, order, "AddOrder") == 1
    kinds = [row["kind"] for row in shop.ledger("SELECT kind FROM events WHERE subject = ?", order)]
    assert kinds.count("stray_cancelled") == 1


def test_an_active_order_is_preferred_and_never_accepted_again(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["one active, one pending"]
    active = provisioned(shop, order)
    first, second = whmcs_orders(shop, order)
    assert active["id"] == second["id"]
    assert first["status"] == "Cancelled"
    assert sends(shop, str(active["id"]), "AcceptOrder") == 0


def test_two_active_orders_are_for_a_person(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["two active"]
    message = check_failure(shop, order, "OUTCOME_UNCERTAIN", state="needs_decision")
    first, second = whmcs_orders(shop, order)
    assert str(first["id"]) in message
    assert str(second["id"]) in message
    assert [first["status"], second["status"]] == ["Active", "Active"]
    for number in (first["id"], second["id"]):
        assert sends(shop, str(number), "CancelOrder") == sends(shop, str(number), "AcceptOrder") == 0


# --- what Salesforce names -----------------------------------------------------------------------------------


def test_an_order_salesforce_names_is_adopted_never_created(shop: Stack) -> None:
    order = one(shop)
    number = put(shop, client_of(shop, order))
    shop.salesforce.post("seed", {"update": [{"type": "Order", "Id": order, "WHMCS_Order_ID__c": str(number)}]})
    assert shop.fulfill(order).json()["whmcsOrderId"] == str(number)
    row = shop.fulfillment(order)
    assert row is not None
    assert (row["elected_whmcs_id"], row["add_attempts"]) == (str(number), 0)
    assert whmcs_orders(shop, order) == []
    assert sends(shop, str(number), "AcceptOrder") == 1


def test_an_active_one_is_adopted_without_a_write(shop: Stack) -> None:
    order = one(shop)
    number = put(shop, client_of(shop, order), status="Active")
    shop.salesforce.post("seed", {"update": [{"type": "Order", "Id": order, "WHMCS_Order_ID__c": str(number)}]})
    assert shop.fulfill(order).json()["whmcsOrderId"] == str(number)
    assert whmcs_orders(shop, order) == []
    assert {sends(shop, str(number), action) for action in ("AcceptOrder", "CancelOrder")} == {0}


def test_a_named_order_that_isnt_there_is_for_a_person_who_may_order_a_new_one(shop: Stack) -> None:
    order = one(shop, WHMCS_Order_ID__c="987654")
    assert shop.fulfill(order).status == 409
    assert "987654" in check_failure(shop, order, "OUTCOME_UNCERTAIN", state="needs_decision")
    assert whmcs_orders(shop, order) == []
    with pytest.raises(AssertionError, match="i-looked-in-whmcs"):
        command(shop, "fulfillments", "create", order)
    command(shop, "fulfillments", "create", order, "--i-looked-in-whmcs")
    provisioned(shop, order)


def test_a_named_order_of_another_client_is_for_a_person(shop: Stack) -> None:
    order = one(shop)
    _, stranger = customer(shop)
    number = put(shop, int(stranger))
    shop.salesforce.post("seed", {"update": [{"type": "Order", "Id": order, "WHMCS_Order_ID__c": str(number)}]})
    assert shop.fulfill(order).status == 409
    message = check_failure(shop, order, "OUTCOME_UNCERTAIN", state="needs_decision")
    assert str(number) in message
    assert "client" in message
    assert sends(shop, str(number), "AcceptOrder") == 0


def test_a_named_order_that_is_another_orders_is_for_a_person(shop: Stack) -> None:
    who, _ = customer(shop)
    first, second = shop.order("starter", customer=who), shop.order("starter", customer=who)
    assert shop.fulfill(first).status == 200
    number = str(provisioned(shop, first)["id"])
    shop.salesforce.post("seed", {"update": [{"type": "Order", "Id": second, "WHMCS_Order_ID__c": number}]})
    assert shop.fulfill(second).status == 409
    message = check_failure(shop, second, "OUTCOME_UNCERTAIN", state="needs_decision")
    assert number in message
    assert first in message
    with pytest.raises(AssertionError, match=first):
        command(shop, "fulfillments", "adopt", second, number)
    command(shop, "fulfillments", "create", second, "--i-looked-in-whmcs")
    assert str(provisioned(shop, second)["id"]) != number


def test_when_salesforce_and_ledger_name_different_orders_a_person_decides(shop: Stack) -> None:
    order = one(shop)
    shop.whmcs.fault(
        "error",
        action="AcceptOrder",
        status=200,
        order=order,
        body={"result": "error", "message": "Server Saturn is full"},
    )
    assert shop.fulfill(order).status == 422
    check_failure(shop, order, "WHMCS_ACCEPT_ORDER_FAILED")
    (made,) = whmcs_orders(shop, order)
    other = put(shop, client_of(shop, order))
    shop.salesforce.post("seed", {"update": [{"type": "Order", "Id": order, "WHMCS_Order_ID__c": str(other)}]})
    assert shop.fulfill(order).status == 409
    message = check_failure(shop, order, "OUTCOME_UNCERTAIN", state="needs_decision")
    assert str(made["id"]) in message
    assert str(other) in message
    assert statuses(shop, order) == ["Pending"]
    command(shop, "fulfillments", "adopt", order, str(made["id"]))
    assert provisioned(shop, order)["id"] == made["id"]


# --- what comes long after -----------------------------------------------------------------------------------


def test_a_second_order_that_appears_too_late_is_cancelled_by_the_audit(shop: Stack, scenes: dict[str, str]) -> None:
    order = scenes["add commits too late"]
    shop.finished(order)
    shop.wait_for(lambda: sorted(statuses(shop, order)) == ["Active", "Cancelled"], "the stray to be cancelled", 90)
    active = provisioned(shop, order)
    assert sends(shop, order, "AddOrder") == 2
    (stray,) = [row for row in whmcs_orders(shop, order) if row["id"] != active["id"]]
    assert {s["status"] for s in whmcs_services(shop, stray["id"])} == {"Cancelled"}
    assert [
        e["status"] for e in shop.whmcs.get("state", objects="invoices")["invoices"] if e["id"] == stray["invoiceid"]
    ] == ["Cancelled"]
    row = shop.fulfillment(order)
    assert row is not None
    assert row["state"] == "provisioned"
    assert row["elected_whmcs_id"] == str(active["id"])


# --- where the mark can't be read back -----------------------------------------------------------------------


def test_where_whmcs_drops_the_mark_a_lost_answer_waits_for_a_person(shop: Stack) -> None:
    shop.whmcs.post("settings", {"notes": "dropped"})
    try:
        plain = one(shop, "certificate")
        assert shop.fulfill(plain).status == 200  # nothing lost: nobody needs the mark
        provisioned(shop, plain)
        said = "WHMCS doesn't give an order's mark back: an AddOrder without an answer will need a decision"
        assert logged(shop, said, "worker", sfOrderId=plain)
        made, lost = one(shop, "certificate"), one(shop, "certificate")
        shop.whmcs.fault("drop_after", action="AddOrder", order=made)
        shop.whmcs.fault("drop_before", action="AddOrder", order=lost)
        began = time.monotonic()
        for order in (made, lost):
            assert shop.fulfill(order, prefer="respond-async").status == 202
        for order in (made, lost):
            assert "mark" in check_failure(shop, order, "OUTCOME_UNCERTAIN", state="needs_decision")
        assert time.monotonic() - began >= LONGEST
        assert (statuses(shop, made), statuses(shop, lost)) == (["Pending"], [])
        with pytest.raises(AssertionError, match="a WHMCS order id is a number"):
            command(shop, "fulfillments", "adopt", made, "first")
        command(shop, "fulfillments", "adopt", made, str(whmcs_orders(shop, made)[0]["id"]))
        command(shop, "fulfillments", "create", lost, "--i-looked-in-whmcs")
        for order in (made, lost):
            provisioned(shop, order)
            assert len(whmcs_orders(shop, order)) == 1
    finally:
        shop.whmcs.post("settings", {"notes": "stored"})
    again = one(shop)
    assert shop.fulfill(again).status == 200
    assert shop.ledger("SELECT value FROM installation WHERE key = 'references_readable'") == [{"value": "true"}]


def test_nothing_secret_or_personal_is_told_anywhere(shop: Stack, scenes: dict[str, str]) -> None:
    check_nothing_told(shop)
