"""Every reason for which an order can't be fulfilled: its code and words in Salesforce, ledger, answer, page and log;
and how it goes on once the reason is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.visitor import Visitor
from tests.customers import sign_in
from tests.fulfilling import (
    calls_of,
    check_answer,
    check_failure,
    check_nothing_told,
    command,
    customer,
    logged,
    page_json,
    provisioned,
    sends,
    told,
    whmcs_orders,
    whmcs_services,
)
from tests.stack import Stack, http
from tests.webhooks.callout import Event


@pytest.fixture(scope="module")
def ada(stack: Stack) -> Iterator[Visitor]:
    """The customer Ada, signed in."""
    with Visitor() as visitor:
        sign_in(stack, visitor)
        yield visitor


def refused(stack: Stack, order: str, code: str, status: int = 422) -> str:
    """Click, and hold everybody's word for the failure together. Returns the message."""
    since = stack.whmcs.last()
    answer = stack.fulfill(order)
    message = check_failure(stack, order, code)
    check_answer(answer, status, code.lower(), stack.fulfillment(order))
    if not code.startswith("WHMCS_"):
        assert calls_of(stack.whmcs, since, "AddOrder") == []
    return message


def test_an_order_salesforce_doesnt_know(stack: Stack) -> None:
    order = stack.order("starter")
    stack.salesforce.post("seed", {"delete": [{"type": "Order", "Id": order}]})
    since = stack.salesforce.last()
    answer = stack.fulfill(order)
    row = stack.finished(order)
    assert (row["state"], row["error_code"]) == ("failed", "ORDER_NOT_FOUND")
    check_answer(answer, 404, "order_not_found", row)
    assert logged(stack, "Order fulfillment failed", "worker", sfOrderId=order, code="ORDER_NOT_FOUND")
    written = calls_of(stack.salesforce, since, "update:Order", "collections.update")
    assert [entry for entry in written if entry["order"] == order] == []


@pytest.mark.parametrize("status", ["Draft", "Cancelled", "Rejected"])
def test_a_status_that_isnt_fulfilled(stack: Stack, ada: Visitor, status: str) -> None:
    order = stack.order("starter", status=status)
    answer = stack.fulfill(order)
    row = stack.finished(order)
    assert (row["state"], row["error_code"]) == ("failed", "ORDER_NOT_FULFILLABLE")
    assert status in row["error_message"]
    check_answer(answer, 422, "order_not_fulfillable", row)
    record = stack.wait_for(
        lambda: next((r for r in [stack.salesforce_order(order)] if r["Provisioning_Error_Code__c"]), None)
    )
    assert record["Provisioning_Status__c"] == "Failed"
    assert record["Status"] == status
    assert record["Provisioning_Error_Message__c"] == row["error_message"]
    # An order that is cancelled in Salesforce is shown as that once the sweep has learnt it.
    shown = "Cancelled" if status == "Cancelled" else "Failed"
    stack.wait_for(lambda: page_json(stack, ada, order)["status"] == shown, f"the page to say {shown}")
    assert sends(stack, order, "AddOrder") == 0


def test_an_order_without_items(stack: Stack, ada: Visitor) -> None:
    order = stack.order()
    refused(stack, order, "ORDER_HAS_NO_ITEMS")
    assert page_json(stack, ada, order)["status"] == "Failed"
    # Items were added: the next click goes on, and Salesforce's error fields are cleared.
    since = stack.salesforce.last()
    stack.salesforce.post(
        "seed",
        {
            "records": [
                {
                    "type": "OrderItem",
                    "OrderId": order,
                    "PricebookEntryId": stack.ids["entry:starter"],
                    "Product2Id": stack.ids["product:starter"],
                    "Quantity": 1,
                    "UnitPrice": 5.0,
                }
            ]
        },
    )
    assert stack.fulfill(order).status == 200
    provisioned(stack, order)
    assert told(stack, order, since) == ["Activating", "Provisioned"]
    assert page_json(stack, ada, order)["status"] == "Provisioned"


def test_every_faulty_item_is_named(stack: Stack, ada: Visitor) -> None:
    order = stack.order("starter", "unmapped", "oddcycle")
    message = refused(stack, order, "PRODUCT_MAPPING_MISSING")
    (report,) = logged(stack, "Item mapping report", "worker", sfOrderId=order)
    assert report["level"] == "error"
    assert len(report["items"]) == 3
    assert len(report["faults"]) == 2
    for text in (message, " ".join(report["faults"])):
        assert "Site Builder has no WH_Product_ID__c" in text
        assert "Fortnightly Report has the Billing_Cycle__c 'Fortnightly', unknown to WHMCS" in text
        assert "Starter Hosting" not in text
    assert page_json(stack, ada, order)["status"] == "Failed"


