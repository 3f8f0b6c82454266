"""Every page of the application, in every situation an order can be in: axe finds nothing, nothing overflows.

Both colour schemes, on a phone and on a desk; no rule of axe is disabled. A screenshot of each is kept.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from werkzeug.serving import make_server

from portal.customers.catalogue import CatalogueCache, CatalogueUnavailable
from portal.ledger.schema import orders as orders_table
from portal.services import Services
from portal.web.context import portal_of
from portal.web.signing import Links
from tests.browser.conftest import Tab, Visit
from tests.browser.served import served
from tests.customers import SITUATIONS, Made, application, make_order, make_session
from tests.stack import Stack

pytestmark = pytest.mark.browser

LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (390, 1280)]

#: Routes whose answer is no page.
NO_PAGE = {"static", "brand_stylesheet", "brand_logo", "orders.as_json"}


@dataclass
class Site:
    """What the pages are about."""

    app: Flask
    stack: Stack
    session: str
    orders: dict[str, Made] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        found: Services = self.app.extensions["portal"].services
        return found

    @property
    def links(self) -> Links:
        return Links(self.services.settings)

    def now(self) -> float:
        return self.services.now()


@pytest.fixture(scope="module")
def site(app: Flask, stack: Stack) -> Site:
    made = {name: make_order(app, stack, situation) for name, situation in SITUATIONS.items()}
    return Site(app, stack, make_session(app, stack), made)


Go = Callable[[Tab, Site], None]


def press(tab: Tab, form: str = "main form") -> None:
    """The first form's button, by its place: its name is another one in each language."""
    tab.page.locator(f"{form} button").first.click()


def path(text: str) -> Go:
    return lambda tab, site: tab.go(text) and None


def order_page(name: str, rest: str = "") -> Go:
    return lambda tab, site: tab.go(f"/orders/{site.orders[name].reference}{rest}") and None


def filled_basket(tab: Tab, site: Site) -> None:
    for entry, box in (("starter", "domain"), ("server", "hostname")):
        tab.go("/")
        card = tab.page.locator(".product", has=tab.page.locator(f"input[value='{site.stack.ids[f'entry:{entry}']}']"))
        card.locator(f"input[name={box}]").fill("one.example.com")
        card.get_by_role("button").click()
        tab.page.wait_for_url("**/basket")


def broken_line(tab: Tab, site: Site) -> None:
    tab.go("/")
    card = tab.page.locator(".product", has=tab.page.locator("input[name=quantity]")).first
    card.locator("input[name=quantity]").fill("0")
    card.get_by_role("button").click()
    tab.page.locator(".fault-summary").wait_for()


def broken_quantity(tab: Tab, site: Site) -> None:
    card = tab.go("/").page.locator(".product", has=tab.page.locator("input[name=quantity]")).first
    card.get_by_role("button").click()
    tab.page.wait_for_url("**/basket")
    tab.page.locator("input[name=quantity]").first.fill("0")
    press(tab, ".line form")
    tab.page.locator(".fault-summary").wait_for()


def review(tab: Tab, site: Site) -> None:
    filled_basket(tab, site)
    tab.go("/checkout")
    tab.page.locator("input[name=reviewed]").wait_for(state="attached")


def broken_address(tab: Tab, site: Site) -> None:
    tab.context.clear_cookies()
    tab.go("/sign-in")
    tab.page.locator("#email").fill("ada")
    press(tab)
    tab.page.locator(".fault-summary").wait_for()


def not_yet_paid(tab: Tab, site: Site) -> None:
    """The review of an account without a payment method, with a domain that is in another open order."""
    made = make_order(site.app, site.stack, customer="grace")
    tab.context.clear_cookies()
    session = make_session(site.app, site.stack, "grace")
    tab.context.add_cookies([{"name": "portal_session", "value": session, "url": tab.portal}])
    card = tab.go("/").page.locator(".product", has=tab.page.locator("input[name=domain]")).first
    card.locator("input[name=domain]").fill(made.domain)
    card.get_by_role("button").click()
    tab.page.wait_for_url("**/basket")
    tab.go("/checkout")
    tab.page.locator("form:has(input[name=reviewed]) button").click()
    tab.page.locator(".fault-summary").wait_for()


