"""Every button of an operator, pressed in a real browser: what it says, and what becomes of the order."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from flask import Flask

from portal.domain.model import CustomerStatus, State
from portal.ledger import orders
from portal.ops.acts import ACTS as ALL_ACTS
from tests.browser.conftest import Tab, Visit
from tests.browser.served import served
from tests.customers import SITUATIONS, last_mail, mails_to, make_order
from tests.fulfilling import customer, provisioned, sends, statuses, told, whmcs_orders, whmcs_services
from tests.operators import ACTS, LOOKS, force, services_of, session_of, unpaid
from tests.stack import Stack

pytestmark = pytest.mark.browser

WHY = "the customer called"
UNDECIDED = {"state": State.NEEDS_DECISION, "error_code": "OUTCOME_UNCERTAIN", "error_message": "who knows"}


@pytest.fixture(scope="module")
def portal(ops: Flask) -> Iterator[str]:
    """Where it listens."""
    with served(ops) as address:
        yield address


@pytest.fixture
def desk(ops: Flask, portal: str, visit: Visit) -> Visit:
    """Opens an operator's tab, as a context manager."""

    @contextmanager
    def open_tab(who: str = ACTS, width: int = 1280) -> Iterator[Tab]:
        with visit(portal=portal, width=width) as tab:
            cookie = {"name": "portal_operator", "value": session_of(ops, who), "url": f"{portal}/ops"}
            tab.context.add_cookies([cookie])
            yield tab

    return open_tab


@dataclass
class Case:
    """An order to act on: `fill`: the form's fields by name (a box is checked, a list's option chosen); `says`: how
    the answer begins; `came`: raises until it has come about."""

    order: str
    fill: dict[str, str]
    says: str
    came: Callable[[], object]


def try_now(ops: Flask, stack: Stack) -> Case:
    order, _ = unpaid(stack)
    later = services_of(ops).now() + 9000
    force(ops, order, state=State.WAITING, error_code=None, error_message=None, due_at=later, waiting_for="WHMCS")
    return Case(order, {}, "It is tried now.", lambda: provisioned(stack, order))


def retry(ops: Flask, stack: Stack) -> Case:
    order, _ = unpaid(stack)
    says = "A new attempt begins with validation."
    return Case(order, {"step": "validation"}, says, lambda: provisioned(stack, order))


def service(ops: Flask, stack: Stack) -> Case:
    order = stack.order("starter", customer=customer(stack)[0])
    stack.whmcs.post("module-failures", {"message": "no space left on the server", "count": 1})
    assert stack.fulfill(order).status == 409
    (made,) = whmcs_orders(stack, order)
    (known,) = whmcs_services(stack, made["id"])
    fill = {"service_id": str(known["id"])}
    return Case(order, fill, "The service is active", lambda: provisioned(stack, order))


def adopt(ops: Flask, stack: Stack) -> Case:
    order = stack.order("starter", customer=customer(stack)[0])
    assert stack.fulfill(order).status == 200
    number = str(provisioned(stack, order)["id"])
    force(ops, order, elected_whmcs_id=None, active=False, **UNDECIDED)

    def came() -> None:
        assert str(provisioned(stack, order)["id"]) == number
        assert statuses(stack, order) == ["Active"]

    return Case(order, {"whmcs_order_id": number}, f"Adopted WHMCS order {number}", came)


def create(ops: Flask, stack: Stack) -> Case:
    order, _ = unpaid(stack)
    force(ops, order, **UNDECIDED)

    def came() -> None:
        provisioned(stack, order)
        assert sends(stack, order, "AddOrder") == 1

    return Case(order, {"looked": "1"}, "Queued for a new AddOrder.", came)


def handled(ops: Flask, stack: Stack) -> Case:
    order, _ = unpaid(stack)
    force(ops, order, **UNDECIDED)

    def came() -> None:
        row = stack.fulfillment(order)
        assert row is not None
        assert row["handled_at"] is not None

    return Case(order, {}, "Marked as handled", came)


def write_back(ops: Flask, stack: Stack) -> Case:
    order = stack.order("starter", customer=customer(stack)[0])
    assert stack.fulfill(order).status == 200
    provisioned(stack, order)
    since = stack.salesforce.last()

    def came() -> None:
        stack.wait_for(lambda: told(stack, order, since) == ["Provisioned"], "Salesforce to be told again", 60)

    return Case(order, {}, "Salesforce is told once more", came)


