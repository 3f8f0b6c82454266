"""Deliveries that come together are answered as if each had come alone, for one round trip and one commit."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal import logs
from portal.ledger.engine import Ledger, LedgerUnavailable
from portal.web import batch
from portal.webhooks import door
from tests.stack import Stack
from tests.webhooks.callout import Call
from tests.webhooks.hostile import right
from tests.webhooks.in_process import Portal, application, code, post, use_ledger

Answer = TestResponse | batch.Left


def send(client: FlaskClient, *calls: Call | tuple[Call, dict[str, Any]]) -> list[Answer]:
    """All of them in one batch."""

    def request(call: Call, changes: dict[str, Any]) -> Callable[[], TestResponse]:
        return lambda: post(client, call, **changes)

    answers = batch.run([request(*(each if isinstance(each, tuple) else (each, {}))) for each in calls])
    for each in answers:
        if isinstance(each, BaseException) and not isinstance(each, batch.Left):
            raise each
    return answers


def status(answer: Answer) -> int | str:
    return "left" if isinstance(answer, batch.Left) else answer.status_code


def rows(portal: Portal, statement: str, **values: str) -> list[tuple[Any, ...]]:
    with portal.ledger.read() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), values)]


def trips(portal: Portal) -> int:
    stats: Any = portal.redis.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


def test_new_ones_cost_one_round_trip_and_one_commit(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    client = application(portal).test_client()
    assert post(client, Call()).status_code == 202  # the script is known from now on
    written: list[object] = []
    write = Ledger.write
    monkeypatch.setattr(Ledger, "write", lambda self: (written.append(self), write(self))[1])
    calls = [Call() for _ in range(20)]
    before = trips(portal)
    answers = send(client, *calls)
    assert [status(each) for each in answers] == [202] * 20
    assert trips(portal) - before == 1
    assert len(written) == 1
    told = [each.headers["Location"] for each in answers if isinstance(each, TestResponse)]
    assert [each.rpartition("/")[2] for each in told] == [call.order_id for call in calls], "each its own answer"
    taken = {order for (order,) in rows(portal, "SELECT sf_order_id FROM deliveries")}
    assert {call.order_id for call in calls} < taken
    assert [post(client, each).status_code for each in calls] == [401] * 20, "each nonce is used up"


def test_each_gets_the_answer_it_would_get_alone(portal: Portal) -> None:
    client = application(portal).test_client()
    first, other = Call(), Call()
    assert post(client, first).status_code == 202
    assert post(client, other).status_code == 202
    new, twice = Call(), Call()
    answers = send(
        client,
        new,
        first,  # a replay
        replace(Call(), order_id=first.order_id, key=first.key),  # the same click again
        replace(Call(), key=first.key),  # a key of another order
        twice,
        twice,  # a replay of one in the same batch
        replace(Call(), order_id=twice.order_id, key=twice.key),  # the same click twice in the same batch
        replace(Call(), order_id=other.order_id),  # another click on an order that is asked for
        Call(),
    )
    assert [status(each) for each in answers] == [202, 401, 202, 422, 202, 401, 202, 202, 202]
    codes = [code(each)[1] for each in answers if isinstance(each, TestResponse) and each.status_code >= 400]
    assert codes == ["nonce_already_used", "idempotency_key_reused", "nonce_already_used"]
    assert rows(portal, "SELECT DISTINCT attempt FROM fulfillments") == [(1,)]


def test_what_may_take_its_time_leaves_with_nothing_done(portal: Portal) -> None:
    client = application(portal).test_client()
    waits, forged, stale, large = Call(), Call(), replace(Call(), timestamp="2020-01-01T00:00:00Z"), Call()
    good = Call()
    answers = send(
        client,
        (waits, {"prefer": "wait=20"}),
        (forged, {"headers": {"X-SF-Signature": "0" * 64}}),
        stale,
        (large, {"body": b"x" * 70_000}),
        good,
    )
    assert [status(each) for each in answers] == ["left"] * 4 + [202]
    assert rows(portal, "SELECT sf_order_id FROM deliveries") == [(good.order_id,)]
    # Begun again in a thread, each is judged as ever: no nonce and no count was used up.
    assert post(client, waits, prefer="wait=0").status_code == 202
    assert code(post(client, stale)) == (401, "stale_timestamp")


@pytest.mark.parametrize("prefer", ["respond-async", "wait=0"])
def test_past_flask_or_through_it_the_answer_is_the_same(app: Flask, stack: Stack, prefer: str) -> None:
    client = app.test_client()
    calls = [Call(secret=stack.secret("sf_webhook_secret")) for _ in range(2)]
    answers = [*send(client, (calls[0], {"prefer": prefer})), post(client, calls[1], prefer=prefer)]
    told = []
    for call, answer in zip(calls, answers, strict=True):
        assert isinstance(answer, TestResponse)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers.pop("X-Request-Id"))
        told.append((answer.status, answer.get_data(), str(answer.headers).replace(call.order_id, "ORDER")))
    assert told[0] == told[1]
    assert told[0][0] == "202 ACCEPTED"


def test_who_waits_for_nothing_gets_its_resync_planned(portal: Portal) -> None:
    client = application(portal).test_client()
    now, later = Call(), Call()
    answers = send(client, now, (later, {"prefer": "wait=0"}))
    assert [status(each) for each in answers] == [202, 202]
    planned = rows(portal, "SELECT subject FROM outbox WHERE kind = 'salesforce' AND sent_at IS NULL")
    assert planned == [(later.order_id,)]


def test_over_the_limit_in_the_middle_of_a_batch(portal: Portal) -> None:
    portal.settings = replace(portal.settings, webhook_rate_limit="3/hour")
    client = application(portal).test_client()
    calls = [Call() for _ in range(5)]
    assert [status(each) for each in send(client, *calls)] == [202, 202, 202, "left", "left"]
    assert [code(post(client, each))[0] for each in calls[3:]] == [429, 429]
    other = {"environ_base": {"REMOTE_ADDR": "192.0.2.9"}}
    answers = send(client, Call(), (Call(), other), (Call(), other))
    assert [status(each) for each in answers] == ["left", 202, 202]


def test_without_redis_all_of_them_leave(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    client = application(portal).test_client()
    calls = [Call(), Call()]

    def gone(*_args: Any, **_kwargs: Any) -> None:
        raise redis.ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(redis.connection.AbstractConnection, "send_packed_command", gone)
        assert [status(each) for each in send(client, *calls)] == ["left", "left"]
    assert rows(portal, "SELECT count(*) FROM deliveries") == [(0,)]
    assert [status(each) for each in send(client, *calls)] == [202, 202]


def test_without_the_ledger_each_is_told_and_keeps_its_nonce(portal: Portal) -> None:
    client = application(portal).test_client()
    ledger = portal.ledger
    calls = [Call(), Call()]

    class Away:
        def write(self) -> None:
            raise LedgerUnavailable("the ledger's database can't be used: gone")

        read = write

    use_ledger(portal, Away())
    answers = send(client, *calls)
    assert [status(each) for each in answers] == [503, 503]
    use_ledger(portal, ledger)
    assert [status(each) for each in send(client, *calls)] == [202, 202]


ODD = [
    *({"Host": host} for host in ("..", ".portal.example", "a" * 64, "portal.example:8000:x", "")),
    {"Connection": "Upgrade", "Upgrade": "websocket"},
]


@pytest.mark.parametrize("headers", ODD, ids=repr)
def test_what_flask_may_refuse_is_left_to_it(portal: Portal, headers: dict[str, str]) -> None:
    """Most headers aren't signed: whoever has seen a delivery can send it again under others."""
    client = application(portal).test_client()
    call, odd = Call(), {"headers": headers}
    assert [status(each) for each in send(client, call)] == [202]
    assert [status(each) for each in send(client, (call, odd), (Call(), odd))] == ["left", "left"]
    assert post(client, call, headers=headers).status_code in (400, 401)