def asked_for_link(tab: Tab, site: Site) -> None:
    tab.context.clear_cookies()
    tab.go("/sign-in")
    tab.page.locator("#email").fill("nobody@axe.example")
    press(tab)
    tab.page.wait_for_url("**/sign-in/sent")


def signed_out(text: str) -> Go:
    def go(tab: Tab, site: Site) -> None:
        tab.context.clear_cookies()
        tab.go(text)

    return go


def sign_in_link(ago: float) -> Go:
    def go(tab: Tab, site: Site) -> None:
        url = site.links.sign_in(
            email="ada@lovelace.example",
            contact_id=None,
            account_id=site.stack.ids["account:ada"],
            now=site.now() - ago,
        )
        tab.go(urlsplit(url).path)

    return go


def order_link(days: float, good: bool = True) -> Go:
    def go(tab: Tab, site: Site) -> None:
        url = site.links.order(
            reference=site.orders["pending-review"].reference,
            account_id=site.stack.ids["account:ada"],
            now=site.now() - days * 86_400,
        )
        tab.go(urlsplit(url).path + ("" if good else "x"))

    return go


def renewed(tab: Tab, site: Site) -> None:
    made = make_order(site.app, site.stack)
    url = site.links.order(
        reference=made.reference, account_id=site.stack.ids["account:ada"], now=site.now() - 31 * 86_400
    )
    tab.go(urlsplit(url).path)
    press(tab)
    tab.page.locator("main form").wait_for(state="detached")


def renewed_too_often(tab: Tab, site: Site) -> None:
    made = make_order(site.app, site.stack)
    url = site.links.order(
        reference=made.reference, account_id=site.stack.ids["account:ada"], now=site.now() - 31 * 86_400
    )
    for _ in range(4):
        tab.go(urlsplit(url).path)
        press(tab)
        tab.page.locator("main form").wait_for(state="detached")
    tab.page.locator(f"main a[href='mailto:{CONTACT}']").wait_for()


def stale_form(tab: Tab, site: Site) -> None:
    tab.go("/account")
    tab.page.evaluate("document.querySelector('input[name=csrf_token]').value = 'old'")
    press(tab)
    tab.page.locator("main .alone").wait_for()


def fragment(tab: Tab, site: Site) -> None:
    """The poll's answer, as it stands in the page it belongs to."""
    tab.go(f"/orders/{site.orders['activating'].reference}")
    with tab.page.expect_response("**/status?v=old"):
        tab.page.evaluate("""() => {
            const part = document.getElementById('progress');
            part.setAttribute('hx-get', part.getAttribute('hx-get').replace(/v=.*/, 'v=old'));
            htmx.process(part);
            htmx.trigger(part, 'refresh');
        }""")
    tab.page.locator("#progress[hx-get]:not([hx-get$='v=old'])").wait_for()  # a string of script would need eval


#: What to look at for each route; the name is its screenshot's.
PAGES: dict[str, dict[str, Go]] = {
    "checkout.catalogue_page": {"catalogue": path("/"), "catalogue-fault": broken_line},
    "checkout.basket_page": {"basket-empty": path("/basket"), "basket": filled_basket, "basket-fault": broken_quantity},
    "checkout.review": {"review": review, "review-asks": not_yet_paid},
    "checkout.accessibility": {"accessibility-none": path("/accessibility")},
    "sign_in.ask": {"sign-in": signed_out("/sign-in"), "sign-in-fault": broken_address},
    "sign_in.sent": {"sign-in-sent": asked_for_link},
    "sign_in.open_link": {"sign-in-confirm": sign_in_link(0), "sign-in-link-over": sign_in_link(10_000)},
    "sign_in.open_order_link": {
        "order-link": order_link(0),
        "order-link-over": order_link(31),
        "order-link-unknown": order_link(0, good=False),
        "order-link-sent": renewed,
        "too-often": renewed_too_often,
    },
    "sign_in.account": {"account": path("/account"), "stale-form": stale_form},
    "orders.index": {
        "orders": path("/orders"),
        "orders-filtered": path("/orders?status=failed"),
        "orders-searched": path("/orders?q=nothing+like+it"),
    },
    "orders.rows": {"orders-after-poll": path("/orders?q=ada-only")},
    "orders.show": {f"order-{name}": order_page(name) for name in SITUATIONS},
    "orders.status": {"order-after-poll": fragment},
    "orders.placed": {"placed": order_page("pending-review", "/placed")},
    "orders.ask_withdraw": {"withdraw": order_page("pending-review", "/withdraw")},
    "": {"not-found": path("/nothing/here")},
}
#: Pages whose answer is an error, which Chromium notes in the console.
REFUSALS = {
    "catalogue-fault",
    "basket-fault",
    "sign-in-fault",
    "sign-in-link-over",
    "order-link-over",
    "too-often",
    "order-link-unknown",
    "order-link-sent",
    "stale-form",
    "not-found",
    "accessibility-none",
}


