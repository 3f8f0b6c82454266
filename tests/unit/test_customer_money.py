"""Money that explains itself: what is paid first, what recurs, and one currency for each order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portal.customers.basket import Basket
from portal.customers.catalogue import Catalogue, Product
from portal.web.formatting import line_total, recurring


def item(price: str, quantity: int = 1, cycle: str | None = "Monthly") -> dict[str, Any]:
    return {"unitPrice": price, "quantity": quantity, "cycle": cycle}


@pytest.mark.parametrize(
    ("items", "currency", "words"),
    [
        ([], "USD", ""),
        ([item("49.00", 2, "One-Time"), item("0", 1, "free"), item("7", 1, None)], "USD", ""),
        ([item("5.00", 3), item("120.00", 1, "Annual")], "USD", "$15.00 a month and $120.00 a year"),
        ([item("120.00", 1, "Annual"), item("5.00"), item("5.00")], "USD", "$10.00 a month and $120.00 a year"),
        (
            [item("1", 1, "Quarterly"), item("1"), item("1", 1, "Triennially")],
            "EUR",
            "€1.00 a month, €1.00 every 3 months, and €1.00 every 3 years",
        ),
        ([item("0.005", 3)], "USD", "$0.015 a month"),
        ([item("1.25", 2)], "KWD", "KWD\u00a02.500 a month"),
        ([item("500.00", 2)], "JPY", "¥1,000 a month"),
        ([item("9.00", 1, "Fortnightly")], "USD", "$9.00 fortnightly"),
        ([item("on request")], "USD", ""),
    ],
)
def test_what_recurs_is_said_by_cycle(items: list[dict[str, Any]], currency: str, words: str) -> None:
    assert recurring(items, currency) == words


def test_a_line_is_its_price_times_its_quantity() -> None:
    assert line_total(item("0.1", 3)) == Decimal("0.3")
    assert line_total(item("NaN", 3)) == line_total(item("free")) == 0


def product(entry_id: str, product_id: str, currency: str, price: str = "5.00", **more: Any) -> Product:
    return Product(entry_id, product_id, "", "", price, currency, "Monthly", "", product_id, **more)


PRICES = Catalogue(
    (
        product("a-usd", "a", "USD"),
        product("a-eur", "a", "EUR", "4.00"),
        product("b-usd", "b", "USD"),
        product("c-gbp", "c", "GBP"),
    ),
    0.0,
)


@pytest.mark.parametrize(
    ("account", "preferred", "offered"),
    [
        ("EUR", "USD", ["a-eur"]),
        (None, "USD", ["a-usd", "b-usd"]),
        (None, "JPY", ["a-eur"]),  # nothing in the shop's own currency: one that there is
        ("JPY", "USD", []),
    ],
)
def test_one_currency_is_offered_the_accounts_own(account: str | None, preferred: str, offered: list[str]) -> None:
    assert [each.entry_id for each in PRICES.priced_in(account, preferred=preferred).products] == offered


def test_a_basket_filled_before_the_sign_in_is_priced_in_the_accounts_currency() -> None:
    store: dict[str, Any] = {}
    stranger = Basket(store, PRICES.priced_in(None, preferred="USD"))
    stranger.add("a-usd", "2", "", "")
    stranger.add("b-usd", "1", "", "")
    seen = stranger.fingerprint
    mine = Basket(store, PRICES.priced_in("EUR", preferred="USD"))
    assert [(each.product.entry_id, str(each.total)) for each in mine] == [("a-eur", "8.00")]
    assert mine.gone == 1, "the product without a price in that currency"
    assert mine.currency == "EUR"
    assert mine.fingerprint != seen


def test_the_merchants_order_comes_first_then_the_price() -> None:
    catalogue = Catalogue(
        (
            product("dear", "1", "USD", "100.00"),
            product("cheap", "2", "USD", "9.50"),
            product("last", "3", "USD", "1.00", sort_order=20.0),
            product("first", "4", "USD", "50.00", sort_order=-1.0),
        ),
        0.0,
    )
    ((family, products),) = catalogue.groups
    assert family == ""
    assert [each.entry_id for each in products] == ["first", "last", "cheap", "dear"]


def test_families_stand_where_their_first_product_does() -> None:
    def of(family: str, name: str, price: str) -> Product:
        return Product(name, name, "", family, price, "USD", "Monthly", "")

    catalogue = Catalogue(
        (of("Server", "s", "15"), of("", "loose", "1"), of("Hosting", "h2", "120"), of("Hosting", "h1", "5")), 0.0
    )
    assert [(family, [each.name for each in found]) for family, found in catalogue.groups] == [
        ("Hosting", ["h1", "h2"]),
        ("Server", ["s"]),
        ("", ["loose"]),
    ]
