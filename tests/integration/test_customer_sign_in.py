"""Signing in and out: links that work once, sessions that end, and nothing told of who is known."""

from __future__ import annotations

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.customers.visitor import ACCOUNT_COOKIE
from portal.ledger import sessions
from portal.ledger.schema import orders as orders_table
from portal.ledger.sessions import Session
from portal.mail.mailer import Mailer
from portal.services import Services
from portal.web.signing import Links, digest
from tests.customer_routes import fixed
from tests.customers import application, last_mail, link_in, mails_to
from tests.customers_in_process import base_url, browser, call, new_order, signed_in
from tests.stack import Stack


def sign_in_link(app: Flask, stack: Stack, customer: str = "ada", ago: float = 0.0) -> str:
    """The path of a fresh link, as the mail would hold it."""
    services: Services = app.extensions["portal"].services
    url = Links(services.settings).sign_in(
        email=f"{customer}@safety.example",
        contact_id=stack.ids[f"contact:{customer}"],
        account_id=stack.ids[f"account:{customer}"],
        now=services.now() - ago,
    )
    return urlsplit(url).path


def test_opening_a_link_consumes_nothing_and_its_button_works_once(app: Flask, stack: Stack) -> None:
    path = sign_in_link(app, stack)
    for _ in range(3):  # a mail scanner, a preview, the person
        page = call(browser(app), "GET", path)
        assert page.status_code == 200
        assert "ada@safety.example" in page.text
        assert ACCOUNT_COOKIE not in str(page.headers)
    ada = browser(app)
    used = call(ada, "POST", path)
    assert used.status_code == 303
    assert call(ada, "GET", "/orders").status_code == 200
    cookie = next(value for name, value in used.headers if value.startswith(ACCOUNT_COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    late = browser(app)
    for method in ("GET", "POST"):
        assert call(late, method, path).status_code == 410
    assert call(late, "GET", "/orders").status_code == 303


def test_of_many_presses_at_once_one_signs_in(app: Flask, stack: Stack) -> None:
    path = sign_in_link(app, stack)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: call(browser(app), "POST", path).status_code, range(6)))
    assert sorted(answers) == [303, 410, 410, 410, 410, 410]


def test_a_link_ends_after_fifteen_minutes(app: Flask, stack: Stack) -> None:
    assert call(browser(app), "GET", sign_in_link(app, stack, ago=15 * 60 - 5)).status_code == 200
    for method in ("GET", "POST"):
        assert call(browser(app), method, sign_in_link(app, stack, ago=15 * 60 + 1)).status_code == 410


def test_the_ledger_holds_nothing_that_opens_anything(app: Flask, stack: Stack) -> None:
    ada = browser(app)
    path = sign_in_link(app, stack)
    used = call(ada, "POST", path)
    secret = re.search(rf"{ACCOUNT_COOKIE}=([^;]+)", str(used.headers))
    assert secret
    kept = "".join(
        str(row) for table in ("sessions", "used_links", "outbox") for row in stack.ledger(f"SELECT * FROM {table}")
    )
    assert secret.group(1) not in kept
    assert path.rsplit("/", 1)[1] not in kept


def test_known_and_unknown_addresses_get_the_same_answer_and_no_look_up(app: Flask, stack: Stack) -> None:
    services: Services = app.extensions["portal"].services
    asked: list[float] = []
    services.send_checks.add(asked.append)
    answers = []
    for address in ("ada@lovelace.example", "nobody@lovelace.example"):
        client = browser(app)
        page = client.get("/sign-in", base_url=base_url(app))
        found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert found
        answer = client.post("/sign-in", base_url=base_url(app), data={"csrf_token": found.group(1), "email": address})
        sent = client.get("/sign-in/sent", base_url=base_url(app)).text
        sent = re.sub(r'(name="csrf_token" value=")[^"]+', r"\1", sent)  # each browser's own
        answers.append((answer.status_code, fixed(answer), answer.data, sent.replace(address, "…")))
    assert answers[0] == answers[1]
    assert answers[0][0] == 303
    assert asked == [], "Salesforce or WHMCS was asked within the request"


def test_only_a_contact_of_salesforce_is_mailed_a_link(app: Flask, stack: Stack) -> None:
    mailer = Mailer(app.extensions["portal"].services)
    since = last_mail(stack)
    mailer.send({"template": "sign_in", "address": "nobody@lovelace.example"})
    mailer.send({"template": "sign_in", "address": "ada@lovelace.example"})
    mail = mails_to(stack, "ada@lovelace.example", wait=30, since=since)[0]
    assert mails_to(stack, "nobody@lovelace.example", since=since) == []
    token = link_in(mail, "/sign-in/link/").rsplit("/", 1)[1]
    link = Links(app.extensions["portal"].services.settings).read_sign_in(token)
    assert link is not None
    assert link.account_id == stack.ids["account:ada"]


def test_sign_in_is_limited_per_address_in_silence_and_per_client_aloud(stack: Stack) -> None:
    with application(stack, SIGN_IN_MAILS_PER_HOUR="2", SIGN_IN_ASKS_PER_HOUR="1000") as app:
        address = f"{secrets.token_hex(4)}@limits.example"
        for _ in range(4):
            answer = ask(browser(app), address)
            assert answer.status_code == 303
        states = [
            row["state"]
            for row in stack.ledger(
                "SELECT state, payload FROM outbox WHERE subject = 'sign-in' ORDER BY id DESC LIMIT 50"
            )
            if address in row["payload"]
        ]
        assert states.count("dead") == 2
        assert len(states) == 4
    with application(stack, SIGN_IN_ASKS_PER_HOUR="1") as app:
        codes = [ask(browser(app), f"{secrets.token_hex(4)}@limits.example").status_code for _ in range(2)]
        assert codes[-1] == 429


