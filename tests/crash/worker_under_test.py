"""`python -m tests.crash.worker_under_test FOLDER`: the product's worker whose fault points a test can stop at.

This is the only way to switch fault points on: `python -m jobs.worker` passes none. A test writes FOLDER/<order>.stop
("<point> <nth>"); the process that gets there with this order renames it to <order>.here and waits for <order>.go.

Beside the product's own points (between a call's intent, its answer and their records) there are two around every
upstream call: `<action>:sending`, after the last check and right before the first byte leaves, and `<action>:answered`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs import fulfill, worker
from portal.clients.http import SendChecks, UpstreamClient
from portal.fulfillment import crowd


class _Slot(threading.local):
    """What this thread runs: one order at a time."""

    order = ""
    action = ""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()


class FaultPoints:
    """Where a slot stops."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slot = _Slot()

    def around_orders(self, run: Callable[[str], None]) -> Callable[[str], None]:
        """`run`, while we remember which order it runs."""

        def running(sf_order_id: str) -> None:
            self._slot.order, self._slot.passed = sf_order_id, Counter()
            try:
                run(sf_order_id)
            finally:
                self._slot.order = ""

        return running

    def around_calls(self, exchange: Callable[..., Any]) -> Callable[..., Any]:
        """UpstreamClient.exchange, remembering which action it is for, with a point after the answer."""

        def exchanging(client: UpstreamClient, action: str, *args: Any, **kwargs: Any) -> Any:
            self._slot.action = action
            result = exchange(client, action, *args, **kwargs)
            self.reached(f"{action}:answered")
            return result

        return exchanging

    def after_checks(self, ask: Callable[[SendChecks, float], None]) -> Callable[[SendChecks, float], None]:
        """SendChecks' call with a point after the last check, right before the bytes leave."""

        def asking(checks: SendChecks, seconds_left: float) -> None:
            ask(checks, seconds_left)
            self.reached(f"{self._slot.action}:sending")

        return asking

    def reached(self, name: str) -> None:
        """Stop here if the test says so."""
        if not self._slot.order:
            return
        stop = self._folder / f"{self._slot.order}.stop"
        try:
            point, nth = stop.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return
        self._slot.passed[name] += 1
        if name != point or self._slot.passed[name] != int(nth):
            return
        stop.rename(stop.with_suffix(".here"))
        while not stop.with_suffix(".go").exists():
            if stop.with_suffix(".hang").exists():
                self._hang()
            time.sleep(0.01)
        for suffix in (".here", ".go"):  # it may be stopped a second time, elsewhere
            stop.with_suffix(suffix).unlink(missing_ok=True)

    def _hang(self) -> None:
        """Have stood here for longer than any step may take; the process' other slots haven't."""
        process = fulfill._process
        assert process is not None
        process._runs[threading.get_ident()].progressed_at = time.monotonic() - process._stuck_after - 1.0
        time.sleep(0.5)


def main(folder: str) -> int:
    """The worker's process; returns its exit code."""
    points = FaultPoints(Path(folder))
    fulfill.fulfill_order = points.around_orders(fulfill.fulfill_order)  # type: ignore[assignment]
    UpstreamClient.exchange = points.around_calls(UpstreamClient.exchange)  # type: ignore[method-assign]
    SendChecks.__call__ = points.after_checks(SendChecks.__call__)  # type: ignore[assignment,method-assign]
    crowd.CROWD = sys.maxsize  # each order's own run makes all its calls, however many wait: its cells strike them
    return worker.main(fault_point=points.reached)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