def test_every_page_of_the_application_is_looked_at(app: Flask) -> None:
    pages = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
        and (rule.endpoint.split(".")[0] in ("checkout", "sign_in", "orders") or "." not in rule.endpoint)
    }
    ours = {each for each in pages if "." in each or each in NO_PAGE}
    assert ours - NO_PAGE == set(PAGES) - {""}


@pytest.mark.parametrize(
    ("name", "go"),
    [(name, go) for pages in PAGES.values() for name, go in pages.items()],
    ids=[name for pages in PAGES.values() for name in pages],
)
def test_axe_finds_nothing_and_nothing_overflows(visit: Visit, site: Site, name: str, go: Go) -> None:
    with visit(session=site.session, complaints=name in REFUSALS) as tab:
        go(tab, site)
        look(tab, name)


#: WCAG 2.2, 2.5.5 (AAA): 44 px each way, links inside a sentence excepted, and the skip link, which only has the focus.
SMALL_TARGETS = """() => [...document.querySelectorAll("a, button, input:not([type=hidden])")].filter((each) => {
  const box = each.getBoundingClientRect();
  const sentence = getComputedStyle(each).display === "inline" && each.parentElement.innerText !== each.innerText;
  return box.width > 0 && !sentence && !each.matches(".skip") && (box.height < 43.9 || box.width < 43.9);
}).map((each) => `${each.outerHTML.slice(0, 90)} ${JSON.stringify(each.getBoundingClientRect())}`)"""

#: What of the text matches PATTERN and stands in two lines: it has boxes at different heights.
_BROKEN = """() => {
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    for (const match of walker.currentNode.data.matchAll(PATTERN)) {
      const range = document.createRange();
      range.setStart(walker.currentNode, match.index);
      range.setEnd(walker.currentNode, match.index + match[0].length);
      if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) found.push(match[0]);
    }
  }
  return found;
}"""

#: References of ours.
BROKEN_REFERENCES = _BROKEN.replace("PATTERN", "/PO-[0-9A-Z]{4}-[0-9A-Z]{4}/g")

#: Words of a usual length: something squeezes them. Scripts without spaces break anywhere.
BROKEN_WORDS = _BROKEN.replace(
    "PATTERN", r"/(?<![\p{L}\p{N}])[\p{Script=Latin}\p{Script=Arabic}\p{M}\p{N}]{2,20}(?![\p{L}\p{N}])/gu"
)

CONTACT = "support@localhost"


def look(tab: Tab, name: str) -> None:
    """In every scheme and width: a screenshot, axe, and no sideways scrolling."""
    for scheme, width in LOOKS:
        tab.page.emulate_media(color_scheme=scheme)
        tab.page.set_viewport_size({"width": width, "height": 844 if width < 700 else 800})
        tab.shot(f"{name}-{scheme}-{width}")
        results = Axe().run(tab.page, options={"resultTypes": ["violations"]})
        assert results.violations_count == 0, f"{scheme} {width}: {results.generate_report()}"
        wide = tab.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{scheme} {width}: {wide} pixels wider than the window"
        small = tab.page.evaluate(SMALL_TARGETS)
        assert not small, f"{scheme} {width}: targets under 44 px: {small}"
        broken = tab.page.evaluate(BROKEN_REFERENCES)
        assert not broken, f"{scheme} {width}: a reference breaks in a line: {broken}"
        words = tab.page.evaluate(BROKEN_WORDS)
        assert not words, f"{scheme} {width}: words stand in two lines: {words}"
        assert tab.page.get_by_role("link", name=CONTACT).count() <= 1, "where to ask stands there twice"


