"""What strangers can send, and how much of the portal they can hold: no header or parameter is a fault of ours, no
address leads elsewhere, and neither Salesforce nor the threads can be used up through the customers' pages."""

from __future__ import annotations

import base64
import gzip
import itertools
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import NotFound
from werkzeug.test import TestResponse

from jobs.relay import Relay
from portal.customers import waiters
from portal.customers.catalogue import CatalogueCache
from portal.customers.visitor import ACCOUNT_COOKIE, ORDER_COOKIE
from portal.ledger import outbox
from portal.ledger.migrate import upgrade
from portal.queue import embedded
from portal.services import Services, build_services
from portal.settings import Settings
from portal.web.context import portal_of
from portal.web.signing import Links
from tests.customers import SITUATIONS, application, make_order, make_session
from tests.database import DATABASES
from tests.postgres import Postgres
from tests.stack import Stack, http

SALESFORCE_ID = "801000000000001AAA"


@pytest.fixture(scope="module")
def on_postgres(stack: Stack, postgres: Postgres) -> Iterator[Flask]:
    """The application over an empty PostgreSQL database, and the stack's other sides."""
    with application(stack, DATABASE_URL=postgres.database()) as made:
        upgrade(services_of(made).ledger)
        yield made


def services_of(app: Flask) -> Services:
    return portal_of(app).services


def client_of(app: Flask, session: str = "") -> FlaskClient:
    client = app.test_client()
    if session:
        client.set_cookie(ACCOUNT_COOKIE, session, domain="127.0.0.1")
    return client


def root(app: Flask) -> str:
    return str(services_of(app).settings.portal_base_url)


def post(client: FlaskClient, path: str, data: dict[str, Any] | None = None, **more: Any) -> TestResponse:
    """Send a form with the browser's own token."""
    page = client.get("/basket", base_url=root(client.application))
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text) or re.search(
        r'name="csrf_token" value="([^"]+)"', client.get("/", base_url=root(client.application)).text
    )
    assert found, page.text
    fields = {"csrf_token": found[1], **(data or {})}
    return client.post(path, base_url=root(client.application), data=fields, **more)


# --- text nobody expects -----------------------------------------------------------------------------------------

STRANGE = ["http://[", "[::1", "//[", "https://a:99999999999", "\xff\xfe", "\xa0", "٣".encode().decode("latin-1")]
STRANGE += ["a" * 4000, "%00", "=;,\"'", "bytes=9-1", "-1", "1e999", "0" * 300, "W/", "text/html;q=nan", ";q=1,"]
HEADERS = ["Origin", "Referer", "Host", "Cookie", "Accept", "Accept-Language", "Authorization", "Forwarded", "Range"]
HEADERS += ["X-Forwarded-For", "X-Forwarded-Host", "If-None-Match", "If-Modified-Since", "If-Range", "HX-Request"]
HEADERS += ["Content-Type", "Prefer", "X-CSRFToken", "X-SF-Signature", "X-SF-Timestamp", "Idempotency-Key"]
PATHS = [("GET", "/"), ("GET", "/orders"), ("GET", "/nothing"), ("GET", "/static/app.css")]
PATHS += [("GET", "/sign-in"), ("POST", "/sign-in"), ("POST", "/basket/add"), ("POST", "/orders/PO-AAAA-BBBB/resume")]
PATHS += [("POST", f"/orders/{SALESFORCE_ID}/fulfill"), ("POST", "/webhooks/whmcs")]


def test_no_header_makes_a_5xx(stack: Stack) -> None:
    with application(stack, TRUSTED_PROXIES="127.0.0.0/8") as app:
        session = make_session(app, stack)
        client = client_of(app, session)
        for (method, path), name, text in itertools.product(PATHS, HEADERS, STRANGE):
            headers = {name: text}
            answer = client.open(path, method=method, base_url=root(app), headers=headers)
            answer.close()
            assert answer.status_code < 500, f"{method} {path} with {name}: {text!r} → {answer.status}"


def test_an_origin_that_is_none_is_another_site(app: Flask) -> None:
    for origin in ("http://[", "http://[::1", "https://", "127.0.0.1", "http://127.0.0.1@evil.example", "http://x:y:z"):
        answer = post(client_of(app), "/sign-in", {"email": "a@b.example"}, headers={"Origin": origin})
        assert answer.status_code == 400, origin
        assert "This can’t be done" in answer.text
    allowed = post(client_of(app), "/sign-in", {"email": "a@b.example"}, headers={"Origin": root(app)})
    assert allowed.status_code == 303


