"""The operators' `flask` commands as they are typed: what they print, do, refuse and record."""

from __future__ import annotations

import getpass
import json
import re
from typing import Any

import pytest

from sandbox.processes import ProcessFailed
from tests.fulfilling import check_failure, command, customer, provisioned, sends, until, whmcs_orders
from tests.stack import Stack

#: A client's number from here on is nobody's WHMCS order or service: orders are found by any of these.
NUMBERS = 7_000_000


def events(stack: Stack, order: str) -> list[dict[str, Any]]:
    return stack.ledger("SELECT kind, actor, detail FROM events WHERE subject = ? ORDER BY id", order)


def test_the_commands_as_they_are_typed(stack: Stack, silent: None) -> None:
    """The one test with processes of their own; the others call the same commands in this one, which is quicker."""
    who, number = customer(stack, card=False)
    order = stack.order("starter", customer=who)
    assert stack.fulfill(order).status == 409
    told = stack.flask("fulfillments", "show", order[:15])  # operators copy either form
    assert f"{order}: failed, attempt 1, WHMCS order none" in told
    assert "PAYMENT_METHOD_MISSING: The customer has no payment method" in told
    assert "validation: failed" in told
    stack.whmcs.post("seed", {"paymethods": [{"userid": int(number)}]})
    assert stack.flask("fulfillments", "retry", order).strip() == "Queued."
    provisioned(stack, order)
    (event,) = [event for event in events(stack, order) if event["kind"] == "resumed"]
    assert event["actor"] == getpass.getuser()
    assert json.loads(event["detail"]) == {"why": "retry by command"}
    with pytest.raises(ProcessFailed, match="Error: only an order that Failed can be retried"):
        stack.flask("fulfillments", "retry", order)
    assert "The ledger is at revision" in command(stack, "db", "upgrade")


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "not-an-id"),
        ("retry", "801"),
        ("adopt", "x" * 17, "1"),
        ("create", "é" * 15, "--i-looked-in-whmcs"),
        ("module-create", "801000000000001AAB", "1"),
    ],
)
def test_what_is_no_order_id_is_refused(stack: Stack, arguments: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError, match="Error: not a Salesforce id"):
        command(stack, "fulfillments", *arguments)


def test_an_order_nobody_asked_for_is_refused(stack: Stack) -> None:
    order = stack.order("starter")
    for arguments, said in {
        ("show", order): "nobody asked to fulfil",
        ("retry", order): "only an order that Failed",
        ("adopt", order, "1"): "no fulfillment of",
        ("create", order, "--i-looked-in-whmcs"): "no fulfillment of",
        ("module-create", order, "1"): "only for an order with a WHMCS order",
    }.items():
        with pytest.raises(AssertionError, match=f"Error: .*{said}"):
            command(stack, "fulfillments", *arguments)
    assert stack.fulfillment(order) is None


def test_a_provisioned_order_has_nothing_to_decide(stack: Stack) -> None:
    order = stack.order("starter")
    assert stack.fulfill(order).status == 200
    active = provisioned(stack, order)
    before = stack.fulfillment(order)
    for arguments in (("adopt", order, "1"), ("create", order, "--i-looked-in-whmcs")):
        with pytest.raises(AssertionError, match="is provisioned: only an order that Failed or needs a decision"):
            command(stack, "fulfillments", *arguments)
    with pytest.raises(AssertionError, match="only for an order with a WHMCS order that Failed or needs a decision"):
        command(stack, "fulfillments", "module-create", order, "1")
    assert stack.fulfillment(order) == before
    assert active["status"] == "Active"


def test_an_order_that_is_being_run_has_nothing_to_decide(stack: Stack) -> None:
    order = stack.order("starter")
    stack.whmcs.fault("pause_point", action="AddOrder", order=order)
    assert stack.fulfill(order, prefer="respond-async").status == 202
    held = stack.whmcs.wait_for_call(action="AddOrder", state="held", order=order)
    with pytest.raises(AssertionError, match="is running: only an order that Failed or needs a decision"):
        command(stack, "fulfillments", "create", order, "--i-looked-in-whmcs")
    stack.whmcs.post("release", {"call": held["id"]})
    provisioned(stack, order)
    assert sends(stack, order, "AddOrder") == 1


