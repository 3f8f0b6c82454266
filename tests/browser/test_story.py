"""The customer's stories in a real browser, against the running stack: the good one and those that go another way."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from flask import Flask
from playwright.sync_api import Route

from portal.web.security_headers import HTMX_INTEGRITY
from tests.browser.conftest import HTMX, Tab, Visit
from tests.customers import (
    email_of,
    in_salesforce,
    last_mail,
    link_in,
    mails_to,
    make_session,
    salesforce_id,
    take_payment_methods,
)
from tests.stack import Stack

pytestmark = pytest.mark.browser

POLL = 5.0


def sign_in_by_mail(tab: Tab, stack: Stack, customer: str = "ada") -> None:
    since = last_mail(stack)
    tab.go("/sign-in")
    tab.page.get_by_label("Your e-mail address").fill(email_of(customer))
    tab.page.get_by_role("button", name="E-mail me a link").click()
    tab.waits_for("Check your e-mail")
    mail = mails_to(stack, email_of(customer), subject="Sign in", wait=30, since=since)[-1]
    tab.page.goto(link_in(mail, "/sign-in/link/"))
    tab.page.get_by_role("button", name="Sign in").click()
    tab.page.wait_for_url("**/orders")


def add(tab: Tab, stack: Stack, product: str, **boxes: str) -> None:
    tab.go("/")
    entry = tab.page.locator(f"input[value='{stack.ids[f'entry:{product}']}']")
    card = tab.page.locator(".product", has=entry)
    for name, value in boxes.items():
        card.locator(f"input[name={name}]").fill(value)
    card.get_by_role("button").click()
    tab.page.wait_for_url("**/basket")


def place(tab: Tab) -> str:
    """From the basket to the order's page; returns the reference."""
    tab.page.get_by_role("link", name="Review your order").click()
    tab.page.get_by_role("button", name="Place order").click()
    tab.waits_for("Order received")
    tab.page.get_by_role("link", name="Follow your order").click()
    tab.waits_for("What you ordered")
    return urlsplit(tab.page.url).path.rsplit("/", 1)[1]


def polls(tab: Tab, reference: str) -> list[str]:
    return [each for each in tab.asked if each == f"GET /orders/{reference}/status"]


def new_order(tab: Tab, stack: Stack, product: str = "support") -> tuple[str, str]:
    """An order of a signed-in tab, on its page; reference and Salesforce id."""
    add(tab, stack, product)
    reference = place(tab)
    return reference, salesforce_id(stack, reference)


def test_from_sign_in_to_provisioned(visit: Visit, stack: Stack) -> None:
    """The page follows the order by itself, asks for nothing but its poll, speaks once a stage, and stops."""
    with visit() as tab:
        sign_in_by_mail(tab, stack)
        add(tab, stack, "starter", domain="ada.example.com")
        add(tab, stack, "server", hostname="one.example.com, two.example.com")
        reference = place(tab)
        assert tab.page.get_by_text("In review").count() == 1  # customers' word for Pending Review
        order = salesforce_id(stack, reference)
        tab.waits_for("We’re checking your order")
        assert tab.page.title().startswith(f"In review: order {reference} – ")
        tab.page.evaluate("window.stillHere = true")
        asked = len(tab.asked)
        with tab.page.expect_response(f"**/orders/{reference}/status**") as unchanged:
            pass
        assert unchanged.value.status == 204
        assert set(tab.asked[asked:]) == {f"GET /orders/{reference}/status"}
        stack.press_button(order, background=True)
        tab.waits_for("Your order is ready")
        assert tab.page.evaluate("window.stillHere") is True, "the page was loaded anew"
        assert tab.page.locator("#spoken").inner_text() == "Ready. Your order is ready"
        assert tab.page.title().startswith(f"Ready: order {reference} – ")
        assert tab.page.locator(".stage-done").count() == 5
        made = tab.page.locator("ul.made").inner_text()
        assert "ada.example.com" in made
        assert made.count("Cloud Server S") == 2
        assert "two.example.com" in made
        assert tab.page.locator("[hx-get]").count() == 0
        count = len(polls(tab, reference))
        tab.page.wait_for_timeout(1000 * (POLL + 2))  # nothing may happen: there is no condition to wait for
        assert len(polls(tab, reference)) == count
        with tab.page.expect_request(lambda request: request.url.startswith(stack.urls["whmcs"])):
            tab.page.get_by_role("button", name="Manage your services").click()


