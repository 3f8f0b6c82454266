"""What nobody told us, what was refused for long, and what changed meanwhile: in the end everybody shows the truth."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.fulfilling import calls_of, check_failure, provisioned, sends, statuses, told, whmcs_orders
from tests.stack import Stack

SETTINGS = {
    "WHMCS_AUDIT_SCHEDULE": "2",
    "FULFILLMENT_WAIT_SECONDS": "5",
    "FULFILLMENT_RETRY_SCHEDULE": "1,2,3,4,5,5,5,5,5,5,5,5,5,5,5,5",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("true"), settings=SETTINGS) as stack:
        yield stack


def waiting(stack: Stack, order: str) -> dict[str, Any]:
    """The order's row once it waits."""

    def look() -> dict[str, Any] | None:
        row = stack.fulfillment(order)
        return row if row and row["state"] == "waiting" else None

    return stack.wait_for(look, f"{order} to wait")


def shows(stack: Stack, order: str, **fields: Any) -> dict[str, Any]:
    """The Salesforce order once it has these fields."""

    def look() -> dict[str, Any] | None:
        record = stack.salesforce_order(order)
        return record if all(record[name] == value for name, value in fields.items()) else None

    return stack.wait_for(look, f"{order} to show {fields}", 60)


# --- A: a ledger older than the world ------------------------------------------------------------------------


@pytest.mark.sqlite
@pytest.mark.parametrize("told_meanwhile", [True, False])
def test_an_order_provisioned_after_the_copy_is_never_made_again(own_stack: Stack, told_meanwhile: bool) -> None:
    """Ledger restored and Valkey lost: WHMCS is asked before anything is created, whatever Salesforce shows."""
    stack = own_stack
    stack.start()
    waits, later = stack.order("starter"), stack.order("business")
    stack.whmcs.post("settings", {"maintenance": True})
    stack.fulfill(waits, prefer="respond-async")
    waiting(stack, waits)
    with closing(sqlite3.connect(stack.ledger_path)) as ledger, closing(sqlite3.connect(stack.var / "copy")) as copy:
        ledger.backup(copy)
    stack.whmcs.post("settings", {"maintenance": False})
    stack.fulfill(later, prefer="respond-async")
    for order in (waits, later):
        provisioned(stack, order)
    if not told_meanwhile:  # as if Salesforce had been away all the time
        forgotten = {"Provisioning_Status__c": "Activating", "WHMCS_Order_ID__c": None, "Last_Provisioning_At__c": None}
        stack.salesforce.post("seed", {"update": [{"type": "Order", "Id": waits, **forgotten}]})
    for name in ("web", "worker", "sweep", "valkey"):
        stack.child(name).stop()
    for path in stack.var.glob("ledger.sqlite3*"):
        path.unlink()
    shutil.copy(stack.var / "copy", stack.ledger_path)
    for path in (stack.var / "valkey").glob("**/*"):
        if path.is_file():
            path.unlink()
    for name in ("valkey", "worker", "sweep", "web"):
        stack.restart(name)
    provisioned(stack, waits, 90)
    assert statuses(stack, waits) == ["Active"]
    assert sends(stack, waits, "AddOrder") == 1
    assert statuses(stack, later) == ["Active"]


@pytest.mark.sqlite
@pytest.mark.parametrize("cancelled", [False, True])
def test_an_order_accepted_after_the_copy_goes_on_by_itself(own_stack: Stack, cancelled: bool) -> None:
    stack = own_stack
    stack.start()
    with closing(sqlite3.connect(stack.ledger_path)) as ledger, closing(sqlite3.connect(stack.var / "copy")) as copy:
        ledger.backup(copy)
    stack.whmcs.post("settings", {"maintenance": True})
    order = stack.order("starter")
    stack.fulfill(order, prefer="respond-async")
    waiting(stack, order)
    shows(stack, order, Provisioning_Status__c="Activating", Provisioning_Error_Code__c="WHMCS_UNAVAILABLE")
    for name in ("web", "worker", "sweep"):
        stack.child(name).stop()
    for path in stack.var.glob("ledger.sqlite3*"):
        path.unlink()
    shutil.copy(stack.var / "copy", stack.ledger_path)
    if cancelled:
        stack.salesforce.post("staff", {"orderId": order, "fields": {"Status": "Cancelled"}})
    stack.whmcs.post("settings", {"maintenance": False})
    for name in ("worker", "sweep", "web"):
        stack.restart(name)
    stack.wait_for(lambda: stack.fulfillment(order), "the forgotten order to be found", 120)
    if cancelled:
        check_failure(stack, order, "ORDER_NOT_FULFILLABLE")
    else:
        provisioned(stack, order, 90)


