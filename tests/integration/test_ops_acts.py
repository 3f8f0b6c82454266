"""What an operator does in /ops happens, through the protocol, and is recorded with who, when and why."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.domain.model import CustomerStatus, State
from portal.ledger import bulk, fulfillments, installation, orders, outbox, search
from portal.ledger.schema import fulfillments as fulfillments_table
from tests.customers import SITUATIONS, last_mail, mails_to, make_order
from tests.fulfilling import customer, provisioned, sends, statuses, told, whmcs_orders, whmcs_services
from tests.operators import ACTS, force, get, operator_browser, post, said, services_of, unpaid
from tests.stack import Stack

WHY = "the customer called"


@pytest.fixture
def client(ops: Flask) -> FlaskClient:
    """The browser of an operator who may act."""
    return operator_browser(ops)


def act(client: FlaskClient, order: str, name: str, why: str = WHY, **fields: str) -> str:
    """Press one of an order's buttons; returns what its page then says."""
    return said(client, post(client, f"/ops/orders/{order}/acts/{name}", why=why, **fields))


def recorded(stack: Stack, order: str, kind: str) -> dict[str, Any]:
    """The one event of that kind; its reason is checked to be there."""
    (event,) = stack.ledger("SELECT * FROM events WHERE subject = ? AND kind = ?", order, kind)
    assert event["actor"] == ACTS
    assert event["at"] > 0
    detail: dict[str, Any] = json.loads(event["detail"])
    assert detail["why"] == WHY
    return detail


def test_retry(client: FlaskClient, stack: Stack, silent: None) -> None:
    order, _ = unpaid(stack)
    assert "Not done: say why" in act(client, order, "retry", why="  ")
    assert act(client, order, "retry", step="validation") == "A new attempt begins with validation."
    provisioned(stack, order)
    assert recorded(stack, order, "resumed")["step"] == "validation"
    assert "nothing is left to be done" in act(client, order, "retry")


def test_retry_from_a_step_only_where_the_protocol_allows_it(
    ops: Flask, client: FlaskClient, stack: Stack, silent: None
) -> None:
    order, _ = unpaid(stack)
    assert "no WHMCS order is elected yet" in act(client, order, "retry", step="whmcs_accept")
    assert "an attempt begins with validation" in act(client, order, "retry", step="mapping")
    page = get(client, f"/ops/orders/{order}").text
    assert "Not from whmcs_accept: no WHMCS order is elected yet" in page
    assert act(client, order, "retry", step="validation").startswith("A new attempt")
    provisioned(stack, order)
    force(ops, order, state=State.FAILED, error_code="WHMCS_ACCEPT_ORDER_FAILED", error_message="said no")
    since = stack.salesforce.last()
    assert act(client, order, "retry", step="whmcs_accept") == "A new attempt begins with whmcs_accept."
    provisioned(stack, order)
    last = max(row["attempt"] for row in stack.steps(order))
    rows = [row for row in stack.steps(order) if row["attempt"] == last]
    taken = [row["name"] for row in rows if "from an earlier attempt" in (row["detail"] or "")]
    assert taken == ["validation", "order_details", "mapping", "whmcs_create"]
    names = [row["name"] for row in rows if row["name"] not in taken]
    assert names == ["sf_status_update", "whmcs_accept", "sf_success_update"]
    assert not [e for e in stack.salesforce.journal(since=since, order=order) if e["action"] == "query"]
    assert sends(stack, order, "AddOrder") == 1


def test_try_now(ops: Flask, client: FlaskClient, stack: Stack, silent: None) -> None:
    order, _ = unpaid(stack)
    later = services_of(ops).now() + 9000
    force(ops, order, state=State.WAITING, error_code=None, error_message=None, due_at=later, waiting_for="WHMCS")
    assert "Waits: WHMCS." in get(client, f"/ops/orders/{order}").text
    assert act(client, order, "try_now") == "It is tried now."
    provisioned(stack, order)
    recorded(stack, order, "hurried")
    assert "it doesn't wait" in act(client, order, "try_now")


