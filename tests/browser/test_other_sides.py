"""The demo's other sides: each page says that it is pretend, leads to the others, and axe finds nothing on it."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from sandbox.visitor import Visitor
from tests.browser.conftest import Tab, Visit
from tests.customers import ask_for_link, email_of
from tests.stack import Stack

pytestmark = pytest.mark.browser

SIDES = ("salesforce", "whmcs", "mailbox")


def pages_of(stack: Stack, order: str) -> dict[str, list[str]]:
    whmcs = stack.whmcs.get("state", objects="orders")["orders"]
    mails = stack.mailbox.get("messages")["messages"]
    return {
        "salesforce": ["/", f"/orders/{order}", "/accounts", "/products"],
        "whmcs": ["/", f"/orders/{whmcs[-1]['id']}", "/clients", "/clients/1", "/invoices", "/products", "/activity"],
        "mailbox": ["/", f"/mails/{mails[-1]['id']}"],
    }


@pytest.fixture(scope="module")
def provisioned(stack: Stack) -> str:
    """An order that is there on all sides, and a mail: of a sign-in link."""
    with Visitor() as ada:
        ask_for_link(stack, ada, email_of("ada"))
    order = stack.order("support", customer="ada")
    stack.press_button(order)
    return order


def wide(tab: Tab) -> int:
    found: int = tab.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
    return found


@pytest.mark.parametrize("side", SIDES)
def test_every_page_says_what_it_is_and_axe_finds_nothing(
    visit: Visit, stack: Stack, provisioned: str, side: str
) -> None:
    with visit(portal=stack.urls[side]) as tab:
        for path in pages_of(stack, provisioned)[side]:
            tab.go(path)
            band = tab.page.locator(".band")
            assert "Pretend" in band.inner_text(), path
            links = [each.get_attribute("href") for each in band.locator("a").all()]
            assert set(links) == {stack.urls[name] for name in ("portal", *SIDES) if name != side}, path
            for scheme in ("light", "dark"):
                for width in (390, 1280):
                    tab.page.emulate_media(color_scheme=scheme)
                    tab.page.set_viewport_size({"width": width, "height": 844})
                    found = Axe().run(tab.page, options={"resultTypes": ["violations"]})
                    assert found.violations_count == 0, f"{path} {scheme} {width}: {found.generate_report()}"
                    assert width > 700 or wide(tab) <= 0, f"{path}: wider than a phone"


def test_the_list_shows_reference_and_provisioning_on_a_phone(visit: Visit, stack: Stack, provisioned: str) -> None:
    with visit(portal=stack.urls["salesforce"], width=390) as tab:
        tab.go("/")
        row = tab.page.locator("tbody tr", has=tab.page.locator(f"a[href='/orders/{provisioned}']"))
        cell = row.locator("td[data-label='Provisioning']")
        assert "Provisioned" in cell.inner_text()
        box = cell.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert row.locator("td[data-label='Reference']").count() == 1