def test_the_polls_interval_is_five_seconds(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack)) as tab:
        reference, _ = new_order(tab, stack)
        tab.waits_for("We’re checking your order")
        moments = []
        for _ in range(3):
            with tab.page.expect_request(f"**/orders/{reference}/status**"):
                pass
            moments.append(time.monotonic())
        assert 3.5 < (moments[-1] - moments[0]) / 2 < 9


def test_a_missing_payment_method_is_added_on_the_way(visit: Visit, stack: Stack, app: Flask) -> None:
    take_payment_methods(stack, 2)
    with visit(session=make_session(app, stack, "grace")) as tab:
        _, order = new_order(tab, stack)
        stack.press_button(order, background=True)
        tab.waits_for("Add a payment method to go on")
        assert "PAYMENT_METHOD_MISSING" not in tab.page.content()
        assert "WHMCS" not in tab.text()
        tab.page.get_by_role("button", name="I’ve added it").click()
        tab.waits_for("We can’t see a payment method on your account yet")
        tab.page.get_by_role("button", name="Add a payment method").click()
        tab.page.wait_for_url(f"{stack.urls['whmcs']}/**")
        stack.whmcs.post("seed", {"paymethods": [{"userid": 2}]})
        tab.page.go_back()
        button = tab.page.get_by_role("button", name="I’ve added it")
        if button.count():  # WHMCS' own event may have been quicker
            button.click()
        tab.waits_for("Your order is ready")


def test_what_cannot_be_set_up_is_said_without_codes(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack)) as tab:
        _, order = new_order(tab, stack)
        stack.whmcs.fault(
            "error",
            action="AddOrder",
            count=0,
            status=200,
            body={"result": "error", "message": "Unable to add order when client status is Closed"},
        )
        try:
            stack.press_button(order, background=True)
            tab.waits_for("There is a problem with your order")
        finally:
            stack.whmcs.clear_faults()
        words = tab.text()
        assert "Our team has been told" in words
        assert "You don’t need to order again" in words
        assert not re.search(r"[A-Z]+_[A-Z]+|client status|WHMCS|Salesforce", words), words
        assert stack.salesforce_order(order)["Provisioning_Error_Code__c"] == "WHMCS_ADD_ORDER_FAILED"


@pytest.mark.parametrize("cdn", ["blocked", "changed"])
def test_the_page_follows_without_the_cdn(visit: Visit, stack: Stack, app: Flask, cdn: str) -> None:
    """Its host blocked, or its file not the one promised: never run, and the order is followed all the same."""
    with visit(session=make_session(app, stack), cdn=cdn, complaints=True) as tab:
        _, order = new_order(tab, stack)
        assert tab.page.evaluate("typeof window.htmx") == "undefined"
        stack.press_button(order, background=True)
        tab.waits_for("Your order is ready")
        assert tab.page.locator(".stage-done").count() == 5
        wanted = {"blocked": "ERR_FAILED", "changed": "integrity"}[cdn]
        assert tab.complaints, "the browser says so"
        assert all(wanted in complaint for complaint in tab.complaints), f"none of our own: {tab.complaints}"


def test_the_file_is_the_one_the_template_promises() -> None:
    found = base64.b64encode(hashlib.sha384(HTMX.read_bytes()).digest()).decode()
    assert f"sha384-{found}" == HTMX_INTEGRITY


def test_the_page_follows_without_javascript(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack), java_script_enabled=False) as tab:
        _, order = new_order(tab, stack)
        stack.press_button(order, background=True)
        tab.waits_for("Your order is ready", seconds=60)
        assert tab.page.locator("meta[http-equiv=refresh]").count() == 0, "it still reloads"
        assert "UTC" in tab.page.locator(".stage-when").first.inner_text()


def test_a_poll_that_fails_keeps_the_page_and_says_how_old_it_is(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack), complaints=True) as tab:
        _, order = new_order(tab, stack)
        stale = tab.page.locator("#stale")
        for status in (503, 429, 0):
            assert stale.is_hidden()
            tab.context.route("**/status?*", failing(status))
            stale.wait_for(state="visible")
            assert "We can’t reach our server just now" in stale.inner_text()
            assert re.search(r"\d\d:\d\d", stale.inner_text())
            assert "checking your order" in tab.text()
            assert "Boom" not in tab.text()
            assert tab.page.locator("#spoken").inner_text() == ""
            tab.context.unroute("**/status?*")
            stale.wait_for(state="hidden")
        tab.context.set_offline(True)
        stale.wait_for(state="visible")
        stack.press_button(order)
        tab.context.set_offline(False)
        tab.waits_for("Your order is ready")


def failing(status: int) -> Callable[[Route], None]:
    """Answers with an error, or with nothing at all."""
    return lambda route: route.fulfill(status=status, body="<h1>Boom</h1>") if status else route.abort()