def test_headers_that_no_library_reads_get_an_answer_on_the_wire(stack: Stack) -> None:
    for name, text in itertools.product(("Origin", "Referer", "Forwarded"), ("http://[", "\xff", "http://]:x")):
        answer = http("POST", f"{stack.urls['portal']}/sign-in", b"email=a", {name: text})
        assert answer.status == 400, f"{name}: {text!r} → {answer.status}"


def cursor(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize("kind", DATABASES)
def test_text_that_no_database_takes_is_refused(stack: Stack, request: pytest.FixtureRequest, kind: str) -> None:
    """Both as it stands and inside a cursor; on PostgreSQL a NUL that got through would be a fault of the statement."""
    app: Flask = request.getfixturevalue("app" if kind == "sqlite" else "on_postgres")
    client = client_of(app, make_session(app, stack))
    made = make_order(app, stack, SITUATIONS["pending-review"])
    for query in (
        "before=%00",
        f"before={cursor(b'1.0 a' + bytes(1) + b'b')}",
        f"before={cursor(b'1.0 ' + 'é'.encode())}",
        f"before={cursor(bytes([0xED, 0xA0, 0x80]))}",
        f"before={cursor(b'1' * 400 + b' PO-AAAA-BBBB')}",
        "status=%00",
        "%00=1",
    ):
        assert client.get(f"/orders?{query}", base_url=root(app)).status_code == 404, query
    for path in ("/orders/%00", f"/orders/{made.reference}%00", "/api/orders/%00", "/o/%00", "/sign-in/link/%00"):
        assert client.get(path, base_url=root(app)).status_code == 404, path
    for fields in ({"email": "a\0@b.example"}, {"email": "a@b.example", "x\0": "1"}):
        assert post(client_of(app), "/sign-in", fields).status_code == 400
    assert post(client, "/checkout", {"key": "\0"}).status_code == 400
    behind = cursor(f"{made.created_at + 0.5:.3f} PO-AAAA-BBBB".encode())  # others' orders may fill the first page
    found = client.get(f"/orders?before={behind}", base_url=root(app))
    assert found.status_code == 200
    assert made.reference in found.text, "the control: a cursor of ours"


def test_two_slashes_lead_nowhere_else(app: Flask, stack: Stack) -> None:
    for path in (
        "/orders//",
        "/orders//x",
        "/evil.example//orders",
        "/sign-in//link/x",
        "/static//app.css",
        "/api//x",
    ):
        for host in (root(app).removeprefix("http://"), "evil.example"):
            answer = client_of(app).get(path, base_url="http://127.0.0.1", headers={"Host": host})
            assert answer.status_code in (400, 404), (path, host, answer.status)
            assert "Location" not in answer.headers
            assert "evil.example" not in answer.text
    wire = http("GET", f"{stack.urls['portal']}/orders//x", headers={"Host": "evil.example"})
    assert wire.status == 404
    assert "location" not in wire.headers
    assert not app.url_map.merge_slashes
    assert not [rule for rule in app.url_map.iter_rules() if rule.rule.endswith("/") and rule.strict_slashes], (
        "a rule that ends in a slash redirects to the Host header's name"
    )


def test_an_address_has_no_second_spelling_with_a_slash_behind_it(app: Flask) -> None:
    """A proxy's rules and an allowlist name one path; what it lets through must not be reached by another."""
    leaves = [rule for rule in app.url_map.iter_rules() if not rule.rule.endswith("/") and "<path:" not in rule.rule]
    assert len(leaves) > 30
    urls = app.url_map.bind("127.0.0.1")
    for rule in leaves:
        path = re.sub(r"<[^>]*>", "801000000000001AAA", rule.rule)
        for method in rule.methods or ():
            if (rule.rule + "/") not in {each.rule for each in app.url_map.iter_rules()}:
                with pytest.raises(NotFound):
                    urls.match(path + "/", method=method)


def test_an_address_too_long_for_the_cookie_costs_no_form(app: Flask, stack: Stack) -> None:
    """The way back is forgotten; the sign-in form that follows works all the same."""
    client = client_of(app)
    long = client.get(f"/orders?status={secrets.token_hex(1900)}", base_url=root(app))
    assert long.status_code == 303
    assert long.headers["Location"].endswith("/sign-in")
    assert all(len(cookie) < 4096 for cookie in long.headers.getlist("Set-Cookie"))
    form = client.get("/sign-in", base_url=root(app))
    assert all(len(cookie) < 4096 for cookie in form.headers.getlist("Set-Cookie"))
    found = re.search(r'name="csrf_token" value="([^"]+)"', form.text)
    assert found
    fields = {"csrf_token": found[1], "email": f"{secrets.token_hex(4)}@b.example"}
    assert client.post("/sign-in", base_url=root(app), data=fields).status_code == 303


# --- faults of our own -------------------------------------------------------------------------------------------


def test_an_error_page_that_fails_is_answered_in_plain_text(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    with application(stack) as app:
        del app.jinja_env.globals["asset"]
        client = client_of(app)
        for path in ("/nothing", "/basket"):
            answer = client.get(path, base_url=root(app))
            assert answer.status_code == 500, path
            assert answer.mimetype == "text/plain"
            assert "something went wrong" in answer.text
            assert answer.headers["Cache-Control"] == "no-store"
        assert "The error page can't be shown" in caplog.text
        assert client.get("/api/orders/x", base_url=root(app)).is_json, "what is for machines needs no page"


def test_nothing_is_put_where_nothing_is_kept(stack: Stack, tmp_path: Path) -> None:
    elsewhere = {
        "PORTAL_VAR_DIR": str(tmp_path / "var"),
        "DATABASE_URL": f"sqlite:///{tmp_path}/ledger.sqlite3",
        "REDIS_URL": stack.environ.get("REDIS_URL") or embedded.ensure_valkey(Path(stack.environ["PORTAL_VAR_DIR"])),
    }
    settings = Settings.from_environ({**stack.environ, **elsewhere})
    services = build_services(settings)
    upgrade(services.ledger)
    services.ledger.dispose()
    assert not (tmp_path / "var").exists()
    assert (tmp_path / "ledger.sqlite3").exists()


# --- what sign-in may cost ---------------------------------------------------------------------------------------


def ask(app: Flask, peer: str = "127.0.0.1") -> int:
    address = f"{secrets.token_hex(6)}@limits.example"
    return post(client_of(app), "/sign-in", {"email": address}, environ_overrides={"REMOTE_ADDR": peer}).status_code


def fresh_counters(app: Flask) -> None:
    redis = services_of(app).redis
    for key in redis.scan_iter("*asked*"):
        redis.delete(key)


def test_one_ipv6_network_is_one_asker(stack: Stack) -> None:
    site = f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}"
    with application(stack, SIGN_IN_ASKS_PER_HOUR="2") as app:
        fresh_counters(app)
        assert [ask(app, f"{site}::{number:x}") for number in range(1, 5)] == [303, 303, 429, 429]
        assert ask(app, f"2001:db8:{secrets.token_hex(2)}:ffff::1") == 303


def test_all_askers_together_have_a_budget(stack: Stack) -> None:
    with application(stack, SIGN_IN_ASKS_PER_HOUR="2", SIGN_IN_TOTAL_PER_HOUR="5") as app:
        fresh_counters(app)
        before = len(stack.ledger("SELECT id FROM outbox WHERE subject = 'sign-in'"))
        answers = [ask(app, f"192.0.2.{number}") for number in range(1, 9)]
        assert answers == [303] * 5 + [429] * 3
        after = len(stack.ledger("SELECT id FROM outbox WHERE subject = 'sign-in'"))
        assert after - before == 5, "beyond the budget nothing is written, so Salesforce isn't asked"
        fresh_counters(app)
    fresh = [row["kind"] for row in stack.ledger("SELECT kind FROM outbox WHERE subject = 'sign-in' ORDER BY id")]
    assert set(fresh) == {outbox.SIGN_IN}


def test_mails_to_customers_go_ahead_of_sign_in_links(stack: Stack, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    with application(stack, DATABASE_URL=url) as app:
        services = services_of(app)
        upgrade(services.ledger)
        relay = Relay(services, "tester")
        carried: list[str] = []
        relay._mailer.send = lambda payload: carried.append(str(payload["name"]))  # type: ignore[method-assign]
        with services.ledger.write() as connection:
            for number in range(3):
                outbox.put(connection, outbox.SIGN_IN, "sign-in", {"name": f"link {number}"}, now=1.0)
            for number in range(2):
                outbox.put(connection, "mail", "PO", {"name": f"order {number}"}, now=2.0)
        assert relay.sign_in() == 0, "asked for earlier, but mails to customers are due"
        while relay.mail():
            pass
        while relay.sign_in():
            pass
        assert carried == ["order 0", "order 1", "link 0", "link 1", "link 2"]


# --- how much a side that hangs can hold -------------------------------------------------------------------------


class Hanging:
    """Stands before a call to another side: whoever comes waits until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.waiting = 0
        self._lock = threading.Lock()

    def __call__(self, *_: Any) -> Any:
        with self._lock:
            self.waiting += 1
        assert self.let_go.wait(60)
        return []


def many(count: int, work: Callable[[], TestResponse], hanging: Hanging, stack: Stack) -> list[TestResponse]:
    """`count` requests at once against a side that hangs; those it doesn't hold are answered before it ends."""
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(work) for _ in range(count)]
        held = waiters.MOST
        stack.wait_for(lambda: sum(each.done() for each in running) == count - held, "the others' answers")
        hanging.let_go.set()
        return [each.result() for each in running]


def test_a_first_catalogue_that_hangs_holds_few_requests(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = Hanging()
    with application(stack) as app:
        cache = portal_of(app).part(CatalogueCache)
        monkeypatch.setattr(cache, "_from_redis", lambda: None)
        monkeypatch.setattr(cache, "_to_redis", lambda catalogue: None)
        monkeypatch.setattr(services_of(app).salesforce, "catalogue", hanging)
        answers = many(8, lambda: client_of(app).get("/", base_url=root(app)), hanging, stack)
        assert hanging.waiting == 1, "one asks Salesforce for all"
        told = [answer for answer in answers if answer.status_code == 503]
        assert len(told) == 8 - waiters.MOST
        assert all("being loaded" in answer.text and answer.headers["Retry-After"] == "5" for answer in told)
        assert client_of(app).get("/", base_url=root(app)).status_code == 200


@pytest.mark.parametrize(
    ("button", "call", "situation"),
    [
        ("resume", "pay_methods", "payment-method-missing"),
        ("payment-method", "sso_link", "payment-method-missing"),
        ("client-area", "sso_link", "provisioned"),
    ],
)
def test_a_whmcs_that_hangs_holds_few_requests(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, button: str, call: str, situation: str
) -> None:
    hanging = Hanging()
    with application(stack) as app:
        made = make_order(app, stack, SITUATIONS[situation])
        session = make_session(app, stack)
        monkeypatch.setattr(services_of(app).whmcs, call, hanging)
        answers = many(8, lambda: post(client_of(app, session), f"/orders/{made.reference}/{button}"), hanging, stack)
        assert hanging.waiting == waiters.MOST
        assert {answer.status_code for answer in answers} == {303}


def test_whoever_finds_no_place_is_told(stack: Stack) -> None:
    with application(stack) as app:
        made = make_order(app, stack, SITUATIONS["payment-method-missing"])
        client = client_of(app, make_session(app, stack))
        places = portal_of(app).part(waiters.Waiters)
        with places.place(), places.place():
            back = post(client, f"/orders/{made.reference}/resume")
            assert back.headers["Location"].endswith(made.reference)
        page = client.get(back.headers["Location"], base_url=root(app))
        assert "We couldn’t check your account just now" in page.text
        with places.place(), places.place(), pytest.raises(waiters.NoPlace), places.place():
            pass


# --- what is compressed, and how many cookies there may be ----------------------------------------------------------


def test_only_what_is_the_same_for_everybody_is_compressed(app: Flask, stack: Stack) -> None:
    client = client_of(app, make_session(app, stack))
    page = client.get("/orders?q=needle", base_url=root(app), headers={"Accept-Encoding": "gzip, br"})
    assert "needle" in page.text
    assert "Content-Encoding" not in page.headers, "it holds a form token beside what the address chose (BREACH)"
    assets = re.findall(r'(?:href|src)="(/(?:static/app|brand)[^"]+)"', page.text)
    assert len(assets) == 3
    for path in assets:
        plain = client.get(path, base_url=root(app))
        small = client.get(path, base_url=root(app), headers={"Accept-Encoding": "gzip"})
        refused = client.get(path, base_url=root(app), headers={"Accept-Encoding": "gzip;q=0"})
        for each in (plain, small, refused):
            each.get_data()
            each.close()
        assert plain.data == refused.data
        assert "Content-Encoding" not in plain.headers
        assert "Accept-Encoding" in small.headers["Vary"]
        if len(plain.data) > 500:
            assert small.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(small.data) == plain.data
            assert len(small.data) < len(plain.data) / 2
            assert int(small.headers["Content-Length"]) == len(small.data)


def test_a_hundred_order_links_leave_ten_cookies(app: Flask, stack: Stack) -> None:
    """The newest ones stay: a Cookie header that servers refuse would lock the customer out."""
    client = client_of(app)
    links = Links(services_of(app).settings)
    made = [make_order(app, stack) for _ in range(25)]
    for each in made:
        url = links.order(reference=each.reference, account_id=stack.ids["account:ada"], now=services_of(app).now())
        assert client.get(urlsplit(url).path, base_url=root(app)).status_code == 303
    kept = [cookie for cookie in (client._cookies or {}).values() if cookie.key.startswith(ORDER_COOKIE)]
    assert len(kept) == 10
    seen = [client.get(f"/orders/{each.reference}", base_url=root(app)).status_code for each in made]
    assert seen == [303] * 15 + [200] * 10
