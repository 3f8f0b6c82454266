"""Salesforce or WHMCS away, slow or refusing for a while: orders wait and say so, no herd comes when it is back, and
what Salesforce has to be told arrives in order. Two workers, so that limits hold across them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from sandbox.processes import Child
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
    one,
    page_json,
    provisioned,
    sends,
    told,
    until,
    whmcs_orders,
)
from tests.stack import Control, Stack

IN_FLIGHT = 2


def another(stack: Stack, name: str, number: int = 2) -> Child:
    """One more process of a kind, as on a second host."""
    first = stack.child(name)
    child = Child(f"{name}{number}", first.argv, first.env, stack.logs / f"{name}{number}.log")
    stack.children[child.name] = child
    return child.start()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {
        "WHMCS_MAX_IN_FLIGHT": str(IN_FLIGHT),
        "FULFILLMENT_SLOTS": "3",
        "WHMCS_MAX_REQUEST_SECONDS": "2",
        "FULFILLMENT_RETRY_SCHEDULE": "0.2,0.5,1,2,2,5,20,60",
    }
    with Stack(tmp_path_factory.mktemp("upstreams"), settings=settings) as running:
        another(running, "worker")
        slots = "SELECT slots FROM workers WHERE kind = 'fulfill' AND NOT dead"
        running.wait_for(lambda: sum(row["slots"] for row in running.ledger(slots)) == 6, "both workers", 60)
        yield running


@pytest.fixture(autouse=True)
def healed(shop: Stack) -> Iterator[None]:
    yield
    for side in (shop.whmcs, shop.salesforce):
        side.post("settings", {"maintenance": False})
        side.clear_faults()
    for name in ("whmcs", "salesforce"):
        shop.wait_for(lambda name=name: not open_since(shop, name), f"{name}'s circuit to close", 60)


def click(stack: Stack, *orders: str) -> None:
    for order in orders:
        assert stack.fulfill(order, prefer="respond-async").status == 202


def open_since(stack: Stack, upstream: str) -> float | None:
    """When the circuit of an upstream was opened; None while it is closed."""
    rows = stack.ledger("SELECT opened_at FROM upstreams WHERE name = ?", upstream)
    return rows[0]["opened_at"] if rows else None


def most_at_once(entries: list[dict[str, Any]]) -> int:
    """How many of these calls were under way at the same time, by the other side's clock."""
    begun = [(entry["received"], 1) for entry in entries]
    ended = [(entry["answered"] or entry["received"], -1) for entry in entries]
    now = most = 0
    for _, change in sorted(begun + ended):
        now += change
        most = max(most, now)
    return most


def health(stack: Stack) -> dict[str, Any]:
    return dict(stack.get("/health").json())


# --- a crowd -------------------------------------------------------------------------------------------------


def test_the_limit_of_calls_in_flight_holds_across_workers(shop: Stack) -> None:
    orders = [one(shop) for _ in range(8)]
    since = shop.whmcs.last()
    shop.whmcs.fault("delay", action="*", seconds=0.1, count=0)
    click(shop, *orders)
    for order in orders:
        provisioned(shop, order)
    calls = calls_of(shop.whmcs, since)
    assert len(calls) >= 6 * len(orders)
    assert most_at_once(calls) == IN_FLIGHT  # reached, and never more
    owners = {line["fence"] for line in logged(shop, "Starting fulfillment orchestration", "worker2")}
    assert owners  # the second worker did its share


# --- telling Salesforce --------------------------------------------------------------------------------------


