"""Many orders at once: how near to the floor they are done, and how many calls each costs, alone and in a crowd."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import orders
from bench.harness import Figures, Group, Row, Side, at_most
from bench.peers import calls
from tests.crash.harness import CrashStack

ORDERS: Final = 500
IN_FLIGHT: Final = 32
SECONDS_PER_CALL: Final = 0.3
WAITING: Final = 200

_FLOOR: Final = "500 orders at once, 300 ms per call, 32 in flight: seconds to the last write-back, beside the floor"
_ALONE: Final = "Salesforce calls of an order alone"
_WAITING: Final = "Salesforce calls of an order among 200 waiting"
_WHMCS: Final = "WHMCS calls of an undisturbed order"


class Crowds(Group):
    """One measurement takes longer than the others: that many orders take their time."""

    name = "crowds"
    promised = ((_FLOOR, "≤ 1.15 ×"), (_ALONE, "≤ 3"), (_WAITING, "≤ 1"), (_WHMCS, "≤ 8"))

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """The portal."""
        with (
            tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder,
            orders.own_stack(Path(folder), {"FULFILLMENT_SLOTS": str(IN_FLIGHT)}) as stack,
        ):
            stack.start()
            yield [
                Side("alone", lambda seconds: _calls(stack, 1)),
                Side("waiting", lambda seconds: _calls(stack, WAITING)),
                Side("at once", lambda seconds: _at_once(stack)),
            ]

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """Four."""
        alone, waiting = medians["alone"], medians["waiting"]
        floor = calls.WHMCS * SECONDS_PER_CALL * ORDERS / IN_FLIGHT
        note = f"the floor counts the {calls.WHMCS} calls to WHMCS, which an order waits for"
        return [
            at_most(_FLOOR, medians["at once"]["seconds"], floor, 1.15, note=note),
            Row(_ALONE, alone["salesforce"], None, None, "≤ 3", alone["salesforce"] <= 3),
            Row(_WAITING, waiting["salesforce"], None, None, "≤ 1", waiting["salesforce"] <= 1),
            Row(_WHMCS, alone["whmcs"], None, None, "≤ 8", alone["whmcs"] <= 8),
        ]


def _calls(stack: CrashStack, count: int) -> Figures:
    """Calls per order where so many wait when the worker comes up."""
    orders.delay(stack, 0.0)
    orders.fulfilled(stack, 1)  # sign-in and descriptions are there
    orders.wait_until_told(stack)  # of that one nothing is counted
    asked = orders.seeded(stack, count)
    before, marks = orders.provisioned(stack), orders.marks(stack)
    child = stack.child("worker")
    if count > 1:
        child.stop()
        orders.ask_for(stack, asked)
        child.start()
    else:
        orders.ask_for(stack, asked, "wait=20")
    orders.wait_until_provisioned(stack, before, count)
    orders.wait_until_told(stack)
    made = orders.calls(stack, marks)
    return {side: sum(entry["action"] != "token" for entry in entries) / count for side, entries in made.items()}


def _at_once(stack: CrashStack) -> Figures:
    asked = orders.seeded(stack, ORDERS)
    orders.delay(stack, SECONDS_PER_CALL)
    before = orders.provisioned(stack)
    begun = time.monotonic()
    orders.ask_for(stack, asked)
    orders.wait_until_provisioned(stack, before, ORDERS, 300.0)
    orders.wait_until_told(stack)
    seconds = time.monotonic() - begun
    orders.delay(stack, 0.0)
    return {"seconds": seconds}
