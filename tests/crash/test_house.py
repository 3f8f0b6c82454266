"""What may happen to the house around the workers: Valkey killed or flushed, web, sweep and supervisor killed, the
ledger locked. Each time every accepted order ends as exactly one Active WHMCS order, and nobody is taken over for
nothing."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPException
from pathlib import Path

import pytest
import redis

from tests.crash.harness import (
    TTL_SECONDS,
    CrashStack,
    Wanted,
    seed_orders,
    send_signal,
    stop_outside_a_transaction,
    wait_until_settled,
)
from tests.crash.judge import judge
from tests.stack import http

ORDERS = 8


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the web process under test is told to stop."""
    return tmp_path_factory.mktemp("points")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, points: Path) -> Iterator[CrashStack]:
    """One stack for all of them: each leaves it whole."""
    settings = {"FULFILLMENT_SLOTS": "3", "FULFILLMENT_WAIT_SECONDS": "5"}
    stack = CrashStack(
        tmp_path_factory.mktemp("house"), settings=settings, web=f"tests.crash.web_under_test:stopping_in('{points}')"
    )
    with stack:
        stack.start()
        yield stack


_numbers = iter(range(1, 10_000, ORDERS))


@pytest.fixture
def wanted(house: CrashStack) -> Iterator[list[Wanted]]:
    """Orders in Salesforce whose AddOrder and AcceptOrder take a moment, so that trouble finds them under way."""
    first = next(_numbers)
    orders = [Wanted(number, 7000 + number, [("starter", 1), ("server", 2)]) for number in range(first, first + ORDERS)]
    seed_orders(house, orders)
    for each in orders:
        house.shop.fault("delay", action="AddOrder", client=each.client, seconds=0.4)
    yield orders
    house.shop.clear_faults()


def ask(stack: CrashStack, orders: list[Wanted]) -> None:
    """Deliver them all; each is accepted before the answer."""
    for each in orders:
        answer = stack.fulfill(each.order, prefer="respond-async")
        assert answer.status in (200, 202), answer.text


def under_way(stack: CrashStack) -> bool:
    """Some orders run, and some wait for a worker."""
    states = {row["state"] for row in stack.ledger("SELECT state FROM fulfillments")}
    return {"running", "queued"} <= states


def all_well(stack: CrashStack, orders: list[Wanted]) -> None:
    """Every order is Active once and Provisioned."""
    assert wait_until_settled(stack, [each.order for each in orders], 120) == []
    verdict = judge(stack, orders)
    assert verdict.lines() == []
    assert verdict.exactly_once == len(orders)


def kill_and_restart(stack: CrashStack, name: str) -> Callable[[], None]:
    def happen() -> None:
        stack.kill(name)
        stack.restart(name)

    return happen


def flush(stack: CrashStack) -> None:
    with closing(redis.Redis(unix_socket_path=str(stack.valkey_socket))) as valkey:
        valkey.flushall()


@pytest.mark.parametrize("name", ["valkey", "web", "sweep", "worker"])
def test_killed_with_orders_under_way(house: CrashStack, wanted: list[Wanted], name: str) -> None:
    """SIGKILL to a whole process group in the middle of everything."""
    ask(house, wanted)
    house.wait_for(lambda: under_way(house), "orders under way")
    kill_and_restart(house, name)()
    all_well(house, wanted)


def test_valkey_flushed_with_orders_under_way(house: CrashStack, wanted: list[Wanted]) -> None:
    """Every job is gone; the ledger has the orders."""
    ask(house, wanted)
    house.wait_for(lambda: under_way(house), "orders under way")
    flush(house)
    all_well(house, wanted)


def test_sweep_and_supervisor_killed_together(house: CrashStack, wanted: list[Wanted]) -> None:
    """Nobody is left to notice: whoever starts next does."""
    ask(house, wanted)
    house.wait_for(lambda: under_way(house), "orders under way")
    house.kill("sweep")
    house.kill("worker")
    time.sleep(TTL_SECONDS)
    house.restart("worker")
    house.restart("sweep")
    all_well(house, wanted)


def test_web_killed_between_commit_and_ticket(house: CrashStack, wanted: list[Wanted], points: Path) -> None:
    """The order is in the ledger and nowhere else: the sweep sends the job. Sent again, the same outcome."""
    order = wanted[0].order
    sweep = house.child("sweep").pid
    (points / f"{order}.stop").touch()
    assert stop_outside_a_transaction(sweep)  # it would send the job at once
    body, headers = house.signed(order)
    sender = threading.Thread(target=_send_into_the_void, args=(house, order, body, headers))
    sender.start()
    house.wait_for((points / f"{order}.here").exists, "the web process to stand between commit and job")
    row = house.fulfillment(order)
    house.kill("web")
    sender.join()
    assert row is not None
    assert (row["state"], row["job_id"]) == ("queued", None)
    send_signal(sweep, signal.SIGCONT)
    house.restart("web")
    house.finished(order)
    again = house.fulfill(order, key=headers["Idempotency-Key"])
    assert (again.status, again.json()["status"]) == (200, "Provisioned")
    all_well(house, wanted[:1])


def _send_into_the_void(stack: CrashStack, order: str, body: bytes, headers: dict[str, str]) -> None:
    try:
        http("POST", f"{stack.urls['portal']}/orders/{order}/fulfill", body, headers)
    except (OSError, HTTPException):
        return  # the web process was killed: no answer came
    raise AssertionError("somebody answered")


@pytest.mark.sqlite
def test_a_locked_ledger_takes_nobody_over(house: CrashStack, wanted: list[Wanted]) -> None:
    """No heartbeat gets through for longer than the TTL, which is nobody's fault."""
    dead = "SELECT worker_id FROM workers WHERE dead"
    ask(house, wanted)
    house.wait_for(lambda: under_way(house), "orders under way")
    before = {row["worker_id"] for row in house.ledger(dead)}
    with closing(sqlite3.connect(house.ledger_path, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(TTL_SECONDS + 2)
        connection.execute("ROLLBACK")
    all_well(house, wanted)
    assert {row["worker_id"] for row in house.ledger(dead)} == before


def test_a_stopped_sweep_takes_nobody_over_when_it_goes_on(house: CrashStack, wanted: list[Wanted]) -> None:
    """Its own clock stood still for it as well: what it saw before counts for little."""
    before = {row["worker_id"] for row in house.ledger("SELECT worker_id FROM workers WHERE dead")}
    pid = house.child("sweep").pid
    assert stop_outside_a_transaction(pid)
    ask(house, wanted)
    time.sleep(TTL_SECONDS + 2)
    send_signal(pid, signal.SIGCONT)
    all_well(house, wanted)
    assert {row["worker_id"] for row in house.ledger("SELECT worker_id FROM workers WHERE dead")} == before
