"""The customers' pages in this process: browsers with cookies, and orders that are somebody's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.customers.visitor import ACCOUNT_COOKIE
from portal.ledger import orders
from portal.services import Services
from tests.customers import SITUATIONS, make_order, make_session
from tests.stack import Stack


@dataclass
class Case:
    """An order of Ada's, and the application it is seen through."""

    app: Flask
    reference: str
    sf_order_id: str
    domain: str  # on its first line: nobody else's page may hold it

    @property
    def services(self) -> Services:
        """The application's services."""
        found: Services = self.app.extensions["portal"].services
        return found

    def row(self) -> orders.Order:
        """The order as the ledger has it."""
        with self.services.ledger.read() as connection:
            order = orders.get(connection, self.reference)
        assert order is not None
        return order


def new_order(app: Flask, stack: Stack, *, customer: str = "ada", situation: str = "pending-review") -> Case:
    """An order in the ledger, and how to look at it."""
    made = make_order(app, stack, SITUATIONS[situation], customer=customer, email=f"{customer}@safety.example")
    return Case(app, made.reference, made.sf_order_id, made.domain)


def signed_in(app: Flask, stack: Stack, customer: str) -> FlaskClient:
    """A browser that is signed in as a customer of the seeds."""
    return browser(app, **{ACCOUNT_COOKIE: make_session(app, stack, customer, f"{customer}@safety.example")})


def browser(app: Flask, **cookies: str) -> FlaskClient:
    """A browser with these cookies, at the portal's address."""
    client = app.test_client()
    client.environ_base["HTTP_HOST"] = host(app)
    for name, value in cookies.items():
        client.set_cookie(name, value, domain=urlsplit(base_url(app)).hostname or "")
    return client


def base_url(app: Flask) -> str:
    """Where customers are told the portal is."""
    return str(app.extensions["portal"].services.settings.portal_base_url)


def host(app: Flask) -> str:
    """That address' host and port."""
    return urlsplit(base_url(app)).netloc


def call(client: FlaskClient, method: str, path: str, *, token: bool = True, **headers: str) -> TestResponse:
    """One request; forms carry the browser's own CSRF token unless told not to."""
    root = base_url(client.application)
    data: dict[str, str] = {}
    if method == "POST" and token:
        page = client.get("/", base_url=root)
        found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert found, page.text
        data["csrf_token"] = found.group(1)
    return client.open(path, method=method, base_url=root, data=data, headers=headers)