def test_what_salesforce_couldnt_be_told_arrives_later_as_it_stands_and_in_batches(shop: Stack) -> None:
    for action in ("update:Order", "collections.update"):
        shop.salesforce.fault("html", action=action, count=0)
    good = [one(shop) for _ in range(6)]
    faulty = one(shop, "unmapped")
    mended = shop.order(customer=customer(shop)[0])
    since = shop.salesforce.last()
    click(shop, *good, faulty, mended)
    for order in (*good, faulty, mended):
        shop.finished(order)
    shop.salesforce.post(
        "seed",
        {
            "records": [
                {
                    "type": "OrderItem",
                    "OrderId": mended,
                    "PricebookEntryId": shop.ids["entry:starter"],
                    "Product2Id": shop.ids["product:starter"],
                    "Quantity": 1,
                    "UnitPrice": 5.0,
                }
            ]
        },
    )
    click(shop, mended)
    until(shop, mended, lambda row: row["state"] == "provisioned")
    # WHMCS has them all, Salesforce has heard of none.
    assert all(shop.salesforce_order(order)["Provisioning_Status__c"] is None for order in (*good, faulty, mended))
    assert logged(shop, "Failed to update order status in Salesforce")
    shop.salesforce.clear_faults()
    for order in (*good, mended):
        provisioned(shop, order)
    check_failure(shop, faulty, "PRODUCT_MAPPING_MISSING")
    # A write-back tells how the order stands when it is taken: nothing that is over by then.
    for order in (*good, mended):
        assert set(told(shop, order, since)) == {"Provisioned"}
    assert set(told(shop, faulty, since)) == {"Failed"}
    batches = [e for e in calls_of(shop.salesforce, since, "collections.update") if e["effect"] is not None]
    assert max(len(json.loads(entry["params"])["records"]) for entry in batches) >= 3


def test_one_record_that_is_locked_holds_the_others_of_its_batch_up_for_nothing(shop: Stack) -> None:
    orders = [one(shop) for _ in range(4)]
    outage = shop.salesforce.fault("html", action="update:Order", count=0)
    click(shop, *orders)
    for order in orders:
        shop.finished(order)
    shop.salesforce.fault(
        "record_error",
        action="collections.update",
        record=orders[0],
        code="UNABLE_TO_LOCK_ROW",
        message="unable to obtain exclusive access",
        count=2,
    )
    since = shop.salesforce.last()
    shop.salesforce.delete(f"faults/{outage}")
    for order in orders:
        provisioned(shop, order)
    assert told(shop, orders[1], since)[-1] == "Provisioned"


def test_without_salesforce_orders_wait_without_a_word_to_whmcs_and_go_on_when_it_is_back(shop: Stack) -> None:
    orders = [one(shop) for _ in range(4)]
    since = shop.whmcs.last()
    shop.salesforce.post("settings", {"maintenance": True})
    click(shop, *orders)
    shop.wait_for(lambda: open_since(shop, "salesforce"), "the circuit to open")
    for order in orders:
        row = until(shop, order, lambda row: row["state"] == "waiting")
        assert "Salesforce" in row["waiting_for"]
    assert calls_of(shop.whmcs, since) == []
    assert health(shop)["integrations"]["salesforce"] == "unavailable"
    assert health(shop)["status"] == "ok"
    shop.salesforce.post("settings", {"maintenance": False})
    for order in orders:
        provisioned(shop, order)
    assert health(shop)["integrations"]["salesforce"] == "connected"


# --- WHMCS away ----------------------------------------------------------------------------------------------


def test_without_whmcs_orders_wait_and_say_so_and_no_herd_comes_when_it_is_back(shop: Stack) -> None:
    orders = [shop.order("starter") for _ in range(8)]
    shop.whmcs.post("settings", {"maintenance": True})
    began = shop.whmcs.last()
    click(shop, *orders)
    shop.wait_for(lambda: open_since(shop, "whmcs"), "the circuit to open")
    opened = time.time()
    said = logged(shop, "Upstream doesn't answer: circuit opened", "worker", "worker2", upstream="whmcs")
    assert said
    assert said[0]["error"]
    for order in orders:
        row = until(shop, order, lambda row: row["state"] == "waiting" and "wait" in (row["waiting_for"] or ""))
        assert "WHMCS" in row["waiting_for"]
    assert health(shop)["integrations"]["whmcs"] == "unavailable"
    assert health(shop)["status"] == "ok"
    assert f"waits: {row['waiting_for'][:5]}" in command(shop, "fulfillments", "show", orders[-1])
    with Visitor() as visitor:
        sign_in(shop, visitor)
        assert page_json(shop, visitor, orders[0])["status"] == "Activating"
    shop.wait_for(lambda: calls_of(shop.whmcs, began)[-1]["received"] > opened + 1, "a probe")
    shop.whmcs.post("settings", {"maintenance": False})
    for order in orders:
        provisioned(shop, order)
        assert sends(shop, order, "AddOrder") == 1
    calls = calls_of(shop.whmcs, began)
    failed = [entry for entry in calls if entry["status"] == 503]
    probes = [entry for entry in failed if entry["received"] > opened + 1]
    first_good = next(entry for entry in calls if entry["status"] == 200)
    # Since it was open: one call at a time, ever more slowly, and nobody else before the first good answer.
    assert probes
    assert len(failed) - len(probes) <= 5 + 6
    assert all(later["received"] - earlier["answered"] >= 0.7 for earlier, later in pairwise([*probes, first_good]))
    assert most_at_once(calls) <= IN_FLIGHT
    assert logged(shop, "Upstream answers again", "worker", "worker2", "sweep", upstream="whmcs")


