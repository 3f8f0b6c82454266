"""What a web process tells the application about itself: how many threads answer requests, and that it is ending.

The server (portal.web.server) knows nothing of who waits or gathers; whoever does says here what must happen first,
and which requests may be run together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

log = logging.getLogger("portal.web.lifecycle")

#: Where the server doesn't say: gunicorn.conf.py's own default.
DEFAULT_THREADS: Final = 16


class Lifecycle:
    """One per application. Made before the server forks, so it counts on nothing of the process it is made in."""

    def __init__(self) -> None:
        self.request_threads = DEFAULT_THREADS  # set by the server's worker once the application is loaded
        self.batched: list[Callable[[bytes], bool]] = []  # of each kind of requests that are run in batches
        self._on_stop: list[Callable[[], None]] = []
        self._on_end: list[Callable[[], None]] = []

    def in_batches(self, kind: Callable[[bytes], bool]) -> None:
        """Have requests run in batches (portal.web.batch) with others of their kind: of whose bytes `kind` is true."""
        self.batched.append(kind)

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the process has begun to stop: requests that wait must get their answers now.

        It may run inside a signal handler, so it must neither block nor take a lock.
        """
        self._on_stop.append(callback)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after the last request, before the process ends."""
        self._on_end.append(callback)

    def stop(self) -> None:
        """The process has begun to stop. Never raises."""
        _call_all(self._on_stop)

    def end(self) -> None:
        """The process is about to end. Never raises."""
        _call_all(self._on_end)


def _call_all(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:  # the others must be called all the same
            log.exception("A callback failed while the process was ending")
