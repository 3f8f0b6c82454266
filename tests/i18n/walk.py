"""Every page and every mail a customer may meet, as the running application makes them, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.test import TestResponse

from portal.customers.catalogue import Catalogue, CatalogueCache, CatalogueUnavailable
from portal.customers.visitor import ACCOUNT_COOKIE
from portal.mail.composer import FOR_THE_MERCHANT, TEMPLATES, Composer
from portal.services import Services
from portal.web import languages
from portal.web.context import portal_of
from portal.web.problems import Problem
from portal.web.signing import Links
from sandbox.seeds import CUSTOMERS
from tests.customers import SITUATIONS, Made, make_order, make_session, take_payment_methods
from tests.customers_in_process import base_url, browser
from tests.stack import Stack

#: Blueprints whose every page is walked; routes whose answer is no page.
BLUEPRINTS = ("checkout", "sign_in", "orders", "language")
NO_PAGE = {"orders.as_json"}

DAY = 86_400


@dataclass(frozen=True)
class Seen:
    """One page or mail: what it is, and its HTML."""

    name: str
    html: str


class Walk:
    """A customer who looks at everything in one language; `pages` gathers what was shown."""

    def __init__(self, app: Flask, stack: Stack, language: str) -> None:
        self.app, self.stack = app, stack
        self.services: Services = portal_of(app).services
        self.links = Links(self.services.settings)
        self.pages: list[Seen] = []
        self.visited: set[str] = set()
        self._language = language
        self._client = self._browser()
        self.orders: dict[str, Made] = {name: make_order(app, stack, each) for name, each in SITUATIONS.items()}

    def _browser(self, customer: str | None = "ada") -> Any:
        cookies = {languages.COOKIE: self._language}
        if customer:
            cookies[ACCOUNT_COOKIE] = make_session(self.app, self.stack, customer)
        return browser(self.app, **cookies)

    def sign_in_as(self, customer: str | None) -> None:
        """Another browser: of a customer of the seeds, or of nobody."""
        self._client = self._browser(customer)

    def get(self, path: str, name: str = "") -> TestResponse:
        """Look at a page."""
        answer: TestResponse = self._client.get(path, base_url=base_url(self.app), follow_redirects=False)
        return self._note(answer, path, name or path, "GET")

    def post(self, path: str, name: str = "", token: str | None = None, **fields: str) -> TestResponse:
        """Send a form, and look at the page it leads to."""
        if token is None:
            found = re.search(
                r'name="csrf_token" value="([^"]+)"', self._client.get("/", base_url=base_url(self.app)).text
            )
            assert found, "no form on the start page"
            token = found[1]
        answer: TestResponse = self._client.post(
            path, base_url=base_url(self.app), data={"csrf_token": token, **fields}
        )
        self._note(answer, path, name or f"POST {path}", "POST")
        place = urlsplit(answer.headers.get("Location", ""))
        if 300 <= answer.status_code < 400 and place.path and place.netloc in ("", urlsplit(base_url(self.app)).netloc):
            return self.get(place.path, f"{name or path} →")
        return answer

    def _note(self, answer: TestResponse, path: str, name: str, method: str) -> TestResponse:
        if method == "GET" and answer.status_code != 404:
            endpoint, _ = self.app.url_map.bind("localhost").match(urlsplit(path).path)
            self.visited.add(endpoint)
        if answer.mimetype == "text/html" and answer.text.strip() and "Location" not in answer.headers:
            self.pages.append(Seen(f"{name} {answer.status_code}", answer.text))
        return answer

    # --- the pages ---

    def everything(self) -> None:
        """Walk through all of them."""
        self._shop()
        self._orders()
        self._signing_in()
        self._errors()

    def withdrawing(self) -> None:
        """What only a merchant's settings show: the withdrawal function, notes, the accessibility statement."""
        self.sign_in_as("ada")
        self.get("/accessibility")
        self.get(f"/orders/{self._order('pending-review')}", "may be withdrawn")
        self.get(f"/orders/{self._order('pending-review')}/withdraw", "withdraw in review")
        contract = self._order("provisioned")
        self.get(f"/orders/{contract}", "contract")
        self.get(f"/orders/{contract}/withdraw", "withdraw from contract")
        self.post(f"/orders/{contract}/withdraw", "withdrawn from contract", contract="1")

    def _shop(self) -> None:
        entries = {name: self.stack.ids[f"entry:{name}"] for name in ("starter", "server", "support")}
        self.get("/")
        self.get("/basket", "empty basket")
        self.post("/basket/add", "no domain", entry=entries["starter"], domain="???")
        self.post("/basket/add", "no hostname", entry=entries["server"], hostname="???")
        self.post("/basket/add", "no quantity", entry=entries["support"], quantity="0")
        self.post("/basket/add", "gone", entry="01u000000000000AAA")
        self.post("/basket/add", "added", entry=entries["starter"], domain="one.example.com")
        self.post("/basket/add", "twice", entry=entries["starter"], domain="one.example.com")
        self.post("/basket/add", "added", entry=entries["support"], quantity="2")
        self.post("/basket/change", "no quantity", line="1", quantity="0")
        self.post(
            "/basket/add", "too many", entry=entries["starter"], domain=" ".join(f"n{n}.example.com" for n in range(30))
        )
        review = self.get("/checkout", "review")
        self.post("/checkout", "changed meanwhile", key=_field(review, "key"), reviewed="0")
        reviewed = {"key": _field(review, "key"), "reviewed": _field(review, "reviewed")}
        self.post("/checkout", "placed", **reviewed)
        self.post("/basket/add", "the same domain again", entry=entries["starter"], domain="one.example.com")
        again = self.get("/checkout", "ordered before")
        self.post("/checkout", "not confirmed", key=_field(again, "key"), reviewed=_field(again, "reviewed"))
        with _catalogue(self.app, CatalogueUnavailable("away")):
            self.get("/", "no catalogue")
        with _catalogue(self.app, CatalogueUnavailable("soon", soon=True)):
            self.get("/", "catalogue soon")
        with _catalogue(self.app, Catalogue(products=(), read_at=self.services.now())):
            self.get("/", "nothing on offer")
        self.sign_in_as("grace")  # without a payment method
        self.post("/basket/add", "added", entry=entries["support"])
        for _ in range(20):
            if "payment" in self.get("/checkout", "no payment method").text:
                break

    def _orders(self) -> None:
        self.sign_in_as("ada")
        self.get("/orders")
        self.get("/orders?status=needs-you")
        self.get("/orders?q=nothing+like+it", "nothing found")
        self.get("/orders/rows")
        for name, made in self.orders.items():
            self.get(f"/orders/{made.reference}", name)
        pending = self.orders["pending-review"].reference
        self.get(f"/orders/{pending}/status")
        self.get(f"/orders/{pending}/placed")
        self.get(f"/orders/{pending}/withdraw")
        self.post(f"/orders/{self.orders['activating'].reference}/withdraw", "too late to withdraw")
        missing = self._order("payment-method-missing")
        take_payment_methods(self.stack, 1)
        self.post(f"/orders/{missing}/resume", "no payment method yet")
        self.stack.whmcs.fault("error", action="GetPayMethods", count=0, status=500, body={})
        self.post(f"/orders/{missing}/resume", "can't be asked")
        self.stack.whmcs.clear_faults()
        for _ in range(12):
            answer = self.post(f"/orders/{missing}/resume", "pressed too often")
            if answer.status_code != 200:
                break
        self.post(f"/orders/{self._order('pending-review')}/withdraw", "withdrawn")
        self.post(f"/orders/{self._order('withdrawn')}/again", "again")
        self.get("/account")
        self.sign_in_as("mary")
        self.get("/orders", "no orders")

    def _signing_in(self) -> None:
        account, now = self.stack.ids["account:ada"], self.services.now()
        reference = self.orders["pending-review"].reference
        self.sign_in_as(None)
        self.get("/sign-in")
        for asking in ("/checkout", f"/orders/{reference}", "/orders"):
            self.get(asking, "asked to sign in")
            self.get("/sign-in", f"asked to sign in because of {asking}")
        self.post("/sign-in", "no address", email="ada")
        self.get("/sign-in/sent", "asked by nobody")
        self.post("/sign-in", "asked", email="nobody@walk.example")
        for ago in (0, 10_000):
            url = self.links.sign_in(email="ada@lovelace.example", contact_id=None, account_id=account, now=now - ago)
            self.get(urlsplit(url).path, "sign-in link")
        for ago in (0, 31):
            url = self.links.order(reference=reference, account_id=account, now=now - ago * DAY)
            self.get(urlsplit(url).path, "order link")
        self.get(urlsplit(url).path + "x", "unknown link")
        for _ in range(4):
            self.post(urlsplit(url).path, "another link")
        for way in ("/sign-out", "/sign-out/everywhere"):
            self.sign_in_as("ada")
            self.post(way, "signed out")

    def _errors(self) -> None:
        self.get("/nothing/here", "not found")
        self.post("/account", "not allowed")
        self.post("/sign-out", "stale form", token="old")
        self.post("/language", "no language", language="")
        self.post("/sign-in", "too much", email="a" * 70_000)
        for problem in (Problem(429, "rate_limited", "Too Many Requests"), Problem(503, "ledger_unavailable", "Away")):
            self._show(problem)
        self._show(Problem(503, "outcome_unknown", "Service unavailable"))
        self._show(Problem(500, "internal_error", "Internal error"))

    def _show(self, problem: Problem) -> None:
        """An error as a page of ours would be answered with."""
        headers = {"Cookie": f"{languages.COOKIE}={self._language}"}
        with self.app.test_request_context("/", base_url=base_url(self.app), headers=headers):
            answer = self.app.make_response(self.app.handle_user_exception(problem))
        self.pages.append(Seen(f"{problem.code} {problem.status}", answer.get_data(as_text=True)))

    def data(self) -> set[str]:
        """What is on pages and in mails that isn't ours to say."""
        settings = self.services.settings
        catalogue = portal_of(self.app).part(CatalogueCache).current()
        known = {settings.brand_name, settings.brand_support_email, settings.mail_from, *languages.LANGUAGES.values()}
        known |= {"example.com", "server1.example.com", "name@example.com", "nobody@walk.example", "one.example.com"}
        for product in catalogue.products:
            known |= {product.name, product.description or "", getattr(product, "family", "") or ""}
        for customer in CUSTOMERS.values():
            known |= {customer.email, customer.company, customer.first}
        known |= {settings.accessibility_note, settings.tax_note, settings.review_time_note}
        known |= {made.domain for made in self.orders.values()}
        return known | {"Business Hosting", "Cloud Server S", "nothing like it"}

    def _order(self, situation: str) -> str:
        """Another order of Ada's; its reference."""
        made = make_order(self.app, self.stack, SITUATIONS[situation])
        self.orders[made.reference] = made
        return made.reference


