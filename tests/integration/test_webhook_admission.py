"""Limits and nonces in one round trip count as flask-limiter does, and give way to it where Redis is away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis

from portal.queue.redis import connect_redis
from portal.webhooks.nonces import nonce_id, redis_key
from tests.webhooks.callout import Call
from tests.webhooks.in_process import Portal, application, code, post

FORGED = {"headers": {"X-SF-Signature": "0" * 64}}


def test_who_is_over_the_limit_is_told_so_whatever_it_sends(portal: Portal) -> None:
    portal.settings = replace(portal.settings, webhook_rate_limit="2/hour")
    client = application(portal).test_client()
    assert [post(client, Call()).status_code for _ in range(3)] == [202, 202, 429]
    for changes in (FORGED, {"body": b"x" * 20_000}, {"body": b"x"}, {"without": ["X-SF-Signature"]}):
        answer = post(client, Call(), **changes)
        assert code(answer) == (429, "rate_limited"), changes
        assert 0 < int(answer.headers["Retry-After"]) <= 3601
    stale = Call()
    assert code(post(client, replace(stale, timestamp="2020-01-01T00:00:00Z"))) == (429, "rate_limited")


def test_authentic_refusals_count_and_forgeries_dont(portal: Portal) -> None:
    portal.settings = replace(portal.settings, webhook_rate_limit="3/hour", webhook_forgery_limit="100/hour")
    client = application(portal).test_client()
    assert [post(client, Call(), **FORGED).status_code for _ in range(5)] == [401] * 5
    assert code(post(client, Call(timestamp="2020-01-01T00:00:00Z"))) == (401, "stale_timestamp")
    call = Call()
    assert post(client, call).status_code == 202
    assert code(post(client, call)) == (401, "nonce_already_used")  # a replay counts as well
    assert code(post(client, Call())) == (429, "rate_limited")


def test_who_is_over_the_limit_keeps_its_nonce(portal: Portal) -> None:
    portal.settings = replace(portal.settings, webhook_rate_limit="1/hour")
    client = application(portal).test_client()
    assert post(client, Call()).status_code == 202
    call = Call()
    assert post(client, call).status_code == 429
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.9"}}
    assert post(client, call, **elsewhere).status_code == 202
    assert code(post(client, call, environ_base={"REMOTE_ADDR": "192.0.2.10"})) == (401, "nonce_already_used")


def test_several_limits_hold_together(portal: Portal) -> None:
    portal.settings = replace(portal.settings, webhook_rate_limit="10/minute;2/hour", webhook_global_limit="3/day")
    client = application(portal).test_client()
    assert [post(client, Call()).status_code for _ in range(3)] == [202, 202, 429]
    others = [post(client, Call(), environ_base={"REMOTE_ADDR": f"192.0.2.{n}"}).status_code for n in range(2)]
    assert others == [202, 429]


def test_an_accepted_request_costs_one_round_trip(portal: Portal) -> None:
    client = application(portal).test_client()
    assert post(client, Call()).status_code == 202  # the script is known from now on
    before: Any = portal.redis.info("commandstats")
    assert post(client, Call()).status_code == 202
    after: Any = portal.redis.info("commandstats")
    # What a script calls is counted as well: only what is no part of the script tells of other trips.
    inside = {"get", "incr", "expire", "set", "ttl"}
    calls = {
        name.removeprefix("cmdstat_"): stats["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, stats in after.items()
    }
    asked = {name: count for name, count in calls.items() if count and name not in {*inside, "info"}}
    assert asked == {"evalsha": 1}


def test_a_flushed_redis_learns_the_script_again(portal: Portal) -> None:
    client = application(portal).test_client()
    assert post(client, Call()).status_code == 202
    portal.redis.script_flush()
    assert post(client, Call()).status_code == 202


def _broken(*_args: Any, **_kwargs: Any) -> None:
    raise redis.ConnectionError("gone")


@pytest.mark.parametrize("production", [True, False])
def test_without_redis_it_is_as_it_was(portal: Portal, monkeypatch: pytest.MonkeyPatch, production: bool) -> None:
    environment = "production" if production else "development"
    portal.settings = replace(portal.settings, portal_env=environment, webhook_rate_limit="2/hour")
    client = application(portal).test_client()
    with monkeypatch.context() as patch:
        patch.setattr(redis.connection.AbstractConnection, "send_packed_command", _broken)
        if production:
            assert code(post(client, Call())) == (503, "nonce_store_unavailable")
            return
        call = Call()
        assert post(client, call).status_code == 202
        assert code(post(client, call)) == (401, "nonce_already_used")
        assert code(post(client, Call())) == (429, "rate_limited")  # counted in this process' memory
    assert code(post(client, call)) == (401, "nonce_already_used")  # not forgotten when Redis is back


def test_a_claim_whose_answer_was_lost_burns_no_nonce(portal: Portal) -> None:
    """A silent Redis does what it was asked once it goes on, though nobody waits for the answer any more."""
    call = Call()
    portal.redis.set(redis_key(nonce_id("sf", call.nonce)), "somebody's", px=600_000)
    client = application(portal).test_client()
    assert post(client, call).status_code == 202
    assert code(post(client, call)) == (401, "nonce_already_used")


@contextmanager
def hanging_up(path: str, times: int) -> Iterator[str]:
    """The address of a way to the Valkey at `path` on which so many claims of nonces are carried out, but not answered:
    the connection ends instead, as where a master dies."""
    left = times

    def carry(ours: socket.socket) -> None:
        nonlocal left
        with closing(ours), socket.socket(socket.AF_UNIX) as theirs:
            theirs.connect(path)
            while asked := ours.recv(65_536):
                theirs.sendall(asked)
                answer = theirs.recv(65_536)
                if b"portal:nonce:" in asked and left:
                    left -= 1
                    return
                ours.sendall(answer)

    def serve() -> None:
        while True:
            try:
                ours, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(ours,), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = threading.Thread(target=serve)
        server.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
            assert left == 0
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            server.join()


@pytest.mark.parametrize("times", [1, 2])
def test_a_first_delivery_is_no_replay_where_the_answers_to_its_claim_are_lost(portal: Portal, times: int) -> None:
    """Once, and the client asks again; twice, and the portal claims another time: whose claim it finds is its own."""
    assert post(application(portal).test_client(), Call()).status_code == 202  # the script is known from now on
    path = portal.redis.connection_pool.connection_kwargs["path"]
    with hanging_up(path, times) as address:
        settings = replace(portal.settings, portal_env="production", redis_url=address)
        with connect_redis(settings) as client:
            lossy = application(replace(portal, settings=settings, redis=client)).test_client()
            call = Call()
            assert post(lossy, call).status_code == 202
            assert code(post(lossy, call)) == (401, "nonce_already_used")
