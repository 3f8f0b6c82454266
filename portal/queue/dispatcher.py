"""Sends jobs after the request that wanted them has been answered: all that have come up meanwhile in one round trip.

For requests that don't wait for their order's outcome. Losing what hasn't been sent yet loses nothing: the ledger has
the order, and the sweep sends a job for it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Final, Protocol

log = logging.getLogger("portal.queue")

#: With so many jobs a round trip has enough: Redis does nothing else meanwhile.
_ENOUGH_AT_ONCE: Final = 100
#: Seconds for what is left at the end.
_LAST_SECONDS: Final = 5.0


class Sender(Protocol):
    """What a Dispatcher needs of portal.queue.jobs.JobQueue."""

    def send_many(self, sf_order_ids: list[str]) -> object:
        """Send a job for each of these orders."""


class Dispatcher:
    """One per application. Its thread starts with the first job, so that a server may fork before."""

    def __init__(self, jobs: Sender) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._orders: SimpleQueue[Sequence[str] | None] = SimpleQueue()  # None: the end
        self._thread: threading.Thread | None = None
        self._closed = False

    def send_soon(self, sf_order_ids: Sequence[str]) -> list[None]:
        """Send jobs for these orders in a moment; at once when the last ones are sent. Never raises, never waits."""
        thread = self._thread
        if self._closed or thread is None or self._pid != os.getpid() or not thread.is_alive():
            self._begin()
        self._orders.put(sf_order_ids)
        return [None] * len(sf_order_ids)

    def close(self) -> None:
        """Send what is left, for _LAST_SECONDS at most: the process is about to end."""
        with self._lock:
            self._closed = True
            thread = self._thread if self._pid == os.getpid() else None
        if thread is not None:
            self._orders.put(None)
            thread.join(_LAST_SECONDS)

    def _begin(self) -> None:
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._orders, self._thread = os.getpid(), SimpleQueue(), None
            if not self._closed and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="job-dispatcher", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        ended = False
        while not ended:
            orders: list[str] = []
            more = self._orders.get()
            while more is not None:
                orders += more
                if len(orders) >= _ENOUGH_AT_ONCE:
                    break
                try:
                    more = self._orders.get_nowait()
                except Empty:
                    break
            ended = more is None
            try:
                if orders:
                    self._jobs.send_many(orders)
            except Exception as error:  # whatever it is, this thread must go on
                log.warning("No jobs sent: the sweep will", extra={"jobs": len(orders), "error": type(error).__name__})
