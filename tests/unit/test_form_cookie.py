"""The cookie of forms and basket: whatever goes in, browsers keep it, and the form token with it."""

from __future__ import annotations

import secrets
from http.cookies import SimpleCookie
from typing import Any

import pytest
from flask import Flask, session
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.customers.basket import Basket, LineFault
from portal.customers.catalogue import Catalogue, Product
from portal.web.form_cookie import MOST_BYTES, FormCookie

ENTRIES = [f"01u{secrets.token_hex(8)[:12]}AAA" for _ in range(20)]
CATALOGUE = Catalogue(tuple(Product(each, each, "", "", "5.00", "USD", "Monthly", "domain") for each in ENTRIES), 0.0)
TOKEN = secrets.token_hex(20)


def application() -> Flask:
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="k" * 40,
        SESSION_COOKIE_NAME="portal_forms",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/a/rather/long/prefix/of/a/shop",
    )
    app.session_interface = FormCookie()
    return app


APP = application()


def kept(content: dict[str, Any]) -> dict[str, Any]:
    """What a browser gives back of a session, by the bytes of its one Set-Cookie header."""
    with APP.test_request_context("/a/rather/long/prefix/of/a/shop"):
        session.update(content)
        response = APP.process_response(APP.response_class())
    (header,) = response.headers.getlist("Set-Cookie")
    assert len(header) <= MOST_BYTES
    value = SimpleCookie(header.split(";")[0])["portal_forms"].value
    with APP.test_request_context(headers={"Cookie": f"portal_forms={value}"}):
        return dict(session)


words = st.text(st.characters(codec="utf-8"), max_size=5000)


@settings(max_examples=60)
@given(words, st.text(st.characters(min_codepoint=0x10000, max_codepoint=0x1FFFF), max_size=254))
def test_the_token_survives_whatever_else_is_kept(place: str, address: str) -> None:
    found = kept({"csrf_token": TOKEN, "next": f"/orders?{place}", "asked_for": address})
    assert found["csrf_token"] == TOKEN


def test_where_to_go_is_forgotten_first_and_only_where_it_must() -> None:
    short, long = f"/orders?{secrets.token_hex(50)}", f"/orders?{secrets.token_hex(3000)}"
    assert kept({"csrf_token": TOKEN, "next": short, "asked_for": "a"})["next"] == short
    found = kept({"csrf_token": TOKEN, "next": long, "asked_for": "a"})
    assert "next" not in found
    assert found["asked_for"] == "a"


def test_a_full_basket_fits_beside_the_token() -> None:
    """With names that can't be compressed: nothing of it is ever left out."""
    store: dict[str, Any] = {"csrf_token": TOKEN}
    basket = Basket(store, CATALOGUE)
    try:
        for entry in ENTRIES:
            basket.add(entry, "99", f"{secrets.token_hex(31)}.{secrets.token_hex(12)}.example", "")
        raise AssertionError("a basket has bounds")
    except LineFault as fault:
        assert "full" in str(fault)
    many: dict[str, Any] = {"csrf_token": TOKEN}
    for entry in ENTRIES:
        Basket(many, CATALOGUE).add(entry, "99", f"{secrets.token_hex(37)[:63]}.{secrets.token_hex(9)}.example", "")
    for full in (store, many):
        assert kept(full) == full
        assert kept({**full, "next": "/checkout?" + secrets.token_hex(2000)}) == full


def test_a_basket_of_another_version_is_forgotten() -> None:
    for odd in ("text", [["a"]], [{"entry": 1}], [["a", "x", None, None]], 7):
        assert kept({"csrf_token": TOKEN, "basket": odd}) == {"csrf_token": TOKEN}


def test_a_request_that_asks_for_nothing_of_it_reads_and_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with APP.test_request_context():
        session["csrf_token"] = TOKEN
        (header,) = APP.process_response(APP.response_class()).headers.getlist("Set-Cookie")
    cookie = {"Cookie": header.split(";")[0]}
    signer = FormCookie.get_signing_serializer
    read: list[object] = []
    monkeypatch.setattr(FormCookie, "get_signing_serializer", lambda *args: read.append(args) or signer(*args))
    with APP.test_request_context(headers=cookie):
        response = APP.process_response(APP.response_class())
    assert not read
    assert "Set-Cookie" not in response.headers
    assert "Vary" not in response.headers
    with APP.test_request_context(headers=cookie):
        assert session["csrf_token"] == TOKEN
        response = APP.process_response(APP.response_class())
    assert read
    assert "Set-Cookie" not in response.headers
    assert response.vary.to_header() == "Cookie"
