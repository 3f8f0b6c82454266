"""A web process that ends: whoever registered is called, and the number of waiters follows the server's threads."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import pytest
import redis

from portal.web.lifecycle import Lifecycle
from portal.webhooks.waiting import Waiting


def test_everybody_is_called_even_after_one_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []

    def broken() -> None:
        raise RuntimeError("broken")

    lifecycle = Lifecycle()
    lifecycle.on_stop(broken)
    lifecycle.on_stop(lambda: called.append("stopped"))
    lifecycle.on_end(lambda: called.append("ended"))
    with caplog.at_level(logging.ERROR):
        lifecycle.stop()
    assert called == ["stopped"]
    assert "A callback failed while the process was ending" in caplog.text
    lifecycle.end()
    assert called == ["stopped", "ended"]


@pytest.mark.parametrize(("threads", "most", "free"), [(6, None, 2), (4, None, 0), (6, 3, 3)])
def test_some_threads_never_wait(threads: int, most: int | None, free: int) -> None:
    """The server says how many threads it has only after the application was built."""
    lifecycle = Lifecycle()
    away = redis.Redis(port=1)  # nobody answers there: waiters then look for themselves
    waiting = Waiting(away, lifecycle, most=most)
    lifecycle.on_stop(waiting.stop)
    lifecycle.request_threads = threads
    with ExitStack() as stack:
        found = [stack.enter_context(waiting.waiter(f"order-{number}")) for number in range(free + 2)]
        assert [each is not None for each in found] == [True] * free + [False] * 2
    with waiting.waiter("order") as again:
        assert (again is not None) is (free > 0)
    lifecycle.stop()
    with waiting.waiter("order") as late:
        assert late is None
