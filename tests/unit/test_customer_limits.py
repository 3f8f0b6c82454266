"""The customers' own counters on a real Valkey: what is counted together, what is kept, and what happens without it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from portal.customers import limits
from portal.customers.limits import AskLimits


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[redis.Redis]:
    client = redis.Redis(unix_socket_path=str(tmp_path / "none"), retry=Retry(NoBackoff(), 0))
    yield client
    client.close()


def asked(
    counters: AskLimits, times: int, what: str = "link", who: str = "ada@example.com", most: int = 2
) -> list[bool]:
    return [counters.too_often(what, who, most=most, seconds=3600) for _ in range(times)]


def test_more_than_most_is_too_often(store: redis.Redis) -> None:
    assert asked(AskLimits(store), 4) == [False, False, True, True]


def test_all_processes_count_together(store: redis.Redis) -> None:
    first, second = AskLimits(store), AskLimits(store)
    assert asked(first, 2) == [False, False]
    assert asked(second, 1) == [True]


def test_another_person_and_another_thing_are_counted_apart(store: redis.Redis) -> None:
    counters = AskLimits(store)
    assert asked(counters, 3)[-1]
    assert asked(counters, 1, who="grace@example.com") == [False]
    assert asked(counters, 1, what="button") == [False]


def test_a_window_ends(store: redis.Redis) -> None:
    counters = AskLimits(store)
    assert [counters.too_often("link", "ada", most=1, seconds=1) for _ in range(2)] == [False, True]
    deadline = time.monotonic() + 10
    while store.keys():
        assert time.monotonic() < deadline, "the counter didn't expire"
        time.sleep(0.02)
    assert not counters.too_often("link", "ada", most=1, seconds=1)


def test_no_address_is_kept(store: redis.Redis) -> None:
    asked(AskLimits(store), 1)
    (key,) = store.keys()
    assert b"ada" not in key
    assert b"example.com" not in key
    assert 3590 <= store.ttl(key) <= 3600


def test_without_redis_the_process_counts_on_its_own(nobody: redis.Redis) -> None:
    assert asked(AskLimits(nobody), 4) == [False, False, True, True]


def test_memory_is_bounded_without_redis(nobody: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST_IN_MEMORY", 50)
    counters = AskLimits(nobody)
    for number in range(120):
        counters.too_often("link", f"{number}@example.com", most=1, seconds=3600)
        assert len(counters._memory.storage) <= 50