def test_adopt_create_and_mark_as_handled(ops: Flask, client: FlaskClient, stack: Stack, silent: None) -> None:
    order, _ = unpaid(stack)
    force(ops, order, state=State.NEEDS_DECISION, error_code="OUTCOME_UNCERTAIN", error_message="who knows")
    assert f"/ops/orders/{order}" in get(client, "/ops").text.split('id="failed"')[0]
    assert act(client, order, "handled").startswith("Marked as handled")
    recorded(stack, order, "handled")
    link = f"/ops/orders/{order}"
    assert link not in get(client, "/ops").text
    assert link not in get(client, "/ops/find?state=needs_decision").text
    assert link in get(client, "/ops/find?state=handled").text
    assert "handled" in get(client, link).text.split('id="election"')[0]
    assert "look in WHMCS first" in act(client, order, "create")
    assert act(client, order, "create", looked="1") == "Queued for a new AddOrder."
    first = provisioned(stack, order)
    recorded(stack, order, "create_ordered")
    assert "is provisioned: only an order that Failed" in act(client, order, "adopt", whmcs_order_id=str(first["id"]))
    force(ops, order, state=State.NEEDS_DECISION, error_code="OUTCOME_UNCERTAIN", elected_whmcs_id=None, active=False)
    assert "a WHMCS order id is a number" in act(client, order, "adopt", whmcs_order_id="x")
    assert act(client, order, "adopt", whmcs_order_id=str(first["id"])).startswith("Adopted WHMCS order")
    assert provisioned(stack, order)["id"] == first["id"]
    assert statuses(stack, order) == ["Active"]
    assert recorded(stack, order, "adopted")["whmcsOrderId"] == str(first["id"])


def test_one_service_is_set_up_again(client: FlaskClient, stack: Stack, silent: None) -> None:
    who, _ = customer(stack)
    order = stack.order("starter", customer=who)
    stack.whmcs.post("module-failures", {"message": "no space left on the server", "count": 1})
    assert stack.fulfill(order).status == 409
    stack.whmcs.delete("module-failures")
    (made,) = whmcs_orders(stack, order)
    (service,) = whmcs_services(stack, made["id"])
    page = get(client, f"/ops/orders/{order}").text
    assert "WHMCS_SERVICE_NOT_ACTIVE" in page
    assert "isn&#39;t one of this order&#39;s" in act(client, order, "service", service_id="99999").replace(
        "'", "&#39;"
    )
    post(client, "/ops/pause", why="maintenance")
    try:
        assert "WHMCS writes are paused: resume them first" in act(client, order, "service", service_id="1")
    finally:
        post(client, "/ops/resume", why="over")
    assert act(client, order, "service", service_id=str(service["id"])).startswith("The service is active")
    provisioned(stack, order)
    assert recorded(stack, order, "module_create_ordered")["serviceId"] == str(service["id"])


def test_write_back_and_mail_again(ops: Flask, client: FlaskClient, stack: Stack, silent: None) -> None:
    who, _ = customer(stack)
    order = stack.order("starter", customer=who)
    assert stack.fulfill(order).status == 200
    provisioned(stack, order)
    since = stack.salesforce.last()
    assert act(client, order, "write_back") == "Salesforce is told once more how the order stands."
    stack.wait_for(lambda: told(stack, order, since) == ["Provisioned"], "Salesforce to be told again", 60)
    recorded(stack, order, "write_back_ordered")

    address, mail = f"{secrets.token_hex(4)}@acts.example", last_mail(stack)
    made = make_order(ops, stack, SITUATIONS["activating"], email=address)
    with services_of(ops).ledger.write() as connection:
        now = services_of(ops).now()
        orders.set_status(connection, made.sf_order_id, CustomerStatus.PROVISIONED, now=now)
    (first,) = mails_to(stack, address, wait=30, since=mail)
    (sent,) = stack.ledger("SELECT id FROM outbox WHERE kind = 'mail' AND subject = ?", made.reference)
    assert act(client, made.sf_order_id, "mail", message=str(sent["id"])) == "The mail is sent once more."
    (again,) = mails_to(stack, address, wait=30, since=first["id"])
    assert again["subject"] == first["subject"]
    recorded(stack, made.sf_order_id, "mail_ordered")
    other = stack.ledger("SELECT id FROM outbox WHERE kind = 'salesforce' LIMIT 1")
    assert "no such mail" in act(client, made.sf_order_id, "mail", message=str(other[0]["id"]))


