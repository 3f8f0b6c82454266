"""One order at a time on an idle system: what it takes outside the upstreams, beside bare RQ, and with many slots."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench import orders
from bench.harness import Figures, Group, Row, Side, at_most
from bench.peers import workers
from tests.crash.harness import CrashStack

_BARE: Final = "one order, idle: milliseconds outside the upstreams, beside bare RQ"
_SLOTS: Final = "one order, idle: the same with 16 slots as with 2"


class OneOrder(Group):
    """From the delivery to Provisioned, as its sender waits for it; of bare RQ from enqueueing to the end."""

    name = "one-order"
    promised = ((_BARE, "≤ 2.5 ×"), (_SLOTS, "≤ 1.2 ×"))

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """Two portals, with 2 and with 16 slots, and bare RQ over the first one's sandboxes."""
        with contextlib.ExitStack() as up:
            stacks = {}
            for slots in (2, 16):
                folder = Path(up.enter_context(tempfile.TemporaryDirectory(prefix="order-portal-bench-")))
                stack = up.enter_context(orders.own_stack(folder, {"FULFILLMENT_SLOTS": str(slots)}))
                stack.start()
                stacks[slots] = stack
            peer = up.enter_context(workers.bare_rq(stacks[2], 1))
            yield [
                Side("2 slots", partial(_one_by_one, stacks[2], lambda order: _through_portal(stacks[2], order))),
                Side("16 slots", partial(_one_by_one, stacks[16], lambda order: _through_portal(stacks[16], order))),
                Side("bare RQ", partial(_one_by_one, stacks[2], lambda order: _through(peer, order))),
            ]

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """Two."""
        two, many, bare = (medians[name]["ms"] for name in ("2 slots", "16 slots", "bare RQ"))
        why = (
            "the delivery, seven transactions of its run, WHMCS' events and the sender's answer; bare RQ keeps nothing"
        )
        return [at_most(_BARE, two, bare, 2.5, else_why=why), at_most(_SLOTS, many, two, 1.2)]


def _through_portal(stack: CrashStack, order: str) -> None:
    orders.ask_for(stack, [order], "wait=20")


def _through(peer: workers.Bare, order: str) -> None:
    peer.fulfill([order])


def _one_by_one(stack: CrashStack, do: Callable[[str], None], seconds: float) -> Figures:
    """The median of what each of some orders took, minus what the sandboxes had its calls for."""
    took = []
    for order in orders.seeded(stack, int(seconds * 8)):
        marks = orders.marks(stack)
        begun = time.time()
        do(order)
        ended = time.time()
        inside = sum(
            entry["inside"] or 0.0
            for entries in orders.calls(stack, marks).values()
            for entry in entries
            if begun <= entry["received"] <= ended
        )
        took.append((ended - begun - inside) * 1000)
    return {"ms": statistics.median(took)}
