"""The operators' pages in a real browser: axe finds nothing, nothing overflows, on a phone, in the dark, without
JavaScript; and a page follows its order by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask

from portal.domain.model import State
from portal.ledger import bulk, hourly, installation, search
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.web.signing import Links
from tests.browser.conftest import Tab, Visit
from tests.browser.served import served
from tests.customers import SITUATIONS, make_order
from tests.fulfilling import customer, provisioned
from tests.operators import ACTS, services_of, session_of
from tests.stack import Stack

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def portal(ops: Flask) -> Iterator[str]:
    """Where it listens."""
    with served(ops) as address:
        yield address


@pytest.fixture(scope="module")
def orders(ops: Flask, stack: Stack) -> dict[str, str]:
    """An order in each state, figures for the charts, and a frozen bulk act."""
    services = services_of(ops)
    made = {name: make_order(ops, stack, SITUATIONS[name]).sf_order_id for name in ("failed", "late", "provisioned")}
    made["waiting"] = make_order(ops, stack, SITUATIONS["activating"]).sf_order_id
    with services.ledger.write() as connection:
        now = services.now()
        connection.execute(
            fulfillments_table.update()
            .where(fulfillments_table.c.sf_order_id == made["waiting"])
            .values(
                state=State.WAITING, due_at=now + 9000, waiting_for="WHMCS is away", waiting_code="WHMCS_UNAVAILABLE"
            )
        )
        for number in range(40):
            state = (State.PROVISIONED, State.FAILED, State.NEEDS_DECISION)[number % 5 % 3]
            hourly.note(connection, state, 3.0 * number, now=now - 3600 * (number % 9))
        wanted = search.Filter(State.FAILED)
        made["bulk"] = str(bulk.freeze(connection, "retry", wanted, shown={}, actor=ACTS, why="axe", now=now))
    return made


PAGES = ("now", "find", "found", "failed", "late", "provisioned", "waiting", "customer", "bulk", "sign-in", "confirm")


def go(tab: Tab, ops: Flask, orders: dict[str, str], name: str) -> None:
    """Load the page of that name."""
    services = services_of(ops)
    if name == "found":
        tab.go("/ops/find")
        tab.page.get_by_label("Find an order").fill("nothing like this")
        tab.page.get_by_role("button", name="Find", exact=True).click()
        tab.waits_for("No order of that")
    elif name in ("sign-in", "confirm"):
        tab.context.clear_cookies()
        link = Links(services.settings).operator(ACTS, now=services.now())
        tab.go("/ops/sign-in" if name == "sign-in" else "/ops" + link.partition("/ops")[2])
    else:
        paths = {"now": "/ops", "find": "/ops/find?state=failed", "bulk": f"/ops/bulk/{orders['bulk']}"}
        customers = f"/ops/orders/{orders['provisioned']}/customer"
        tab.go({**paths, "customer": customers}.get(name) or f"/ops/orders/{orders[name]}")
    tab.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_and_nothing_overflows(
    ops: Flask, portal: str, orders: dict[str, str], visit: Visit, name: str
) -> None:
    with visit(portal=portal) as tab:
        cookie = {"name": "portal_operator", "value": session_of(ops, ACTS), "url": f"{portal}/ops"}
        tab.context.add_cookies([cookie])
        go(tab, ops, orders, name)
        for scheme, width in (("light", 390), ("dark", 1280)):
            tab.page.emulate_media(color_scheme=scheme)
            tab.page.set_viewport_size({"width": width, "height": 844})
            tab.shot(f"ops-{name}-{scheme}-{width}")
            found = Axe().run(tab.page)
            assert not found.response["violations"], found.generate_report()
            overflow = tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{scheme} {width}: {overflow} px too wide"


def test_it_all_works_without_javascript(ops: Flask, portal: str, stack: Stack, visit: Visit, silent: None) -> None:
    who, number = customer(stack, card=False)
    order = stack.order("starter", customer=who)
    assert stack.fulfill(order).status == 409
    stack.whmcs.post("seed", {"paymethods": [{"userid": int(number)}]})
    with visit(portal=portal, java_script_enabled=False, width=390) as tab:
        services = services_of(ops)
        tab.go("/ops" + Links(services.settings).operator(ACTS, now=services.now()).partition("/ops")[2])
        tab.page.get_by_role("button", name="Sign in").click()
        tab.page.get_by_label("Find an order").fill(order[:15])
        tab.page.get_by_role("button", name="Find", exact=True).click()
        assert "PAYMENT_METHOD_MISSING" in tab.text()
        tab.page.locator("summary", has_text="Retry").click()
        form = tab.page.locator("details", has=tab.page.locator("summary", has_text="Retry"))
        form.get_by_label("Why?").fill("they have added a card")
        form.get_by_role("button", name="Retry").click()
        assert "A new attempt begins with validation." in tab.text()
        provisioned(stack, order)
        tab.page.reload()
        assert "they have added a card" in tab.text()
        assert f"by {ACTS}" in tab.text()


def test_what_is_new_on_the_first_page_leaves_the_keyboard_where_it_is(
    ops: Flask, portal: str, orders: dict[str, str], visit: Visit
) -> None:
    with visit(portal=portal) as tab:
        cookie = {"name": "portal_operator", "value": session_of(ops, ACTS), "url": f"{portal}/ops"}
        tab.context.add_cookies([cookie])
        tab.go("/ops")
        tab.page.locator(f"#order-{orders['late']}").focus()
        tab.page.evaluate("document.getElementById('now').classList.add('old')")
        tab.page.locator("#now:not(.old)").wait_for()
        tab.page.locator(f"#order-{orders['late']}:focus").wait_for()


@pytest.mark.parametrize("cdn", ["file", "blocked"])
def test_a_page_follows_with_and_without_htmx_and_says_when_it_is_out_of_date(
    ops: Flask, portal: str, orders: dict[str, str], visit: Visit, cdn: str
) -> None:
    cookie = {"name": "portal_operator", "value": session_of(ops, ACTS), "url": f"{portal}/ops"}
    with visit(portal=portal, cdn=cdn, complaints=True) as tab:  # Chromium complains of what can't be reached
        tab.context.add_cookies([cookie])
        tab.go(f"/ops/orders/{orders['waiting']}")
        fields = tab.page.locator("#fields")
        tab.page.evaluate("""() => {
          document.getElementById("order").classList.add("old");
          const each = document.getElementById("fields");
          each.parentElement.open = true;
          each.focus();
        }""")
        tab.page.locator("#order:not(.old)").wait_for()
        assert fields.evaluate("(each) => each.parentElement.open")
        assert tab.page.evaluate("document.activeElement.id") == "fields"
        assert not tab.page.locator("#stale").is_visible()
        tab.context.set_offline(True)
        tab.waits_for("it couldn’t be brought up to date since")
        tab.context.set_offline(False)
        tab.page.locator("#stale").wait_for(state="hidden")


def test_the_order_s_page_follows_it_by_itself(
    ops: Flask, portal: str, stack: Stack, visit: Visit, silent: None
) -> None:
    order = stack.order("starter", customer=customer(stack)[0])
    stack.whmcs.fault("pause_point", action="AddOrder", order=order)
    assert stack.fulfill(order, prefer="respond-async").status == 202
    held = stack.whmcs.wait_for_call(action="AddOrder", state="held", order=order)
    with visit(portal=portal) as tab:
        cookie = {"name": "portal_operator", "value": session_of(ops, ACTS), "url": f"{portal}/ops"}
        tab.context.add_cookies([cookie])
        tab.go(f"/ops/orders/{order}")
        tab.waits_for("A worker runs it now.")
        tab.waits_for("AddOrder was sent 1 time.")
        opened = tab.page.locator("details", has=tab.page.locator("summary", has_text="Mapping report")).first
        # At once: a poll between a mouse button's down and up would take the click away, and one between finding the
        # element and opening it the element.
        tab.page.evaluate("""() => {
          const found = [...document.querySelectorAll("summary")].find((each) => each.textContent === "Mapping report");
          found.parentElement.open = true;
          found.focus();
        }""")
        closed = tab.page.locator("details", has=tab.page.locator("summary", has_text="The fields as they are"))
        for _poll in range(2):  # when the second is answered, the first has replaced the page's part
            with tab.page.expect_response(f"**/ops/orders/{order}"):
                pass
        assert opened.evaluate("(each) => each.open")
        # Asked of the document in one go: a swap between finding the element and asking it would leave an old one.
        summary = opened.locator("summary").get_attribute("id")
        assert tab.page.evaluate("document.activeElement.id") == summary
        assert opened.locator("dl.detail").first.is_visible()
        assert not closed.evaluate("(each) => each.open")
        stack.whmcs.post("release", {"call": held["id"]})
        tab.waits_for("Nothing is left to do.", 30)
        assert opened.evaluate("(each) => each.open"), "the last poll closes nothing either"
    with services_of(ops).ledger.read() as connection:
        assert installation.paused(connection) is None
