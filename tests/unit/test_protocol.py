"""What the protocol decides where an order can't simply go on: the words, the codes, and how long it waits.

That no course of events makes two Active orders is the search's (test_protocol_search.py).
"""

from __future__ import annotations

from typing import Any

import pytest

from portal.domain.model import ErrorCode, WhmcsOrder, WhmcsService
from portal.domain.protocol import Action, Do, Facts, decide_accept, decide_audit, decide_create
from portal.domain.seen import Candidate, Look, Seen

NOW = 1_000_000.0
DIFFERENT = "product 7 (monthly) was asked for twice and is there once"


def order(status: str, number: str = "12") -> WhmcsOrder:
    return WhmcsOrder(number, "9", status, "", "10.00", "1", True, ("5",))


def service(status: str) -> WhmcsService:
    return WhmcsService("5", "12", "7", "Monthly", 1, status, name="Starter")


def seen(status: str | None, *services: WhmcsService, difference: str | None = None, **more: Any) -> Seen:
    """What was read of order 12 in this status (None: it isn't there), with these services."""
    found = None if status is None else order(status)
    return Seen(order=found, order_read=True, services=services, difference=difference, **more)


def looked(*orders: WhmcsOrder) -> Look:
    return Look(NOW, tuple(Candidate(each, complete=True) for each in orders))


def accepting(what: Seen, **facts: Any) -> Action:
    """What is decided about the elected order 12."""
    return decide_accept(Facts(elected="12", **facts), what, now=NOW)


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        (seen(None), "which WHMCS doesn't have."),
        (seen("Cancelled"), "which is Cancelled in WHMCS."),
        (seen("Active", service("Active"), claim_fault="is older"), "which is older."),
        (seen("Active", service("Active"), difference=DIFFERENT), f"which isn't what was ordered: {DIFFERENT}."),
    ],
)
def test_an_order_that_salesforce_names_and_that_cant_be_it_is_for_a_person(what: Seen, fault: str) -> None:
    action = decide_create(Facts(adopt="12"), what, now=NOW, references_readable=True)
    assert (action.do, action.code) == (Do.NEED_DECISION, ErrorCode.OUTCOME_UNCERTAIN)
    assert action.why.startswith(f"Salesforce names WHMCS order 12, {fault} Clear WHMCS_Order_ID__c")


@pytest.mark.parametrize("status", ["Active", "Pending"])
def test_an_order_that_salesforce_names_and_that_is_it_is_elected(status: str) -> None:
    action = decide_create(Facts(adopt="12"), seen(status, service(status)), now=NOW, references_readable=True)
    assert action == Action(Do.ELECT, "12")


@pytest.mark.parametrize(
    ("what", "code", "why"),
    [
        (seen(None), ErrorCode.OUTCOME_UNCERTAIN, "WHMCS order 12 isn't there any more"),
        (seen("Fraud"), ErrorCode.OUTCOME_UNCERTAIN, "WHMCS order 12 is Fraud in WHMCS"),
        (
            seen("Pending", service("Pending"), difference=DIFFERENT),
            ErrorCode.OUTCOME_UNCERTAIN,
            f"WHMCS order 12 isn't what was ordered: {DIFFERENT}. Put it right in WHMCS and adopt it, or cancel it "
            "there and order a new one",
        ),
        (
            seen("Active", service("Active"), difference=DIFFERENT),
            ErrorCode.OUTCOME_UNCERTAIN,
            f"WHMCS order 12 isn't what was ordered: {DIFFERENT}. Put it right in WHMCS and adopt it, or cancel it "
            "there and order a new one",
        ),
        (
            seen("Active"),
            ErrorCode.WHMCS_SERVICE_NOT_ACTIVE,
            "WHMCS order 12 is Active, but WHMCS shows no service of it",
        ),
        (
            seen("Active", service("Pending"), accept_error="the module said no"),
            ErrorCode.WHMCS_SERVICE_NOT_ACTIVE,
            "WHMCS order 12 is Active, but not its service 5 (Starter: Pending); WHMCS said: the module said no",
        ),
    ],
)
def test_an_elected_order_that_cant_become_what_was_ordered_is_for_a_person(
    what: Seen, code: ErrorCode, why: str
) -> None:
    assert accepting(what) == Action(Do.NEED_DECISION, code=code, why=why)


@pytest.mark.parametrize("doubted", ["add", "accept"])
@pytest.mark.parametrize("left", [0.5, 0.0])
def test_a_call_that_may_still_be_at_work_is_waited_for_and_no_longer(doubted: str, left: float) -> None:
    """Its order is half-built then, or its services aren't set up yet."""
    half_built = seen("Pending", service("Pending"), difference=DIFFERENT)
    what, why = {
        "add": (half_built, "WHMCS may still be making the order"),
        "accept": (seen("Active", service("Pending")), "WHMCS may still be setting up the services"),
    }[doubted]
    action = accepting(what, **{f"{doubted}_open": True, f"{doubted}_in_doubt_until": NOW + left})
    if left:
        assert action == Action(Do.WAIT, until=NOW + left, why=why)
    else:
        assert action.do is Do.NEED_DECISION


def test_who_named_an_order_knew_how_it_differs() -> None:
    pending = seen("Pending", service("Pending"), difference=DIFFERENT)
    active = seen("Active", service("Active"), difference=DIFFERENT)
    assert accepting(pending, adopt="12", confirmed=True) == Action(Do.ACCEPT, "12")
    assert accepting(active, adopt="12", confirmed=True) == Action(Do.DONE)
    assert accepting(active, adopt="13", confirmed=True).do is Do.NEED_DECISION


def test_a_second_active_order_is_for_a_person_before_and_after_the_end() -> None:
    two = Action(Do.NEED_DECISION, why="more than one live WHMCS order bears this order's mark: 12, 13")
    what = seen("Active", service("Active"), look=looked(order("Active"), order("Active", "13")))
    assert accepting(what) == two
    assert decide_audit(Facts(elected="12"), what) == two
    assert decide_create(Facts(), what, now=NOW, references_readable=True) == two


def test_a_second_pending_order_is_cancelled_before_and_after_the_end() -> None:
    what = seen("Active", service("Active"), look=looked(order("Active"), order("Pending", "13")))
    assert accepting(what) == decide_audit(Facts(elected="12"), what) == Action(Do.CANCEL_STRAY, "13")