@pytest.mark.parametrize("headers", ODD, ids=repr)
def test_a_fault_has_its_answer_whatever_flask_makes_of_the_request(
    portal: Portal, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_routed", lambda _environ: True)
    client = application(portal).test_client()
    call, odd = Call(), {"headers": headers}
    answers = send(client, (call, odd), (call, odd), (replace(Call(), key=call.key), odd))
    assert [status(each) for each in answers] == [202, 401, 422]


def test_what_another_page_answers_leaves(app: Flask) -> None:
    """It may take its time, and everybody's with it."""
    client, call = app.test_client(), Call()
    assert [status(each) for each in send(client, (call, {"path": f"/x{call.path}"}))] == ["left"]


def test_lines_about_a_fault_say_whose_it_was(portal: Portal) -> None:
    client = application(portal).test_client()
    bound: dict[str, dict[str, Any]] = {}

    class Away:
        def write(self) -> None:
            raise LedgerUnavailable("the ledger's database can't be used: gone")

        read = write

    class Members(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            members = logs.bound_now()
            bound[members["sfOrderId"]] = members

    use_ledger(portal, Away())
    log, members = logging.getLogger("portal.web.problems"), Members()
    log.addHandler(members)
    calls = [Call(), Call()]
    try:
        answers = send(client, *calls)
    finally:
        log.removeHandler(members)
    assert [status(each) for each in answers] == [503, 503]
    assert {order: each["idempotencyKey"] for order, each in bound.items()} == {
        call.order_id: call.key for call in calls
    }
    assert len({each["requestId"] for each in bound.values()}) == 2


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (right(), True),
        (right().replace(b"POST /", b"POST /portal/", 1), True),
        (right().replace(b"Prefer: respond-async", b"prefer:respond-async"), True),
        (right().replace(b"Prefer: respond-async", b"Prefer: wait=0"), True),
        (right().replace(b"Prefer: respond-async", b"Prefer: wait=5"), False),
        (right().replace(b"Prefer: respond-async", b"Prefer: wait=05"), False),
        (right().replace(b"Prefer: respond-async", b"Prefer: respond-async, wait=5"), False),
        (right().replace(b"Prefer: respond-async\r\n", b""), False),
        (right().replace(b"POST ", b"GET ", 1), False),
        (right().replace(b"/fulfill ", b"/fulfill/x ", 1), False),
        (right().replace(b"/fulfill ", b"/provision ", 1), False),
    ],
)
def test_which_requests_may_be_taken_together(sent: bytes, taken: bool) -> None:
    assert door.comes_with_others(sent) is taken
