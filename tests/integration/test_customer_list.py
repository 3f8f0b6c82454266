"""The list of orders: what tells them apart, filter and search, rows that follow, and a thousand of them."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.customers.order_list import MOST_SEARCHED, PAGE_SIZE
from portal.customers.visitor import ACCOUNT_COOKIE
from portal.ledger import orders, placements
from portal.ledger.schema import orders as orders_table
from portal.ledger.schema import sessions as sessions_table
from portal.services import Services
from portal.web.context import portal_of
from tests.customers import SITUATIONS, make_order, make_session
from tests.customers_in_process import base_url, browser
from tests.stack import Stack

NAMES = ("Starter Hosting", "Business Hosting", "Cloud Server S")


class Customer:
    """An account nobody else knows, signed in."""

    def __init__(self, app: Flask, stack: Stack) -> None:
        self.app, self.account = app, f"001{secrets.token_hex(7)}A"[:18]
        self.services: Services = portal_of(app).services
        session = make_session(app, stack, "ada", f"{secrets.token_hex(4)}@list.example")
        with self.services.ledger.write() as connection:
            from portal.web.signing import digest

            connection.execute(
                sessions_table.update()
                .where(sessions_table.c.id == digest("session", session))
                .values(account_id=self.account)
            )
        self.client: FlaskClient = browser(app, **{ACCOUNT_COOKIE: session})

    def get(self, path: str) -> str:
        answer = self.client.get(path, base_url=base_url(self.app))
        assert answer.status_code == 200, answer.status
        return answer.text

    def order(self, number: int, *, name: str = "Starter Hosting", domain: str = "one.example", more: int = 0) -> str:
        reference = f"PO-{number:04d}-{secrets.token_hex(2)}".upper()
        item = orders.Item(
            name=name, quantity=1, unitPrice="5.00", cycle="Monthly", domain=domain, hostname=None, entryId=None
        )
        with self.services.ledger.write() as connection:
            orders.insert_placed_here(
                connection,
                reference=reference,
                checkout_key=secrets.token_hex(8),
                account_id=self.account,
                email="",
                items=[item, *(orders.Item(**{**item, "domain": f"{n}.{domain}"}) for n in range(more))],
                currency="USD",
                total="5.00",
                now=1_700_000_000.0 + number,
            )
            placements.postpone(connection, reference, 10**11)  # the sweep leaves it alone
        return reference

    def references(self, path: str) -> list[str]:
        return re.findall(r'id="order-(PO-[0-9A-Z-]+)"', self.get(path))


@pytest.fixture
def customer(app: Flask, stack: Stack) -> Iterator[Customer]:
    made = Customer(app, stack)
    yield made
    with made.services.ledger.write() as connection:
        connection.execute(orders_table.delete().where(orders_table.c.account_id == made.account))


def test_an_empty_list_has_no_filters_and_no_search(customer: Customer) -> None:
    page = customer.get("/orders")
    assert "You haven’t placed an order yet" in page
    assert "Search" not in page
    assert "Show orders by status" not in page


def test_orders_that_look_the_same_can_be_told_apart(customer: Customer) -> None:
    first = customer.order(1, domain="xn--fa-hia.example")
    second = customer.order(2, domain="two.example", more=3)
    page = customer.get("/orders")
    assert customer.references("/orders") == [second, first]
    assert "faß.example" in page
    assert "two.example, 0.two.example, 1.two.example and 1 more" in page
    assert "Starter Hosting × 4" in page
    assert page.count("$5.00") == 2
    assert "14 November 2023" in page


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("starter", 1),
        ("FASS.example", 1),
        ("faß.example", 1),
        ("xn--fa-hia", 1),
        ("server two", 1),
        ("0001", 1),
        ("x y", 0),
    ],
)
def test_a_search_looks_at_product_domain_and_reference(customer: Customer, words: str, found: int) -> None:
    customer.order(1, domain="xn--fa-hia.example")
    customer.order(2, name="Cloud Server S", domain="two.example")
    query = words.replace(" ", "+")
    assert len(customer.references(f"/orders?q={query}")) == found
    assert len(customer.references(f"/orders?q={query}&status=pending-review")) == found
    assert customer.references(f"/orders?q={query}&status=provisioned") == []


def test_rows_follow_what_runs_and_stop_with_it(app: Flask, customer: Customer) -> None:
    reference = customer.order(1)
    address = re.search(r'hx-get="(/orders/rows\?[^"]+)"', customer.get("/orders"))
    assert address
    poll = address[1].replace("&amp;", "&")
    assert customer.client.get(poll, base_url=base_url(app)).status_code == 204
    with customer.services.ledger.write() as connection:
        connection.execute(
            orders_table.update().where(orders_table.c.reference == reference).values(status="Provisioned")
        )
    rows = customer.get(poll)
    assert "Ready" in rows
    assert "<html" not in rows
    assert "hx-get" not in rows, "it still asks although nothing runs"
    nobody = browser(app).get(poll, base_url=base_url(app), headers={"HX-Request": "true"})
    assert (nobody.status_code, nobody.headers["HX-Redirect"]) == (401, "/sign-in")


def test_a_list_of_a_thousand_stays_fast_and_loses_none(customer: Customer) -> None:
    made = [customer.order(number, name=NAMES[number % 3], domain=f"d{number}.example") for number in range(1, 1051)]
    seen: list[str] = []
    path, slowest = "/orders", 0.0
    while path:
        began = time.perf_counter()
        page = customer.get(path)
        slowest = max(slowest, time.perf_counter() - began)
        seen += re.findall(r'id="order-(PO-[0-9A-Z-]+)"', page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert seen == made[::-1]
    assert slowest < 1.0
    began = time.perf_counter()
    (one,) = customer.references("/orders?q=d77.example")
    assert time.perf_counter() - began < 2.0
    assert one == made[76]
    page = customer.get("/orders?q=d3.example")  # older than what one search looks at
    assert "Nothing found among your newer orders" in page
    assert "Older orders" in page
    assert len(made) > MOST_SEARCHED > PAGE_SIZE


def test_what_was_said_of_an_order_still_leads_to_it(app: Flask, stack: Stack) -> None:
    """A row is a link to the order's page, whose own status it says."""
    made = make_order(app, stack, SITUATIONS["failed"], email="row@list.example")
    client = browser(app, **{ACCOUNT_COOKIE: make_session(app, stack)})
    page = client.get(f"/orders?q={made.domain}", base_url=base_url(app)).text
    assert f'href="/orders/{made.reference}"' in page