# --- B: what must be told is told ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["INSUFFICIENT_ACCESS_OR_READONLY", "INVALID_FIELD_FOR_INSERT_UPDATE"])
def test_a_refused_write_back_is_never_given_up_and_goes_through_once_the_set_up_is_mended(
    shop: Stack, fault: str
) -> None:
    refused, other = shop.order("starter"), shop.order("business")
    kind = shop.salesforce.fault(fault, path="*", method="PATCH", count=0)
    assert shop.fulfill(refused).status == 200
    assert shop.fulfill(other).status == 200

    def tried() -> bool:
        rows = shop.ledger("SELECT tries, state FROM outbox WHERE subject IN (?, ?)", refused, other)
        assert {row["state"] for row in rows} <= {"pending", "sent"}
        return any(row["tries"] >= 3 for row in rows)

    shop.wait_for(tried, "some refusals", 60)
    shop.salesforce.delete(f"faults/{kind}")
    for order in (refused, other):
        shows(shop, order, Provisioning_Status__c="Provisioned")


def test_a_lost_click_on_a_failed_order_is_heard(shop: Stack) -> None:
    order = shop.order()
    shop.fulfill(order)
    check_failure(shop, order, "ORDER_HAS_NO_ITEMS")
    entry = {"PricebookEntryId": shop.ids["entry:starter"], "Quantity": 1, "UnitPrice": 10}
    shop.salesforce.post("staff", {"orderId": order, "items": [entry]})
    shop.salesforce.post("staff", {"orderId": order, "fields": {"Provisioning_Status__c": "Requested"}})
    shop.wait_for(lambda: (shop.fulfillment(order) or {})["attempt"] == 2, "the click to be found", 120)
    provisioned(shop, order)


def test_where_only_queries_work_a_failed_order_isnt_started_again_and_again(shop: Stack) -> None:
    order = shop.order(Provisioning_Status__c="Requested")
    kind = shop.salesforce.fault("INSUFFICIENT_ACCESS_OR_READONLY", method="PATCH", count=0)
    shop.fulfill(order)
    assert shop.finished(order)["state"] == "failed"
    found = "SELECT count(*) AS n FROM events WHERE kind = 'request_found'"
    looked = shop.salesforce.last()
    shop.wait_for(
        lambda: [e for e in calls_of(shop.salesforce, looked, "query") if "Requested" in json.dumps(e["params"])],
        "the sweep to look for requests",
        90,
    )
    row = shop.fulfillment(order)
    assert row is not None, shop.ledger(found)
    assert (row["state"], row["attempt"]) == ("failed", 1), shop.ledger(found)
    shop.salesforce.delete(f"faults/{kind}")
    check_failure(shop, order, "ORDER_HAS_NO_ITEMS")


def test_while_an_order_waits_salesforce_shows_why_and_the_next_try(shop: Stack) -> None:
    order = shop.order("starter")
    fault = shop.whmcs.fault("RATE_LIMITED", action="AddOrder", order=order, count=0)
    assert shop.press_button(order)["status"] == 202
    record = shows(shop, order, Provisioning_Status__c="Activating", Provisioning_Error_Code__c="WHMCS_UNAVAILABLE")
    message = record["Provisioning_Error_Message__c"]
    assert message.startswith("Waiting: ")
    assert "Next try at 20" in message
    assert len(message) <= 255
    shop.whmcs.delete(f"faults/{fault}")
    provisioned(shop, order)


# --- C: what is called Provisioned is what was ordered -------------------------------------------------------


def test_a_quantity_that_whmcs_ignored_needs_a_decision(shop: Stack) -> None:
    order = shop.order(("server", 3))
    shop.whmcs.fault("ignored_quantities", action="AddOrder", order=order)
    shop.fulfill(order)
    message = check_failure(shop, order, "OUTCOME_UNCERTAIN", state="needs_decision")
    assert "3 times" in message
    assert "once" in message
    assert statuses(shop, order) == ["Pending"]