def test_adopting_another_clients_order_sets_nothing_up(stack: Stack) -> None:
    """A slip of the pen: the right number's neighbour."""
    order = stack.order("starter", customer=customer(stack)[0])
    stack.whmcs.fault(
        "error", action="AddOrder", order=order, status=200, body={"result": "error", "message": "Client ID Not Found"}
    )
    assert stack.fulfill(order).status == 422
    check_failure(stack, order, "WHMCS_ADD_ORDER_FAILED")
    _, stranger = customer(stack)
    row = {"userid": int(stranger), "status": "Pending"}
    (theirs,) = stack.whmcs.post("seed", {"orders": [row]})["orders"]
    command(stack, "fulfillments", "adopt", order, str(theirs))
    until(stack, order, lambda row: row["state"] == "needs_decision")
    assert f"client {stranger}" in check_failure(stack, order, "OUTCOME_UNCERTAIN", state="needs_decision")
    assert sends(stack, str(theirs), "AcceptOrder") == 0
    # Put right by the one who slipped.
    command(stack, "fulfillments", "create", order, "--i-looked-in-whmcs")
    provisioned(stack, order)
    kinds = [event["kind"] for event in events(stack, order) if event["actor"] == getpass.getuser()]
    assert kinds == ["adopted", "create_ordered"]
    assert [made["status"] for made in whmcs_orders(stack, order)] == ["Active"]


def test_orders_are_listed_found_and_shown_by_whatever_a_person_has_of_them(stack: Stack, silent: None) -> None:
    who, number = customer(stack, card=False, id=NUMBERS + 1)
    order = stack.order("starter", customer=who)
    assert stack.fulfill(order, key=f"key-of-{order}").status == 409
    (known,) = stack.ledger("SELECT order_number FROM orders WHERE sf_order_id = ?", order)
    for word in (order, order[:15], known["order_number"], f"key-of-{order}", number):
        assert order in command(stack, "fulfillments", "find", word)
        document = json.loads(command(stack, "fulfillments", "find", word, "--json"))
        assert [each["name"] for each in document] == [order]
        told = command(stack, "fulfillments", "show", word)
        assert f"{order}: failed, attempt 1, WHMCS order none" in told
        assert "@" not in told, "a customer's address isn't printed"
    assert re.search(r"\n  20\d\d-\d\d-\d\d \d\d:\d\d:\d\d attempt 1 validation: failed \(", told)
    assert f"delivery key-of-{order}" in told
    assert "AddOrder was never sent." in told
    shown = json.loads(command(stack, "fulfillments", "show", order, "--json"))
    assert shown["fulfillment"]["error_code"] == "PAYMENT_METHOD_MISSING"
    assert [each["name"] for each in shown["steps"]] == ["validation"]
    assert "write-back Failed" in {each["what"] for each in shown["writeBacks"]}
    assert re.search(r"write-back Failed \d+: sent 20\d\d", told)
    listed = command(stack, "fulfillments", "list", "--state", "failed", "--code", "PAYMENT_METHOD_MISSING")
    assert re.search(rf"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  {order}  failed  PAYMENT_METHOD_MISSING  The customer", listed)
    assert order not in command(stack, "fulfillments", "list", "--state", "failed", "--older-than", "3600")
    assert len(json.loads(command(stack, "fulfillments", "list", "--limit", "1", "--json"))) == 1
    mine = json.loads(command(stack, "fulfillments", "list", "--code", "PAYMENT_METHOD_MISSING", "--json"))
    assert order in [each["sf_order_id"] for each in mine]
    with pytest.raises(AssertionError, match="the ledger knows no order by that"):
        command(stack, "fulfillments", "find", "nothing-like-this")


def test_a_decision_by_command_asks_why(stack: Stack, silent: None) -> None:
    who, number = customer(stack, card=False, id=NUMBERS + 2)
    order = stack.order("starter", customer=who)
    assert stack.fulfill(order).status == 409
    with pytest.raises(AssertionError, match="--why"):
        command(stack, "fulfillments", "decide", order, "--handled")
    with pytest.raises(AssertionError, match="say one of"):
        command(stack, "fulfillments", "decide", order, "--handled", "--create", "--why", "x")
    assert "Marked as handled" in command(stack, "fulfillments", "decide", number, "--handled", "--why", "by hand")
    with pytest.raises(AssertionError, match="not from whmcs_accept: no WHMCS order is elected yet"):
        command(stack, "fulfillments", "retry", order, "--from", "whmcs_accept")
    with pytest.raises(AssertionError, match="look in WHMCS first"):
        command(stack, "fulfillments", "decide", order, "--create", "--why", "x")
    stack.whmcs.post("seed", {"paymethods": [{"userid": int(number)}]})
    told = command(stack, "fulfillments", "decide", order, "--create", "--i-looked-in-whmcs", "--why", "seen")
    assert told.strip() == "Queued for a new AddOrder."
    provisioned(stack, order)
    assert "Salesforce is told once more" in command(stack, "fulfillments", "again", order, "--why", "asked")
    kinds = {event["kind"]: json.loads(event["detail"]) for event in events(stack, order) if event["actor"]}
    assert kinds["handled"] == {"why": "by hand"}
    assert kinds["create_ordered"] == {"why": "seen"}
    assert kinds["write_back_ordered"] == {"why": "asked"}
