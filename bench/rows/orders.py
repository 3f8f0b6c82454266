"""Orders per second beside peers that make the same calls: where each takes 50 ms, and where none takes any time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import orders
from bench.harness import Figures, Group, Row, Side, at_least
from bench.peers import calls, workers
from tests.crash.harness import CrashStack

IN_FLIGHT: Final = 16
SECONDS_PER_CALL: Final = 0.05
#: Orders per second that so many slots can do at most, if they do nothing but wait for WHMCS.
CEILING: Final = IN_FLIGHT / (calls.WHMCS * SECONDS_PER_CALL)

_CEILING: Final = "50 ms per call, 16 in flight: orders per second, beside the ceiling"
_DBOS: Final = "50 ms per call, 16 in flight: orders per second, beside DBOS"
_BARE: Final = "upstreams answering at once, 2 worker processes: orders per second, beside bare RQ"


def ours(stack: CrashStack, count: int) -> Figures:
    """`count` orders through the portal: deliveries first, then what the worker makes of them until all are done."""
    asked = orders.seeded(stack, count)
    before, marks = orders.provisioned(stack), orders.marks(stack)
    child = stack.child("worker")
    child.stop()
    orders.ask_for(stack, asked)
    child.start()
    orders.wait_until_a_worker_is_there(stack)
    first = orders.first_call(stack, marks)
    orders.wait_until_provisioned(stack, before, count)
    made = orders.calls(stack, marks)
    last = max(entry["answered"] or 0.0 for entry in made["whmcs"])
    return {
        "per second": count / (last - first),
        "calls": sum(map(len, made.values())) / count,
    }


class SlowCalls(Group):
    """Orders wait for calls: what counts is how many are in flight."""

    name = "orders-slow"
    promised = ((_CEILING, "≥ 0.85 ×"), (_DBOS, "≥ 1.2 ×"))

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """The portal and DBOS over the same sandboxes, one after the other."""
        with (
            tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder,
            orders.own_stack(Path(folder), {"FULFILLMENT_SLOTS": str(IN_FLIGHT)}) as stack,
        ):
            stack.start()
            orders.delay(stack, SECONDS_PER_CALL)
            with workers.dbos(stack) as peer:
                yield [
                    # What the ceiling lets through, in whole waves: a last one that is half empty says nothing of us.
                    Side("portal", lambda seconds: ours(stack, int(seconds * CEILING) // IN_FLIGHT * IN_FLIGHT)),
                    Side("DBOS", lambda seconds: _peer(stack, peer, int(seconds * 20))),
                ]

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """Two."""
        portal, peer = medians["portal"], medians["DBOS"]
        note = (
            f"the ceiling is that of the {calls.WHMCS} calls to WHMCS: those to Salesforce are shared while many wait; "
            f"{portal['calls']:.1f} calls an order in all"
        )
        return [
            at_least(
                _CEILING,
                portal["per second"],
                CEILING,
                0.85,
                note=note,
                else_why="an order's own part, much of it in the line for SQLite's one writer, shares the cores with "
                "both sandboxes",
            ),
            at_least(_DBOS, portal["per second"], peer["per second"], 1.2),
        ]


class FastCalls(Group):
    """Calls take no time: what counts is the processor time of an order."""

    name = "orders-fast"
    promised = ((_BARE, "≥ 0.6 ×"),)

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """The portal's two worker processes and two of bare RQ, over the same sandboxes."""
        settings = {"FULFILLMENT_SLOTS": "4", "FULFILLMENT_PROCESSES": "2"}
        with (
            tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder,
            orders.own_stack(Path(folder), settings) as stack,
        ):
            stack.start()
            with workers.bare_rq(stack, 2) as peer:
                yield [
                    Side("portal", lambda seconds: ours(stack, int(seconds * 40))),
                    Side("bare RQ", lambda seconds: _peer(stack, peer, int(seconds * 60))),
                ]

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """One."""
        return [at_least(_BARE, medians["portal"]["per second"], medians["bare RQ"]["per second"], 0.6)]


def _peer(stack: CrashStack, peer: workers.Bare | workers.Dbos, count: int) -> Figures:
    asked = orders.seeded(stack, count)
    return {"per second": count / peer.fulfill(asked)}
