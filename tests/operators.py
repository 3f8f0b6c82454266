"""What tests of /ops share: a signed-in operator's browser in this process, and the forms of its pages."""

from __future__ import annotations

import re
import secrets
from html import unescape
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.ledger import operator_sessions
from portal.ledger.schema import fulfillments
from portal.ops.console.access import COOKIE
from portal.services import Services
from portal.web.signing import digest
from tests.customers_in_process import base_url, browser
from tests.fulfilling import customer
from tests.stack import Stack

#: The addresses of tests: one acts, one only looks.
ACTS, LOOKS = "olga@ops.example", "otto@ops.example"
OPS_EMAILS = f"{ACTS}, {LOOKS}:read"


def services_of(app: Flask) -> Services:
    """The application's services."""
    found: Services = app.extensions["portal"].services
    return found


def session_of(app: Flask, email: str) -> str:
    """The secret of a new operator's session."""
    services, secret = services_of(app), secrets.token_urlsafe(16)
    now = services.now()
    with services.ledger.write() as connection:
        operator_sessions.insert(connection, digest("operator", secret), email, now=now, expires_at=now + 3600)
    return secret


def operator_browser(app: Flask, email: str = ACTS) -> FlaskClient:
    """A browser that is signed in to /ops."""
    client = browser(app)
    domain = urlsplit(base_url(app)).hostname or ""
    client.set_cookie(COOKIE, session_of(app, email), domain=domain, path="/ops")
    return client


def get(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    """A page."""
    return client.get(path, base_url=base_url(client.application), headers=headers)


def post(client: FlaskClient, path: str, page: str = "/ops", **fields: str) -> TestResponse:
    """Send a form with the token of `page`; redirects aren't followed."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', get(client, page).text)
    assert found, f"{page} has no form"
    data = {"csrf_token": found[1], **fields}
    return client.post(path, base_url=base_url(client.application), data=data)


def said(client: FlaskClient, answer: TestResponse) -> str:
    """The message on the page that a form leads to."""
    page = get(client, urlsplit(answer.headers["Location"]).path)
    found = re.search(r'aria-label="Message"><p>([^<]*)</p>', page.text)
    return unescape(found[1]) if found else ""


def unpaid(stack: Stack) -> tuple[str, str]:
    """An order that Failed for want of a payment method, and its client, who has one now."""
    who, number = customer(stack, card=False)
    order = stack.order("starter", customer=who)
    assert stack.fulfill(order).status == 409
    stack.whmcs.post("seed", {"paymethods": [{"userid": int(number)}]})
    return order, number


def force(app: Flask, order: str, **values: Any) -> None:
    """Bring an order's row into a state that takes long to come about by itself."""
    with services_of(app).ledger.write() as connection:
        connection.execute(fulfillments.update().where(fulfillments.c.sf_order_id == order).values(**values))
