"""Redis or the database away, and fulfillments paused: nothing accepted is lost, nothing is half done, and what can't
be taken is refused with 503. In production's mode, where nothing falls back to memory."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.fulfilling import (
    calls_of,
    check_nothing_told,
    client_of,
    command,
    one,
    provisioned,
    queue_of,
    sends,
    until,
    whmcs_orders,
)
from tests.stack import PRODUCTION, Answer, Stack, http


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("storage")
    settings = {
        **PRODUCTION,
        "WHMCS_MAX_REQUEST_SECONDS": "2",
        "DATABASE_URL": f"sqlite:///{folder.resolve() / 'ledger.sqlite3'}?timeout=1",
    }
    with Stack(folder, settings=settings) as running:
        yield running


def rows(stack: Stack) -> dict[str, int]:
    """How many rows there are of what a delivery leaves behind."""
    tables = ("fulfillments", "deliveries", "idempotency_keys")
    return {table: stack.ledger(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}


def check_unavailable(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["code"]


def post(stack: Stack, order: str, body: bytes, headers: dict[str, str]) -> Answer:
    return http("POST", f"{stack.urls['portal']}/orders/{order}/fulfill", body, headers)


# --- Redis ---------------------------------------------------------------------------------------------------


def test_without_redis_nothing_is_accepted_and_nothing_accepted_is_lost(shop: Stack) -> None:
    held, waiting = one(shop), [one(shop) for _ in range(3)]
    refused = one(shop)
    shop.whmcs.fault("pause_point", action="AddOrder", order=held, seconds=1.5)
    assert shop.fulfill(held, prefer="respond-async").status == 202
    shop.whmcs.wait_for_call(action="AddOrder", state="held", order=held)
    command(shop, "fulfillments", "pause", "--why", "so that jobs stay on the queue")
    for order in waiting:
        assert shop.fulfill(order, prefer="respond-async").status == 202
    shop.kill("valkey")
    before = rows(shop)
    body, headers = shop.signed(refused)
    check_unavailable(post(shop, refused, body, headers))
    assert rows(shop) == before
    health = shop.get("/health")
    assert health.status == 503
    assert health.json()["integrations"]["redis"] == "unavailable"
    assert shop.get("/health/live").status == 200
    ended = until(shop, held, lambda row: row["state"] != "running")  # what is being run needs no Redis
    assert ended["state"] in ("provisioned", "waiting")
    shop.restart("valkey")
    shop.wait_for(lambda: shop.get("/health").status == 200, "the portal to accept work again")
    command(shop, "fulfillments", "resume")
    # The very same request is good now: what was refused has burnt neither nonce nor key.
    assert post(shop, refused, body, headers | {"Prefer": "respond-async"}).status == 202
    for order in (held, *waiting, refused):
        provisioned(shop, order)
        assert len(whmcs_orders(shop, order)) == 1


def test_after_a_flush_every_order_is_ticketed_again(shop: Stack) -> None:
    orders = [one(shop) for _ in range(4)]
    shop.child("worker").stop()
    for order in orders:
        assert shop.fulfill(order, prefer="respond-async").status == 202
    with queue_of(shop) as store:
        assert store.llen("rq:queue:fulfillments") >= len(orders)
        store.flushall()
    shop.child("worker").start()
    for order in orders:
        provisioned(shop, order)
        assert sends(shop, order, "AddOrder") == 1


def test_jobs_that_are_emptied_deleted_or_doubled_by_hand_neither_lose_nor_double_an_order(shop: Stack) -> None:
    orders = [one(shop) for _ in range(3)]
    shop.child("worker").stop()
    for order in orders:
        assert shop.fulfill(order, prefer="respond-async").status == 202
    with queue_of(shop) as store:
        jobs = [job.decode() for job in store.lrange("rq:queue:fulfillments", 0, -1)]
        mine = {order: next(t for t in jobs if t.startswith(order)) for order in orders}
        store.lrem("rq:queue:fulfillments", 0, mine[orders[0]])  # emptied
        store.delete(f"rq:job:{mine[orders[1]]}")  # deleted
        for _ in range(5):  # requeued again and again
            store.lpush("rq:queue:fulfillments", mine[orders[2]])
    shop.child("worker").start()
    for order in orders:
        provisioned(shop, order)
        assert sends(shop, order, "AddOrder") == 1


# --- the database --------------------------------------------------------------------------------------------


def test_a_locked_database_refuses_and_leaves_nothing_half_done(shop: Stack) -> None:
    refused, held = one(shop), one(shop)
    shop.whmcs.fault("pause_point", action="AddOrder", order=held)
    assert shop.fulfill(held, prefer="respond-async").status == 202
    call = shop.whmcs.wait_for_call(action="AddOrder", state="held", order=held)
    before = rows(shop)
    body, headers = shop.signed(refused)
    with closing(sqlite3.connect(shop.ledger_path, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        shop.whmcs.post("release", {"call": call["id"]})  # its answer can't be recorded now
        check_unavailable(post(shop, refused, body, headers))
        assert rows(shop) == before
        other.execute("ROLLBACK")
    assert post(shop, refused, body, headers | {"Prefer": "respond-async"}).status == 202
    for order in (refused, held):
        provisioned(shop, order)
        assert [row["status"] for row in whmcs_orders(shop, order)] == ["Active"]


def test_many_deliveries_at_a_locked_database_are_all_or_nothing(shop: Stack) -> None:
    orders = [one(shop) for _ in range(6)]
    signed = {order: shop.signed(order) for order in orders}
    answers: dict[str, Answer] = {}

    def send(order: str) -> None:
        body, headers = signed[order]
        answers[order] = post(shop, order, body, headers | {"Prefer": "respond-async"})

    with closing(sqlite3.connect(shop.ledger_path, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        threads = [threading.Thread(target=send, args=(order,)) for order in orders]
        for thread in threads:
            thread.start()
        shop.wait_for(lambda: answers, "the first refusal")
        other.execute("ROLLBACK")
    for thread in threads:
        thread.join(60)
    accepted = {order for order, answer in answers.items() if answer.status == 202}
    assert {answer.status for answer in answers.values()} <= {202, 503}
    known = {row["sf_order_id"] for row in shop.ledger("SELECT sf_order_id FROM fulfillments")}
    assert known & set(orders) == accepted
    for order in orders:
        if order not in accepted:
            check_unavailable(answers[order])
            send(order)
            assert answers[order].status == 202
        provisioned(shop, order)


# --- the pause switch ----------------------------------------------------------------------------------------


def test_while_paused_orders_are_accepted_and_nothing_is_written_to_whmcs(shop: Stack) -> None:
    begun, later = one(shop), [one(shop) for _ in range(3)]
    shop.whmcs.fault("pause_point", action="GetClientsDetails", client=client_of(shop, begun), seconds=1.5)
    assert shop.fulfill(begun, prefer="respond-async").status == 202
    call = shop.whmcs.wait_for_call(action="GetClientsDetails", state="held")
    since = shop.whmcs.last()
    assert "Paused" in command(shop, "fulfillments", "pause", "--why", "WHMCS is being upgraded")
    shop.whmcs.post("release", {"call": call["id"]})
    for order in later:
        assert shop.fulfill(order, prefer="respond-async").status == 202
    row = until(shop, begun, lambda row: row["state"] == "waiting")
    assert "paused" in row["waiting_for"]
    assert shop.get("/health").json()["fulfillments"] == "paused"
    assert shop.get("/health").status == 200
    (paused,) = shop.ledger("SELECT value FROM installation WHERE key = 'paused'")
    assert json.loads(paused["value"])["why"] == "WHMCS is being upgraded"
    beat = "SELECT max(heartbeats) AS heartbeats FROM workers WHERE kind = 'sweep' AND NOT dead"
    rounds = shop.ledger(beat)[0]["heartbeats"]
    shop.wait_for(lambda: shop.ledger(beat)[0]["heartbeats"] >= rounds + 5, "five rounds of the sweep")
    writes = calls_of(shop.whmcs, since, "AddOrder", "AcceptOrder", "CancelOrder", "AddClient", "ModuleCreate")
    assert writes == []
    assert {(shop.fulfillment(order) or {})["state"] for order in later} == {"queued"}
    command(shop, "fulfillments", "resume", "--why", "done")
    for order in (begun, *later):
        provisioned(shop, order)
    events = shop.ledger("SELECT kind, actor, detail FROM events WHERE kind IN ('paused', 'unpaused') ORDER BY id")
    assert [(e["kind"], json.loads(e["detail"])["why"]) for e in events[-2:]] == [
        ("paused", "WHMCS is being upgraded"),
        ("unpaused", "done"),
    ]
    assert all(event["actor"] for event in events)


def test_nothing_secret_or_personal_is_told_anywhere(shop: Stack) -> None:
    check_nothing_told(shop)