def ask(client: FlaskClient, address: str) -> TestResponse:
    root = base_url(client.application)
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/sign-in", base_url=root).text)
    assert found
    return client.post("/sign-in", base_url=root, data={"csrf_token": found.group(1), "email": address})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "a@b",
        "a b@c.example",
        "a@b.example\r\nBcc: x@y.example",
        "@b.example",
        "a@" + "b" * 300 + ".example",
        "<a@b.example>",
        "a@b.example,c@d.example",
    ],
)
def test_what_is_no_address_is_said_before_anything_is_sent(app: Flask, text: str) -> None:
    answer = ask(browser(app), text)
    assert answer.status_code == 400
    assert "Enter an e-mail address" in answer.text


def test_signing_out_here_and_everywhere(app: Flask, stack: Stack) -> None:
    here, there, hers = signed_in(app, stack, "ada"), signed_in(app, stack, "ada"), signed_in(app, stack, "grace")
    call(here, "POST", "/sign-out")
    assert call(here, "GET", "/orders").status_code == 303
    assert call(there, "GET", "/orders").status_code == 200
    again = signed_in(app, stack, "ada")
    call(again, "POST", "/sign-out/everywhere")
    for gone in (again, there):
        assert call(gone, "GET", "/orders").status_code == 303
    assert call(hers, "GET", "/orders").status_code == 200


def test_an_ended_session_leads_htmx_to_a_whole_page(app: Flask, stack: Stack) -> None:
    case = new_order(app, stack)
    answer = call(browser(app), "GET", f"/orders/{case.reference}/status", **{"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "/sign-in"
    assert answer.data == b""


def test_one_comes_back_to_the_page_one_wanted_and_to_nowhere_else(app: Flask, stack: Stack) -> None:
    case = new_order(app, stack)
    ada = browser(app)
    call(ada, "GET", f"/orders/{case.reference}")
    assert call(ada, "POST", sign_in_link(app, stack)).headers["Location"] == f"/orders/{case.reference}"
    ada = browser(app)
    for evil in ("//evil.example/orders", "/orders?next=//evil.example", "/\\evil.example"):
        call(ada, "GET", evil)
    place = call(ada, "POST", sign_in_link(app, stack)).headers["Location"]
    assert place.startswith("/orders")
    assert not urlsplit(place).netloc


def test_an_expired_order_link_offers_a_new_mail(app: Flask, stack: Stack) -> None:
    case = new_order(app, stack)
    order = case.row()
    url = Links(case.services.settings).order(
        reference=order.reference, account_id=order.account_id, now=case.services.now() - 31 * 24 * 3600
    )
    path = urlsplit(url).path
    client = browser(app)
    page = call(client, "GET", path)
    assert page.status_code == 410
    assert "E-mail me a new link" in page.text
    assert call(client, "GET", f"/orders/{case.reference}").status_code == 303
    assert call(client, "POST", path).status_code == 200
    kept = stack.ledger("SELECT payload FROM outbox WHERE subject = ? AND kind = 'mail'", case.reference)
    assert len(kept) == 1
    assert '"order_link"' in kept[0]["payload"]
    for _ in range(3):
        last = call(client, "POST", path)
    assert last.status_code == 429
    assert call(client, "GET", path[:-3] + "abc").status_code == 404


def test_a_thousand_orders_are_paged(app: Flask, stack: Stack) -> None:
    services: Services = app.extensions["portal"].services
    account, now = "001Zz0000000001AAA", services.now()
    with services.ledger.write() as connection:
        connection.execute(
            orders_table.insert(),
            [
                {
                    "reference": f"PG-{n:04d}-{secrets.token_hex(2)}",
                    "account_id": account,
                    "placing": "placed",
                    "place_tries": 1,
                    "status": ("Provisioned", "Failed", "Activating")[n % 3],
                    "items": [],
                    "created_at": now - n // 2,
                    "updated_at": now,
                }
                for n in range(1000)
            ],
        )
        secret = secrets.token_urlsafe(16)
        sessions.insert(
            connection, Session(digest("session", secret), "many@safety.example", None, account, None, now, now + 3600)
        )
    client = browser(app, **{ACCOUNT_COOKIE: secret})
    for query, wanted in (("", 1000), ("?status=failed", 333)):
        seen: list[str] = []
        path = f"/orders{query}"
        while path:
            page = call(client, "GET", path).text
            found = re.findall(r"/orders/(PG-[^\"]+)\"", page)
            assert 0 < len(found) <= 20
            seen += found
            more = re.search(r'rel="next" href="([^"]+)"', page)
            path = more.group(1).replace("&amp;", "&") if more else ""
        assert len(seen) == len(set(seen)) == wanted
    for nonsense in ("?status=nonsense", "?before=%00", "?before=bm9wZQ", "?before=bmFuIHg"):
        assert call(client, "GET", f"/orders{nonsense}").status_code == 404
