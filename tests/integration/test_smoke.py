"""The story of `make smoke`, and what one order costs the other sides."""

from __future__ import annotations

import os

import pytest

from sandbox import smoke
from sandbox.seeds import call
from sandbox.visitor import Visitor
from tests.stack import Stack


def demo_of(stack: Stack) -> smoke.Demo:
    return smoke.Demo({**stack.urls, "pid": os.getpid(), "var": str(stack.var)})


@pytest.mark.sqlite  # the demo's ledger
def test_an_order_goes_through_and_every_side_agrees(own_stack: Stack) -> None:
    own_stack.start()
    figures = smoke.run(demo_of(own_stack), orders=2)
    assert figures["status"] == "Provisioned"
    assert figures["salesforceCalls"] <= 3
    assert figures["whmcsCalls"] <= 8


@pytest.mark.sqlite
def test_it_says_so_when_a_side_disagrees(stack: Stack) -> None:
    """The check itself can fail: WHMCS loses the order behind everybody's back."""
    demo = demo_of(stack)
    with Visitor() as visitor:
        reference, page = smoke.place_order(demo, visitor)
        order = smoke.order_in_salesforce(demo, reference)["Id"]
        stack.press_button(order)
        page = smoke.follow(visitor, page)
        whmcs_id = smoke.check(demo, visitor, reference, order, page)
        call("POST", demo.whmcs, "seed", {"update": [{"kind": "orders", "id": int(whmcs_id), "status": "Fraud"}]})
        with pytest.raises(smoke.Failed, match="the WHMCS order is"):
            smoke.check(demo, visitor, reference, order, page)


def test_overlapping_calls_count_once() -> None:
    assert smoke.covered([(1.0, 2.0), (1.5, 3.0), (5.0, 9.0)], until=6.0) == 3.0
