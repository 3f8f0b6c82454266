"""`flask check-order`: says what an order would become, changes nothing, and names exactly what is then sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.processes import ProcessFailed
from tests.fulfilling import command, customer, provisioned, whmcs_orders
from tests.stack import Stack


def checked(stack: Stack, order: str) -> dict[str, Any]:
    """What the command says of an order that can be fulfilled."""
    return dict(json.loads(command(stack, "check-order", order, "--json")))


def test_the_add_order_it_shows_is_the_one_that_is_sent(stack: Stack) -> None:
    who, number = customer(stack)
    order = stack.order("starter", ("server", 2), customer=who)
    report = checked(stack, order)
    assert report["good"]
    assert [each["step"] for each in report["steps"]] == ["validation", "validation", "order_details", "mapping"]
    assert whmcs_orders(stack, order) == []
    assert stack.fulfillment(order) is None
    assert stack.fulfill(order).status == 200
    provisioned(stack, order)
    (sent,) = [each for each in stack.whmcs.journal(action="AddOrder") if each["mark"] == order]
    shown: dict[str, Any] = {}
    for name, value in report["addOrder"].items():  # the journal has PHP's arrays as they were read
        outer, _, index = name.partition("[")
        if index:
            shown.setdefault(outer, {})[index.rstrip("]")] = value
        else:
            shown[outer] = value
    assert shown == {name: value for name, value in sent["params"].items() if name in shown}
    assert set(shown) == set(sent["params"])
    assert str(shown["clientid"]) == str(number)
    again = checked(stack, order)
    assert len(again["notes"]) == 2
    assert "provisioned" in again["notes"][0]


def test_it_says_why_an_order_would_fail(stack: Stack) -> None:
    who, _ = customer(stack, card=False)
    for order, code in (
        (stack.order("starter", customer=who), "PAYMENT_METHOD_MISSING"),
        (stack.order("unmapped"), "PRODUCT_MAPPING_MISSING"),
        (stack.order("oddcycle"), "PRODUCT_MAPPING_MISSING"),
        (stack.order("starter", status="Draft"), "ORDER_NOT_FULFILLABLE"),
        (stack.order(), "ORDER_HAS_NO_ITEMS"),
    ):
        with pytest.raises(AssertionError, match=code):
            command(stack, "check-order", order)
        assert stack.fulfillment(order) is None


def test_as_it_is_typed(stack: Stack) -> None:
    order = stack.order("starter")
    report = stack.flask("check-order", order[:15])
    assert "✓ mapping: 1 × product 1 monthly" in report
    assert f"notes=sfOrderId={order}" in report
    with pytest.raises(ProcessFailed, match="not a Salesforce id"):
        stack.flask("check-order", "nothing")
