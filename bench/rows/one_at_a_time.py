"""One delivery at a time, beside this project as it was before it was made fast."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bench import deliveries
from bench.harness import Figures, Group, Row, Side, at_most
from bench.portals import earlier_portal, own_portal

#: The commit whose figures are the ones to beat.
EARLIER: Final = "8eb033a"

_ASYNC: Final = f"one delivery at a time, respond-async, p50 ms, beside {EARLIER}"
_WAIT_0: Final = f"one delivery at a time, wait=0, p50 ms, beside {EARLIER}"


class OneAtATime(Group):
    """Over one connection."""

    name = "one-at-a-time"
    promised = ((_ASYNC, "≤ 0.6 ×"), (_WAIT_0, "≤ 0.6 ×"))

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """Ours and the earlier one, both without worker and sweep."""
        with own_portal() as stack, earlier_portal(EARLIER) as earlier:
            yield [
                Side(
                    "portal", lambda seconds: _measure(stack.urls["portal"], stack.secret("sf_webhook_secret"), seconds)
                ),
                Side("earlier", lambda seconds: _measure(earlier.url, earlier.secret, seconds)),
            ]

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """One for each way to ask."""
        ours, earlier = medians["portal"], medians["earlier"]
        return [
            at_most(
                name, ours[figure], earlier[figure], 0.6, note=f"p99 {ours[p99]:.1f} ms, then {earlier[p99]:.1f} ms"
            )
            for name, figure, p99 in ((_ASYNC, "async p50", "async p99"), (_WAIT_0, "wait=0 p50", "wait=0 p99"))
        ]


def _measure(url: str, secret: str, seconds: float) -> Figures:
    figures: dict[str, float] = {}
    for name, prefer in (("async", "respond-async"), ("wait=0", "wait=0")):
        result = deliveries.send(url, secret, connections=1, seconds=seconds / 2, prefer=prefer)
        figures |= {f"{name} p50": result.percentile(0.5), f"{name} p99": result.percentile(0.99)}
    return figures