def test_the_pause_is_honoured_and_shown(client: FlaskClient, stack: Stack, silent: None) -> None:
    who, _ = customer(stack)
    order = stack.order("starter", customer=who)
    assert "Not done: say why" in said(client, post(client, "/ops/pause", why=""))
    post(client, "/ops/pause", why="maintenance in WHMCS")
    try:
        assert stack.fulfill(order, prefer="wait=1").status == 202
        page = get(client, "/ops").text
        assert "WHMCS writes are paused</strong> by" in page
        assert "maintenance in WHMCS" in page
        looked = ("", "/find", f"/orders/{order}", "/rq/", "/find?state=failed")
        found = post(client, "/ops/find", "/ops", q="nothing like this").text
        for shown in (*(get(client, f"/ops{path}").text for path in looked), found):
            assert shown.count("WHMCS writes are paused</strong> by") == 1, "every page shows it, once"
        assert "WHMCS writes are paused: it goes on" in get(client, f"/ops/orders/{order}").text
        assert sends(stack, order, "AddOrder") == 0
    finally:
        post(client, "/ops/resume", why="over")
    provisioned(stack, order)
    kinds = stack.ledger("SELECT kind, actor FROM events WHERE kind IN ('paused', 'unpaused') ORDER BY id DESC LIMIT 2")
    assert [(row["kind"], row["actor"]) for row in kinds] == [("unpaused", ACTS), ("paused", ACTS)]


def test_in_bulk_exactly_what_was_counted_and_nothing_undecided(
    ops: Flask, client: FlaskClient, stack: Stack, silent: None
) -> None:
    mine = [unpaid(stack)[0] for _ in range(3)]
    undecided = unpaid(stack)[0]
    for order in [*mine, undecided]:
        force(ops, order, error_code="PROVISIONING_ERROR", created_at=services_of(ops).now())
    page = get(client, "/ops/find?state=failed&code=PROVISIONING_ERROR&age=last-hour").text
    assert "4 orders, newest first" in page
    answer = post(client, "/ops/bulk", state="failed", code="PROVISIONING_ERROR", age="last-hour", act="retry", why=WHY)
    path = answer.headers["Location"]
    assert "Retry: 4 orders" in get(client, path).text
    now_page = get(client, "/ops").text
    assert f'{path.partition("/ops")[2]}">Retry: 4 orders</a>, frozen' in now_page, "who lost the address finds it"
    late = unpaid(stack)[0]  # fits the filter, but wasn't counted
    force(ops, late, error_code="PROVISIONING_ERROR")
    force(ops, undecided, state=State.NEEDS_DECISION, elected_whmcs_id="999999999")
    number = int(path.rpartition("/")[2])
    post(client, f"/ops/bulk/{number}/begin")
    stack.wait_for(lambda: "Done: " in get(client, path).text, "the bulk act to be done", 60)
    for order in mine:
        provisioned(stack, order)
        recorded_why = stack.ledger("SELECT detail FROM events WHERE subject = ? AND kind = 'resumed'", order)
        assert WHY in recorded_why[0]["detail"]
    page = get(client, path).text
    assert "Done: 3 acted on, 1 left alone" in page
    assert "left alone: it is needs_decision now" in page
    for order, state in ((late, "failed"), (undecided, "needs_decision")):
        row = stack.fulfillment(order)
        assert row is not None
        assert row["state"] == state
    assert "choose the state failed first" in said(client, post(client, "/ops/bulk", act="retry", why=WHY))
    assert "Not done" in said(
        client, post(client, "/ops/bulk", act="retry", why=WHY, state="needs_decision", code="OUTCOME_UNCERTAIN")
    )
    force(ops, undecided, elected_whmcs_id=None, state=State.FAILED)


def test_a_bulk_act_is_cancelled_between_two_turns(ops: Flask, client: FlaskClient, stack: Stack) -> None:
    services = services_of(ops)
    made = [make_order(ops, stack).sf_order_id for _ in range(bulk.BATCH + 5)]
    with services.ledger.write() as connection:
        now = services.now()
        for order in made:
            fulfillments.request_fulfillment(connection, order, now=now, requested_at=now)
        where = fulfillments_table.c.sf_order_id.in_(made)
        connection.execute(
            fulfillments_table.update().where(where).values(state=State.FAILED, error_code="CLIENT_NOT_MAPPED")
        )
        wanted = search.Filter(State.FAILED, "CLIENT_NOT_MAPPED")
        number = bulk.freeze(connection, "write_back", wanted, shown={}, actor=ACTS, why=WHY, now=now)
        assert bulk.begin(connection, number, actor=ACTS, now=now)
        bulk.advance(connection, now=now)  # in this transaction: the stack's sweep can't be quicker
        assert bulk.cancel(connection, number, actor=ACTS, now=now)
        assert bulk.advance(connection, now=now) == []
        one = bulk.get(connection, number)
        assert one is not None
        assert (one.state, one.done) == ("cancelled", bulk.BATCH)
        assert outbox.due(connection, "salesforce", now=now, limit=1)
        assert installation.paused(connection) is None
    assert f"Cancelled after {bulk.BATCH} of" in get(client, f"/ops/bulk/{number}").text
