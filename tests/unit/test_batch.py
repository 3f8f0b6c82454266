"""Requests that are run together stop at the same points, get what is theirs, and leave as if they had never begun."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from portal.web import batch

asked: list[list[int]] = []


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    asked.clear()


def double(numbers: Sequence[int]) -> list[int | Exception]:
    asked.append(list(numbers))
    return [ValueError(f"{number} is odd") if number % 2 else number * 2 for number in numbers]


def negate(numbers: Sequence[int]) -> list[int | Exception]:
    asked.append(list(numbers))
    return [-number for number in numbers]


def broken(numbers: Sequence[int]) -> list[int | Exception]:
    raise ConnectionError(f"{len(numbers)} at once")


def test_alone_it_is_a_call() -> None:
    assert batch.together(double, 2) == 4
    with pytest.raises(ValueError, match="3 is odd"):
        batch.together(double, 3)
    with pytest.raises(ConnectionError, match="1 at once"):
        batch.together(broken, 1)
    assert asked == [[2], [3]]
    assert not batch.inside()


def test_many_ask_once_and_get_what_is_theirs() -> None:
    def request(number: int) -> Callable[[], tuple[int, str]]:
        def call() -> tuple[int, str]:
            try:
                first = batch.together(double, number)
            except ValueError as error:
                return 0, str(error)
            return batch.together(negate, first), "even"

        return call

    results = batch.run([request(number) for number in range(1, 5)])
    assert results == [(0, "1 is odd"), (-4, "even"), (0, "3 is odd"), (-8, "even")]
    assert asked == [[1, 2, 3, 4], [4, 8]]


def test_different_questions_are_asked_apart_and_who_asks_none_is_done() -> None:
    calls: list[Callable[[], Any]] = [
        lambda: batch.together(double, 2),
        lambda: batch.together(negate, 2),
        lambda: "nothing to ask",
        lambda: batch.together(double, 4),
    ]
    assert batch.run(calls) == [4, -2, "nothing to ask", 8]
    assert asked == [[2, 4], [2]]


def test_a_failure_of_all_is_raised_in_each_and_ends_only_who_lets_it() -> None:
    def forgiving() -> str:
        try:
            batch.together(broken, 1)
        except ConnectionError as error:
            return str(error)
        raise AssertionError

    first, second = batch.run([forgiving, lambda: batch.together(broken, 1)])
    assert first == "2 at once"
    assert isinstance(second, ConnectionError)


def test_who_leaves_ends_what_it_has_begun_and_holds_up_nobody() -> None:
    ended: list[str] = []

    @contextmanager
    def context() -> Iterator[None]:
        try:
            yield
        finally:
            ended.append("its context")

    def leaves() -> None:
        with context():
            batch.leave()
        raise AssertionError

    first, second = batch.run([leaves, lambda: batch.together(double, 2)])
    assert isinstance(first, batch.Left)
    assert ended == ["its context"]
    assert second == 4
    assert asked == [[2]]


def test_each_has_a_context_of_its_own() -> None:
    """What Flask and the logs keep for a request is kept in context variables."""
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    def request(mine: str) -> Callable[[], list[str]]:
        def call() -> list[str]:
            before = name.get()
            name.set(mine)
            batch.together(negate, 1)
            return [before, name.get()]

        return call

    assert batch.run([request("first"), request("second")]) == [["nobody", "first"], ["nobody", "second"]]
    assert name.get() == "nobody"


def test_what_comes_during_a_batch_is_the_next_one() -> None:
    batches: list[list[int]] = []
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def run(items: list[int]) -> None:
        batches.append(items)
        begun.set()
        assert go_on.wait(60)
        if items == [1]:
            raise RuntimeError("a batch that fails doesn't end the thread")
        if sum(map(len, batches)) == 101:
            done.set()

    thread = batch.BatchThread(run)
    thread.put([1])
    assert begun.wait(60)
    thread.put(range(100))
    go_on.set()
    assert done.wait(60)
    assert [len(each) for each in batches] == [1, batch.MOST, 100 - batch.MOST]
