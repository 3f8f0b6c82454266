"""Salesforce's receiver against a real ledger and a real Valkey: acceptance, waiting, idempotency."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal.domain.model import State
from portal.ledger import deliveries, fulfillments
from portal.ledger.schema import deliveries as deliveries_table
from portal.ledger.schema import fulfillments as table
from portal.ledger.schema import idempotency_keys
from portal.web import context
from portal.webhooks.receivers import Receivers
from tests.webhooks.callout import Call
from tests.webhooks.in_process import (
    NO_PAYMENT,
    PROVISIONED,
    Portal,
    application,
    code,
    count,
    finish,
    jobs_sent,
    post,
    soon,
)

# --- the way it should go ------------------------------------------------------------------------------------


def test_the_order_is_in_the_ledger_before_the_202_and_its_job_is_sent(client: FlaskClient, portal: Portal) -> None:
    call = Call(extra={"requestedBy": "Ada"})
    answer = post(client, call)
    assert (answer.status_code, answer.json) == (202, {"status": "Activating"})
    assert answer.headers["Location"] == f"/shop/api/orders/{call.order_id}"
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert jobs_sent(portal) == [call.order_id]
    with portal.ledger.read() as connection:
        row = fulfillments.get(connection, call.order_id)
        assert row is not None
        assert row.state == State.QUEUED
        assert row.requested_by == "Ada"


def test_by_default_the_request_waits_and_tells_the_outcome(client: FlaskClient, portal: Portal) -> None:
    portal.jobs.on_send = soon(portal, **PROVISIONED)
    answer = post(client, Call(), prefer=None)
    assert (answer.status_code, answer.json) == (
        200,
        {"success": True, "status": "Provisioned", "whmcsOrderId": "4711"},
    )


@pytest.mark.parametrize(
    ("error_code", "status"),
    [
        ("PAYMENT_METHOD_MISSING", 409),
        ("ORDER_NOT_FOUND", 404),
        ("PRODUCT_MAPPING_MISSING", 422),
        ("WHMCS_ADD_ORDER_FAILED", 422),
        ("PROVISIONING_ERROR", 422),
    ],
)
def test_failures_are_told_in_the_runbooks_words(
    client: FlaskClient, portal: Portal, error_code: str, status: int
) -> None:
    portal.jobs.on_send = soon(portal, state=State.FAILED, error_code=error_code, error_message="Why it failed.")
    answer = post(client, Call(), prefer=None)
    assert code(answer) == (status, error_code.lower())
    assert json.loads(answer.data)["detail"] == "Why it failed."


def test_one_that_needs_a_decision_is_409(client: FlaskClient, portal: Portal) -> None:
    portal.jobs.on_send = soon(portal, state=State.NEEDS_DECISION, error_message="Two are active.")
    call = Call()
    assert code(post(client, call, prefer=None)) == (409, "needs_decision")
    # the decision isn't the key's answer: once taken, the same key is told what came of it
    finish(portal, call.order_id, **PROVISIONED)
    assert post(client, replace(call, nonce="another")).status_code == 200


def test_prefer_wait_shortens_the_wait(client: FlaskClient, portal: Portal) -> None:
    answer = post(client, Call(), prefer="wait=0")
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=0")
    jobs_sent(portal)  # before another is played the worker for
    portal.jobs.on_send = soon(portal, **PROVISIONED)
    assert post(client, Call(), prefer='foo; x=1, WAIT="15", bar="a"').status_code == 200


def test_an_order_put_off_for_longer_than_the_wait_is_answered_at_once(client: FlaskClient, portal: Portal) -> None:
    portal.jobs.on_send = soon(portal, state=State.WAITING, due_at=time.time() + 3600)
    assert post(client, Call(), prefer=None).status_code == 202


def test_with_too_many_waiters_nobody_else_waits(portal: Portal) -> None:
    portal.settings = replace(portal.settings, fulfillment_max_waiters=0)
    assert post(application(portal).test_client(), Call(), prefer=None).status_code == 202


def test_stopping_wakes_everybody(client: FlaskClient, portal: Portal) -> None:
    waiting = context.portal_of(client.application).part(Receivers).waiting
    portal.jobs.on_send = lambda sf_order_id: waiting.stop()
    assert post(client, Call(), prefer=None).status_code == 202


def test_a_queue_that_is_away_loses_nothing(client: FlaskClient, portal: Portal) -> None:
    def broken(_sf_order_id: str) -> None:
        raise redis.ConnectionError("gone")

    portal.jobs.on_send = broken
    assert post(client, Call()).status_code == 202
    assert count(portal, table) == 1


# --- idempotency ---------------------------------------------------------------------------------------------


def test_the_same_key_again_joins_and_then_repeats_the_final_answer(client: FlaskClient, portal: Portal) -> None:
    call = Call()
    assert post(client, call).status_code == 202
    assert post(client, replace(call, nonce="second")).status_code == 202  # a 202 is the present state, never kept
    finish(portal, call.order_id, **NO_PAYMENT)
    failed = post(client, replace(call, nonce="third"))
    assert code(failed) == (409, "payment_method_missing")
    finish(portal, call.order_id, **PROVISIONED)  # by another way
    again = post(client, replace(call, nonce="fourth"))
    assert (again.status_code, again.data) == (failed.status_code, failed.data)
    assert count(portal, table) == 1
    assert count(portal, idempotency_keys) == 1
    assert count(portal, deliveries_table) == 4


def test_a_new_key_on_a_failed_order_is_a_new_attempt(client: FlaskClient, portal: Portal) -> None:
    call = Call()
    post(client, call)
    finish(portal, call.order_id, **NO_PAYMENT)
    assert post(client, replace(call, nonce="n2", key="click-2")).status_code == 202
    with portal.ledger.read() as connection:
        row = fulfillments.get(connection, call.order_id)
        assert row is not None
        assert (row.attempt, row.state) == (2, State.QUEUED)
        key = deliveries.key_of(connection, "click-2", now=time.time())
        assert key is not None
        assert key.attempt == 2


def test_a_new_key_on_a_provisioned_order_gets_the_same_whmcs_id(client: FlaskClient, portal: Portal) -> None:
    call = Call()
    post(client, call)
    finish(portal, call.order_id, **PROVISIONED)
    answer = post(client, replace(call, nonce="n2", key="click-2"))
    assert answer.json == {"success": True, "status": "Provisioned", "whmcsOrderId": "4711"}


def test_a_key_of_another_order_is_refused_and_burns_no_nonce(client: FlaskClient, portal: Portal) -> None:
    first, second = Call(key="shared"), Call(key="shared")
    post(client, first)
    assert code(post(client, second)) == (422, "idempotency_key_reused")
    assert post(client, replace(second, key="own")).status_code == 202


def test_an_expired_key_is_free_again(client: FlaskClient, portal: Portal) -> None:
    assert deliveries.KEY_SECONDS >= 86_400
    call, other = Call(key="old"), Call(key="old")
    post(client, call)
    with portal.ledger.write() as connection:
        connection.execute(sa.update(idempotency_keys).values(expires_at=time.time() - 1))
    assert post(client, other).status_code == 202


def test_concurrent_duplicates_join_one_fulfillment(portal: Portal) -> None:
    app = application(portal)
    call = Call()
    answers: list[tuple[int, bytes]] = []

    def send(number: int) -> None:
        answer = post(app.test_client(), replace(call, nonce=f"n{number}"), prefer=None)
        answers.append((answer.status_code, answer.data))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while count(portal, deliveries_table) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    finish(portal, call.order_id, **PROVISIONED)
    for thread in threads:
        thread.join(30)
    assert len(answers) == 6
    assert {status for status, _ in answers} == {200}
    assert len({body for _, body in answers}) == 1
    assert count(portal, table) == 1
    assert count(portal, idempotency_keys) == 1
