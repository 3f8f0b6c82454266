"""A customer's way through the running portal: from signing in to Provisioned, and every way it may go instead."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from portal.customers.salesforce_sync import sync_changes
from sandbox.visitor import Visitor
from tests import customers
from tests.customers import (
    email_of,
    fill_basket,
    follow,
    in_salesforce,
    last_mail,
    link_in,
    mails_to,
    place_order,
    poll_address,
    salesforce_id,
    sign_in,
    take_payment_methods,
)
from tests.stack import Stack, http

HTMX = {"HX-Request": "true"}


def test_from_the_sign_in_to_provisioned(stack: Stack) -> None:
    portal = stack.urls["portal"]
    since = last_mail(stack)
    with Visitor() as ada:
        sign_in(stack, ada)
        reference = place_order(stack, ada, "starter", "support")
        page = ada.get(f"{portal}/orders/{reference}")
        assert "In review" in page.text  # customers' word for Pending Review
        assert reference in page.text
        order = salesforce_id(stack, reference)
        kept = stack.salesforce_order(order)
        assert (kept["Status"], kept["Portal_Reference__c"]) == ("Pending Review", reference)
        assert stack.press_button(order)["status"] == 200
        done = follow(stack, ada, reference, "Your order is ready")
        assert not poll_address(done), "the page still asks although nothing more happens"
        told = ada.get(f"{portal}/api/orders/{order}")
        for name in (order[:15], reference, reference.lower()):
            assert ada.get(f"{portal}/api/orders/{name}").body == told.body
        document = customers_json(told.body)
        assert document["orderId"] == order
        assert document["status"] == "Provisioned"
        assert document["final"] is True
        assert [stage["state"] for stage in document["stages"]] == ["done"] * 5
        assert all(stage["at"] for stage in document["stages"])
        assert document["updatedAt"].endswith("Z")
    subjects = [mail["subject"] for mail in mails_to(stack, email_of("ada"), subject="is ready", wait=30, since=since)]
    assert subjects == [f"Your order {reference} is ready"]
    received = mails_to(stack, email_of("ada"), subject="We have your order", since=since)
    assert [mail["subject"] for mail in received] == [f"We have your order {reference}"]


def head_size(headers: Mapping[str, str]) -> int:
    """Bytes of an answer's status line and headers on the wire."""
    return len("HTTP/1.1 204 No Content\r\n\r\n") + sum(len(f"{name}: {value}\r\n") for name, value in headers.items())


def customers_json(body: bytes) -> dict[str, object]:
    document = json.loads(body)
    assert set(document) == {
        "orderId",
        "reference",
        "status",
        "message",
        "stages",
        "final",
        "createdAt",
        "updatedAt",
    }
    return dict(document)


def test_an_unchanged_poll_is_small_and_asks_nobody(stack: Stack) -> None:
    with Visitor() as ada:
        sign_in(stack, ada)
        reference = place_order(stack, ada)
        salesforce_id(stack, reference)
        page = ada.get(f"{stack.urls['portal']}/orders/{reference}")
        poll = poll_address(page)
        assert urlsplit(poll).path.endswith(f"/orders/{reference}/status")
        before = stack.salesforce.last(), stack.whmcs.last()
        for _ in range(10):
            answer = ada.get(poll, HTMX)
            assert answer.status == 204
            assert answer.body == b""
            assert head_size(answer.headers) <= 400, answer.headers
            assert "set-cookie" not in answer.headers
            assert answer.headers["cache-control"] == "no-store"
        asked = [entry for entry in stack.salesforce.journal(since=before[0]) if reference in str(entry)]
        assert asked == []
        assert [entry for entry in stack.whmcs.journal(since=before[1]) if entry["direction"] == "in"] == []
        changed = ada.get(poll.split("?")[0] + "?v=older", HTMX)
        assert changed.status == 200
        assert 'id="progress"' in changed.html
        assert "<html" not in changed.html


def test_the_order_page_is_light(stack: Stack) -> None:
    with Visitor() as ada:
        sign_in(stack, ada)
        reference = place_order(stack, ada, "starter", "support")
        page = ada.get(f"{stack.urls['portal']}/orders/{reference}")
        addresses = re.findall(r'(?:href|src)="(/[^"]+\.(?:css|js|svg)[^"]*)"', page.html)
        assert len(addresses) == 4, addresses
        size = len(page.body) + head_size(page.headers)
        for address in addresses:
            asset = ada.get(stack.urls["portal"] + address)
            assert asset.status == 200
            assert "max-age=31536000" in asset.headers["cache-control"]
            size += len(asset.body) + head_size(asset.headers)
        assert size <= 30_000, size


# --- placed exactly once ------------------------------------------------------------------------------------