def mail(ops: Flask, stack: Stack) -> Case:
    address, before = f"{secrets.token_hex(4)}@acts.example", last_mail(stack)
    made = make_order(ops, stack, SITUATIONS["activating"], email=address)
    with services_of(ops).ledger.write() as connection:
        now = services_of(ops).now()
        orders.set_status(connection, made.sf_order_id, CustomerStatus.PROVISIONED, now=now)
    (first,) = mails_to(stack, address, wait=30, since=before)

    def came() -> None:
        (again,) = mails_to(stack, address, wait=30, since=first["id"])
        assert again["subject"] == first["subject"]

    return Case(made.sf_order_id, {}, "The mail is sent once more.", came)


CASES = {each.__name__: each for each in (try_now, retry, service, adopt, create, handled, write_back, mail)}


def test_every_act_has_a_case() -> None:
    assert set(CASES) == set(ALL_ACTS)


@pytest.mark.parametrize("name", CASES)
def test_an_act_is_pressed(name: str, ops: Flask, stack: Stack, silent: None, desk: Visit) -> None:
    case = CASES[name](ops, stack)
    label = ALL_ACTS[name].label
    with desk(width=390) as tab:
        tab.go(f"/ops/orders/{case.order}")
        act = tab.page.locator("details.act", has=tab.page.locator("summary", has_text=label)).first
        act.locator("summary").click()
        for field, value in case.fill.items():
            control = act.locator(f"[name={field}]")
            if field == "looked":
                control.check()
            elif control.evaluate("(each) => each.tagName") == "SELECT":
                control.select_option(value)
            else:
                control.fill(value)
        act.get_by_role("button", name=label).click()  # without a reason the browser sends nothing
        assert act.get_by_label("Why?").evaluate("(each) => each.validity.valueMissing")
        act.get_by_label("Why?").fill(WHY)
        act.get_by_role("button", name=label).click()
        message = tab.page.get_by_label("Message")
        message.wait_for()
        assert message.inner_text().startswith(case.says)
        case.came()
        tab.page.reload()
        assert f"by {ACTS}" in tab.page.locator("section", has=tab.page.locator("#happened")).inner_text()
        assert WHY in tab.text()


def test_writes_are_paused_and_resumed(stack: Stack, silent: None, desk: Visit) -> None:
    order = stack.order("starter", customer=customer(stack)[0])
    with desk() as tab:
        tab.go("/ops")
        tab.page.locator("summary", has_text="Pause WHMCS writes").click()
        tab.page.get_by_label("Why?").fill("maintenance tonight")
        tab.page.get_by_role("button", name="Pause WHMCS writes").click()
        tab.waits_for("WHMCS writes are paused")
        try:
            assert stack.fulfill(order, prefer="respond-async").status == 202
            tab.go(f"/ops/orders/{order}")
            assert "WHMCS writes are paused: it goes on after they are resumed." in tab.text()
        finally:
            tab.go("/ops")
            tab.page.get_by_label("Why?").fill("over")
            tab.page.get_by_role("button", name="Resume WHMCS writes").click()
        tab.page.locator("summary", has_text="Pause WHMCS writes").wait_for()
        assert "WHMCS writes are paused" not in tab.text()
    provisioned(stack, order)


def test_many_orders_at_once(ops: Flask, stack: Stack, silent: None, desk: Visit) -> None:
    mine = [unpaid(stack)[0] for _ in range(2)]
    for order in mine:
        force(ops, order, error_code="PROVISIONING_ERROR")
    with desk() as tab:

        def freeze() -> None:
            tab.go("/ops/find")
            tab.page.get_by_label("State").select_option("Failed")
            tab.page.get_by_label("Error code").select_option("PROVISIONING_ERROR")
            tab.page.get_by_role("button", name="Filter").click()
            tab.waits_for("2 orders, newest first")
            tab.page.get_by_label("What").select_option("Retry all of them")
            tab.page.get_by_label("Why?").fill(WHY)
            tab.page.get_by_role("button", name="Freeze the list").click()
            tab.waits_for("Nothing was done yet.")

        freeze()
        tab.page.get_by_role("button", name="Cancel").click()
        tab.waits_for("Cancelled after 0 of 2.")
        freeze()
        assert sorted(tab.page.locator(".found a").all_inner_texts()) == sorted(mine)
        tab.page.get_by_role("button", name="Begin with these 2").click()
        tab.waits_for("Done: 2 acted on, 0 left alone", 60)  # the page follows it by itself
    for order in mine:
        provisioned(stack, order)


def test_who_only_looks_has_nothing_to_press(ops: Flask, stack: Stack, desk: Visit) -> None:
    order, _ = unpaid(stack)
    with desk(LOOKS) as tab:
        for path in ("/ops", "/ops/find?state=failed", f"/ops/orders/{order}"):
            tab.go(path)
            buttons = set(tab.page.get_by_role("button").all_inner_texts())
            assert buttons <= {"Find", "Filter", "Sign out"}, path
        assert "who may look, not act" in tab.text()
