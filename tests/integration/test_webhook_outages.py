"""Redis and the ledger come and go under the running doors: nothing accepted is lost, nothing refused is kept."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.webhooks.callout import Call
from tests.webhooks.running import RunningPortal


def post(portal: RunningPortal, call: Call, prefer: str | None = "respond-async") -> tuple[int, dict[str, str], Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", portal.port, timeout=120)) as connection:
        headers = call.headers() | ({} if prefer is None else {"Prefer": prefer})
        connection.request("POST", call.path, call.body(), headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), json.loads(answer.read())


def get(portal: RunningPortal, path: str) -> tuple[int, dict[str, str], Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", portal.port, timeout=120)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), json.loads(answer.read())


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[RunningPortal]:
    with RunningPortal(tmp_path / "p", WEB_CONCURRENCY="1", FULFILLMENT_WAIT_SECONDS="60") as running:
        yield running


def test_production_without_redis_refuses_and_goes_on_by_itself(portal: RunningPortal) -> None:
    call = Call()
    assert post(portal, Call())[0] == 202
    portal.valkey.stop()
    status, headers, told = post(portal, call)
    assert (status, told["code"]) == (503, "nonce_store_unavailable")
    assert int(headers["Retry-After"]) > 0
    assert portal.query("SELECT count(*) FROM fulfillments") == [(1,)]
    assert post(portal, Call(secret="forged"))[2]["code"] == "invalid_signature"  # forgers learn nothing of it
    portal.valkey.start()
    portal.wait_for(lambda: post(portal, call)[0] == 202, "the doors to open again")
    assert portal.query("SELECT count(*) FROM fulfillments") == [(2,)]


@contextmanager
def stopped(portal: RunningPortal) -> Iterator[None]:
    """Valkey neither answers nor closes anything: SIGSTOP, as a frozen host or a network that swallows packets."""
    os.kill(portal.valkey_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(portal.valkey_pid, signal.SIGCONT)


@pytest.mark.quiet
def test_a_silent_redis_is_503_within_five_seconds(portal: RunningPortal) -> None:
    call = Call()
    for _ in range(3):  # kept connections there are, too
        assert post(portal, Call())[0] == 202
    with stopped(portal):
        for _ in range(3):
            began = time.monotonic()
            status, headers, told = post(portal, call)
            assert (status, told["code"]) == (503, "nonce_store_unavailable")
            assert int(headers["Retry-After"]) > 0
            assert time.monotonic() - began < 5
        began = time.monotonic()
        status, _headers, told = get(portal, "/health")
        assert (status, told["integrations"]["redis"]) == (503, "unavailable")
        assert time.monotonic() - began < 2
        time.sleep(2.1)  # it is no longer taken to be silent: whoever asks now finds out
        began = time.monotonic()
        assert get(portal, "/health")[0] == 503
        assert time.monotonic() - began < 2
    portal.wait_for(lambda: post(portal, call)[0] == 202, "the doors to open again")
    assert portal.query("SELECT count(*) FROM fulfillments") == [(4,)]


@pytest.mark.quiet
def test_many_requests_at_a_silent_redis_wait_together_not_one_after_another(portal: RunningPortal) -> None:
    assert post(portal, Call())[0] == 202
    took: list[float] = []

    def one() -> None:
        began = time.monotonic()
        assert post(portal, Call())[0] == 503
        took.append(time.monotonic() - began)

    with stopped(portal):
        threads = [threading.Thread(target=one) for _ in range(24)]  # more than there are request threads
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(took) == 24
    assert max(took) < 5


def test_development_without_redis_remembers_nonces_itself(tmp_path: Path) -> None:
    with RunningPortal(tmp_path / "p", WEB_CONCURRENCY="1", PORTAL_ENV="development") as portal:
        portal.valkey.stop()
        call = Call()
        assert post(portal, call)[0] == 202  # and the sweep will send the job
        assert post(portal, call)[2]["code"] == "nonce_already_used"
        assert "in memory (development only)" in portal.log()
        portal.valkey.start()


def test_whoever_waits_is_told_although_redis_went_away_meanwhile(portal: RunningPortal) -> None:
    """The waiter looks into the ledger when its subscription is lost, and when it is made again."""
    call = Call()
    answers: list[tuple[int, Any]] = []

    def wait() -> None:
        status, _, told = post(portal, call, prefer=None)
        answers.append((status, told))

    thread = threading.Thread(target=wait)
    thread.start()
    portal.wait_for(lambda: portal.query("SELECT 1 FROM fulfillments"), "the order")
    portal.valkey.stop()
    portal.change(
        "UPDATE fulfillments SET state = 'provisioned', elected_whmcs_id = '5' WHERE sf_order_id = ?", call.order_id
    )  # and nobody publishes it
    thread.join(50)
    assert answers == [(200, {"success": True, "status": "Provisioned", "whmcsOrderId": "5"})]
    portal.valkey.start()


def test_a_wake_up_is_heard_at_once_after_redis_came_back(portal: RunningPortal) -> None:
    assert post(portal, Call(), prefer="wait=1")[0] == 202  # the subscription is there
    portal.valkey.stop()
    portal.valkey.start()
    with closing(redis.Redis(unix_socket_path=str(portal.folder / "valkey.sock"))) as client:
        portal.wait_for(lambda: client.pubsub_numsub("portal:finished")[0][1] == 1, "the subscription to be back")
        call = Call()
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(post(portal, call, prefer=None)[0]))
        thread.start()
        portal.wait_for(
            lambda: portal.query("SELECT 1 FROM fulfillments WHERE sf_order_id = ?", call.order_id), "the order"
        )
        portal.change("UPDATE fulfillments SET state = 'provisioned' WHERE sf_order_id = ?", call.order_id)
        started = time.monotonic()
        client.publish("portal:finished", call.order_id)
        thread.join(50)
    assert answers == [200]
    assert time.monotonic() - started < 40


def test_a_failing_ledger_accepts_nothing(portal: RunningPortal) -> None:
    """503, neither nonce nor key used up: the same request gets in afterwards."""
    call = Call()
    assert post(portal, Call())[0] == 202
    portal.change("ALTER TABLE deliveries RENAME TO deliveries_away")
    status, _, told = post(portal, call)
    assert (status, told["code"]) == (503, "ledger_unavailable")
    portal.change("ALTER TABLE deliveries_away RENAME TO deliveries")
    assert post(portal, call)[0] == 202
