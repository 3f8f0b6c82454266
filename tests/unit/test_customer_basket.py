"""The basket: what may go in, what its key and fingerprint promise."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from flask import Flask

from portal.customers.basket import (
    MOST_LINES,
    Basket,
    LineFault,
    read_domain,
    read_hostname,
    read_quantity,
)
from portal.customers.catalogue import Catalogue, Product, needs
from portal.domain.names import to_shown


def product(entry_id: str, price: str = "5.00", wants: str = "") -> Product:
    return Product(entry_id, f"Product {entry_id}", "", "", price, "USD", "Monthly", wants)


CATALOGUE = Catalogue((product("a"), product("b", "120.50", "domain"), product("c", "15", "hostname")), 0.0)


def basket(store: dict[str, Any] | None = None, catalogue: Catalogue = CATALOGUE) -> Basket:
    return Basket({} if store is None else store, catalogue)


def test_lines_carry_what_their_product_needs_and_nothing_else() -> None:
    mine = basket()
    mine.add("a", "2", "ignored.example", "ignored")
    mine.add("b", "1", " Example.COM. ", "")
    mine.add("c", "", "", "web1")
    assert [(each.product.entry_id, each.quantity, each.domain, each.hostname) for each in mine] == [
        ("a", 2, None, None),
        ("b", 1, "example.com", None),
        ("c", 1, None, "web1"),
    ]
    assert str(mine.total) == "145.50"


@pytest.mark.parametrize("text", ["example.com", "xn--mnchen-3ya.example", "a.b.c.example", "münchen.example"])
def test_domains_people_have_are_taken(text: str) -> None:
    assert read_domain(text).isascii()


@pytest.mark.parametrize(
    ("typed", "sent", "shown"),
    [
        ("faß.example", "xn--fa-hia.example", "faß.example"),
        ("FAẞ.example", "xn--fa-hia.example", "faß.example"),
        ("fass.example", "fass.example", "fass.example"),
        # A zero-width non-joiner changes the word in Persian, a joiner the letter in Sinhala (UTS 46, table 1).
        ("نامه\u200cای.example", "xn--mgba3gch31f060k.example", "نامه\u200cای.example"),
        ("ශ්\u200dරී.example", "xn--10cl1a0b660p.example", "ශ්\u200dරී.example"),
        ("bücher.EXAMPLE.", "xn--bcher-kva.example", "bücher.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", "bücher.example"),
        ("日本語。example", "xn--wgv71a119e.example", "日本語.example"),
    ],
)
def test_names_of_other_scripts_are_sent_as_idna_2008_and_shown_as_typed(typed: str, sent: str, shown: str) -> None:
    assert read_domain(typed) == sent
    assert to_shown(sent) == shown


@pytest.mark.parametrize("name", ["", None, "plain.example", "xn--a", "xn--.example"])
def test_what_cannot_be_read_is_shown_as_it_is(name: str | None) -> None:
    assert to_shown(name) == (name or "")


def test_several_domains_become_several_lines_one_service_each() -> None:
    store: dict[str, Any] = {}
    mine = basket(store)
    mine.add("b", "7", "one.example, two.example;TWO.example\nfaß.example", "")
    assert [(line.domain, line.quantity) for line in mine] == [
        ("one.example", 1),
        ("two.example", 1),
        ("xn--fa-hia.example", 1),
    ]
    with pytest.raises(LineFault, match=r"faß\.example is in your basket already"):
        mine.add("b", "1", "three.example faß.example", "")
    with pytest.raises(LineFault, match="Enter a domain name"):
        mine.add("b", "1", "four.example, -nonsense", "")
    assert len(mine.items) == 3
    mine.change(0, "5")
    assert [line.quantity for line in basket(store)] == [1, 1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "localhost",
        "-a.example",
        "a-.example",
        "a..example",
        "exa mple.com",
        "192.0.2.1",
        "a.example/path",
        "http://a.example",
        "a_b.example",
        "x" * 64 + ".example",
        "a." * 130 + "example",
        "<script>.example",
        "\u0000.example",
        "☃..example",
        "a.1",
        "☃.example",
        "xn--ls8h.example",
        "a\u200db.example",
        "xn--.example",
    ],
)
def test_what_is_no_domain_is_refused_in_words(text: str) -> None:
    with pytest.raises(LineFault, match="Enter a domain name") as caught:
        read_domain(text)
    assert caught.value.field == "domain"


@pytest.mark.parametrize(
    ("text", "good"),
    [("web1", True), ("web1.example.com", True), ("", False), ("1.2.3.4", False), ("a b", False), ("-x", False)],
)
def test_hostnames(text: str, good: bool) -> None:
    if good:
        assert read_hostname(text) == text
    else:
        with pytest.raises(LineFault, match="Enter a hostname"):
            read_hostname(text)


@pytest.mark.parametrize("text", ["0", "100", "-1", "1.5", "1e1", "٣", "+1", "1_0", "x"])
def test_quantities_are_whole_numbers_within_reason(text: str) -> None:
    with pytest.raises(LineFault, match="quantity from 1 to 99"):
        read_quantity(text)


def test_a_fault_leaves_the_basket_as_it_was() -> None:
    store: dict[str, Any] = {}
    with pytest.raises(LineFault):
        basket(store).add("b", "1", "nonsense", "")
    with pytest.raises(LineFault, match="no longer offered"):
        basket(store).add("gone", "1", "", "")
    assert store == {}


def test_a_basket_is_bounded_because_it_lives_in_a_cookie() -> None:
    store: dict[str, Any] = {}
    for _ in range(MOST_LINES):
        basket(store).add("a", "1", "", "")
    with pytest.raises(LineFault, match="holds 20 lines"):
        basket(store).add("a", "1", "", "")


def test_the_fullest_basket_fits_a_cookie() -> None:
    app = Flask(__name__)
    app.secret_key = "k" * 64
    store: dict[str, Any] = {"csrf_token": secrets.token_hex(20), "next": "/orders/" + secrets.token_hex(20)}
    lines = 0
    with pytest.raises(LineFault):
        for _ in range(MOST_LINES + 1):
            labels = ".".join(secrets.token_hex(30) for _ in range(3))
            basket(store).add("b", "99", f"{labels}.example", "")
            lines += 1
    assert lines >= 5
    serializer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    assert len(serializer.dumps(store)) + len("portal_forms=; HttpOnly; Path=/; SameSite=Lax; Secure") <= 4093


def test_one_key_from_the_first_line_to_the_order() -> None:
    store: dict[str, Any] = {}
    mine = basket(store)
    mine.add("a", "1", "", "")
    key = mine.key
    mine.add("c", "1", "", "x")
    mine.change(0, "5")
    assert basket(store).key == key
    mine.empty()
    assert basket(store).key != key


def test_the_fingerprint_changes_with_everything_the_customer_agreed_to() -> None:
    store: dict[str, Any] = {}
    mine = basket(store)
    mine.add("a", "1", "", "")
    seen = {mine.fingerprint}
    mine.change(0, "2")
    seen.add(mine.fingerprint)
    mine.add("b", "1", "one.example", "")
    seen.add(mine.fingerprint)
    dearer = Catalogue((product("a", "6.00"), *CATALOGUE.products[1:]), 0.0)
    seen.add(basket(store, dearer).fingerprint)
    assert len(seen) == 4
    assert basket(store).fingerprint in seen


def test_what_is_no_longer_offered_is_left_out_and_said() -> None:
    store: dict[str, Any] = {}
    mine = basket(store)
    mine.add("a", "1", "", "")
    mine.add("b", "1", "one.example", "")
    left = basket(store, Catalogue((product("b", "1", "domain"),), 0.0))
    assert left.gone == 1
    assert [line.index for line in left] == [1]
    left.forget_gone()
    assert left.gone == 0
    assert [line.index for line in left] == [0]
    assert basket(store).gone == 0, "it doesn't come back with the product"
    left.remove(0)
    assert not left


@pytest.mark.parametrize(
    ("family", "wants"), [("Hosting", "domain"), ("HOSTING", "domain"), ("VPS", "hostname"), ("Support", ""), ("", "")]
)
def test_the_products_family_says_what_must_be_named(family: str, wants: str) -> None:
    assert needs(family, ("Hosting",), ("Vps",)) == wants
