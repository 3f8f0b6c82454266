"""Forms, hosts, headers, cookies and hostile input: what the customers' pages refuse and forbid."""

from __future__ import annotations

import itertools
import re
from urllib.parse import unquote

from flask import Flask

from portal.mail.composer import Composer
from portal.services import Services
from portal.web.signing import Links
from tests.customer_routes import WANTS, is_customers, path_of, rules_of
from tests.customers import application
from tests.customers_in_process import base_url, browser, call, host, new_order, signed_in
from tests.stack import Stack


def test_no_form_works_without_its_token_or_from_another_site(app: Flask, stack: Stack) -> None:
    tried = 0
    for rule, method in rules_of(app):
        if method != "POST" or not is_customers(rule):
            continue
        situation = WANTS.get(rule.endpoint, "pending-review")
        case = new_order(app, stack, situation=situation)
        client = signed_in(app, stack, "ada")
        path = path_of(rule, case.reference)
        before = case.row()
        without = call(client, "POST", path, token=False)
        elsewhere = call(client, "POST", path, Origin="https://evil.example")
        for answer in (without, elsewhere):
            assert answer.status_code == 400, f"{path} → {answer.status}"
        assert "open for too long" in without.text
        assert case.row() == before
        control = call(client, "POST", path, Origin=f"http://{host(app)}")
        assert control.status_code != 400 or "open for too long" not in control.text, path
        tried += 1
    assert tried >= 12


def test_pages_answer_under_their_own_host_alone(app: Flask, stack: Stack) -> None:
    case = new_order(app, stack)
    client = signed_in(app, stack, "ada")
    for rule, method in rules_of(app):
        if method != "GET" or not is_customers(rule) or rule.endpoint in ("static", "brand_stylesheet", "brand_logo"):
            continue
        path = path_of(rule, case.reference)
        for evil in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", "127.0.0.1:99999999"):
            answer = client.get(path, base_url=base_url(app), headers={"Host": evil})
            assert answer.status_code == 400, f"{evil}{path} → {answer.status}"
        assert call(client, "GET", path).status_code != 400
        forwarded = call(client, "GET", path, **{"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"})
        assert "evil.example" not in forwarded.text + str(forwarded.headers)


def test_mailed_links_never_take_their_address_from_a_request(app: Flask, stack: Stack) -> None:
    services: Services = app.extensions["portal"].services
    url = Links(services.settings).sign_in(email="a@b.example", contact_id=None, account_id="001", now=services.now())
    assert url.startswith(services.settings.portal_base_url + "/")


def test_every_page_forbids_what_it_does_not_need(app: Flask, stack: Stack) -> None:
    case = new_order(app, stack)
    seen = 0
    for client in (browser(app), signed_in(app, stack, "ada")):
        for rule, method in rules_of(app):
            if method != "GET" or not is_customers(rule):
                continue
            answer = call(client, "GET", path_of(rule, case.reference))
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            if answer.mimetype != "text/html":
                continue
            seen += 1
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "base-uri 'none'" in policy
            assert "unsafe" not in policy
            assert "data:" not in policy
            assert "*" not in policy
            assert answer.headers["Referrer-Policy"] == "same-origin"
            assert answer.headers["Cache-Control"] == "no-store"
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", answer.text), rule.rule
    assert seen > 20
    missing = call(browser(app), "GET", "/nothing/here")
    assert missing.status_code == 404
    assert "default-src 'none'" in missing.headers["Content-Security-Policy"]


def test_https_brings_hsts_and_secure_cookies(stack: Stack) -> None:
    with application(stack, PORTAL_BASE_URL="https://orders.example/shop") as app:
        client = signed_in(app, stack, "ada")
        answer = client.get("/shop/basket", base_url="https://orders.example")
        assert answer.status_code == 200
        assert "max-age=" in answer.headers["Strict-Transport-Security"]
        cookie = answer.headers["Set-Cookie"]  # of the first page: each has the form that chooses the language
        for part in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/shop"):
            assert part in cookie, cookie


