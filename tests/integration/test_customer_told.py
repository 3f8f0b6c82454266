"""Customers are told at every turn: withdrawn, rejected, cancelled, signed in and out; and what they may do next."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.customers.catalogue import CatalogueCache, CatalogueUnavailable
from portal.customers.salesforce_sync import sync_changes
from portal.customers.visitor import ACCOUNT_COOKIE
from portal.ledger import orders, sessions
from portal.ledger.schema import orders as orders_table
from portal.services import Services
from portal.web.context import portal_of
from portal.web.signing import Links
from sandbox.visitor import Visitor
from tests.customers import (
    SITUATIONS,
    application,
    email_of,
    last_mail,
    mails_to,
    make_order,
    make_session,
    place_order,
    salesforce_id,
    sign_in,
)
from tests.customers_in_process import base_url, browser, call
from tests.stack import Stack


def services_of(app: Flask) -> Services:
    return portal_of(app).services


# --- mails ----------------------------------------------------------------------------------------------------


def test_a_withdrawal_in_review_is_confirmed_by_mail_once(stack: Stack) -> None:
    since = last_mail(stack)
    with Visitor() as ada:
        sign_in(stack, ada)
        reference = place_order(stack, ada)
        salesforce_id(stack, reference)
        form = ada.get(f"{stack.urls['portal']}/orders/{reference}/withdraw").form("/withdraw")
        ada.submit(form)
        ada.submit(form)
    (mail,) = mails_to(stack, email_of("ada"), subject=f"You withdrew your order {reference}", wait=30, since=since)
    assert "Nothing has been set up" in mail["text"]
    assert "UTC" in mail["text"], "a receipt says when"


@pytest.mark.parametrize(
    ("status", "subject"), [("Rejected", "We couldn’t accept your order"), ("Cancelled", "was cancelled")]
)
def test_an_end_in_salesforce_is_told_by_mail_once(stack: Stack, app: Flask, status: str, subject: str) -> None:
    since = last_mail(stack)
    with Visitor() as ada:
        sign_in(stack, ada)
        reference = place_order(stack, ada)
        order = salesforce_id(stack, reference)
    for words in (status, "Cancelled", status):  # however often Salesforce says so
        stack.salesforce.post("seed", {"update": [{"type": "Order", "Id": order, "Status": words}]})
        sync_changes(services_of(app))
    mails = mails_to(stack, email_of("ada"), subject=reference, wait=30, since=since)
    stack.wait_for(
        lambda: any(
            subject in mail["subject"] for mail in mails_to(stack, email_of("ada"), subject=reference, since=since)
        ),
        "the mail",
    )
    mails = mails_to(stack, email_of("ada"), subject=reference, since=since)
    assert len(mails) == 2, [mail["subject"] for mail in mails]  # with the one that the order was received


def test_who_withdraws_an_order_that_was_placed_elsewhere_gets_the_receipt_that_the_page_promises(
    app: Flask, stack: Stack
) -> None:
    made, email = make_order(app, stack), f"{secrets.token_hex(4)}@told.example"
    with services_of(app).ledger.write() as connection:  # as an order is learnt from Salesforce: with nobody's address
        connection.execute(orders_table.update().where(orders_table.c.reference == made.reference).values(email=None))
    ada = browser(app, **{ACCOUNT_COOKIE: make_session(app, stack, email=email)})
    assert email in call(ada, "GET", f"/orders/{made.reference}/withdraw").text
    call(ada, "POST", f"/orders/{made.reference}/withdraw")
    (mail,) = mails_to(stack, email, wait=30)
    assert mail["subject"] == f"You withdrew your order {made.reference}"


def test_an_end_in_whmcs_is_told_by_mail_once(stack: Stack, app: Flask) -> None:
    email = f"{secrets.token_hex(4)}@told.example"
    made = make_order(app, stack, SITUATIONS["provisioned"], email=email)
    with services_of(app).ledger.write() as connection:
        assert orders.set_cancelled_in_whmcs(connection, made.sf_order_id, now=services_of(app).now())
        assert not orders.set_cancelled_in_whmcs(connection, made.sf_order_id, now=services_of(app).now())
        orders.set_live_again(connection, made.sf_order_id, now=services_of(app).now())
        orders.set_cancelled_in_whmcs(connection, made.sf_order_id, now=services_of(app).now())
    assert [mail["subject"] for mail in mails_to(stack, email, wait=30)] == [
        f"Your order {made.reference} was cancelled"
    ]


# --- signing in and out ----------------------------------------------------------------------------------------


def link_path(app: Flask, stack: Stack, ago: float = 0.0) -> str:
    url = Links(services_of(app).settings).sign_in(
        email="ada@told.example",
        contact_id=None,
        account_id=stack.ids["account:ada"],
        now=services_of(app).now() - ago,
    )
    return urlsplit(url).path


def test_what_happened_is_said(app: Flask, stack: Stack) -> None:
    ada = browser(app)
    assert "Sign in to" not in call(ada, "GET", "/sign-in").text
    call(ada, "GET", "/account")
    assert "it’s only for the customer it belongs to" in call(ada, "GET", "/sign-in").text
    call(ada, "GET", "/checkout")
    assert "Your basket stays as it is" in call(ada, "GET", "/sign-in").text
    back = call(ada, "POST", link_path(app, stack))
    assert back.headers["Location"] == "/checkout"
    assert "You’re signed in as ada@told.example" in call(ada, "GET", "/basket").text
    call(ada, "POST", "/sign-out")
    page = call(ada, "GET", "/")
    assert "You’re signed out." in page.text
    assert "You’re signed out." not in call(ada, "GET", "/").text, "said once"


def test_a_button_pressed_twice_signs_in_also_where_the_first_answer_was_lost(app: Flask, stack: Stack) -> None:
    path = link_path(app, stack)
    ada = browser(app)
    call(ada, "GET", path)
    assert call(ada, "POST", path).status_code == 303
    ada.delete_cookie(ACCOUNT_COOKIE, domain=urlsplit(base_url(app)).hostname or "")  # its Set-Cookie never arrived
    again = call(ada, "POST", path)
    assert again.headers["Location"] == "/orders"
    assert call(ada, "GET", "/orders").status_code == 200
    assert call(browser(app), "POST", path).status_code == 410, "another browser's press"


def test_a_used_link_leads_in_where_it_signed_in_and_nowhere_else(
    app: Flask, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = link_path(app, stack)
    ada = browser(app)
    call(ada, "POST", path)
    monkeypatch.setattr(sessions, "AGAIN_SECONDS", -1.0)  # long afterwards
    for method in ("GET", "POST"):
        assert call(ada, method, path).headers["Location"] == "/orders"
        assert call(browser(app), method, path).status_code == 410
        other = browser(app, **{ACCOUNT_COOKIE: make_session(app, stack, "grace")})
        assert call(other, method, path).status_code == 410
    call(ada, "POST", "/sign-out")
    assert call(ada, "GET", path).status_code == 410, "who signed out stays out"
    over = link_path(app, stack, ago=10_000)
    assert call(browser(app), "POST", over).status_code == 410


# --- order again ------------------------------------------------------------------------------------------------


def test_an_order_that_ended_can_be_ordered_again(app: Flask, stack: Stack) -> None:
    made = make_order(app, stack, SITUATIONS["withdrawn"])
    ada = browser(app, **{ACCOUNT_COOKIE: make_session(app, stack)})
    assert "Order again" in call(ada, "GET", f"/orders/{made.reference}").text
    assert call(ada, "POST", f"/orders/{made.reference}/again").headers["Location"] == "/basket"
    basket = call(ada, "GET", "/basket").text
    assert made.domain in basket
    assert "Cloud Server S" in basket
    call(ada, "POST", f"/orders/{made.reference}/again")
    assert "2 products of that order couldn’t be put into your basket" in call(ada, "GET", "/basket").text
    # Who is told not to order again isn't offered to.
    for situation in ("activating", "late", "payment-method-missing", "failed"):
        going_on = make_order(app, stack, SITUATIONS[situation])
        assert "Order again" not in call(ada, "GET", f"/orders/{going_on.reference}").text, situation


def test_an_order_is_ordered_again_while_there_is_no_catalogue(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> None:
        raise CatalogueUnavailable("nothing known")

    with application(stack) as app:
        app.testing = False  # as in production: a fault would be an answer, not an exception
        made = make_order(app, stack, SITUATIONS["withdrawn"])
        ada = browser(app, **{ACCOUNT_COOKIE: make_session(app, stack)})
        token = form_token(call(ada, "GET", "/account").text)
        monkeypatch.setattr(portal_of(app).part(CatalogueCache), "current", nothing)
        answer = ada.post(f"/orders/{made.reference}/again", base_url=base_url(app), data={"csrf_token": token})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "60"
        assert "We can’t show our products just now" in answer.text


def test_a_button_pressed_after_the_session_ended_leads_back_to_its_page(app: Flask, stack: Stack) -> None:
    made = make_order(app, stack)
    for path, page in (
        ("/checkout", "/checkout"),
        (f"/orders/{made.reference}/withdraw", f"/orders/{made.reference}"),
        (f"/orders/{made.reference}/resume", f"/orders/{made.reference}"),
    ):
        ada = browser(app)
        call(ada, "GET", "/")
        assert urlsplit(call(ada, "POST", path).headers["Location"]).path == "/sign-in"
        assert call(ada, "POST", link_path(app, stack)).headers["Location"] == page, path


# --- withdrawing from the contract -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_withdrawal(stack: Stack) -> Iterator[Flask]:
    with application(stack, WITHDRAWAL="1", BRAND_SUPPORT_EMAIL="shop@told.example") as made:
        yield made


@pytest.mark.parametrize("situation", ["activating", "provisioned", "failed"])
def test_the_contract_may_be_withdrawn_from_once_it_is_past_review(
    with_withdrawal: Flask, stack: Stack, situation: str
) -> None:
    app, email = with_withdrawal, f"{secrets.token_hex(4)}@told.example"
    made = make_order(app, stack, SITUATIONS[situation], email=email)
    ada = browser(app, **{ACCOUNT_COOKIE: make_session(app, stack)})
    assert "Withdraw from contract" in call(ada, "GET", f"/orders/{made.reference}").text
    ask = call(ada, "GET", f"/orders/{made.reference}/withdraw").text
    assert "Confirm withdrawal" in ask
    assert email in ask
    assert "Your name (optional)" in ask
    for _ in range(2):
        token = {"contract": "1", "name": " Ada\nLovelace ", "csrf_token": token_of(ada, app)}
        ada.post(f"/orders/{made.reference}/withdraw", base_url=base_url(app), data=token)
    page = call(ada, "GET", f"/orders/{made.reference}").text
    assert "You withdrew from the contract on" in page
    assert "Withdraw from contract</a>" not in page
    (receipt,) = mails_to(stack, email, wait=30)
    assert f"your withdrawal from order {made.reference}" in receipt["subject"]
    assert "UTC" in receipt["text"]
    assert "Name: Ada Lovelace" in receipt["text"]
    assert "Name: Ada Lovelace" in receipt["html"]
    (told,) = mails_to(stack, "shop@told.example", subject=made.reference, wait=30)
    assert f"Ada Lovelace, {email} withdrew" in told["text"]
    assert made.sf_order_id in told["text"]


def token_of(client: FlaskClient, app: Flask) -> str:
    return form_token(client.get("/", base_url=base_url(app)).text)


def form_token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


def test_in_review_the_function_withdraws_at_once(with_withdrawal: Flask, stack: Stack) -> None:
    made = make_order(with_withdrawal, stack)
    ada = browser(with_withdrawal, **{ACCOUNT_COOKIE: make_session(with_withdrawal, stack)})
    assert "Withdraw from contract" in call(ada, "GET", f"/orders/{made.reference}").text
    assert (
        made.reference
        in call(ada, "GET", f"/orders/{made.reference}/withdraw").text.partition("<main")[2].partition("<form")[0]
    ), "which contract it is"
    call(ada, "POST", f"/orders/{made.reference}/withdraw")
    assert "You withdrew this order" in call(ada, "GET", f"/orders/{made.reference}").text


def test_without_the_setting_there_is_no_such_function(app: Flask, stack: Stack) -> None:
    made = make_order(app, stack, SITUATIONS["provisioned"])
    ada = browser(app, **{ACCOUNT_COOKIE: make_session(app, stack)})
    assert "Withdraw" not in call(ada, "GET", f"/orders/{made.reference}").text
    assert call(ada, "GET", f"/orders/{made.reference}/withdraw").status_code == 303
    data = {"contract": "1", "csrf_token": token_of(ada, app)}
    ada.post(f"/orders/{made.reference}/withdraw", base_url=base_url(app), data=data)
    with services_of(app).ledger.read() as connection:
        order = orders.get(connection, made.reference)
    assert order is not None
    assert order.withdrawal_asked_at is None


# --- the merchant's words ---------------------------------------------------------------------------------------


def test_the_merchants_notes_stand_where_they_matter(stack: Stack) -> None:
    notes = {
        "TAX_NOTE": "Prices don't include VAT",
        "REVIEW_TIME_NOTE": "We review on working days, 9 to 17.",
        "ACCESSIBILITY_NOTE": "This shop conforms to WCAG 2.2, level AA.",
    }
    with application(stack, **notes) as app:
        made = make_order(app, stack)
        ada = browser(app, **{ACCOUNT_COOKIE: make_session(app, stack)})
        page = call(ada, "GET", f"/orders/{made.reference}")
        placed = call(ada, "GET", f"/orders/{made.reference}/placed")
        for answer in (page, placed):
            assert "Prices don&#39;t include VAT" in answer.text
            assert "We review on working days, 9 to 17." in answer.text
        assert 'href="/accessibility"' in page.text
        assert "WCAG 2.2" in call(ada, "GET", "/accessibility").text


def test_without_a_statement_there_is_no_page_of_it(app: Flask) -> None:
    somebody = browser(app)
    assert call(somebody, "GET", "/accessibility").status_code == 404
    assert "/accessibility" not in call(somebody, "GET", "/").text