# --- clients -------------------------------------------------------------------------------------------------


def test_a_client_without_number_and_address(stack: Stack) -> None:
    who, _ = customer(stack, client=False, mapped=False, salesforce_email="")
    assert "no contact with an e-mail address" in refused(
        stack, stack.order("starter", customer=who), "CLIENT_NOT_MAPPED"
    )


def test_an_address_that_two_accounts_share_maps_nobody(stack: Stack) -> None:
    first, _ = customer(stack, mapped=False, email="shared@customers.example")
    customer(stack, client=False, mapped=False, email="shared@customers.example")
    message = refused(stack, stack.order("starter", customer=first), "CLIENT_NOT_MAPPED")
    assert "several accounts" in message
    assert "@" not in message


def test_an_address_whmcs_doesnt_know(stack: Stack) -> None:
    message = refused(stack, stack.order("starter", customer="mary"), "CLIENT_NOT_MAPPED")
    assert "WHMCS has no client" in message
    assert "@" not in message


def test_a_number_whmcs_doesnt_know(stack: Stack) -> None:
    who, _ = customer(stack, client=False, mapped=False)
    account = stack.ids[f"account:{who}"]
    stack.salesforce.post("seed", {"update": [{"type": "Account", "Id": account, "WHMCS_Client_ID__c": "987654"}]})
    assert "987654" in refused(stack, stack.order("starter", customer=who), "CLIENT_NOT_MAPPED")


def test_a_client_found_by_its_address_is_written_back_to_the_account(stack: Stack) -> None:
    who, number = customer(stack, mapped=False)
    order = stack.order("starter", customer=who)
    assert stack.fulfill(order).status == 200
    active = provisioned(stack, order)
    assert str(active["userid"]) == number

    def written() -> bool:
        accounts = stack.salesforce.get("state", objects="Account")["Account"]
        return any(a["Id"] == stack.ids[f"account:{who}"] and a["WHMCS_Client_ID__c"] == number for a in accounts)

    stack.wait_for(written, "the client's number in Salesforce")


# --- payment -------------------------------------------------------------------------------------------------


def test_a_missing_payment_method_and_a_new_click_once_it_is_there(stack: Stack, silent: None) -> None:
    who, number = customer(stack, card=False)
    order = stack.order("starter", customer=who)
    message = refused(stack, order, "PAYMENT_METHOD_MISSING", 409)
    assert "payment method" in message
    stack.whmcs.post("seed", {"paymethods": [{"userid": int(number)}]})
    assert stack.fulfill(order).status == 200
    provisioned(stack, order)
    row = stack.fulfillment(order)
    assert row is not None
    assert row["attempt"] == 2


def test_a_payment_method_that_is_added_resumes_the_order_by_itself(stack: Stack) -> None:
    who, number = customer(stack, card=False)
    order = stack.order("starter", customer=who)
    refused(stack, order, "PAYMENT_METHOD_MISSING", 409)
    stack.whmcs.post("seed", {"paymethods": [{"userid": int(number)}]})
    stack.wait_for(lambda: (stack.fulfillment(order) or {})["attempt"] == 2, "the second attempt")
    provisioned(stack, order)


def test_hints_of_payment_methods_cost_nothing_or_one_call_however_often_they_come(stack: Stack, silent: None) -> None:
    who, number = customer(stack, card=False)
    order = stack.order("starter", customer=who)
    refused(stack, order, "PAYMENT_METHOD_MISSING", 409)
    _, nobody_waits = customer(stack)
    since = stack.whmcs.last()

    def hint(client: str) -> None:
        sent = Event("paymethod.added", {"clientId": client}, secret=stack.secret("whmcs_webhook_secret"))
        answer = http("POST", f"{stack.urls['portal']}{sent.path}", sent.body(), sent.headers())
        assert answer.status == 202

    def asked() -> list[str]:
        calls = stack.whmcs.journal(since=since, direction="in", action="GetPayMethods")
        return [str(call["params"]["clientid"]) for call in calls]

    for _ in range(10):
        hint(nobody_waits)
        hint(number)
    stack.wait_for(asked, "WHMCS to be asked")
    for _ in range(10):
        hint(nobody_waits)
        hint(number)
    # Another order has gone all its way meanwhile: had more been asked, it would have been by now.
    provisioned(stack, clicked(stack))
    other = [client for client in asked() if client in (number, nobody_waits)]
    assert other == [number]
    row = stack.fulfillment(order)
    assert row is not None
    assert (row["state"], row["attempt"]) == ("failed", 1)


