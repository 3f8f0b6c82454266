"""How many of a process's requests may wait for Salesforce or WHMCS on behalf of customers at the same time.

A request that waits holds a thread, and a side that hangs would soon hold them all: none would be left to take signed
webhooks or to show an order. Whoever finds no place gets the page at once, with a plain note.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from portal.errors import PortalError

#: Of the four threads that webhooks which wait leave free (FULFILLMENT_MAX_WAITERS), half.
MOST: Final = 2


class NoPlace(PortalError):
    """As many requests as may wait do so already."""


class Waiters:
    """The places of one process; safe for threads."""

    def __init__(self, most: int = MOST) -> None:
        self._places = threading.BoundedSemaphore(most)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while waiting. Raises NoPlace at once where none is free."""
        if not self._places.acquire(blocking=False):
            raise NoPlace("as many requests as may wait for another side do so already")
        try:
            yield
        finally:
            self._places.release()