def test_a_form_sent_many_times_at_once_is_one_order(stack: Stack) -> None:
    with Visitor() as ada:
        sign_in(stack, ada)
        fill_basket(stack, ada, "starter")
        form = ada.get(f"{stack.urls['portal']}/checkout").form("/checkout")
        cookies = "; ".join(f"{k}={v}" for k, v in ada._cookies[urlsplit(form.action).netloc].items())
        body = urlencode(form.fields).encode()
        headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: http("POST", form.action, body, headers), range(8)))
        places = {answer.headers["location"] for answer in answers}
        assert {answer.status for answer in answers} == {303}
        assert len(places) == 1
        reference = places.pop().split("/orders/")[1].split("/")[0]
        salesforce_id(stack, reference)
        # The back button, later: the same form leads to the same order.
        again = ada.submit(form)
        assert customers.reference_of(again) == reference
        placed = stack.ledger("SELECT reference FROM orders WHERE reference = ?", reference)
        assert len(placed) == 1
        assert len(in_salesforce(stack, reference)) == 1
        assert "Your basket is empty" in ada.get(f"{stack.urls['portal']}/basket").text


def test_a_changed_basket_is_shown_again_before_it_is_ordered(stack: Stack) -> None:
    with Visitor() as ada:
        sign_in(stack, ada)
        fill_basket(stack, ada, "support")
        form = ada.get(f"{stack.urls['portal']}/checkout").form("/checkout")
        fill_basket(stack, ada, "support")
        page = ada.submit(form)
        assert "have changed since you last looked" in page.text
        placed = ada.submit(page.form("/checkout"))
        assert urlsplit(placed.url).path.endswith("/placed")


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_after"},  # done, but nobody said so
        {"kind": "drop_before"},
        {"kind": "error", "status": 503},
        {"kind": "late_commit", "seconds": 1.5},  # done long after the connection was gone
    ],
    ids=lambda fault: str(fault["kind"]),
)
def test_an_answer_that_got_lost_makes_no_second_order(stack: Stack, fault: dict[str, Any]) -> None:
    with Visitor() as ada:
        sign_in(stack, ada)
        fill_basket(stack, ada, "starter")
        since = stack.salesforce.last()
        stack.salesforce.fault(action="tree:Order", count=1, **fault)
        reference = place_order(stack, ada)
        salesforce_id(stack, reference)
        sent = stack.salesforce.journal(action="tree:Order", since=since)
        assert any(entry["fault"] for entry in sent), "the fault never struck"
        stack.wait_for(
            lambda: all(
                entry["answered"] or entry["state"] in ("dropped", "gone", "effect")
                for entry in stack.salesforce.journal(action="tree:Order", since=since)
            )
        )
        assert len(in_salesforce(stack, reference)) == 1


def test_the_order_is_there_while_salesforce_is_away(own_stack: Stack) -> None:
    own_stack.start()
    portal = own_stack.urls["portal"]
    with Visitor() as ada:
        sign_in(own_stack, ada)
        fill_basket(own_stack, ada, "starter")
        own_stack.kill("salesforce")
        reference = place_order(own_stack, ada, "starter")
        page = ada.get(f"{portal}/orders/{reference}")
        assert "passing it on to our team" in page.text
        assert ada.get(f"{portal}/").status == 200, "the catalogue is shown from what is known"
        own_stack.restart("web")
        assert ada.get(f"{portal}/").status == 200, "…also by a process that never read it itself"
        own_stack.restart("salesforce")
        salesforce_id(own_stack, reference)
        assert len(in_salesforce(own_stack, reference)) == 1
        follow(own_stack, ada, reference, "We’re checking your order")


def test_a_definite_refusal_is_said_plainly(stack: Stack) -> None:
    with Visitor() as ada:
        sign_in(stack, ada)
        stack.salesforce.fault(
            "record_error",
            action="tree:Order",
            record="order",
            code="FIELD_CUSTOM_VALIDATION_EXCEPTION",
            message="No orders from this country",
        )
        reference = place_order(stack, ada)
        page = follow(stack, ada, reference, "We couldn’t take this order")
        assert "you haven’t been charged" in page.text
        assert not poll_address(page)
        assert "country" not in page.text
        assert "EXCEPTION" not in page.text
        assert in_salesforce(stack, reference) == []


def test_a_refusal_of_our_access_is_not_the_customers(stack: Stack) -> None:
    with Visitor() as ada:
        sign_in(stack, ada)
        stack.salesforce.fault("INSUFFICIENT_ACCESS", action="tree:Order", count=1)
        reference = place_order(stack, ada)
        salesforce_id(stack, reference)
        assert len(in_salesforce(stack, reference)) == 1


# --- withdrawing --------------------------------------------------------------------------------------------


def test_withdrawing_while_in_review_reaches_salesforce_and_stops_the_button(stack: Stack) -> None:
    with Visitor() as ada:
        sign_in(stack, ada)
        reference = place_order(stack, ada)
        order = salesforce_id(stack, reference)
        ask = ada.get(f"{stack.urls['portal']}/orders/{reference}/withdraw")
        page = ada.submit(ask.form("/withdraw"))
        assert "You withdrew this order" in page.text
        assert not poll_address(page)
        stack.wait_for(
            lambda: stack.salesforce_order(order)["Provisioning_Status__c"] == "Cancelled", "Salesforce to be told"
        )
        assert stack.press_button(order)["status"] != 200
        assert "You withdrew this order" in ada.get(f"{stack.urls['portal']}/orders/{reference}").text
        ours = [row for row in stack.whmcs.get("state", objects="orders")["orders"] if order in row["notes"]]
        assert ours == [], "a withdrawn order got into WHMCS"


