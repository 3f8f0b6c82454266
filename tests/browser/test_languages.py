"""Every page in every language on a phone: nothing overflows, axe finds nothing, and Arabic is mirrored."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask

from portal.web.languages import ENGLISH, LANGUAGES
from tests.browser.conftest import Tab, Visit
from tests.browser.test_every_page import BROKEN_WORDS, PAGES, REFUSALS, Go, Site, switched_on
from tests.customers import SITUATIONS, make_order, make_session
from tests.stack import Stack

pytestmark = pytest.mark.browser

#: A browser of each language; English is what all other tests of pages are in.
BROWSERS = {"de": "de-DE", "fr": "fr-FR", "es": "es-ES", "ja": "ja-JP", "ar": "ar-EG"}


#: WCAG 2.2, 2.5.3: whose spoken name lacks the words that are seen; who says what they see to a computer isn't heard.
UNSPOKEN = """() => [...document.querySelectorAll(":is(a, button, input)[aria-label]")].filter((each) => {
  const seen = each.labels && each.labels.length ? each.labels[0].innerText : each.innerText;
  return !each.ariaLabel.toLowerCase().includes(seen.trim().toLowerCase());
}).map((each) => each.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def site(app: Flask, stack: Stack) -> Site:
    made = {name: make_order(app, stack, situation) for name, situation in SITUATIONS.items()}
    return Site(app, stack, make_session(app, stack), made)


def test_there_is_a_browser_of_each_language() -> None:
    assert set(BROWSERS) == set(LANGUAGES) - {ENGLISH}


@pytest.mark.parametrize("language", BROWSERS)
@pytest.mark.parametrize(
    ("name", "go"),
    [(name, go) for pages in PAGES.values() for name, go in pages.items()],
    ids=[name for pages in PAGES.values() for name in pages],
)
def test_a_page_fits_a_phone_in_every_language(visit: Visit, site: Site, name: str, go: Go, language: str) -> None:
    with visit(session=site.session, width=390, locale=BROWSERS[language], complaints=name in REFUSALS) as tab:
        go(tab, site)
        fits(tab, name, language)


@pytest.mark.parametrize("language", BROWSERS)
def test_what_a_merchant_switches_on_fits_too(visit: Visit, stack: Stack, language: str) -> None:
    with (
        switched_on(stack) as (site, portal, pages),
        visit(session=site.session, portal=portal, width=390, locale=BROWSERS[language]) as tab,
    ):
        for name, path in pages.items():
            tab.go(path)
            fits(tab, name, language)


def fits(tab: Tab, name: str, language: str) -> None:
    """A screenshot; the page is in that language, as wide as the phone, and axe finds nothing."""
    tab.shot(f"{name}-{language}-390")
    assert tab.page.evaluate("document.documentElement.lang") == language
    wide = tab.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
    assert wide <= 0, f"{wide} pixels wider than the window"
    assert tab.page.evaluate(BROKEN_WORDS) == [], "words stand in two lines"
    results = Axe().run(tab.page, options={"resultTypes": ["violations"]})
    assert results.violations_count == 0, results.generate_report()
    assert mirrored(tab) is (language == "ar")
    assert tab.page.evaluate(UNSPOKEN) == []


def test_a_name_that_lacks_what_is_seen_would_be_found(visit: Visit, site: Site) -> None:
    with visit() as tab:
        tab.go("/")
        assert tab.page.evaluate(UNSPOKEN) == []
        tab.page.locator(".product button").first.evaluate("(each) => { each.ariaLabel = 'Buy'; }")
        assert len(tab.page.evaluate(UNSPOKEN)) == 1


def mirrored(tab: Tab) -> bool:
    """Whether the page begins at the right: the merchant's name, and the first letter of the heading."""
    found: list[bool] = tab.page.evaluate("""() => {
        const brand = document.querySelector(".brand").getBoundingClientRect();
        const heading = document.querySelector("h1"), box = heading.getBoundingClientRect();
        const letter = document.createRange(), walker = document.createTreeWalker(heading, NodeFilter.SHOW_TEXT);
        letter.setStart(walker.nextNode(), 0);
        letter.setEnd(walker.currentNode, 1);
        const first = letter.getBoundingClientRect();
        return [brand.left > window.innerWidth - brand.right, first.left - box.left > box.right - first.right];
    }""")
    assert found[0] == found[1], f"only a part of the page is mirrored: {found}"
    return found[0]


def test_a_language_is_chosen_at_the_foot_of_a_page_without_javascript(visit: Visit, site: Site) -> None:
    with visit(java_script_enabled=False) as tab:
        tab.go("/basket")
        tab.page.get_by_role("button", name="Deutsch").click()
        tab.page.wait_for_url("**/basket")
        assert tab.page.locator("h1").inner_text() == "Warenkorb"
        chosen = tab.page.locator(".languages [aria-current]")
        assert chosen.inner_text() == "Deutsch"
        tab.page.get_by_role("button", name="العربية").click()
        assert tab.page.locator("html").get_attribute("dir") == "rtl"


@pytest.mark.parametrize(
    ("locale", "clock"), [("en-US", r"\d:\d\d\s[AP]M"), ("en-GB", r"\d\d:\d\d"), ("de-DE", r"\d\d:\d\d")]
)
def test_times_have_12_or_24_hours_as_the_reader_is_used_to(visit: Visit, site: Site, locale: str, clock: str) -> None:
    with visit(session=site.session, locale=locale) as tab:
        tab.go(f"/orders/{site.orders['provisioned'].reference}")
        for time in tab.page.locator("time").all_inner_texts():
            assert re.search(clock, time), time
            assert ("AM" in time or "PM" in time) is (locale == "en-US"), time
            assert "UTC" not in time, "it is in the reader's own zone"


@pytest.mark.parametrize(("locale", "clock"), [("en-US", r"\d:\d\d\s[AP]M"), ("de-DE", r"\d\d:\d\d;")])
def test_so_does_the_clock_of_a_page_that_is_out_of_date(visit: Visit, site: Site, locale: str, clock: str) -> None:
    for path in (f"/orders/{site.orders['activating'].reference}", "/orders"):
        with visit(session=site.session, locale=locale, complaints=True) as tab:
            tab.context.route(re.compile(r"/(status|rows)\?"), lambda route: route.fulfill(status=503))
            tab.go(path)
            stale = tab.page.locator("#stale")
            stale.wait_for(state="visible")
            assert re.search(clock, stale.inner_text()), stale.inner_text()


def test_the_tab_says_the_status_in_the_readers_language(visit: Visit, site: Site) -> None:
    with visit(session=site.session, locale="de-DE") as tab:
        waiting = make_order(site.app, site.stack, SITUATIONS["payment-method-missing"])
        tab.go(f"/orders/{waiting.reference}")
        assert tab.page.title().startswith("Wartet auf Sie: ")
        tag = tab.page.locator(".tag").first
        assert "tag-waiting" in (tag.get_attribute("class") or "")
