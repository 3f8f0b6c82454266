"""WHMCS_MAX_IN_FLIGHT's slots on a real Valkey: never more than the limit, whoever holds and whoever dies."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from portal.clients import concurrency
from portal.clients.concurrency import InFlightLimit
from portal.domain.model import UpstreamError


def slots(store: redis.Redis, limit: int, *, lapse: float = 60.0, patience: float = 30.0) -> InFlightLimit:
    """A limit; both times are in seconds."""
    return InFlightLimit(store, "whmcs", limit, lapse=lapse, patience=patience)


def taken(store: redis.Redis) -> int:
    return int(store.zcard("portal:places:whmcs"))


def held(store: redis.Redis) -> list[tuple[bytes, float]]:
    """Who holds a slot, and when it lapses, in seconds since 1970."""
    found: Any = store.zrange("portal:places:whmcs", 0, -1, withscores=True)
    return list(found)


def test_a_slot_is_given_back_also_when_the_call_fails(store: redis.Redis) -> None:
    with pytest.raises(ZeroDivisionError), slots(store, 1).slot():
        assert taken(store) == 1
        raise ZeroDivisionError
    assert taken(store) == 0


def test_holding_it_again_costs_nothing(store: redis.Redis) -> None:
    mine = slots(store, 1)
    with mine.slot():
        with mine.slot(), mine.slot():
            assert taken(store) == 1
        assert taken(store) == 1  # still the outer one's
    assert taken(store) == 0


def test_a_slot_that_is_held_for_long_doesnt_lapse_under_a_call(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "RENEW_AFTER", 0.0)
    mine = slots(store, 1, lapse=60.0)
    with mine.slot():
        ((token, lapses_at),) = held(store)
        store.zadd("portal:places:whmcs", {token: lapses_at - 59.0})  # it was taken long ago
        with mine.slot():
            ((same, renewed),) = held(store)
            assert (same, renewed >= lapses_at) == (token, True)
    assert taken(store) == 0


def test_a_slot_that_lapsed_all_the_same_is_waited_for_anew(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "RENEW_AFTER", 0.0)
    mine = slots(store, 1, patience=0.1)
    with mine.slot():
        store.delete("portal:places:whmcs")
        with slots(store, 1).slot():  # somebody else's now
            with pytest.raises(UpstreamError), mine.slot():
                raise AssertionError("there was no slot")
            assert taken(store) == 1
    assert taken(store) == 0


def test_a_thread_of_the_same_process_is_somebody_else(store: redis.Redis) -> None:
    mine = slots(store, 2)
    inside = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with mine.slot():
            inside.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    with mine.slot():
        thread.start()
        assert inside.wait(30)
        assert taken(store) == 2
    done.set()
    thread.join(30)
    assert taken(store) == 0


def test_never_more_than_the_limit_and_everybody_gets_a_turn(store: redis.Redis) -> None:
    now = most = turns = 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal now, most, turns
        mine = slots(store, 3)  # each as a process of its own
        for _ in range(5):
            with mine.slot():
                with guard:
                    now += 1
                    most = max(most, now)
                time.sleep(0.005)
                with guard:
                    now -= 1
                    turns += 1

    threads = [threading.Thread(target=work) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, turns, taken(store)) == (3, 45, 0)


def test_no_slot_in_time_is_passing_trouble_that_isnt_the_orders_own(store: redis.Redis) -> None:
    with slots(store, 1).slot(), pytest.raises(UpstreamError) as raised, slots(store, 1, patience=0.1).slot():
        raise AssertionError("there was no slot")
    error = raised.value
    assert (error.permanent, error.unknown, error.reached, error.code) == (False, False, False, "circuit_open")
    assert error.retry_after is not None
    assert error.retry_after >= 1.0


def test_the_slot_of_one_who_was_killed_comes_free_by_itself(store: redis.Redis) -> None:
    with ExitStack() as killed:
        killed.enter_context(slots(store, 1, lapse=0.3).slot())
        with slots(store, 1).slot():  # waits for the lapse
            assert taken(store) == 1
    assert taken(store) == 0  # nobody took the wrong one away


def test_without_redis_nothing_is_held_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    nobody = redis.Redis(unix_socket_path=str(tmp_path_factory.mktemp("nobody") / "s"), retry=Retry(NoBackoff(), 0))
    with slots(nobody, 1).slot():
        pass
    nobody.close()