def test_an_ended_session_leads_to_sign_in_as_a_whole_page(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack), complaints=True) as tab:
        new_order(tab, stack)
        tab.context.clear_cookies(name="portal_session")
        tab.page.wait_for_url("**/sign-in")
        assert tab.page.locator("h1").all_inner_texts() == ["Sign in"]


def test_a_hidden_tab_rests_and_a_shown_one_asks_at_once(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack)) as tab:
        tab.page.add_init_script(
            "Object.defineProperty(Document.prototype, 'hidden', {get: () => Boolean(window.away)})"
        )
        reference, order = new_order(tab, stack)
        tab.waits_for("We’re checking your order")
        tab.page.evaluate("window.away = true; document.dispatchEvent(new Event('visibilitychange'))")
        count = len(polls(tab, reference))
        tab.page.wait_for_timeout(1000 * (2 * POLL + 1))  # nothing may happen: there is no condition to wait for
        assert len(polls(tab, reference)) == count
        stack.press_button(order)
        with tab.page.expect_request(f"**/orders/{reference}/status**"):
            tab.page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
        tab.waits_for("Your order is ready")


def test_a_double_click_is_one_order(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack)) as tab:
        add(tab, stack, "support")
        tab.go("/checkout")
        tab.page.get_by_role("button", name="Place order").dblclick()
        tab.waits_for("Order received")
        reference = urlsplit(tab.page.url).path.split("/")[2]
        salesforce_id(stack, reference)
        assert len(in_salesforce(stack, reference)) == 1
        tab.page.go_back()
        again = tab.page.get_by_role("button", name="Place order")
        if again.count():
            again.click()
            tab.waits_for("Order received")
            assert reference in tab.page.url
        else:
            assert "basket is empty" in tab.text()


def test_withdrawing(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack), width=390) as tab:
        new_order(tab, stack)
        tab.page.get_by_role("link", name="Withdraw this order").click()
        tab.page.get_by_role("button", name="Withdraw order").click()
        tab.waits_for("You withdrew this order")


def test_the_whole_way_with_the_keyboard_alone(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack)) as tab:
        tab.go("/")
        tab.page.keyboard.press("Tab")
        assert tab.page.evaluate("document.activeElement.className") == "skip"
        tab.page.keyboard.press("Enter")
        reach(tab, "Quantity of Priority Support")
        tab.page.keyboard.type("2")
        reach(tab, "Add to basket: Priority Support")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**/basket")
        reach(tab, "Review your order")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**/checkout")
        reach(tab, "Place order")
        tab.page.keyboard.press("Enter")
        tab.waits_for("Order received")
        assert "2 × US$90.00 every 6 months" in tab.text()
        assert "then US$180.00 every 6 months" in tab.text()
        reach(tab, "Follow your order")
        tab.page.keyboard.press("Enter")
        tab.waits_for("In review")
        reach(tab, "Withdraw this order")


def reach(tab: Tab, name: str) -> None:
    """Press Tab until the element of that name has the focus, which must be seen."""
    script = """() => {
        const element = document.activeElement;
        const label = element.labels && element.labels.length ? element.labels[0] : element;
        return [element.ariaLabel || label.textContent.trim(), getComputedStyle(element).outlineStyle];
    }"""
    seen = []
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        text, outline = tab.page.evaluate(script)
        if text == name:
            assert outline != "none", f"{name} has the focus, but nobody can see it"
            return
        seen.append(text)
    raise AssertionError(f"Tab never reached {name!r}: {seen}")


def test_dark_mode_paper_and_brand(visit: Visit, stack: Stack, app: Flask) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with visit(session=make_session(app, stack), scheme="dark") as tab:
        tab.go("/orders")
        assert tab.page.evaluate(background) == "rgb(17, 20, 24)"
        tab.page.emulate_media(media="print", color_scheme="light")
        assert tab.page.evaluate(background) == "rgb(255, 255, 255)"
        assert tab.page.locator("header nav").is_hidden()
        assert tab.page.locator(".brand").is_visible()


def test_times_are_the_readers_own(visit: Visit, stack: Stack, app: Flask) -> None:
    with visit(session=make_session(app, stack)) as tab:
        new_order(tab, stack)
        time_of = tab.page.locator("time").first
        moment = time_of.get_attribute("datetime") or ""
        hour = (int(moment[11:13]) + (1 if moment[5:7] in ("11", "12", "01", "02") else 2)) % 24
        assert f"{hour:02d}:{moment[14:16]}" in time_of.inner_text()