def test_a_wait_that_whmcs_asks_for_is_kept(shop: Stack) -> None:
    who, number = customer(shop)
    order = shop.order("starter", customer=who)
    shop.whmcs.fault(
        "error",
        action="GetPayMethods",
        client=number,
        status=429,
        retry_after=3,
        body={"result": "error", "message": "Too Many Requests"},
    )
    click(shop, order)
    provisioned(shop, order)
    first, second = shop.whmcs.journal(action="GetPayMethods", client=number)
    assert second["received"] - first["answered"] >= 3.0


# --- the set-up at fault -------------------------------------------------------------------------------------


def told_operators(stack: Stack, row: str) -> list[dict[str, Any]]:
    events = stack.ledger("SELECT detail FROM events WHERE subject = ? AND kind = 'setup_fault'", row)
    return [json.loads(event["detail"]) for event in events]


def test_a_permission_whmcs_takes_away_stops_that_action_and_tells_operators_once(shop: Stack) -> None:
    orders = [one(shop) for _ in range(4)]
    since = shop.whmcs.last()
    shop.whmcs.post("settings", {"denied_actions": ["AddOrder"]})
    try:
        click(shop, *orders)
        for order in orders:
            row = until(shop, order, lambda row: row["state"] == "waiting" and row["waiting_code"] is not None)
            assert row["waiting_code"] == "WHMCS_UNAVAILABLE"
            assert 'API action "addorder" is not allowed' in row["waiting_for"]
            assert "API role" in row["waiting_for"]
        refused = [e for e in calls_of(shop.whmcs, since, "AddOrder") if e["status"] == 403]
        assert health(shop)["integrations"]["whmcs"] == "its set-up is at fault"
        shop.wait_for(lambda: len(calls_of(shop.whmcs, since, "AddOrder")) > len(refused), "a probe")
    finally:
        shop.whmcs.post("settings", {"denied_actions": []})
    for order in orders:
        provisioned(shop, order)
        assert len(whmcs_orders(shop, order)) == 1
    (event,) = told_operators(shop, "wh:AddOrder")
    assert (event["action"], event["code"]) == ("AddOrder", "auth")
    assert "API role" in event["error"]
    assert health(shop)["integrations"]["whmcs"] == "connected"


@pytest.mark.parametrize(
    ("code", "status", "row", "cure"),
    [
        ("INVALID_TYPE", 400, "sa:fetch_order", "permission set"),
        ("UNSUPPORTED_API_VERSION", 410, "sa:*", "SF_API_VERSION"),
        ("API_DISABLED_FOR_ORG", 403, "sa:*", "API Enabled"),
    ],
)
def test_what_concerns_the_org_is_no_orders_fault_and_it_waits(
    shop: Stack, code: str, status: int, row: str, cure: str
) -> None:
    order = one(shop)
    body = [{"errorCode": code, "message": "sObject type 'Order' is not supported.", "fields": []}]
    shop.salesforce.fault("error", action="query", count=0, status=status, body=body)
    click(shop, order)
    waiting = until(shop, order, lambda row: row["state"] == "waiting")
    assert waiting["waiting_code"] == "SALESFORCE_UNAVAILABLE"
    assert cure in waiting["waiting_for"]
    assert code in waiting["waiting_for"]
    assert waiting["tries"] == 0
    assert len([event for event in told_operators(shop, row) if event["code"] == code]) == 1
    shop.salesforce.clear_faults()
    provisioned(shop, order)


