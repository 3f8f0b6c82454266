"""Accepted is fulfilled: real orders, everything of the portal killed with -9 in the middle of their deliveries.

Started again, with worker and sweep, the portal must bring every order to Provisioned whose delivery it had answered.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from bench.harness import Figures, Group, Row, Side
from bench.portals import own_portal
from tests.stack import Stack

ORDERS: Final = 120
_SENDERS: Final = 16
#: Seconds within which they must all be done.
_PATIENCE: Final = 240

_NAME: Final = "orders Provisioned in the end, of those accepted before kill -9"


class Durable(Group):
    """Nothing is timed, so there are no rounds worth repeating: one check."""

    name = "durable"
    promised = ((_NAME, "= all"),)

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """None but the portal, which is killed."""
        with own_portal() as self.stack:
            yield []

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """One."""
        stack = self.stack
        orders = [stack.order("starter") for _ in range(ORDERS)]
        accepted = _send_and_kill(stack, orders)
        for name in ("valkey", "worker", "sweep", "web"):
            stack.restart(name)

        def provisioned() -> set[str]:
            rows = stack.ledger("SELECT sf_order_id FROM fulfillments WHERE state = 'provisioned'")
            return {row["sf_order_id"] for row in rows} & accepted

        with contextlib.suppress(AssertionError):  # then the row says how many
            stack.wait_for(lambda: provisioned() == accepted, "the orders", _PATIENCE)
        done = len(provisioned())
        note = f"{len(accepted)} of {ORDERS} were answered before the kill"
        held = done == len(accepted) and 0 < done < ORDERS
        return [Row(_NAME, done, len(accepted), done / max(1, len(accepted)), "= all", held, note)]


def _send_and_kill(stack: Stack, orders: Sequence[str]) -> set[str]:
    """Deliver them by many senders at once; kill when half are answered. Returns which were answered with 202."""
    accepted: set[str] = set()
    half = threading.Event()

    def deliver(order: str) -> None:
        with contextlib.suppress(OSError):  # killed meanwhile; http.client's errors of a cut answer are its own
            if stack.fulfill(order, prefer="respond-async").status == 202:
                accepted.add(order)
        if len(accepted) >= len(orders) // 2:
            half.set()

    with ThreadPoolExecutor(_SENDERS) as senders:
        sent = [senders.submit(deliver, order) for order in orders]
        half.wait(60)
        for name in ("web", "valkey"):
            stack.kill(name)
        for each in sent:
            with contextlib.suppress(Exception):
                each.result()
    return set(accepted)