@contextmanager
def switched_on(stack: Stack) -> Iterator[tuple[Site, str, dict[str, str]]]:
    """A shop whose merchant has switched everything on: its site, its address, and what there is to look at."""
    with application(stack, **EVERYTHING) as app, served(app) as portal:
        made = {name: make_order(app, stack, SITUATIONS[name]) for name in ("pending-review", "provisioned")}
        waiting, ready = (f"/orders/{each.reference}" for each in made.values())
        pages = {
            "accessibility": "/accessibility",
            "order-with-notes": waiting,
            "withdraw-in-review": f"{waiting}/withdraw",
            "placed-with-notes": f"{waiting}/placed",
            "contract": ready,
            "withdraw-from-contract": f"{ready}/withdraw",
        }
        yield Site(app, stack, make_session(app, stack), made), portal, pages


EVERYTHING = {
    "WITHDRAWAL": "1",
    "ACCESSIBILITY_NOTE": "This shop conforms to WCAG 2.2, level AA.\nTell us what keeps you from using it.",
    "TAX_NOTE": "Prices include 19 % VAT.",
    "REVIEW_TIME_NOTE": "We review on working days, 9 to 17 CET.",
    "BRAND_ADDRESS": "1 Example Street, Springfield",
}


def test_what_a_merchant_switches_on_is_looked_at_too(visit: Visit, stack: Stack) -> None:
    with switched_on(stack) as (site, portal, pages), visit(session=site.session, portal=portal) as tab:
        for name, path in pages.items():
            tab.go(path)
            look(tab, name)
        tab.page.get_by_label("Your name (optional)").fill("Ada Lovelace")
        tab.page.get_by_role("button", name="Confirm withdrawal").click()
        tab.waits_for("You withdrew from the contract on")
        look(tab, "contract-withdrawn")


def test_prices_stand_at_the_right_edge_on_a_phone(visit: Visit, site: Site) -> None:
    """However long a line’s name and domain are: no price jumps below its line and to the left."""
    with visit(session=site.session, width=390) as tab:
        for go, cards in (
            (order_page("provisioned"), ".items li .price"),
            (filled_basket, ".line-head .price"),
            (path("/checkout"), ".items li .price"),
        ):
            go(tab, site)
            assert tab.page.locator(cards).count() > 1
            for price in tab.page.locator(cards).all():
                line = price.locator("xpath=ancestor::*[self::li or contains(@class, 'line-head')][1]")
                at, around = price.bounding_box(), line.bounding_box()
                assert at
                assert around
                assert at["x"] + at["width"] == pytest.approx(around["x"] + around["width"], abs=1.5), cards
                assert at["y"] - around["y"] < 16, f"{cards}: the price stands below its line"


def test_the_cards_of_a_row_are_aligned(visit: Visit, site: Site) -> None:
    """However long a description is: prices, boxes and buttons of neighbours stand at one height each."""
    with visit(session=site.session, width=1280) as tab:
        tab.go("/")
        rows = [row for row in tab.page.locator(".products").all() if row.locator(".product").count() > 1]
        assert rows
        for row in rows:
            row.locator("p.item").first.evaluate("(each) => { each.textContent = 'Long words. '.repeat(30); }")
            for part in (".product-price", "input.text", "button"):
                tops = [round(box["y"]) for each in row.locator(part).all() if (box := each.bounding_box())]
                assert len(tops) > 1
                assert len(set(tops)) == 1, f"{part}: {tops}"


def test_a_product_asks_for_what_makes_sense(visit: Visit, site: Site) -> None:
    """One service for each domain: a product that needs a name has no quantity."""
    with visit(session=site.session) as tab:
        tab.go("/")
        asked = {
            card.locator("h3").inner_text(): [box.get_attribute("name") for box in card.locator("input.text").all()]
            for card in tab.page.locator(".product").all()
        }
        assert asked["Starter Hosting"] == ["domain"]
        assert asked["Cloud Server S"] == ["hostname"]
        assert asked["Priority Support"] == ["quantity"]


def test_a_rows_day_is_the_readers_own(visit: Visit, site: Site) -> None:
    """Half past eleven in the evening by UTC is the next day in Berlin; who has no JavaScript reads UTC's."""
    made = make_order(site.app, site.stack)
    with site.services.ledger.write() as connection:
        connection.execute(
            orders_table.update().where(orders_table.c.reference == made.reference).values(created_at=1_700_004_600.0)
        )
    for script, day in ((True, "15 November 2023"), (False, "14 November 2023")):
        with visit(session=site.session, java_script_enabled=script) as tab:
            tab.go(f"/orders?q={made.domain}")
            assert tab.page.locator(".order-when time").all_inner_texts() == [day]


