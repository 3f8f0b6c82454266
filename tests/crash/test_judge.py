"""The verdict of chaos and matrix finds what it is there to find: wrong outcomes, made by hand, are named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from sandbox.control import SalesforceSandbox, WhmcsSandbox
from sandbox.seeds import seed
from tests.crash.harness import Wanted, percentile, seed_orders
from tests.crash.judge import Plan, Verdict, judge
from tests.stack import http


class Sides:
    """Both sandboxes and a ledger that says what the test wants it to say."""

    def __init__(self, org: SalesforceSandbox, shop: WhmcsSandbox) -> None:
        self.org, self.shop = org, shop
        self.ids = seed(org.url, shop.url)
        self.rows: list[dict[str, Any]] = []
        self._client = 100

    def ledger(self, _sql: str, *_values: Any) -> list[dict[str, Any]]:
        return self.rows

    def wanted(self) -> Wanted:
        """A new order of a new client in Salesforce."""
        self._client += 1
        order = Wanted(self._client, self._client, [("starter", 1), ("server", 2)])
        seed_orders(self, [order])  # type: ignore[arg-type]
        return order

    def call(self, action: str, **form: Any) -> dict[str, Any]:
        """An API call, as the portal makes it."""
        body = {
            "identifier": "sandbox-identifier",
            "secret": "sandbox-secret",
            "action": action,
            "responsetype": "json",
            **form,
        }
        answer = http(
            "POST", self.shop.api_url, urlencode(body).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        )
        found: dict[str, Any] = answer.json()
        assert found["result"] == "success", found
        return found

    def add(self, order: Wanted, *, accept: bool, name: str = "") -> str:
        """A WHMCS order with what was asked for; `name` instead of the first item's own."""
        form: dict[str, Any] = {"clientid": order.client, "paymentmethod": "stripe"}
        for index, (pid, quantity, cycle, own) in enumerate(sorted(order.asked)):
            form |= {
                f"pid[{index}]": pid,
                f"qty[{index}]": quantity,
                f"billingcycle[{index}]": cycle,
                f"domain[{index}]": own if index or not name else name,
            }
        number = str(self.call("AddOrder", **form)["orderid"])
        if accept:
            self.call("AcceptOrder", orderid=number)
        return number

    def tell(
        self,
        order: Wanted,
        whmcs: str | None,
        state: str = "provisioned",
        status: str = "Provisioned",
        code: str | None = None,
        message: str | None = None,
    ) -> None:
        """What ledger and Salesforce say of an order."""
        self.rows.append(
            {
                "sf_order_id": order.order,
                "state": state,
                "elected_whmcs_id": whmcs,
                "error_code": code,
                "error_message": message,
                "waiting_for": None,
            }
        )
        self.org.set(
            "Order",
            order.order,
            Provisioning_Status__c=status,
            WHMCS_Order_ID__c=whmcs,
            Provisioning_Error_Code__c=code,
            Provisioning_Error_Message__c=message,
        )

    def ask(self, order: Wanted) -> None:
        """The product's question about an order: any query that names it is one."""
        query = urlencode({"q": f"SELECT Id FROM Order WHERE Id = '{order.order}'"})
        http("GET", f"{self.org.url}/services/data/v64.0/query?{query}")

    def judged(self, order: Wanted, **how: Any) -> Verdict:
        return judge(self, [order], **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("sides")
    with SalesforceSandbox.start(folder) as org, WhmcsSandbox.start(folder) as shop:
        yield Sides(org, shop)


def test_one_active_order_that_all_sides_know_is_right(sides: Sides) -> None:
    order = sides.wanted()
    sides.tell(order, sides.add(order, accept=True))
    verdict = sides.judged(order)
    assert (verdict.good, verdict.exactly_once, verdict.lines()) == (True, 1, [])


def test_a_cancelled_stray_is_no_fault(sides: Sides) -> None:
    order = sides.wanted()
    sides.tell(order, sides.add(order, accept=True))
    sides.call("CancelOrder", orderid=sides.add(order, accept=False))
    assert sides.judged(order).lines() == []


def test_two_active_orders_are_duplicates(sides: Sides) -> None:
    order = sides.wanted()
    sides.tell(order, sides.add(order, accept=True))
    sides.add(order, accept=True)
    verdict = sides.judged(order)
    assert len(verdict.duplicates) == 1
    assert not verdict.good


def test_a_second_one_that_was_active_once_is_a_duplicate_for_good(sides: Sides) -> None:
    order = sides.wanted()
    sides.tell(order, sides.add(order, accept=True))
    second = int(sides.add(order, accept=True))
    sides.shop.set("orders", second, status="Cancelled")
    assert len(sides.judged(order).duplicates) == 1


def test_an_order_with_a_strange_name_is_nobodys(sides: Sides) -> None:
    order = sides.wanted()
    sides.tell(order, sides.add(order, accept=True))
    sides.add(order, accept=False, name="somebody.example")
    assert len(sides.judged(order).duplicates) == 1


def test_none_at_all_is_lost(sides: Sides) -> None:
    order = sides.wanted()
    sides.tell(order, None)
    assert len(sides.judged(order).lost) == 1
    forgotten = sides.wanted()
    assert len(sides.judged(forgotten).lost) == 1


def test_a_pending_second_one_is_a_stray(sides: Sides) -> None:
    order = sides.wanted()
    sides.tell(order, sides.add(order, accept=True))
    sides.add(order, accept=False)
    assert len(sides.judged(order).strays) == 1


@pytest.mark.parametrize("state", ["queued", "running", "waiting", "failed", "needs_decision"])
def test_what_did_not_end_well_is_stuck(sides: Sides, state: str) -> None:
    order = sides.wanted()
    sides.tell(order, sides.add(order, accept=False), state=state, status="Failed", code="OUTCOME_UNCERTAIN")
    assert len(sides.judged(order).stuck) == 1


def test_a_decision_is_excused_only_where_it_was_planned_and_says_why(sides: Sides) -> None:
    order = sides.wanted()
    sides.tell(order, None, "needs_decision", "Failed", "OUTCOME_UNCERTAIN", "it can't be told")
    planned = Plan(decisions={order.order: "can't be told"})
    verdict = sides.judged(order, plan=planned)
    assert (verdict.good, len(verdict.needs_decision), verdict.exactly_once) == (True, 1, 0)
    assert len(sides.judged(order, plan=Plan(decisions={order.order: "something else"})).stuck) == 1
    assert len(sides.judged(order).stuck) == 1
    sides.org.set("Order", order.order, Provisioning_Error_Message__c=None)
    assert len(sides.judged(order, plan=planned).inconsistent) == 1


def test_an_order_cancelled_in_salesforce_before_it_was_made_ended_as_it_should(sides: Sides) -> None:
    order = sides.wanted()
    sides.org.staff(order.order, Status="Cancelled")
    sides.tell(order, None, "failed", "Failed", "ORDER_NOT_FULFILLABLE", "Its status is Cancelled")
    verdict = sides.judged(order)
    assert (verdict.good, verdict.exactly_once) == (True, 1)
    sides.org.set("Order", order.order, Provisioning_Status__c="Cancelled")
    assert len(sides.judged(order).inconsistent) == 1  # Salesforce must show why
    sides.org.set("Order", order.order, Status="Pending Review")
    assert len(sides.judged(order).stuck) == 1


def test_an_order_made_although_it_was_cancelled_or_changed_is_inconsistent(sides: Sides) -> None:
    """What counts is what Salesforce said when it was asked last before AddOrder."""
    cancelled, changed = sides.wanted(), sides.wanted()
    sides.org.staff(cancelled.order, Status="Cancelled")
    changed.changed = [("starter", 3), ("server", 2)]
    item = next(row for row in sides.org.state("OrderItem")["OrderItem"] if row["OrderId"] == changed.order)
    sides.org.staff(changed.order, items=[{"Id": item["Id"], "Quantity": 3}])
    for order in (cancelled, changed):
        sides.ask(order)
        sides.tell(order, sides.add(order, accept=True))
        assert len(sides.judged(order).inconsistent) == 1


def test_an_order_changed_after_salesforce_was_asked_is_right_as_it_was(sides: Sides) -> None:
    order = sides.wanted()
    sides.ask(order)
    sides.org.staff(order.order, Status="Cancelled")
    sides.tell(order, sides.add(order, accept=True), status="Cancelled")
    assert sides.judged(order).lines() == []


def test_an_order_cancelled_in_whmcs_is_to_be_cancelled_in_salesforce(sides: Sides) -> None:
    order = sides.wanted()
    number = sides.add(order, accept=True)
    sides.shop.staff("cancel", order=number)
    sides.tell(order, number)
    assert len(sides.judged(order).inconsistent) == 1
    sides.org.set("Order", order.order, Provisioning_Status__c="Cancelled")
    verdict = sides.judged(order)
    assert (verdict.good, verdict.exactly_once) == (True, 1)


def test_an_order_that_a_restore_made_forgotten_is_right_if_both_sides_show_it(sides: Sides) -> None:
    order = sides.wanted()
    sides.tell(order, sides.add(order, accept=True))
    sides.rows.pop()
    assert len(sides.judged(order).lost) == 1
    assert sides.judged(order, plan=Plan(forgotten=frozenset({order.order}))).exactly_once == 1


def test_sides_that_disagree_are_inconsistent(sides: Sides) -> None:
    failed = sides.wanted()
    sides.tell(failed, sides.add(failed, accept=True), status="Failed", code="OUTCOME_UNCERTAIN")
    assert len(sides.judged(failed).inconsistent) == 1
    other = sides.wanted()
    number = sides.add(other, accept=True)
    sides.tell(other, str(int(number) + 1000))
    assert len(sides.judged(other).inconsistent) == 1


def test_a_service_that_is_not_active_is_inconsistent(sides: Sides) -> None:
    order = sides.wanted()
    number = sides.add(order, accept=True)
    sides.tell(order, number)
    service = next(each for each in sides.shop.state("services")["services"] if str(each["orderid"]) == number)
    sides.shop.set("services", service["id"], status="Suspended")
    assert len(sides.judged(order).inconsistent) == 1


def test_a_percentile_is_a_value_that_occurred() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(number) for number in range(1, 101)], 0.95) == 95.0