def test_a_product_that_whmcs_skipped_needs_a_decision_and_a_person_may_adopt_it(shop: Stack) -> None:
    order = shop.order("starter", "certificate")
    shop.whmcs.fault("skipped_product", action="AddOrder", order=order)
    shop.fulfill(order)
    assert "not at all" in check_failure(shop, order, "OUTCOME_UNCERTAIN", state="needs_decision")
    (made,) = whmcs_orders(shop, order)
    shop.flask("fulfillments", "adopt", order, str(made["id"]))
    provisioned(shop, order)


def test_a_cloned_order_is_another_orders_until_somebody_clears_the_field(shop: Stack) -> None:
    first = shop.order("starter")
    shop.fulfill(first)
    active = provisioned(shop, first)
    clone = shop.salesforce.post("clone", {"orderId": first, "items": True})["id"]
    shop.salesforce.post("staff", {"orderId": clone, "fields": {"Status": "Pending Review"}})
    shop.fulfill(clone)
    message = check_failure(shop, clone, "OUTCOME_UNCERTAIN", state="needs_decision")
    assert str(active["id"]) in message
    assert "Clear WHMCS_Order_ID__c" in message
    assert whmcs_orders(shop, clone) == []
    shop.salesforce.post("staff", {"orderId": clone, "fields": {"WHMCS_Order_ID__c": None}})
    shop.fulfill(clone)
    assert provisioned(shop, clone)["id"] != active["id"]


@pytest.mark.parametrize("change", ["cancelled", "items"])
def test_what_is_created_is_what_is_approved_when_it_is_created(shop: Stack, change: str) -> None:
    order = shop.order("starter")
    kind = shop.whmcs.fault("html", action="AddOrder", order=order, when="before", count=0)
    shop.fulfill(order, prefer="respond-async")
    waiting(shop, order)
    if change == "cancelled":
        shop.salesforce.post("staff", {"orderId": order, "fields": {"Status": "Cancelled"}})
    else:
        entry = {"PricebookEntryId": shop.ids["entry:business"], "Quantity": 1, "UnitPrice": 10}
        shop.salesforce.post("staff", {"orderId": order, "remove": "all", "items": [entry]})
    shop.whmcs.delete(f"faults/{kind}")
    if change == "cancelled":
        check_failure(shop, order, "ORDER_NOT_FULFILLABLE")
        assert whmcs_orders(shop, order) == []
    else:
        provisioned(shop, order)
        (*_, call) = [e for e in shop.whmcs.journal(order=order, direction="in") if e["action"] == "AddOrder"]
        assert list(call["params"]["pid"].values()) == ["2"]


@pytest.mark.parametrize("staff", ["cancel", "fraud", "delete"])
def test_what_staff_ended_in_whmcs_without_an_event_is_learnt(shop: Stack, staff: str) -> None:
    order = shop.order("starter")
    shop.fulfill(order)
    number = provisioned(shop, order)["id"]
    if staff == "delete":
        shop.whmcs.post("staff", {"action": "cancel", "orderId": number, "event": False})
    shop.whmcs.post("staff", {"action": staff, "orderId": number, "event": False})
    shows(shop, order, Provisioning_Status__c="Cancelled")
    assert told(shop, order)[-1] == "Cancelled"
    kinds = [row["kind"] for row in shop.ledger("SELECT kind FROM events WHERE subject = ?", order)]
    assert "cancelled_in_whmcs" in kinds


# --- D: waiting that helps -----------------------------------------------------------------------------------


def test_a_click_hurries_a_waiting_order(own_stack: Stack) -> None:
    own_stack.settings["FULFILLMENT_RETRY_SCHEDULE"] = "3600"
    own_stack.settings["FULFILLMENT_WAIT_SECONDS"] = "3"
    own_stack.start()
    order = own_stack.order("starter")
    own_stack.whmcs.fault("html", action="AddOrder", order=order, count=1)
    assert own_stack.fulfill(order).status == 202
    waiting(own_stack, order)
    own_stack.fulfill(order)
    provisioned(own_stack, order)


def test_the_recovery_of_a_side_wakes_who_waited_for_it(own_stack: Stack) -> None:
    own_stack.settings["FULFILLMENT_RETRY_SCHEDULE"] = "3600,3600"
    own_stack.start()
    own_stack.whmcs.post("settings", {"maintenance": True})
    orders = [own_stack.order("starter") for _ in range(6)]
    for order in orders:
        own_stack.fulfill(order, prefer="respond-async")
    for order in orders:
        waiting(own_stack, order)
    own_stack.whmcs.post("settings", {"maintenance": False})
    for order in orders:
        provisioned(own_stack, order, 60)