def test_what_is_being_set_up_can_no_longer_be_withdrawn(stack: Stack) -> None:
    with Visitor() as ada:
        sign_in(stack, ada)
        reference = place_order(stack, ada)
        order = salesforce_id(stack, reference)
        form = ada.get(f"{stack.urls['portal']}/orders/{reference}/withdraw").form("/withdraw")
        assert stack.press_button(order)["status"] == 200
        page = ada.submit(form)
        assert "can’t be withdrawn any more" in page.text
        assert "Your order is ready" in page.text


# --- a payment method is missing ----------------------------------------------------------------------------


def test_a_missing_payment_method_is_added_and_the_order_goes_on(stack: Stack) -> None:
    take_payment_methods(stack, 2)
    with Visitor() as grace:
        sign_in(stack, grace, "grace")
        reference = place_order(stack, grace, "support")
        order = salesforce_id(stack, reference)
        since = last_mail(stack)
        assert stack.press_button(order)["status"] == 409
        page = follow(stack, grace, reference, "Add a payment method to go on")
        needs = mails_to(stack, email_of("grace"), subject="needs a payment method", wait=30, since=since)
        assert len(needs) == 1
        not_yet = grace.submit(page.form("/resume"))
        assert "We can’t see a payment method on your account yet" in not_yet.text
        inside = grace.submit(page.form("/payment-method"))
        assert inside.url.startswith(stack.urls["whmcs"]), inside.url
        assert inside.status == 200, inside.url
        stack.whmcs.post("seed", {"paymethods": [{"userid": 2}]})
        resumed = grace.submit(page.form("/resume"))
        assert "payment method to go on" not in resumed.text
        follow(stack, grace, reference, "Your order is ready")
        assert len(mails_to(stack, email_of("grace"), subject="needs a payment", since=since)) == 1


# --- learnt from Salesforce ---------------------------------------------------------------------------------


def test_orders_of_other_channels_and_rejections_are_learnt_in_bulk(stack: Stack) -> None:
    elsewhere = [stack.order(("business", 2), customer="ada") for _ in range(3)]
    quote = stack.order("starter", customer="ada", status="Draft")
    others = stack.order("starter", customer="grace")
    with Visitor() as ada, customers.application(stack) as app:
        sign_in(stack, ada)
        reference = place_order(stack, ada)
        mine = salesforce_id(stack, reference)
        stack.salesforce.post(
            "seed",
            {
                "update": [
                    {"type": "Order", "Id": mine, "Status": "Rejected"},
                    {"type": "Order", "Id": elsewhere[0], "Status": "Cancelled"},
                ]
            },
        )
        before = stack.salesforce.last()
        sync_changes(app.extensions["portal"].services)
        calls = [entry for entry in stack.salesforce.journal(since=before) if entry["action"] == "query"]
        assert len(calls) == 1, "one query for all of them"
        listed = ada.get(f"{stack.urls['portal']}/orders").text
        assert listed.count("Business Hosting × 2 ") == 3, listed
        assert reference in listed, listed
        assert quote not in listed
        assert others not in listed
        assert "We couldn’t accept this order" in ada.get(f"{stack.urls['portal']}/orders/{reference}").text
        assert "This order was cancelled" in ada.get(f"{stack.urls['portal']}/orders/{elsewhere[0]}").text
        assert "checking your order" in ada.get(f"{stack.urls['portal']}/orders/{elsewhere[1][:15]}").text
        assert ada.get(f"{stack.urls['portal']}/orders/{others}").status == 404
        rejected = ada.get(f"{stack.urls['portal']}/orders?status=cancelled").text
        assert reference in rejected
        assert rejected.count("Business Hosting × 2 ") == 1


# --- links to one order -------------------------------------------------------------------------------------


def test_a_mailed_link_opens_that_order_alone_and_leaves_the_address_bar(stack: Stack) -> None:
    since = last_mail(stack)
    with Visitor() as ada:
        sign_in(stack, ada)
        reference, other = place_order(stack, ada), place_order(stack, ada)
    mail = mails_to(stack, email_of("ada"), subject=reference, wait=30, since=since)[-1]
    portal = stack.urls["portal"]
    with Visitor() as somebody:
        page = somebody.get(link_in(mail, "/o/"))
        assert page.url == f"{portal}/orders/{reference}"
        assert page.status == 200
        assert somebody.get(poll_address(page), HTMX).status in (200, 204)
        assert somebody.get(f"{portal}/api/orders/{reference}").status == 200
        assert urlsplit(somebody.get(f"{portal}/orders/{other}").url).path == "/sign-in"
        assert somebody.get(f"{portal}/api/orders/{other}").status == 401
        assert urlsplit(somebody.get(f"{portal}/orders").url).path == "/sign-in"
