"""One call on its way through a sandbox: its journal entry, its fault, and whether the caller is still there."""

from __future__ import annotations

import threading
import time

from sandbox.store import Document, Journal
from sandbox.wire import Connection


class Dropped(Exception):
    """The connection is to be closed without an answer."""

    def __init__(self, reset: bool = False):
        super().__init__()
        self.reset = reset


class Call:
    """One call on its way: its journal entry, its fault, and the connection it came over."""

    def __init__(
        self,
        entry: Document,
        fault: Document | None,
        connection: Connection | None,
        journal: Journal,
        stopping: threading.Event,
    ):
        self.entry = entry
        self.fault = fault
        self.connection = connection
        self._journal = journal
        self._stopping = stopping
        self.released = threading.Event()
        self.release_with = "continue"

    def note_if_gone(self) -> bool:
        """Writes into the journal when the caller has left; True when it has."""
        if self.entry["gone"] is not None:
            return True
        if self.connection is not None and self.connection.peer_gone():
            self._journal.touch(self.entry, gone=time.time())
            return True
        return False

    def wait(self, seconds: float, until_released: bool = False) -> None:
        """Waits, watching whether the caller hangs up meanwhile (the wait goes on, as PHP would)."""
        deadline = time.monotonic() + seconds
        while not self._stopping.is_set():
            left = deadline - time.monotonic()
            if left <= 0 or (until_released and self.released.is_set()):
                return
            self.note_if_gone()
            # A short step, so that the journal's `gone` is close to the moment the caller left.
            self.released.wait(min(left, 0.02)) if until_released else self._stopping.wait(min(left, 0.02))
        raise Dropped