def test_everything_works_behind_a_path_prefix(stack: Stack) -> None:
    with application(stack, PORTAL_BASE_URL="http://127.0.0.1:8000/a/shop") as app:
        case = new_order(app, stack)
        client = signed_in(app, stack, "ada")
        for stripped in (False, True):  # whether the proxy in front takes the prefix away
            for path in ("/", "/orders", f"/orders/{case.reference}", "/account", "/basket", "/nothing"):
                answer = client.get(path if stripped else f"/a/shop{path}", base_url="http://127.0.0.1:8000")
                assert answer.status_code == (404 if path == "/nothing" else 200)
                addresses = re.findall(r'(?:href|src|action|hx-get)="(/[^"]*)"', answer.text)
                assert addresses, addresses
                assert all(address.startswith("/a/shop/") for address in addresses), addresses
        denied = browser(app).get("/a/shop/orders", base_url="http://127.0.0.1:8000")
        assert denied.headers["Location"] == "/a/shop/sign-in"
        url = Links(case.services.settings).order(reference=case.reference, account_id="x", now=case.services.now())
        assert url.startswith("http://127.0.0.1:8000/a/shop/o/")


HOSTILE = [
    "%00",
    "%ff%fe",
    "..%2f..%2fetc%2fpasswd",
    "%E2%98%83",
    "a" * 3000,
    "'%20OR%201=1--",
    "%3Cscript%3E",
    "801Zz" + "\u0660" * 10,
    "PO-AAAA-BBBB%0d%0aX-Evil:1",
    "%25n",
]


def test_no_hostile_input_makes_a_5xx(app: Flask, stack: Stack) -> None:
    client = signed_in(app, stack, "ada")
    page = client.get("/", base_url=base_url(app))
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found
    fields = ("email", "entry", "quantity", "domain", "hostname", "line", "key", "reviewed", "remove")
    for (rule, method), hostile in itertools.product(rules_of(app), HOSTILE):
        if not is_customers(rule) or rule.endpoint in ("sign_in.leave", "sign_in.leave_everywhere"):
            continue  # those take nothing, and would end the session this goes on with
        path = path_of(rule, hostile)
        if method == "GET":
            query = f"?before={hostile}&status={hostile}&v={hostile}"
            answer = client.get(path + query, base_url=base_url(app))
        else:
            data = dict.fromkeys(fields, unquote(hostile, errors="surrogateescape").encode("utf-8", "surrogateescape"))
            answer = client.post(path, base_url=base_url(app), data={**data, "csrf_token": found.group(1)})
        assert answer.status_code < 500, f"{method} {path} → {answer.status}"
        assert "<script>" not in answer.text
        assert "X-Evil" not in answer.headers


def test_no_form_is_read_that_is_too_large(app: Flask, stack: Stack) -> None:
    client = signed_in(app, stack, "ada")
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = client.post("/basket/add", base_url=base_url(app), data=b"a=" + b"b" * 70_000, content_type=kind)
        assert answer.status_code == 413, kind


def test_a_brand_of_ones_own_touches_no_template(stack: Stack) -> None:
    brand = {
        "BRAND_NAME": "Söhne & Co",
        "BRAND_LOGO_URL": "https://cdn.soehne.example/logo.svg",
        "BRAND_ACCENT": "#ffee00",
        "BRAND_SUPPORT_EMAIL": "hilfe@soehne.example",
    }
    with application(stack, **brand) as app:
        page = call(browser(app), "GET", "/")
        assert 'alt="Söhne &amp; Co"' in page.text
        assert "mailto:hilfe@soehne.example" in page.text
        assert "img-src 'self' https://cdn.soehne.example;" in page.headers["Content-Security-Policy"]
        colours = re.search(r'href="(/brand\.css\?v=[0-9a-f]+)"', page.text)
        assert colours
        assert "#ffee00" in call(browser(app), "GET", colours.group(1)).text
        services: Services = app.extensions["portal"].services
        mail = Composer(services.settings).compose(
            {
                "to": "a@b.example",
                "template": "order_link",
                "account_id": "001",
                "message_id": "x",
                "context": {"reference": "PO-AAAA-BBBB"},
            },
            now=services.now(),
        )
        assert "Söhne & Co" in mail["From"]
        assert "hilfe@soehne.example" in mail.as_string()
