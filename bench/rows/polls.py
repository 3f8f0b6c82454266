"""Status polls of order pages that say nothing new, beside a Flask application that says hello on the same gunicorn.

Half of them ask for an order in review, half for one that is being set up. None may write or ask another side.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench import load
from bench.harness import Figures, Group, Row, Side, at_least
from bench.peers import servers
from bench.portals import stop_workers
from sandbox.visitor import Visitor
from tests.customers import follow, place_order, poll_address, salesforce_id, sign_in
from tests.stack import Stack

CONNECTIONS: Final = 16

_NAME: Final = "unchanged status polls per second, beside Flask hello"


class Polls(Group):
    """Over kept connections."""

    name = "polls"
    promised = ((_NAME, "≥ 0.5 ×"),)

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """The portal with two orders whose pages are open, and hello."""
        with contextlib.ExitStack() as up:
            folder = up.enter_context(tempfile.TemporaryDirectory(prefix="order-portal-bench-"))
            stack = up.enter_context(Stack(Path(folder)))
            visitor = up.enter_context(Visitor())
            self.portal = _Pages(stack, visitor)
            hello = up.enter_context(servers.flask_peer("hello"))
            request = load.http_request("GET", "/", ())
            yield [
                Side("portal", self.portal.measure),
                Side("hello", lambda seconds: _figures(_drive(hello, [request], seconds).only(200))),
            ]

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """One; not held either where a poll wrote or asked."""
        ours, peer = medians["portal"], medians["hello"]
        quiet = not self.portal.writes and not self.portal.calls
        note = f"{self.portal.writes} writes, {self.portal.calls} upstream calls; p99 {ours['p99']:.1f} ms"
        return [at_least(_NAME, ours["per second"], peer["per second"], 0.5, note=note, also=quiet)]


class _Pages:
    """A customer's two open pages."""

    def __init__(self, stack: Stack, visitor: Visitor) -> None:
        self._stack = stack
        self._visitor = visitor
        self.writes = self.calls = 0
        sign_in(stack, visitor)
        self._references = [place_order(stack, visitor) for _ in range(2)]
        order = salesforce_id(stack, self._references[1])
        stop_workers(stack)
        assert stack.fulfill(order, prefer="respond-async").status == 202
        # Nobody takes it up, so its page changes once more: to "late". After that it stays as it is.
        follow(stack, visitor, self._references[1], "taking longer than usual")

    def measure(self, seconds: float) -> Figures:
        """One round."""
        portal = self._stack.urls["portal"]
        cookie = "; ".join(
            f"{name}={self._visitor.cookie(portal, name)}"
            for name in ("portal_session", "portal_forms")
            if self._has(name)
        )
        requests = []
        for reference in self._references:
            address = urlsplit(poll_address(self._visitor.get(f"{portal}/orders/{reference}")))
            headers = [("Cookie", cookie), ("HX-Request", "true")]
            requests.append(load.http_request("GET", f"{address.path}?{address.query}", headers))
        calls = self._upstream_calls()
        with contextlib.closing(sqlite3.connect(f"file:{self._stack.ledger_path}?mode=ro", uri=True)) as ledger:
            version = ledger.execute("PRAGMA data_version").fetchone()
            result = _drive(portal, requests, seconds).only(204)
            self.writes += ledger.execute("PRAGMA data_version").fetchone() != version
        self.calls += self._upstream_calls() - calls
        return _figures(result)

    def _has(self, name: str) -> bool:
        try:
            return bool(self._visitor.cookie(self._stack.urls["portal"], name))
        except KeyError:
            return False

    def _upstream_calls(self) -> int:
        return sum(len(side.journal(direction="in")) for side in (self._stack.salesforce, self._stack.whmcs))


def _drive(url: str, requests: list[bytes], seconds: float) -> load.Result:
    return load.drive(url, lambda: itertools.cycle(requests), connections=CONNECTIONS, seconds=seconds)


def _figures(result: load.Result) -> Figures:
    return {"per second": result.per_second, "p99": result.percentile(0.99)}
