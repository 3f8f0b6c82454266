"""Every symptom of the operators' runbook, brought about with the whole stack running, and its cure."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stack import Answer, Stack, http


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of this module's own: its customers get payment methods, and its calls get faults."""
    with Stack(tmp_path_factory.mktemp("symptoms")) as running:
        yield running


def problem(answer: Answer) -> tuple[int, str, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    return answer.status, told["code"], told["title"]


def log_lines(portal: Stack, name: str, **fields: Any) -> list[dict[str, Any]]:
    """Lines of a process' log that bear these fields."""
    found = []
    for line in (portal.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{"):
            told = json.loads(line)
            if all(told.get(key) == value for key, value in fields.items()):
                found.append(told)
    return found


def whmcs_orders(portal: Stack, order: str) -> list[dict[str, Any]]:
    """The WHMCS orders that bear an order's mark."""
    orders = portal.whmcs.get("state", objects="orders")["orders"]
    return [each for each in orders if f"sfOrderId={order}" in str(each.get("notes", "")).split()]


def test_401_invalid_signature(portal: Stack) -> None:
    order = portal.order("starter")
    assert problem(portal.fulfill(order, secret="another-secret")) == (401, "invalid_signature", "Invalid signature")
    body, headers = portal.signed(order)  # signed over other bytes than are sent
    url = f"{portal.urls['portal']}/orders/{order}/fulfill"
    assert problem(http("POST", url, body.replace(b",", b", "), headers))[:2] == (401, "invalid_signature")
    assert portal.fulfill(order).status == 200


def test_401_clocks_skewed(portal: Stack) -> None:
    order = portal.order("starter")
    for off in (-600, 600):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + off))
        assert problem(portal.fulfill(order, timestamp=stamp)) == (401, "stale_timestamp", "Stale timestamp")
    assert portal.fulfillment(order) is None


def test_401_nonce_already_used(portal: Stack) -> None:
    order = portal.order("starter")
    assert portal.fulfill(order, nonce="once-" + order).status == 200
    again = portal.fulfill(order, nonce="once-" + order)
    assert problem(again) == (401, "nonce_already_used", "Nonce already used")


@pytest.mark.parametrize("name", ["orderId", "timestamp", "nonce"])
def test_400_missing_fields(portal: Stack, name: str) -> None:
    order = portal.order("starter")
    body, headers = portal.signed(order)
    told = json.loads(body)
    del told[name]
    cut = json.dumps(told).encode()
    headers["X-SF-Signature"] = portal.signature(cut)
    answer = http("POST", f"{portal.urls['portal']}/orders/{order}/fulfill", cut, headers)
    assert problem(answer) == (400, "missing_fields", "Missing fields")
    assert name in answer.json()["detail"]


def test_400_missing_idempotency_key(portal: Stack) -> None:
    answer = portal.fulfill(portal.order("starter"), headers={"Idempotency-Key": ""})
    assert problem(answer)[:2] == (400, "missing_idempotency_key")


def test_409_payment_method_missing_and_the_cure(portal: Stack) -> None:
    order = portal.order("starter", customer="grace")
    assert problem(portal.fulfill(order)) == (409, "payment_method_missing", "Payment method missing")
    told = portal.salesforce_order(order)
    assert (told["Provisioning_Status__c"], told["Provisioning_Error_Code__c"]) == ("Failed", "PAYMENT_METHOD_MISSING")
    # the customer adds one: WHMCS tells of it, and the order goes on unasked
    assert http("POST", f"{portal.urls['whmcs']}/clients/2/paymethods").status < 400
    portal.wait_for(lambda: (portal.fulfillment(order) or {})["state"] == "provisioned", "the order to go on", 60)
    answer = portal.fulfill(order)
    assert answer.status == 200
    assert len(whmcs_orders(portal, order)) == 1
    told = portal.wait_for(
        lambda: (now := portal.salesforce_order(order))["Provisioning_Status__c"] == "Provisioned" and now,
        "Salesforce to know",
    )
    assert told["Provisioning_Error_Code__c"] is None


def test_whmcs_errors_from_missing_mappings_are_reported_item_by_item(portal: Stack) -> None:
    order = portal.order("starter", "unmapped", "oddcycle")
    assert problem(portal.fulfill(order))[:2] == (422, "product_mapping_missing")
    text = (portal.logs / "worker.log").read_text(encoding="utf-8", errors="replace")
    report = [line for line in text.splitlines() if order in line and "Site Builder" in line]
    assert report
    assert "Fortnightly" in report[-1]


@pytest.mark.parametrize(
    ("action", "message", "code"),
    [
        ("AddOrder", "Invalid Payment Method. Valid options include mailin", "whmcs_add_order_failed"),
        ("AcceptOrder", "Module Command Error: the server refused", "whmcs_accept_order_failed"),
    ],
)
def test_whmcs_add_and_accept_errors(portal: Stack, action: str, message: str, code: str) -> None:
    order = portal.order("starter")
    portal.whmcs.fault("error", action=action, count=1, body={"result": "error", "message": message}, status=200)
    try:
        answer = portal.fulfill(order)
    finally:
        portal.whmcs.clear_faults()
    assert problem(answer)[:2] == (422, code)
    assert message[:20] in answer.json()["detail"]
    assert portal.fulfill(order).status == 200  # a new click resumes
    assert len([each for each in whmcs_orders(portal, order) if each["status"] == "Active"]) == 1


def test_salesforce_status_not_updated(portal: Stack) -> None:
    order = portal.order("starter")
    portal.salesforce.fault("INSUFFICIENT_ACCESS", path=f"*sobjects/Order/{order}*", count=2)
    try:
        assert portal.fulfill(order).status in (200, 202, 422)
        portal.wait_for(
            lambda: log_lines(portal, "worker", message="Failed to update order status in Salesforce", sfOrderId=order),
            "the line in the log",
        )
    finally:
        portal.salesforce.clear_faults()
    portal.fulfill(order)
    portal.wait_for(
        lambda: portal.salesforce_order(order)["Provisioning_Status__c"] == "Provisioned", "Salesforce to know", 90
    )


def test_the_runbooks_verification_steps(portal: Stack) -> None:
    order = portal.order("starter", ("server", 2))
    pressed = portal.press_button(order)
    assert pressed["status"] == 200, pressed
    health = portal.get("/health").json()
    assert health["status"] == "ok"
    assert health["database"] == "connected"
    assert health["integrations"]["redis"] == "connected"
    received = log_lines(portal, "web", message="Salesforce order fulfillment request received", sfOrderId=order)
    assert received
    assert received[0]["idempotencyKey"]
    assert log_lines(portal, "worker", message="Starting fulfillment orchestration", sfOrderId=order)
    told = portal.salesforce_order(order)
    assert told["Provisioning_Status__c"] == "Provisioned"
    assert told["WHMCS_Order_ID__c"]
    row = portal.finished(order)
    assert row["elected_whmcs_id"] == told["WHMCS_Order_ID__c"]
    assert json.loads(row["service_ids"])


def test_the_unsigned_key_never_adds_a_whmcs_order(portal: Stack) -> None:
    order = portal.order("business")
    assert portal.fulfill(order, key="the-click", prefer="respond-async").status == 202
    for key in ("another", "a-third", "x" * 255):
        assert portal.fulfill(order, key=key).status == 200
    assert portal.fulfill(order, headers={"Idempotency-Key": ""}).status == 400
    body, headers = portal.signed(order)
    del headers["Idempotency-Key"]
    assert http("POST", f"{portal.urls['portal']}/orders/{order}/fulfill", body, headers).status == 400
    assert len(whmcs_orders(portal, order)) == 1