def clicked(stack: Stack) -> str:
    """An order of a customer of its own who can pay, asked for."""
    order = stack.order("starter", customer=customer(stack)[0])
    assert stack.fulfill(order).status == 200
    return order


def test_the_same_key_repeats_the_refusal_it_got(stack: Stack, silent: None) -> None:
    who, number = customer(stack, card=False)
    order = stack.order("starter", customer=who)
    first = stack.fulfill(order, key="one-click-of-" + order)
    assert first.status == 409
    stack.whmcs.post("seed", {"paymethods": [{"userid": int(number)}]})
    again = stack.fulfill(order, key="one-click-of-" + order)
    assert (again.status, again.body) == (409, first.body)
    row = stack.fulfillment(order)
    assert row is not None
    assert row["attempt"] == 1


# --- WHMCS says no -------------------------------------------------------------------------------------------


def test_an_add_order_that_is_refused(stack: Stack) -> None:
    who, number = customer(stack, status="Closed")
    order = stack.order("starter", customer=who)
    assert "client status is Closed" in refused(stack, order, "WHMCS_ADD_ORDER_FAILED")
    stack.whmcs.post("seed", {"update": [{"kind": "clients", "id": int(number), "status": "Active"}]})
    assert stack.fulfill(order).status == 200
    provisioned(stack, order)
    assert len(whmcs_orders(stack, order)) == 1


def test_words_nobody_knows_are_tried_again_and_cleaned(stack: Stack) -> None:
    order = stack.order("starter")
    words = "Domain in use by ada@lovelace.example password: hunter2secret " + "and so on " * 60
    stack.whmcs.fault(
        "error", action="AddOrder", order=order, count=0, status=200, body={"result": "error", "message": words}
    )
    try:
        message = refused(stack, order, "WHMCS_ADD_ORDER_FAILED")
    finally:
        stack.whmcs.clear_faults()
    assert message == "Given up after 4 tries: WHMCS couldn't do AddOrder now: Domain in use by … password: …"
    assert sends(stack, order, "AddOrder") == 4
    assert whmcs_orders(stack, order) == []


def test_a_documented_refusal_of_add_order_ends_the_order_at_once(stack: Stack) -> None:
    order = stack.order("starter")
    words = "Unable to add order when client status is Closed"
    stack.whmcs.fault("error", action="AddOrder", order=order, status=200, body={"result": "error", "message": words})
    assert refused(stack, order, "WHMCS_ADD_ORDER_FAILED") == f"WHMCS refused the order: WHMCS: {words}"
    assert sends(stack, order, "AddOrder") == 1


@pytest.mark.parametrize("action", ["GetPayMethods", "GetOrders", "GetClientsProducts"])
def test_words_about_whmcs_on_a_read_only_delay_an_order(stack: Stack, action: str) -> None:
    who, number = customer(stack)
    order = stack.order("starter", customer=who)
    since = stack.whmcs.last()
    words = {"result": "error", "message": "Call to undefined function db_connect()"}
    stack.whmcs.fault("error", action=action, client=number, count=2, status=200, body=words)
    stack.fulfill(order)
    provisioned(stack, order)
    assert len(whmcs_orders(stack, order)) == 1
    assert sends(stack, order, "AddOrder") == 1
    assert len([e for e in calls_of(stack.whmcs, since, action) if e["client"] == number]) >= 3


def test_an_accept_that_is_refused_keeps_its_order_for_the_next_click(stack: Stack, ada: Visitor) -> None:
    order = stack.order("support")
    stack.whmcs.post("settings", {"module_failure_order_status": "Pending"})
    stack.whmcs.post("module-failures", {"pid": 5, "message": "Could not connect to Saturn", "count": 1})
    try:
        assert "Could not connect to …" in refused(stack, order, "WHMCS_ACCEPT_ORDER_FAILED")
    finally:
        stack.whmcs.post("settings", {"module_failure_order_status": "Active"})
        stack.whmcs.delete("module-failures")
    assert [row["status"] for row in whmcs_orders(stack, order)] == ["Pending"]
    assert page_json(stack, ada, order)["status"] == "Failed"
    assert stack.fulfill(order).status == 200
    active = provisioned(stack, order)
    assert [row["id"] for row in whmcs_orders(stack, order)] == [active["id"]]
    assert sends(stack, order, "AddOrder") == 1
    assert sends(stack, order, "AcceptOrder") == 2


