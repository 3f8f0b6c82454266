"""`flask ledger rebuild`: ledger and Valkey lost, with no backup; and what a restored ledger learns of by itself."""

from __future__ import annotations

import json

import pytest

from sandbox.processes import ProcessFailed
from sandbox.seeds import MARKER_CUSTOM_FIELD
from tests.fulfilling import calls_of, check_failure, customer, provisioned, sends, statuses, whmcs_orders
from tests.stack import Stack

OURS = ("web", "worker", "sweep", "valkey")


def shows(stack: Stack, order: str, status: str) -> None:
    """Wait until Salesforce shows it."""
    stack.wait_for(
        lambda: stack.salesforce_order(order)["Provisioning_Status__c"] == status, f"{order} to be {status}", 90
    )


def lose_everything(stack: Stack) -> None:
    for name in OURS:
        stack.child(name).stop()
    if "DATABASE_URL" in stack.settings:
        stack.change("DROP SCHEMA public CASCADE")
        stack.change("CREATE SCHEMA public")
    for path in stack.var.glob("ledger.sqlite3*"):
        path.unlink()
    for path in (stack.var / "valkey").glob("**/*"):
        if path.is_file():
            path.unlink()


def test_a_ledger_that_lost_everything_is_rebuilt_from_both_sides(own_stack: Stack) -> None:
    stack = own_stack
    stack.start()
    done, untold, failed, ended = (stack.order(*items) for items in (("starter",), ("business",), (), ("starter",)))
    for order in (done, untold, ended):
        assert stack.fulfill(order).status == 200
        provisioned(stack, order)
    (gone,) = whmcs_orders(stack, ended)
    stack.fulfill(failed)
    check_failure(stack, failed, "ORDER_HAS_NO_ITEMS")
    stack.whmcs.post("settings", {"maintenance": True})
    waits = stack.order("starter")
    stack.fulfill(waits, prefer="respond-async")
    shows(stack, waits, "Activating")
    lose_everything(stack)
    stack.whmcs.post("settings", {"maintenance": False})
    stack.whmcs.post("staff", {"action": "cancel", "orderId": gone["id"], "event": False})
    # As if Salesforce had been away when this one was provisioned.
    nothing = {"Provisioning_Status__c": None, "WHMCS_Order_ID__c": None, "Last_Provisioning_At__c": None}
    stack.salesforce.post("seed", {"update": [{"type": "Order", "Id": untold, **nothing}]})

    stack.flask("db", "upgrade")
    said = stack.flask("ledger", "rebuild", "--pages", "0")
    assert "Not done yet" in said
    said = stack.flask("ledger", "rebuild")
    assert "Salesforce: all orders read" in said
    assert "1 WHMCS orders: accepted, and not finished in Salesforce: goes on, looking first" in said
    assert "What can't be known" in said
    with pytest.raises(ProcessFailed, match="isn't empty"):
        stack.flask("ledger", "rebuild")
    row = stack.fulfillment(done)
    assert row is not None
    assert row["state"] == "provisioned"
    assert stack.fulfillment(failed) is None, "a new click begins it again"

    for name in ("valkey", "worker", "sweep", "web"):
        stack.restart(name)
    for order in (done, untold, waits):
        if order != done:
            provisioned(stack, order, 90)
        assert statuses(stack, order) == ["Active"]
        assert sends(stack, order, "AddOrder") == 1
    shows(stack, ended, "Cancelled")


def test_a_reference_that_only_the_custom_field_keeps_is_found_too(own_stack: Stack) -> None:
    """WHMCS drops AddOrder's notes: whose its orders are stands in their products' custom field alone."""
    stack = own_stack
    stack.settings["WHMCS_MARKER_CUSTOM_FIELD"] = MARKER_CUSTOM_FIELD
    stack.start()
    stack.whmcs.post("settings", {"notes": "dropped"})
    who = customer(stack)[0]
    done, untold, without = (stack.order(item, customer=who) for item in ("starter", "business", "support"))
    for order in (done, untold, without):
        assert stack.fulfill(order).status == 200
    lose_everything(stack)
    nothing = {"Provisioning_Status__c": None, "WHMCS_Order_ID__c": None, "Last_Provisioning_At__c": None}
    for order in (untold, without):  # as if Salesforce had been away when they were provisioned
        stack.salesforce.post("seed", {"update": [{"type": "Order", "Id": order, **nothing}]})
    since = stack.whmcs.last()

    stack.flask("db", "upgrade")
    said = stack.flask("ledger", "rebuild")
    assert "1 WHMCS orders: accepted, and not finished in Salesforce: goes on, looking first" in said
    assert "1 WHMCS orders: known from Salesforce" in said
    assert "bear no reference, in notes or WHMCS_MARKER_CUSTOM_FIELD" in said
    assert len(calls_of(stack.whmcs, since, "GetClientsProducts")) == 1, "a client's services are asked for once"
    row = stack.fulfillment(untold)
    assert row is not None
    assert row["state"] == "queued"
    assert stack.fulfillment(without) is None, "its product has no such field: neither side says whose it is"
    for name in ("valkey", "worker", "sweep", "web"):
        stack.restart(name)
    shows(stack, untold, "Provisioned")
    assert sends(stack, untold, "AddOrder") == 1


def test_what_was_provisioned_after_the_copy_is_audited_again(own_stack: Stack) -> None:
    stack = own_stack
    stack.start()
    first = stack.order("starter")
    assert stack.fulfill(first).status == 200
    provisioned(stack, first)
    backup = stack.var / "copy"
    stack.flask("ledger", "backup", str(backup))
    later = stack.order("business")
    assert stack.fulfill(later).status == 200
    number = provisioned(stack, later)["id"]
    for name in ("web", "worker", "sweep"):
        stack.child(name).stop()

    def restored() -> bool:
        try:
            stack.flask("ledger", "restore", str(backup), "--yes")
        except ProcessFailed as error:
            assert "processes of the portal are running" in str(error)
            return False
        return True

    stack.wait_for(restored, "the last heartbeats to be old", 40)
    assert stack.fulfillment(later) is None
    stack.whmcs.post("staff", {"action": "cancel", "orderId": number, "event": False})
    for name in ("worker", "sweep", "web"):
        stack.restart(name)
    row = stack.wait_for(lambda: stack.fulfillment(later), "the forgotten order to be taken in", 120)
    assert (row["state"], row["elected_whmcs_id"]) == ("provisioned", str(number))
    shows(stack, later, "Cancelled")
    (event,) = stack.ledger("SELECT detail FROM events WHERE kind = 'provisioned_order_taken_in'")
    assert json.loads(event["detail"]) == {"whmcsOrderId": str(number)}
