"""What the shop asks and shows before an order is placed: a domain ordered twice, groups, the merchant's own logo."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import idna
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.customers.catalogue import CatalogueCache
from portal.settings import SettingsError
from portal.web.context import portal_of
from sandbox.visitor import Visitor
from tests.customers import application, in_salesforce, reference_of, salesforce_id, sign_in
from tests.customers_in_process import base_url, browser, signed_in
from tests.stack import Stack


def test_a_domain_in_another_open_order_is_asked_about(stack: Stack) -> None:
    portal = stack.urls["portal"]
    domain = f"faß-{secrets.token_hex(3)}.example"
    with Visitor() as ada:
        sign_in(stack, ada)

        def basket() -> None:
            entry = stack.ids["entry:starter"]
            form = next(form for form in ada.get(f"{portal}/").forms if form.fields.get("entry") == entry)
            ada.submit(form, domain=domain)

        basket()
        review = ada.get(f"{portal}/checkout")
        assert "Order it again?" not in review.text
        assert domain in review.text
        first = reference_of(ada.submit(review.form("/checkout")))
        salesforce_id(stack, first)
        order = in_salesforce(stack, first)[0]
        items = stack.salesforce.get("state", objects="OrderItem")["OrderItem"]
        (sent,) = [row["Domain__c"] for row in items if row["OrderId"] == order["Id"]]
        assert idna.decode(sent) == domain
        assert sent != domain
        basket()
        review = ada.get(f"{portal}/checkout")
        assert "Order it again?" in review.text
        assert first in review.text
        asked = ada.submit(review.form("/checkout"))
        assert "Say whether you want to order it again" in asked.text
        assert urlsplit(asked.url).path == "/checkout"
        placed = ada.submit(asked.form("/checkout"), again="1")
        assert urlsplit(placed.url).path.endswith("/placed")
        assert reference_of(placed) != first


def test_what_is_taken_off_the_catalogue_leaves_the_basket_and_doesnt_hold_up_the_rest(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever page learns of it first says so, and what is left can be ordered."""
    for last in ("/checkout", "/basket"):
        with application(stack) as app:
            client = signed_in(app, stack, "ada")
            for entry in ("support", "certificate"):
                fields = {"entry": stack.ids[f"entry:{entry}"], "domain": f"{secrets.token_hex(4)}.example"}
                answer = post(client, "/basket/add", fields)
                assert answer.status_code == 303, answer.text
            review = client.get(last, base_url=base_url(app)).text
            cache = portal_of(app).part(CatalogueCache)
            now = cache.current()
            left = tuple(each for each in now.products if each.entry_id != stack.ids["entry:support"])
            monkeypatch.setattr(cache, "current", partial(replace, now, products=left))
            if last == "/checkout":  # it was looked at before: the button says it
                placed = post(client, "/checkout", {name: hidden(review, name) for name in ("key", "reviewed")})
                assert "have changed since you last looked" in placed.text
                review = placed.text
            else:
                assert "no longer offered" in client.get("/basket", base_url=base_url(app)).text
                review = client.get("/checkout", base_url=base_url(app)).text
                assert "have changed" not in review
            assert "Priority Support" not in review
            placed = post(client, "/checkout", {name: hidden(review, name) for name in ("key", "reviewed")})
            assert placed.headers["Location"].endswith("/placed")


def post(client: FlaskClient, path: str, fields: dict[str, str]) -> TestResponse:
    """Send a form with the browser's own token."""
    root = base_url(client.application)
    token = hidden(client.get("/sign-in/sent", base_url=root).text, "csrf_token")
    return client.post(path, base_url=root, data={**fields, "csrf_token": token})


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page)
    assert found, name
    return found[1]


def test_the_catalogue_is_in_groups_and_in_the_merchants_order(stack: Stack) -> None:
    with Visitor() as somebody:
        page = somebody.get(f"{stack.urls['portal']}/").text
    at = [page.index(name) for name in ("Hosting", "Starter Hosting", "Business Hosting", "Cloud Server S")]
    assert at == sorted(at)


def test_a_logo_may_be_a_file(app: Flask, stack: Stack, tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><script>alert(1)</script></svg>')
    with application(stack, BRAND_LOGO_FILE=str(logo)) as made:
        client = browser(made)
        found = re.search(
            r'<img src="(/brand/logo\?v=\w+)" alt="[^"]+"', client.get("/sign-in", base_url=base_url(made)).text
        )
        assert found
        image = client.get(found[1], base_url=base_url(made))
        assert image.data == logo.read_bytes()
        assert image.content_type == "image/svg+xml"
        assert "default-src 'none'" in image.headers["Content-Security-Policy"], "a script in it must not run"
        assert image.headers["X-Content-Type-Options"] == "nosniff"
    assert browser(app).get("/brand/logo", base_url=base_url(app)).status_code == 404


@pytest.mark.parametrize(("name", "size", "why"), [("logo.txt", 1, "SVG, PNG"), ("logo.png", 300_000, "256 KB")])
def test_a_logo_that_is_none_stops_the_start(stack: Stack, tmp_path: Path, name: str, size: int, why: str) -> None:
    (tmp_path / name).write_bytes(b"x" * size)
    with pytest.raises(SettingsError, match=why), application(stack, BRAND_LOGO_FILE=str(tmp_path / name)):
        pass