def test_a_service_that_isnt_set_up_waits_for_an_operators_module_create(
    stack: Stack, ada: Visitor, silent: None
) -> None:
    order = stack.order("starter", "support")
    stack.whmcs.post("module-failures", {"pid": 5, "message": "Could not connect to Saturn", "count": 2})
    try:
        answer = stack.fulfill(order)
        message = check_failure(stack, order, "WHMCS_SERVICE_NOT_ACTIVE", state="needs_decision")
        check_answer(answer, 409, "needs_decision", stack.fulfillment(order))
        (made,) = whmcs_orders(stack, order)
        good, bad = whmcs_services(stack, made["id"])
        assert (good["status"], bad["status"]) == ("Active", "Pending")
        assert f"{bad['id']} (Priority Support: Pending)" in message
        assert f"service {good['id']}" not in message
        assert page_json(stack, ada, order)["status"] == "Activating"
        check_answer(stack.fulfill(order), 409, "needs_decision", stack.fulfillment(order))
        with pytest.raises(AssertionError, match="Could not connect to …"):
            command(stack, "fulfillments", "module-create", order, str(bad["id"]))
    finally:
        stack.whmcs.delete("module-failures")
    with pytest.raises(AssertionError, match="isn't one of this order's"):
        command(stack, "fulfillments", "module-create", order, "999999")
    since = stack.whmcs.last()
    command(stack, "fulfillments", "module-create", order, str(bad["id"]))
    active = provisioned(stack, order)
    assert active["id"] == made["id"]
    assert [e["params"]["serviceid"] for e in calls_of(stack.whmcs, since, "ModuleCreate")] == [str(bad["id"])]
    assert calls_of(stack.whmcs, since, "AddOrder", "AcceptOrder") == []
    row = stack.fulfillment(order)
    assert row is not None
    assert json.loads(row["service_ids"]) == [str(good["id"]), str(bad["id"])]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("AUTHENTICATION_FAILED", "Authentication Failed"),
        ("INVALID_IP", "Invalid IP"),
        ("RATE_LIMITED", "429"),
    ],
)
def test_a_key_or_address_whmcs_refuses_is_a_setting_to_mend_not_the_orders_end(
    stack: Stack, fault: str, words: str
) -> None:
    order = stack.order("starter")
    stack.whmcs.fault(fault, action="AddOrder", order=order, count=1)
    assert stack.fulfill(order).status == 200
    provisioned(stack, order)
    assert sends(stack, order, "AddOrder") == 2
    assert len(whmcs_orders(stack, order)) == 1
    failed = [json.loads(step["detail"]) for step in stack.steps(order) if step["state"] != "done"]
    assert all("WHMCS" in each["error"] for each in failed)
    # A try that comes while another call is the probe is told the same, and has sent nothing.
    (sent,) = (each["calls"] for each in failed if each.get("calls"))
    assert [call["call"] for call in sent] == ["AddOrder"]


def test_passing_trouble_inside_a_step_ends_the_try_and_no_process(stack: Stack) -> None:
    """What validation has found out by then is kept with the wait, in the one transaction that gives the order back."""
    alive = "SELECT worker_id FROM workers WHERE kind = 'fulfill' AND NOT dead ORDER BY worker_id"
    before = stack.ledger(alive)
    who, number = customer(stack)
    order = stack.order("starter", customer=who)
    stack.whmcs.fault("html", action="GetPayMethods", client=number)
    assert stack.fulfill(order).status == 200
    tries = [step["state"] for step in stack.steps(order) if step["name"] == "validation"]
    assert tries == ["failed", "done"]
    assert stack.ledger(alive) == before


def test_a_locked_row_in_salesforce_holds_nothing_up_and_is_told_later(stack: Stack) -> None:
    since = stack.salesforce.last()
    orders = []
    for fault in ("UNABLE_TO_LOCK_ROW", "ENTITY_IS_LOCKED", "REQUEST_LIMIT_EXCEEDED"):
        orders.append(stack.order("starter"))
        stack.salesforce.fault(fault, action="update:Order", order=orders[-1], count=2)
        assert stack.fulfill(orders[-1]).status == 200
    for order in orders:
        provisioned(stack, order)
        assert set(told(stack, order, since)) == {"Provisioned"}
        failed: list[dict[str, Any]] = logged(stack, "Failed to update order status in Salesforce", sfOrderId=order)
        assert failed
        assert failed[0]["status"] == "Activating"
        assert failed[0]["error"]
        assert failed[0]["level"] == "error"


def test_nothing_secret_or_personal_is_told_anywhere(stack: Stack) -> None:
    check_nothing_told(stack, ["hunter2secret"])
