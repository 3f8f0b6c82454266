"""Nobody sees or touches what isn't theirs: every route of the application, each denial with its positive control."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from portal.customers.visitor import ACCOUNT_COOKIE, ORDER_COOKIE
from portal.domain.model import CustomerStatus
from portal.ledger import orders, sessions
from portal.ledger.schema import orders as orders_table
from portal.ledger.sessions import Session
from portal.mail.composer import Composer
from portal.mail.mailer import Mailer
from portal.services import Services
from portal.web.signing import Links, digest
from tests.customers import SITUATIONS, application, last_mail, link_in, mails_to, make_order, make_session
from tests.stack import Stack

#: Routes anybody may open: they show nobody's orders.
PUBLIC = {
    "static",
    "brand_stylesheet",
    "checkout.catalogue_page",
    "checkout.add",
    "checkout.basket_page",
    "checkout.change",
    "sign_in.ask",
    "sign_in.send_link",
    "sign_in.sent",
    "sign_in.leave",
    "sign_in.leave_everywhere",
    # Opened by a signed token in the address; what the token opens is tested below.
    "sign_in.open_link",
    "sign_in.use_link",
    "sign_in.open_order_link",
    "sign_in.renew_order_link",
}
#: Routes of whoever is signed in, about their own account.
OWN = {"sign_in.account", "orders.index", "checkout.review", "checkout.place_order"}
#: Routes of one order, with what its owner gets there.
ORDER: dict[str, Callable[[TestResponse, Case], bool]] = {}


@dataclass
class Case:
    """An order of Ada's, and the application it is seen through."""

    app: Flask
    reference: str
    sf_order_id: str
    domain: str  # on its first line: nobody else's page may hold it

    @property
    def services(self) -> Services:
        found: Services = self.app.extensions["portal"].services
        return found

    def row(self) -> orders.Order:
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
    return str(app.extensions["portal"].services.settings.portal_base_url)


def host(app: Flask) -> str:
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


# --- what each route of one order does for its owner ----------------------------------------------------------


def order_route(endpoint: str) -> Callable[[Callable[[TestResponse, Case], bool]], None]:
    def add(check: Callable[[TestResponse, Case], bool]) -> None:
        ORDER[endpoint] = check

    return add


