"""Lets a webhook request wait for its order's outcome without asking the database again and again.

One thread per process listens on Redis for finished orders and wakes who waits for them. A wake-up is only a hint:
the waiter reads the ledger, also when the connection to Redis was (re)made and at its deadline. Waiters are few, so
that requests which wait never keep out those which don't. docs/webhooks.md, "Waiting"; the channel is the worker's.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import redis

from portal.queue.jobs import FINISHED_CHANNEL
from portal.web.lifecycle import Lifecycle

log = logging.getLogger("portal.webhooks")

T = TypeVar("T")

_PING_SECONDS: Final = 10.0
_RECONNECT_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 1.0

#: Request threads of each process that no waiter may take.
_THREADS_KEPT_FREE: Final = 4


class Waiting:
    """The waiters of one process: at most `most`, else all request threads but _THREADS_KEPT_FREE."""

    def __init__(self, client: redis.Redis, lifecycle: Lifecycle, *, most: int | None = None) -> None:
        self._redis = client
        self._lifecycle = lifecycle
        self._most = most
        self._lock = threading.Lock()
        self._stopping = False
        # Whose these are; nobody's before the first waiter, because the server forks and counts its threads before.
        self._pid: int | None = None
        self._slots = threading.Semaphore(0)
        self._events: dict[str, set[threading.Event]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._listening = False

    def _begin(self) -> None:
        self._pid = os.getpid()
        free = self._lifecycle.request_threads - _THREADS_KEPT_FREE
        self._slots = threading.Semaphore(max(0, free) if self._most is None else self._most)
        self._events = defaultdict(set)
        self._thread = None
        self._listening = False

    @contextmanager
    def waiter(self, sf_order_id: str) -> Iterator[Waiter | None]:
        """Wait for an order, or None when too many do. Begin before the commit: no wake-up is missed."""
        with self._lock:
            if self._pid != os.getpid():
                self._begin()
        if self._stopping or not self._slots.acquire(blocking=False):
            yield None
            return
        event = threading.Event()
        try:
            with self._lock:
                self._events[sf_order_id].add(event)
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._listen, name="finished-orders", daemon=True)
                    self._thread.start()
            yield Waiter(self, event)
        finally:
            with self._lock:
                self._events[sf_order_id].discard(event)
                if not self._events[sf_order_id]:
                    del self._events[sf_order_id]
            self._slots.release()

    def stop(self) -> None:
        """Wake everybody for good: the process is about to end, and each must get an answer first."""
        self._stopping = True
        self._wake_all()

    @property
    def stopping(self) -> bool:
        """Whether the process is about to end: nobody may wait any more."""
        return self._stopping

    @property
    def listening(self) -> bool:
        """Whether wake-ups can come; while not, waiters look for themselves."""
        return self._listening

    def _wake_all(self) -> None:
        for event in [event for events in list(self._events.values()) for event in list(events)]:
            event.set()

    def _listen(self) -> None:
        while not self._stopping:
            try:
                with self._redis.pubsub() as pubsub:  # type: ignore[no-untyped-call]
                    pubsub.subscribe(FINISHED_CHANNEL)
                    self._follow(pubsub)
            except Exception as error:  # whatever it is, this thread must go on: waiters then look for themselves
                log.warning("No wake-ups from Redis for now", extra={"error": type(error).__name__})
            self._listening = False
            self._wake_all()
            if not self._stopping:
                time.sleep(_RECONNECT_SECONDS)

    def _follow(self, pubsub: redis.client.PubSub) -> None:
        heard = time.monotonic()
        pinged = False
        while not self._stopping:
            message = pubsub.get_message(timeout=1.0)
            if message is not None:
                heard, pinged = time.monotonic(), False
                if message["type"] == "subscribe":
                    self._listening = True
                    self._wake_all()  # what finished before this was published to nobody
                elif message["type"] == "message":
                    self._wake(message["data"])
            elif time.monotonic() - heard > 2 * _PING_SECONDS:
                raise redis.ConnectionError("the subscription fell silent")
            elif not pinged and time.monotonic() - heard > _PING_SECONDS:
                pubsub.ping()
                pinged = True

    def _wake(self, data: bytes | str) -> None:
        sf_order_id = data.decode("ascii", "replace") if isinstance(data, bytes) else data
        with self._lock:
            events = list(self._events.get(sf_order_id, ()))
        for event in events:
            event.set()


class Waiter:
    """One waiting request."""

    def __init__(self, waiting: Waiting, event: threading.Event) -> None:
        self._waiting = waiting
        self._event = event

    def wait(self, look: Callable[[], T | None], seconds: float) -> T | None:
        """What `look` finds, asked at each wake-up and at the deadline; None when it found nothing in `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            remaining = deadline - time.monotonic()
            if remaining > 0 and not self._waiting.stopping:
                self._event.wait(remaining if self._waiting.listening else min(remaining, _POLL_SECONDS))
            self._event.clear()
            found = look()
            if found is not None or self._waiting.stopping or time.monotonic() >= deadline:
                return found
