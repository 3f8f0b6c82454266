"""An order that meets no trouble: what reaches WHMCS, Salesforce, the ledger, the log and the customer; and no more."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import pytest

from sandbox.visitor import Visitor
from tests.customers import sign_in
from tests.fulfilling import (
    STEPS,
    calls_of,
    check_nothing_told,
    log_lines,
    logged,
    page_json,
    provisioned,
    queue_of,
    told,
    whmcs_orders,
    whmcs_services,
)
from tests.stack import Stack


def items_of(stack: Stack, order: str) -> list[dict[str, Any]]:
    rows = stack.salesforce.get("state", objects="OrderItem")["OrderItem"]
    return sorted((row for row in rows if row["OrderId"] == order), key=lambda row: str(row["Id"]))


def ordered(stack: Stack, *items: str | tuple[str, int], **kwargs: Any) -> str:
    """An order whose first item has a domain and whose second has a hostname."""
    order = stack.order(*items, **kwargs)
    first, second, *_ = items_of(stack, order)
    stack.salesforce.post(
        "seed",
        {
            "update": [
                {"type": "OrderItem", "Id": first["Id"], "Domain__c": "shop.example.com"},
                {"type": "OrderItem", "Id": second["Id"], "Hostname__c": "node-1.example.com"},
            ]
        },
    )
    return order


def test_several_items_with_quantities_and_names_become_one_active_whmcs_order(stack: Stack) -> None:
    order = ordered(stack, "starter", ("server", 2), "certificate", "support")
    since = stack.whmcs.last()
    answer = stack.fulfill(order)
    active = provisioned(stack, order)
    assert answer.status == 200
    assert answer.json() == {"success": True, "status": "Provisioned", "whmcsOrderId": str(active["id"])}
    (call,) = calls_of(stack.whmcs, since, "AddOrder")
    params = call["params"]
    assert {name: list(params[name].values()) for name in ("pid", "qty", "billingcycle")} == {
        "pid": ["1", "3", "4", "5"],
        "qty": ["1", "2", "1", "1"],
        "billingcycle": ["monthly", "monthly", "onetime", "semiannually"],
    }
    assert params["domain"] == {"0": "shop.example.com"}
    assert params["hostname"] == {"1": "node-1.example.com"}
    assert params["noemail"] == "1"
    assert "priceoverride" not in params
    assert "customfields" not in params
    assert active["notes"].split() == [f"sfOrderId={order}"]
    services = whmcs_services(stack, active["id"])
    assert [(s["name"], s["domain"], s["qty"]) for s in services] == [
        ("Starter Hosting", "shop.example.com", 1),
        ("Cloud Server S", "node-1.example.com", 1),
        ("Cloud Server S", "node-1.example.com", 1),
        ("SSL Certificate", "", 1),
        ("Priority Support", "", 1),
    ]


def test_a_quantity_may_be_one_service(stack: Stack) -> None:
    stack.whmcs.post("settings", {"quantities": "scalable"})
    try:
        order = stack.order(("server", 3))
        assert stack.fulfill(order).status == 200
        active = provisioned(stack, order)
    finally:
        stack.whmcs.post("settings", {"quantities": "multiple"})
    assert [(s["name"], s["qty"]) for s in whmcs_services(stack, active["id"])] == [("Cloud Server S", 3)]


@pytest.mark.parametrize(
    "settings",
    [
        {"ids": "ints", "empty_lists": "string", "unordered": True, "legacy_productids": True},
        {"ids": "strings", "empty_lists": "object", "unordered": False, "legacy_productids": False},
    ],
)
def test_both_ways_whmcs_writes_its_answers(stack: Stack, settings: dict[str, Any]) -> None:
    stack.whmcs.post("settings", settings)
    order = stack.order("starter", ("server", 2))
    assert stack.fulfill(order).status == 200
    provisioned(stack, order)


def test_an_undisturbed_order_costs_eight_calls_to_whmcs_and_three_to_salesforce(stack: Stack) -> None:
    assert stack.fulfill(stack.order("starter")).status == 200  # tokens and connections are there
    order = stack.order("business")
    whmcs, salesforce = stack.whmcs.last(), stack.salesforce.last()
    assert stack.fulfill(order).status == 200
    stack.wait_for(lambda: stack.salesforce_order(order)["Provisioning_Status__c"] == "Provisioned")
    assert [entry["action"] for entry in calls_of(stack.whmcs, whmcs)] == [
        "GetPayMethods",
        "GetClientsDetails",
        "GetOrders",  # the look before every AddOrder
        "AddOrder",
        "GetOrders",
        "GetClientsProducts",  # is what WHMCS made what was asked for
        "AcceptOrder",
        "GetClientsProducts",
    ]
    ours = [entry for entry in calls_of(stack.salesforce, salesforce) if order[:15] in json.dumps(entry)]
    assert [entry["action"] for entry in ours] == ["query", "update:Order", "update:Order"]
    # Nor do they come later: WHMCS' own events of our acceptance have arrived, and the sweep has made its rounds.
    row = stack.fulfillment(order)
    assert row is not None
    elected = row["elected_whmcs_id"]
    stack.wait_for(
        lambda: [
            e
            for e in stack.ledger("SELECT kind FROM events WHERE subject = ?", order)
            if e["kind"] == "whmcs:service.active"
        ],
        "WHMCS' event",
    )
    beat = "SELECT max(heartbeats) AS beat FROM workers WHERE kind = 'sweep' AND NOT dead"
    begun = stack.ledger(beat)[0]["beat"]
    stack.wait_for(lambda: stack.ledger(beat)[0]["beat"] >= begun + 4, "four rounds of the sweep")
    assert len([e for e in calls_of(stack.whmcs, whmcs) if elected in (e["order"], str(e["params"].get("id")))]) <= 3
    assert len(calls_of(stack.whmcs, whmcs)) == 8
    ours = [entry for entry in calls_of(stack.salesforce, salesforce) if order[:15] in json.dumps(entry)]
    assert len(ours) == 3


def test_salesforce_sees_activating_then_provisioned_and_errors_are_cleared(stack: Stack) -> None:
    order = stack.order(
        "starter",
        Provisioning_Status__c="Failed",
        Provisioning_Error_Code__c="PROVISIONING_ERROR",
        Provisioning_Error_Message__c="an old story",
    )
    since = stack.salesforce.last()
    fault = {"action": "AddOrder", "client": "1", "count": 1}
    stack.whmcs.fault("pause_point", **fault)
    assert stack.fulfill(order, prefer="respond-async").status == 202
    held = stack.whmcs.wait_for_call(action="AddOrder", state="held", order=order)
    record = stack.salesforce_order(order)
    assert record["Provisioning_Status__c"] == "Activating"
    assert record["Last_Provisioning_At__c"]
    assert record["Provisioning_Error_Code__c"] is None
    assert record["Provisioning_Error_Message__c"] is None
    assert record["WHMCS_Order_ID__c"] is None
    stack.whmcs.post("release", {"call": held["id"]})
    active = provisioned(stack, order)
    assert told(stack, order, since) == ["Activating", "Provisioned"]
    sent = [json.loads(e["params"]) for e in stack.salesforce.journal(since=since, action="update:Order", order=order)]
    # Text: Salesforce refuses a number there.
    assert [each.get("WHMCS_Order_ID__c") for each in sent] == [None, str(active["id"])]


def test_the_log_tells_the_story_in_the_documents_sentences(stack: Stack) -> None:
    order = stack.order("starter", ("server", 2))
    key = f"click-{secrets.token_hex(8)}"
    assert stack.fulfill(order, key=key).status == 200
    active = provisioned(stack, order)
    (received,) = logged(stack, "Salesforce order fulfillment request received", "web", sfOrderId=order)
    assert received["idempotencyKey"] == key
    assert received["level"] == "info"
    lines = [line for line in log_lines(stack, "worker") if line.get("sfOrderId") == order]
    assert lines[0]["message"] == "Starting fulfillment orchestration"
    assert tuple(line["message"] for line in lines if line["message"] in STEPS) == STEPS
    updates = [line for line in lines if line["message"] == "Order status updated in Salesforce"]
    assert [(line["status"], line["whmcsOrderId"]) for line in updates] == [
        ("Activating", None),
        ("Provisioned", str(active["id"])),
    ]
    (report,) = [line for line in lines if line["message"] == "Item mapping report"]
    assert report["faults"] == []
    assert [(row["product"], row["whProductId"], row["mappedTo"], row["quantity"]) for row in report["items"]] == [
        ("Starter Hosting", "1", "monthly", 1),
        ("Cloud Server S", "3", "monthly", 2),
    ]
    (done,) = [line for line in lines if line["message"] == "Order provisioned"]
    assert done["whmcsOrderId"] == str(active["id"])
    assert len(done["serviceIds"]) == 3


def test_each_step_is_in_the_ledger_with_its_times_and_outcome(stack: Stack) -> None:
    order = stack.order("starter")
    began = time.time()
    assert stack.fulfill(order, extra={"requestedBy": "Ops Person"}).status == 200
    active = provisioned(stack, order)
    steps = stack.steps(order)
    assert tuple(step["name"] for step in steps) == STEPS
    assert {step["state"] for step in steps} == {"done"}
    assert {step["attempt"] for step in steps} == {1}
    moments = [moment for step in steps for moment in (step["started_at"], step["ended_at"])]
    assert moments == sorted(moments)
    assert began - 1 < moments[0]
    assert moments[-1] < time.time() + 1
    details = {step["name"]: json.loads(step["detail"]) for step in steps}
    assert details["whmcs_create"]["whmcsOrderId"] == details["whmcs_accept"]["whmcsOrderId"] == str(active["id"])
    row = stack.fulfillment(order)
    assert row is not None
    assert row["requested_by"] == "Ops Person"
    assert row["salesforce_status"] == "Provisioned"
    assert (row["add_attempts"], row["accept_attempts"], row["duplicate_possible"], row["owner"]) == (1, 1, 0, None)


def test_the_customer_sees_it(stack: Stack) -> None:
    order = stack.order("starter")
    assert stack.fulfill(order).status == 200
    provisioned(stack, order)
    with Visitor() as visitor:
        sign_in(stack, visitor)
        shown = page_json(stack, visitor, order)
    assert shown["status"] == "Provisioned"
    assert shown["final"] is True
    assert shown["orderId"] == order
    assert {stage["state"] for stage in shown["stages"]} == {"done"}


def test_ten_clicks_and_a_new_key_later_make_one_order(stack: Stack) -> None:
    order = stack.order("starter")
    for _ in range(10):
        assert stack.fulfill(order, prefer="respond-async").status in (200, 202)
    active = provisioned(stack, order)
    again = stack.fulfill(order)
    assert again.status == 200
    assert again.json()["whmcsOrderId"] == str(active["id"])
    assert len(whmcs_orders(stack, order)) == 1
    row = stack.fulfillment(order)
    assert row is not None
    assert row["attempt"] == 1
    assert row["add_attempts"] == 1


def test_the_button_of_the_guides_apex_ends_provisioned(stack: Stack) -> None:
    for mode in ("guide", "package"):
        order = stack.order("starter")
        callout = stack.press_button(order, mode=mode)
        assert callout["status"] == 200
        provisioned(stack, order)


def test_a_run_that_ends_failed_is_a_failed_job_that_tells_nothing_but_its_order(stack: Stack) -> None:
    order = stack.order("unmapped")
    assert stack.fulfill(order).status == 422
    with queue_of(stack) as store:
        jobs = stack.wait_for(
            lambda: [
                job
                for job in (store.hgetall(key) for key in store.scan_iter(f"rq:job:{order}-*", count=1000))
                if job.get(b"status") == b"failed"
            ],
            "the failed job",
        )
    (job,) = jobs
    assert job[b"description"] == b"fulfill an order"
    assert job[b"origin"] == b"fulfillments"


def test_nothing_secret_or_personal_is_told_anywhere(stack: Stack) -> None:
    check_nothing_told(stack)
