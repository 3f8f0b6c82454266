"""What the shop asks and shows before an order is placed: a domain ordered twice, groups, the merchant's own logo."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import idna
import pytest
from flask import Flask

from portal.settings import SettingsError
from sandbox.visitor import Visitor
from tests.customers import application, in_salesforce, reference_of, salesforce_id, sign_in
from tests.customers_in_process import base_url, browser
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