# --- given up ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(shop: Stack) -> Iterator[Stack]:
    """The same with a short schedule."""
    schedule = shop.settings["FULFILLMENT_RETRY_SCHEDULE"]
    shop.child("worker2").stop()
    shop.restart("worker", settings={"FULFILLMENT_RETRY_SCHEDULE": "0.1,0.1,0.2"})
    yield shop
    shop.restart("worker", settings={"FULFILLMENT_RETRY_SCHEDULE": schedule})


@pytest.mark.parametrize(
    ("side", "action", "code"),
    [
        ("whmcs", "GetPayMethods", "WHMCS_UNAVAILABLE"),
        ("whmcs", "GetOrders", "WHMCS_UNAVAILABLE"),
        ("whmcs", "GetClientsProducts", "WHMCS_UNAVAILABLE"),
        ("salesforce", "query", "SALESFORCE_UNAVAILABLE"),
    ],
)
def test_when_the_schedule_is_exhausted_the_order_fails_and_a_new_click_resumes(
    impatient: Stack, side: str, action: str, code: str
) -> None:
    shop = impatient
    who, number = customer(shop)
    order = shop.order("starter", customer=who)
    control: Control = getattr(shop, side)
    fault = {"order": order} if action in ("query", "GetOrders") else {"client": number}
    control.fault("html", action=action, count=0, **fault)
    answer = shop.fulfill(order)
    message = check_failure(shop, order, code)
    assert "Given up after 4 tries" in message
    assert side.casefold() in message.casefold()
    check_answer(answer, 422, code.casefold(), shop.fulfillment(order))
    control.clear_faults()
    assert shop.fulfill(order).status == 200
    provisioned(shop, order)
    row = shop.fulfillment(order)
    assert row is not None
    assert row["attempt"] == 2
    assert row["tries"] == 0
    assert sends(shop, order, "AddOrder") == 1
    assert len(whmcs_orders(shop, order)) == 1
    assert sends(shop, str(row["elected_whmcs_id"]), "AcceptOrder") == 1


# --- requests nobody heard, and who sweeps -------------------------------------------------------------------


def acting(stack: Stack) -> int:
    """The process id of the sweep that acts."""
    (row,) = stack.ledger("SELECT value FROM installation WHERE key = 'sweep'")
    return int(str(json.loads(row["value"])).rsplit("-", 2)[1])


def test_a_request_nobody_heard_is_found_and_of_two_sweeps_one_acts(impatient: Stack) -> None:
    shop = impatient
    shop.kill("sweep")
    first, again = one(shop, Provisioning_Status__c="Requested"), one(shop, Provisioning_Status__c="Requested")
    shop.child("sweep").start()
    second = another(shop, "sweep")
    for order in (first, again):
        shop.wait_for(lambda order=order: shop.fulfillment(order), f"{order} to be found", 60)
        provisioned(shop, order)
        found = shop.ledger("SELECT kind FROM events WHERE subject = ? AND kind = 'request_found'", order)
        assert len(found) == 1
        assert len(whmcs_orders(shop, order)) == 1
    by_pid = {shop.child("sweep").pid: "sweep", second.pid: "sweep2"}
    acts = by_pid[acting(shop)]
    other = next(name for name in by_pid.values() if name != acts)
    assert len(logged(shop, "This sweep acts now", acts)) >= 1
    assert other != "sweep2" or logged(shop, "This sweep acts now", other) == []
    # The one that acts is stopped; the other takes its place and looks for requests; woken, the first stands by.
    last = one(shop, Provisioning_Status__c="Requested")
    shop.pause(acts)
    try:
        provisioned(shop, last)
        assert by_pid[acting(shop)] == other
    finally:
        shop.resume(acts)
    shop.wait_for(lambda: logged(shop, "This sweep was declared dead: it starts anew", acts), "the first to notice")
    time.sleep(1)  # rounds of both: had it acted again, it would have said so
    assert by_pid[acting(shop)] == other


def test_nothing_secret_or_personal_is_told_anywhere(shop: Stack) -> None:
    check_nothing_told(shop)