@order_route("orders.show")
def _show(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and case.domain in answer.text


@order_route("orders.status")
def _status(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and 'id="progress"' in answer.text


@order_route("orders.as_json")
def _json(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and answer.json is not None and answer.json["orderId"] == case.sf_order_id


@order_route("orders.placed")
def _placed(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and case.reference in answer.text


@order_route("orders.ask_withdraw")
def _ask_withdraw(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and "Withdraw order" in answer.text


@order_route("orders.withdraw")
def _withdraw(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 303 and case.row().status is CustomerStatus.CANCELLED


@order_route("orders.resume")
def _resume(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 303 and case.row().status is CustomerStatus.ACTIVATING


def _into_whmcs(answer: TestResponse, case: Case) -> bool:
    whmcs = case.services.settings.whmcs_client_area_url
    return answer.status_code == 303 and whmcs is not None and answer.headers["Location"].startswith(whmcs)


ORDER |= {"orders.add_payment_method": _into_whmcs, "orders.client_area": _into_whmcs}

#: Routes that only do something for an order that waits for a payment method, or is set up.
WANTS = {
    "orders.resume": "payment-method-missing",
    "orders.add_payment_method": "payment-method-missing",
    "orders.client_area": "provisioned",
}


def rules_of(app: Flask) -> list[tuple[Rule, str]]:
    """Every route with every method that isn't HEAD or OPTIONS."""
    return [
        (rule, method)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def path_of(rule: Rule, name: str) -> str:
    """The route's path for one order."""
    path = rule.rule
    for argument in rule.arguments:
        path = re.sub(rf"<(?:[^<>:]+:)?{argument}>", name, path)
    return path


def is_customers(rule: Rule) -> bool:
    return rule.endpoint in PUBLIC | OWN or rule.endpoint in ORDER


def test_every_route_is_known_here(app: Flask) -> None:
    """A new route of the customers' blueprints has to be put into one of the lists above, with its control."""
    for rule, _ in rules_of(app):
        blueprint = rule.endpoint.split(".")[0] if "." in rule.endpoint else ""
        if is_customers(rule):
            continue
        assert blueprint not in ("sign_in", "checkout", "orders"), f"{rule.endpoint} is in no list of this test"
    endpoints = {rule.endpoint for rule, _ in rules_of(app)}
    assert endpoints >= PUBLIC | OWN | set(ORDER), "a route of these lists is gone"


def test_one_orders_routes_are_its_owners_alone(app: Flask, stack: Stack) -> None:
    """By reference and by both forms of the Salesforce id: strangers get what nobody's order would get."""
    tried = 0
    for rule, method in rules_of(app):
        if rule.endpoint not in ORDER:
            continue
        for form in ("reference", "18", "15"):
            situation = WANTS.get(rule.endpoint, "pending-review")
            case = new_order(app, stack, situation=situation)
            name = {"reference": case.reference, "18": case.sf_order_id, "15": case.sf_order_id[:15]}[form]
            path, nobodys = path_of(rule, name), path_of(rule, "PO-ZZZZ-ZZZZ")
            before = case.row()
            other = new_order(app, stack, customer="grace")
            for who, client in {
                "nobody": browser(app),
                "a made-up cookie": browser(app, **{ACCOUNT_COOKIE: "made-up", f"{ORDER_COOKIE}abcd1234": "made-up"}),
                "another account": signed_in(app, stack, "grace"),
                "another order's link": with_order_link(app, other),
            }.items():
                answer, control = call(client, method, path), call(client, method, nobodys)
                where = f"{who}: {method} {path} → {answer.status}"
                assert case.domain not in answer.text, where
                assert case.sf_order_id not in answer.text, where
                assert (answer.status_code, answer.data) == (control.status_code, control.data), where
                assert fixed(answer) == fixed(control), where
                if who == "another account":
                    assert answer.status_code == 404, where
                elif rule.endpoint == "orders.as_json":
                    assert answer.status_code == 401, where
                    assert answer.is_json, where
                else:
                    assert urlsplit(answer.headers["Location"]).path.endswith("/sign-in"), where
            assert case.row() == before, f"{method} {path} changed a stranger's order"
            granted = call(signed_in(app, stack, "ada"), method, path)
            assert ORDER[rule.endpoint](granted, case), f"the owner: {method} {path} → {granted.status} {granted.text}"
            tried += 1
    assert tried == 3 * len(ORDER)


def fixed(answer: TestResponse) -> list[tuple[str, str]]:
    """Headers, without cookies: those differ from answer to answer by their signature's time."""
    return sorted((name, value) for name, value in answer.headers if name != "Set-Cookie")


def with_order_link(app: Flask, case: Case) -> FlaskClient:
    """A browser that opened the link out of an order's e-mail."""
    client = browser(app)
    account = case.row().account_id
    url = Links(case.services.settings).order(reference=case.reference, account_id=account, now=case.services.now())
    answer = call(client, "GET", urlsplit(url).path)
    assert answer.status_code == 303
    assert answer.headers["Location"].endswith(f"/orders/{case.reference}")
    return client


def test_an_orders_link_opens_its_routes_but_not_the_client_area(app: Flask, stack: Stack) -> None:
    for rule, method in rules_of(app):
        if rule.endpoint not in ORDER:
            continue
        situation = WANTS.get(rule.endpoint, "pending-review")
        case = new_order(app, stack, situation=situation)
        answer = call(with_order_link(app, case), method, path_of(rule, case.reference))
        if ORDER[rule.endpoint] is _into_whmcs:
            assert urlsplit(answer.headers["Location"]).path.endswith("/sign-in")
        else:
            assert ORDER[rule.endpoint](answer, case), f"{method} {rule.rule} → {answer.status}"


def test_no_route_at_all_shows_a_stranger_the_order(app: Flask, stack: Stack) -> None:
    """Every route there is, the doors' and operators' too, with every argument set to somebody else's order."""
    case = new_order(app, stack)
    for client, (rule, method), name in itertools.product(
        (browser(app), signed_in(app, stack, "grace")), rules_of(app), (case.reference, case.sf_order_id)
    ):
        if rule.endpoint == "static" or not ("GET" in method or is_customers(rule)):
            continue
        answer = call(client, method, path_of(rule, name))
        assert case.domain not in answer.text, f"{method} {rule.rule}"
        assert answer.status_code < 500 or not is_customers(rule), f"{method} {rule.rule} → {answer.status}"


def test_own_pages_are_for_whoever_is_signed_in(app: Flask, stack: Stack) -> None:
    mine, hers = new_order(app, stack), new_order(app, stack, customer="grace")
    listed = call(signed_in(app, stack, "ada"), "GET", "/orders").text
    assert mine.reference in listed
    assert hers.reference not in listed
    for rule, method in rules_of(app):
        if rule.endpoint in OWN:
            denied = call(browser(app), method, rule.rule)
            assert urlsplit(denied.headers["Location"]).path.endswith("/sign-in"), rule.rule
            granted = call(signed_in(app, stack, "ada"), method, rule.rule)
            assert granted.status_code == 200 or granted.headers["Location"].endswith("/basket"), rule.rule


# --- forms, hosts, headers, cookies ---------------------------------------------------------------------------


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
        if method != "GET" or not is_customers(rule) or rule.endpoint in ("static", "brand_stylesheet"):
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
        page = client.get("/shop/", base_url="https://orders.example")
        cookie = page.headers["Set-Cookie"]
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


# --- signing in -----------------------------------------------------------------------------------------------


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