def test_the_sign_in_button_has_room_below_it(visit: Visit, site: Site) -> None:
    url = site.links.sign_in(
        email="ada@every-page.example", contact_id=None, account_id=site.stack.ids["account:ada"], now=site.now()
    )
    with visit(width=390) as tab:
        tab.go(urlsplit(url).path)
        button = tab.page.get_by_role("button", name="Sign in").bounding_box()
        below = tab.page.get_by_text("Didn’t ask for this?").bounding_box()
        assert button
        assert below
        assert below["y"] - button["y"] - button["height"] >= 16


@pytest.mark.parametrize("width", [390, 1280])
def test_a_rows_tag_takes_no_room_from_its_headline(visit: Visit, site: Site, width: int) -> None:
    """Beside it on a desk, above it on a phone, where some languages have long words for a status."""
    with visit(session=site.session, width=width) as tab:
        tab.go("/orders")
        heads = tab.page.locator(".order-head").all()
        assert heads
        for head in heads:
            tag, title = head.locator(".tag").bounding_box(), head.locator("h2").bounding_box()
            assert tag
            assert title
            assert tag["height"] < 36, "the tag wraps"
            if width == 390:
                assert tag["y"] + tag["height"] <= title["y"] + 1
                assert tag["x"] == pytest.approx(title["x"], abs=1)
            else:
                assert tag["x"] >= title["x"] + title["width"] - 1, "the tag stands below its headline"


def test_an_order_on_paper_has_the_address_and_each_item_once(visit: Visit, stack: Stack, site: Site) -> None:
    made = make_order(site.app, stack, SITUATIONS["provisioned"])
    with (
        application(stack, BRAND_ADDRESS="1 Example Street, Springfield") as app,
        served(app) as portal,
        visit(session=make_session(app, stack), portal=portal) as tab,
    ):
        tab.go(f"/orders/{made.reference}")
        assert tab.page.locator(".letterhead").is_hidden()
        tab.page.emulate_media(media="print")
        text = tab.text()
        assert "1 Example Street, Springfield" in text
        assert text.count(made.domain) == 1, text
        assert "2 × US$120.00 a year" in text
        assert re.search(r"First payment\s+US\$255\.00\s+then US\$15\.00 a month and US\$240\.00 a year", text), text
        assert "Order again" not in text
        assert "English" not in text


def test_axe_would_find_something(visit: Visit) -> None:
    """The control: a page with a fault isn't let through."""
    with visit() as tab:
        tab.go("/sign-in")
        tab.page.evaluate("document.querySelector('label').remove()")
        tab.page.evaluate("document.querySelector('h1').style.color = '#ddd'")
        found = {each["id"] for each in Axe().run(tab.page).response["violations"]}
        assert {"label", "color-contrast"} <= found
        assert not tab.page.evaluate(SMALL_TARGETS)
        assert not tab.page.evaluate(BROKEN_REFERENCES)
        assert not tab.page.evaluate(BROKEN_WORDS)
        tab.page.evaluate("document.querySelector('main button').style.cssText = 'min-height:0;padding:0'")
        tab.page.evaluate("document.querySelector('main p').innerHTML = '<span>PO-AAAA-BBBB</span>'")
        tab.page.evaluate("document.querySelector('main span').style.cssText = 'display:block;width:1em'")
        assert tab.page.evaluate(SMALL_TARGETS)
        assert tab.page.evaluate(BROKEN_REFERENCES)
        tab.page.evaluate("document.querySelector('h1').style.cssText = 'width:2em;overflow-wrap:anywhere'")
        assert tab.page.evaluate(BROKEN_WORDS)


@pytest.fixture
def without_catalogue(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The application where nothing is known of the catalogue; its address."""

    def nothing() -> None:
        raise CatalogueUnavailable("nothing known")

    with application(stack) as made:
        monkeypatch.setattr(portal_of(made).part(CatalogueCache), "current", nothing)
        server = make_server("127.0.0.1", 0, made, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_catalogue_that_is_away_says_so(visit: Visit, without_catalogue: str) -> None:
    with visit(portal=without_catalogue, complaints=True) as tab:
        tab.go("/")
        tab.waits_for("We can’t show our products just now")
        look(tab, "catalogue-away")
