"""What the receivers keep in Redis, and how they go on where it goes away at the worst moment or forgets."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from redis.backoff import NoBackoff
from redis.retry import Retry

from portal.domain.model import State
from portal.web.lifecycle import Lifecycle
from portal.webhooks import waiting as module
from portal.webhooks.limits import Limits
from portal.webhooks.nonces import MARGIN_SECONDS, Nonces
from portal.webhooks.waiting import Waiting
from tests.fakes import ORDER
from tests.webhooks.callout import Call, Event
from tests.webhooks.in_process import Portal, application, code, finish, post

NONCE, OTHER = "sf:one", "sf:other"
FORGED = {"headers": {"X-SF-Signature": "0" * 64}}


# --- nonces, where they aren't claimed together with the counting ----------------------------------------


class Twice(redis.Redis):
    """Its first answer to SET got lost, and it sent it again."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As a client with a retry does."""
        if args[0] == "SET":
            super().execute_command(*args, **options)
        return super().execute_command(*args, **options)


@pytest.fixture
def away(tmp_path: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(tmp_path / "nobody"), retry=Retry(NoBackoff(), 0))


def test_a_nonce_is_claimed_once_and_given_back(store: redis.Redis) -> None:
    nonces = Nonces(store, tolerance=300.0, memory_fallback=False)
    assert nonces.claim(NONCE)
    assert not nonces.claim(NONCE)
    assert nonces.claim(OTHER)
    assert 0 < store.ttl("portal:nonce:sf:one") <= 600.0 + MARGIN_SECONDS
    nonces.give_back(NONCE)
    assert nonces.claim(NONCE)


@pytest.mark.parametrize("decoded", [True, False])
def test_a_claim_that_is_sent_twice_is_one(store: redis.Redis, decoded: bool) -> None:
    client = Twice(connection_pool=store.connection_pool)
    if decoded:
        socket = store.connection_pool.connection_kwargs["path"]
        client = Twice(unix_socket_path=socket, decode_responses=True)
    nonces = Nonces(client, tolerance=300.0, memory_fallback=False)
    assert nonces.claim(NONCE)
    assert not nonces.claim(NONCE)
    client.close()


def test_without_redis_a_nonce_is_given_back_in_memory(away: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    nonces = Nonces(away, tolerance=300.0, memory_fallback=True)
    assert nonces.claim(NONCE)
    assert not nonces.claim(NONCE)
    nonces.give_back(NONCE)
    assert "A nonce couldn't be given back: Redis is away" in caplog.text
    assert nonces.claim(NONCE)


def test_the_memory_of_nonces_doesnt_grow_for_ever(away: redis.Redis) -> None:
    nonces = Nonces(away, tolerance=300.0, memory_fallback=True)
    lifetime, nonces.seconds = nonces.seconds, 0.0
    assert nonces.claim(NONCE)
    nonces.seconds = lifetime
    assert nonces.claim(OTHER)
    assert list(nonces._memory) == [OTHER]
    assert nonces.claim(NONCE)  # its timestamp can't pass any more


def test_an_event_whose_nonce_redis_has_forgotten_is_refused_by_the_ledger(
    client: FlaskClient, store: redis.Redis
) -> None:
    event = Event("paymethod.added", {"clientId": "9"}, dated=True)
    assert client.post(event.path, data=event.body(), headers=event.headers()).status_code == 202
    store.flushall()
    replay = client.post(event.path, data=event.body(), headers=event.headers())
    assert code(replay) == (401, "nonce_already_used")
    store.flushall()
    assert code(client.post(event.path, data=event.body(), headers=event.headers())) == (401, "nonce_already_used")


# --- limits ----------------------------------------------------------------------------------------------


def _broken(*_args: Any, **_kwargs: Any) -> None:
    raise redis.ConnectionError("gone")


@pytest.fixture
def goes_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let Redis go away right before that method of Limits is run."""

    def before(name: str) -> None:
        real = getattr(Limits, name)

        def meanwhile(self: Limits) -> Any:
            monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", _broken)
            return real(self)

        monkeypatch.setattr(Limits, name, meanwhile)

    return before


def test_who_is_over_a_limit_is_told_so_though_nobody_knows_for_how_long(
    portal: Portal, goes_away: Callable[[str], None]
) -> None:
    portal.settings = replace(portal.settings, webhook_rate_limit="1/hour")
    client = application(portal).test_client()
    assert post(client, Call()).status_code == 202
    goes_away("seconds_to_wait")
    answer = post(client, Call(), **FORGED)
    assert code(answer) == (429, "rate_limited")
    assert answer.headers["Retry-After"] == "1"


def test_a_forgery_that_cant_be_counted_is_a_forgery(
    client: FlaskClient, goes_away: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    goes_away("too_many_forgeries")
    assert code(post(client, Call(), **FORGED)) == (401, "invalid_signature")
    assert "Forgeries can't be counted" in caplog.text


# --- jobs and wake-ups -----------------------------------------------------------------------------------


def test_an_event_is_taken_though_no_job_can_be_sent(
    client: FlaskClient, portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    call = Call()
    post(client, call)
    finish(portal, call.order_id, state=State.WAITING, elected_whmcs_id="4711")
    portal.jobs.on_send = lambda _order: _broken()
    event = Event("order.accepted", {"orderId": "4711"})
    answer = client.post(event.path, data=event.body(), headers=event.headers())
    assert (answer.status_code, answer.json) == (202, {"status": "accepted"})
    assert portal.jobs.sent[-1] == call.order_id
    assert "No job sent: the sweep will" in caplog.text


@pytest.fixture
def listener(store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    """One that takes a subscription to be lost after three seconds of silence."""
    monkeypatch.setattr(module, "_PING_SECONDS", 1.5)
    made = Waiting(store, Lifecycle(), most=1)
    yield made
    made.stop()
    if made._thread is not None:
        made._thread.join(30)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it didn't come about in time"
        time.sleep(0.01)


def test_a_subscription_that_fell_silent_is_made_anew(
    listener: Waiting, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A frozen host, or a network that swallows packets: meanwhile waiters look for themselves."""
    server = int(store.info("server")["process_id"])
    with listener.waiter(ORDER) as waiter:
        assert waiter is not None
        until(lambda: listener.listening)
        os.kill(server, signal.SIGSTOP)
        try:
            until(lambda: not listener.listening)
        finally:
            os.kill(server, signal.SIGCONT)
        assert "No wake-ups from Redis for now" in caplog.text
        until(lambda: listener.listening)
