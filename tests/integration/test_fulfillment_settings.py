"""Orders under the settings that change what becomes of them: new clients, gateways without a card, Salesforce's
prices, and the mark in a product custom field where WHMCS drops an order's notes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.seeds import MARKER_CUSTOM_FIELD
from tests.fulfilling import (
    calls_of,
    check_failure,
    check_nothing_told,
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


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {
        "WHMCS_CREATE_CLIENTS": "1",
        "WHMCS_INVOICE_GATEWAYS": "mailin,banktransfer",
        "WHMCS_PRICE_SOURCE": "salesforce",
        "WHMCS_MARKER_CUSTOM_FIELD": MARKER_CUSTOM_FIELD,
        "SF_UNFULFILLABLE_STATUSES": "Draft",
        "WHMCS_MAX_REQUEST_SECONDS": "2",
    }
    with Stack(tmp_path_factory.mktemp("settings"), settings=settings) as running:
        yield running


def test_salesforces_prices_are_what_whmcs_charges(shop: Stack) -> None:
    order = one(shop, "starter", ("server", 2))
    rows = [row for row in shop.salesforce.get("state", objects="OrderItem")["OrderItem"] if row["OrderId"] == order]
    starter = next(row for row in rows if row["Product2Id"] == shop.ids["product:starter"])
    shop.salesforce.post("seed", {"update": [{"type": "OrderItem", "Id": starter["Id"], "UnitPrice": 3.5}]})
    since = shop.whmcs.last()
    assert shop.fulfill(order).status == 200
    active = provisioned(shop, order)
    (call,) = calls_of(shop.whmcs, since, "AddOrder")
    assert sorted(map(float, call["params"]["priceoverride"].values())) == [3.5, 15.0]
    assert active["amount"] == "33.50"
    assert sorted(s["firstpaymentamount"] for s in whmcs_services(shop, active["id"])) == ["15.00", "15.00", "3.50"]


def test_the_mark_is_in_the_notes_and_in_each_products_own_field(shop: Stack) -> None:
    order = one(shop, "starter", "business", "support")  # the last has no such field
    assert shop.fulfill(order).status == 200
    active = provisioned(shop, order)
    assert active["notes"] == f"sfOrderId={order}"
    products = {row["id"]: row for row in shop.whmcs.get("state", objects="products")["products"]}
    fields = {}
    for service in whmcs_services(shop, active["id"]):
        names = {str(field["id"]): field["name"] for field in products[service["pid"]]["customfields"]}
        fields[service["name"]] = {names[key]: value for key, value in service["customfields"].items()}
    mark = {MARKER_CUSTOM_FIELD: f"sfOrderId={order}"}
    assert fields == {"Starter Hosting": mark, "Business Hosting": mark, "Priority Support": {}}


def test_where_notes_are_dropped_the_field_tells_whose_an_order_is(shop: Stack) -> None:
    shop.whmcs.post("settings", {"notes": "dropped"})
    try:
        made, lost = one(shop), one(shop)
        shop.whmcs.fault("drop_after", action="AddOrder", order=made)
        shop.whmcs.fault("drop_before", action="AddOrder", order=lost)
        for order in (made, lost):
            assert shop.fulfill(order, prefer="respond-async").status == 202
        for order in (made, lost):
            provisioned(shop, order)
            assert statuses(shop, order) == ["Active"]
        assert (sends(shop, made, "AddOrder"), sends(shop, lost, "AddOrder")) == (1, 2)
    finally:
        shop.whmcs.post("settings", {"notes": "stored"})


def test_a_client_is_made_where_whmcs_has_none(shop: Stack) -> None:
    who, _ = customer(shop, client=False, mapped=False)
    order = shop.order("starter", customer=who)
    # The new client has no stored card and no default gateway yet: a person has to see to that.
    assert shop.fulfill(order).status == 409
    check_failure(shop, order, "PAYMENT_METHOD_MISSING")
    (client,) = [
        row
        for row in shop.whmcs.get("state", objects="clients")["clients"]
        if row["email"] == f"{who}@customers.example"
    ]
    assert (client["firstname"], client["lastname"], client["city"], client["country"]) == (
        who,
        "Test",
        "Springfield",
        "US",
    )
    account = shop.ids[f"account:{who}"]
    shop.wait_for(
        lambda: any(
            row["Id"] == account and row["WHMCS_Client_ID__c"] == str(client["id"])
            for row in shop.salesforce.get("state", objects="Account")["Account"]
        )
    )
    shop.whmcs.post("seed", {"paymethods": [{"userid": client["id"]}]})
    assert shop.fulfill(order).status == 200
    assert provisioned(shop, order)["userid"] == client["id"]


def test_a_client_whose_making_got_lost_is_found_not_made_twice(shop: Stack) -> None:
    who, _ = customer(shop, client=False, mapped=False)
    shop.whmcs.fault("drop_after", action="AddClient", contains=who)
    order = shop.order("starter", customer=who)
    shop.fulfill(order)
    check_failure(shop, order, "PAYMENT_METHOD_MISSING")
    assert (
        len(
            [
                row
                for row in shop.whmcs.get("state", objects="clients")["clients"]
                if row["email"] == f"{who}@customers.example"
            ]
        )
        == 1
    )


def test_no_client_is_made_while_paused(shop: Stack) -> None:
    who, _ = customer(shop, client=False, mapped=False)
    order = shop.order("starter", customer=who)
    shop.whmcs.fault("pause_point", action="GetClientsDetails", contains=who, seconds=1.5)
    assert shop.fulfill(order, prefer="respond-async").status == 202
    held = shop.whmcs.wait_for_call(action="GetClientsDetails", state="held")
    command(shop, "fulfillments", "pause", "--why", "maintenance")
    shop.whmcs.post("release", {"call": held["id"]})
    try:
        assert "paused" in until(shop, order, lambda row: row["state"] == "waiting")["waiting_for"]
        assert not [row for row in shop.whmcs.get("state", objects="clients")["clients"] if who in row["email"]]
    finally:
        command(shop, "fulfillments", "resume")
    check_failure(shop, order, "PAYMENT_METHOD_MISSING")
    assert len([row for row in shop.whmcs.get("state", objects="clients")["clients"] if who in row["email"]]) == 1


def test_a_client_of_a_gateway_that_sends_invoices_needs_no_card(shop: Stack) -> None:
    since = shop.whmcs.last()
    order = one(shop, about={"card": False, "defaultgateway": "mailin"})
    assert shop.fulfill(order).status == 200
    provisioned(shop, order)
    (call,) = calls_of(shop.whmcs, since, "AddOrder")
    assert call["params"]["paymentmethod"] == "mailin"
    without = one(shop, about={"card": False, "defaultgateway": "stripe"})
    assert shop.fulfill(without).status == 409
    check_failure(shop, without, "PAYMENT_METHOD_MISSING")


def test_which_statuses_arent_fulfilled_is_a_setting(shop: Stack) -> None:
    who, _ = customer(shop)
    draft = shop.order("starter", customer=who, status="Draft")
    assert shop.fulfill(draft).json()["code"] == "order_not_fulfillable"
    rejected = shop.order("starter", customer=who, status="Rejected")
    assert shop.fulfill(rejected).status == 200
    assert len(whmcs_orders(shop, rejected)) == 1


def test_nothing_secret_or_personal_is_told_anywhere(shop: Stack) -> None:
    assert logged(shop, "Order provisioned", "worker")
    check_nothing_told(shop)
