"""What the runs of one process share while many orders wait: Salesforce is read for many of them at once.

A lone order is read and told by its own run, which is quickest. Where a crowd waits, one query reads the orders that
are next, and the relay tells Salesforce of many in one call.
"""

from __future__ import annotations

import threading
from typing import Final, Protocol

from portal.domain.model import SalesforceOrder
from portal.domain.ports import SalesforcePort
from portal.ledger import queueing
from portal.ledger.engine import Ledger

#: So many waiting orders are a crowd.
CROWD = 10
#: Orders read in one query.
MOST_AT_ONCE: Final = 50
#: Seconds for which an order that was read ahead is taken as read; what is approved is asked again after 60.
READ_AHEAD_KEPT: Final = 15.0
#: Seconds for which it is known how many wait.
_COUNT_KEPT: Final = 1.0


class Context(Protocol):
    """What is needed of a run's context."""

    @property
    def ledger(self) -> Ledger:
        """The ledger."""

    @property
    def salesforce(self) -> SalesforcePort:
        """Salesforce."""

    def now(self) -> float:
        """Seconds since 1970."""


class Crowd:
    """One process' view of those who wait. Safe for threads."""

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._reading = threading.Lock()
        self._keeping = threading.Lock()
        self._counted_at = float("-inf")
        self._waiting: list[str] = []
        self._read: dict[str, tuple[float, SalesforceOrder]] = {}  # Salesforce id → when read, what

    def waits(self, context: Context) -> bool:
        """Whether a crowd waits, as of a second ago. Raises LedgerUnavailable."""
        return len(self._those_waiting(context)) >= CROWD

    def read_ahead(self, context: Context, sf_order_id: str) -> tuple[float, SalesforceOrder] | None:
        """When (seconds since 1970) the order was read with others, and how it stood; None: it is to be read by itself.

        It is given once: who asks again gets a fresher one. Raises UpstreamError and LedgerUnavailable.
        """
        if not self.waits(context):
            return None
        found = self._take(context, sf_order_id)
        if found is not None:
            return found
        with self._reading:  # who comes meanwhile waits for what is being read: his order may be in it
            found = self._take(context, sf_order_id)
            if found is None:
                with self._keeping:
                    known = set(self._read)
                wanted = [sf_order_id, *(each for each in self._those_waiting(context) if each not in known)]
                read_at = context.now()
                read = context.salesforce.fetch_orders(list(dict.fromkeys(wanted))[:MOST_AT_ONCE])
                with self._keeping:
                    self._read.update((order.id, (read_at, order)) for order in read)
                    found = self._read.pop(sf_order_id, None)
        return found

    def _take(self, context: Context, sf_order_id: str) -> tuple[float, SalesforceOrder] | None:
        """The order as it was read ahead, if that is fresh."""
        now = context.now()
        with self._keeping:
            self._read = {key: each for key, each in self._read.items() if 0 <= now - each[0] <= READ_AHEAD_KEPT}
            return self._read.pop(sf_order_id, None)

    def _those_waiting(self, context: Context) -> list[str]:
        with self._counting:
            now = context.now()
            if not 0 <= now - self._counted_at <= _COUNT_KEPT:
                with context.ledger.read() as connection:
                    self._waiting = queueing.waiting(connection, now=now, limit=2 * MOST_AT_ONCE)
                self._counted_at = now
            return self._waiting
