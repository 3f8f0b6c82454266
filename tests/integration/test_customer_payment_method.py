"""The review page says that a payment method is missing before it costs a day, and never waits long to find out."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
import time
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.customers.client_area import PATIENCE_SECONDS, PaymentMethods
from portal.customers.visitor import ACCOUNT_COOKIE
from portal.domain.model import UpstreamError
from portal.services import Services
from portal.web.context import portal_of
from tests.customers import application, make_session
from tests.stack import Stack

MISSING = "Your account has no payment method yet"
_numbers = itertools.count(7000 + secrets.randbelow(1000) * 10)


def new_client(stack: Stack, *, card: bool = False, gateway: str = "stripe") -> tuple[str, int]:
    """A client of WHMCS that no other test knows: e-mail address and number."""
    number, email = next(_numbers), f"{secrets.token_hex(4)}@pays.example"
    client = {"id": number, "firstname": "P", "lastname": "Q", "email": email, "defaultgateway": gateway}
    stack.whmcs.post("seed", {"clients": [client], "paymethods": [{"userid": number}] if card else []})
    return email, number


class Shopper:
    """A browser with something in its basket."""

    def __init__(self, app: Flask, stack: Stack, email: str) -> None:
        self.app, self.root = app, str(portal_of(app).services.settings.portal_base_url)
        self.client: FlaskClient = app.test_client()
        domain = urlsplit(self.root).hostname or ""
        self.client.set_cookie(ACCOUNT_COOKIE, make_session(app, stack, "grace", email), domain=domain)
        self.post("/basket/add", entry=stack.ids["entry:support"])

    def get(self, path: str) -> TestResponse:
        return self.client.get(path, base_url=self.root)

    def post(self, path: str, **fields: str) -> TestResponse:
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/").text)
        assert token
        return self.client.post(path, base_url=self.root, data={**fields, "csrf_token": token.group(1)})


def services_of(app: Flask) -> Services:
    return portal_of(app).services


def test_it_is_said_and_one_click_leads_there_and_back(app: Flask, stack: Stack) -> None:
    email, number = new_client(stack)
    shopper = Shopper(app, stack, email)
    page = shopper.get("/checkout")
    assert MISSING in page.text
    assert "Place order" in page.text, "the order may be placed all the same"
    way = shopper.post("/checkout/payment-method")
    assert way.status_code == 303
    assert way.headers["Location"].startswith(stack.urls["whmcs"])
    shopper.post("/checkout/payment-method/added")
    assert "We can’t see a payment method" in shopper.get("/checkout").text
    stack.whmcs.post("seed", {"paymethods": [{"userid": number}]})
    assert shopper.post("/checkout/payment-method/added").status_code == 303
    assert MISSING not in shopper.get("/checkout").text
    assert shopper.post("/checkout/payment-method").headers["Location"].endswith("/checkout")


def test_who_can_pay_reads_nothing_and_costs_whmcs_one_call(app: Flask, stack: Stack) -> None:
    email, _ = new_client(stack, card=True)
    shopper = Shopper(app, stack, email)
    portal_of(app).part(PaymentMethods).forget(stack.ids["account:grace"])
    since = stack.whmcs.last()
    for _ in range(3):
        assert MISSING not in shopper.get("/checkout").text
    assert len(stack.whmcs.journal(since=since, action="GetPayMethods")) == 1


def test_a_gateway_that_sends_invoices_needs_none(stack: Stack) -> None:
    email, _ = new_client(stack, gateway="mailin")
    with application(stack, WHMCS_INVOICE_GATEWAYS="mailin") as app:
        assert MISSING not in Shopper(app, stack, email).get("/checkout").text


def test_a_whmcs_that_is_away_or_slow_costs_the_page_nothing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    email, _ = new_client(stack)
    let_go = threading.Event()
    with application(stack) as app:
        shopper = Shopper(app, stack, email)
        whmcs = services_of(app).whmcs
        real = whmcs.pay_methods

        def away(_: str) -> None:
            raise UpstreamError("WHMCS", "away", permanent=False, reached=False)

        def slow(client_id: str) -> object:
            assert let_go.wait(60)
            return real(client_id)

        monkeypatch.setattr(whmcs, "pay_methods", away)
        assert MISSING not in shopper.get("/checkout").text
        monkeypatch.setattr(whmcs, "pay_methods", slow)
        began = time.monotonic()
        page = shopper.get("/checkout")
        took = time.monotonic() - began
        assert page.status_code == 200
        assert MISSING not in page.text
        assert took < PATIENCE_SECONDS + 2, "the page waited for WHMCS"
        let_go.set()
        stack.wait_for(lambda: MISSING in shopper.get("/checkout").text, "the answer that came later")