def mails(app: Flask, language: str) -> Iterator[Seen]:
    """Every mail: its subject and text, and its HTML."""
    services: Services = portal_of(app).services
    composer = Composer(services.settings)
    items = [
        {"name": "Cloud Server S", "quantity": 2, "unitPrice": "15", "cycle": cycle, "domain": None, "hostname": None}
        for cycle in ("Monthly", "Quarterly", "Semi-Annually", "Annually", "Biennially", "Triennially", "One Time")
    ]
    context = {
        "reference": "PO-AAAA-BBBB",
        "items": items,
        "currency": "USD",
        "total": "210.00",
        "withdrawn_at": services.now(),
        "name": CUSTOMERS["ada"].first,
    }
    links = [{"account": "Lovelace Analytics", "url": "https://orders.example/x"}]
    for name in templates():
        for some in (links, links * 2) if name == "sign_in" else (links,):
            payload = {
                "to": "ada@lovelace.example",
                "template": name,
                "account_id": "001000000000001AAA",
                "context": {**context, "links": some},
                "message_id": "walk",
            }
            message = composer.compose(payload, now=services.now(), language=language)
            text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
            assert text is not None
            assert html is not None
            yield Seen(f"mail {name}, text", f"{message['Subject']}\n{text.get_content()}")
            yield Seen(f"mail {name}", html.get_content())


def templates() -> list[str]:
    """The names of all mails to customers."""
    return sorted({path.stem for path in TEMPLATES.glob("[!_]*.txt")} - FOR_THE_MERCHANT)


def pages_of(app: Flask) -> set[str]:
    """Every route of the customers' that shows a page."""
    found = {rule.endpoint for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())}
    return {each for each in found if each.partition(".")[0] in BLUEPRINTS} - NO_PAGE


def _field(page: TestResponse, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    return found[1] if found else ""


@contextmanager
def _catalogue(app: Flask, what: Catalogue | CatalogueUnavailable) -> Iterator[None]:
    """For a while there is this catalogue, or none."""

    def current() -> Catalogue:
        if isinstance(what, CatalogueUnavailable):
            raise what
        return what

    cache = portal_of(app).part(CatalogueCache)
    cache.current = current  # type: ignore[method-assign]
    try:
        yield
    finally:
        del cache.current
