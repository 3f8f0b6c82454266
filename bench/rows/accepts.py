"""Deliveries durably accepted per second, beside adnanh/webhook and the obvious way; how evenly processes share them.

Afterwards everything of the portal is killed with -9, and what was accepted must be in the ledger; bench.rows.durable
kills in the middle, and sees real orders through.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import deliveries
from bench.foreign import descendants, seconds_of
from bench.harness import Figures, Group, Row, Side, at_least
from bench.load import Result
from bench.peers import servers
from bench.portals import own_portal
from tests.stack import Stack

CONNECTIONS: Final = 16
_P99_MS: Final = 30.0
_SHARE: Final = 0.65

_BESIDE_WEBHOOK: Final = "deliveries accepted per second, beside adnanh/webhook"
_BESIDE_OBVIOUS: Final = "deliveries accepted per second, beside the obvious way"
_BUSIEST: Final = "busiest web process's share of the load, 2 processes"
_DURABLE: Final = "deliveries in the ledger after kill -9, of those accepted"


class Accepts(Group):
    """On SQLite."""

    name = "accepts"
    promised = (
        (_BESIDE_WEBHOOK, "≥ 0.55 ×, p99 ≤ 30 ms"),
        (_BESIDE_OBVIOUS, "≥ 1.8 ×"),
        (_BUSIEST, "≤ 0.65"),
        (_DURABLE, "= all"),
    )

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """The portal, webhook and the obvious way."""
        with contextlib.ExitStack() as up:
            self.stack = up.enter_context(own_portal())
            self.portal = Portal(self.stack)
            secret = self.stack.secret("sf_webhook_secret")
            hook = up.enter_context(servers.webhook(secret))
            folder = up.enter_context(tempfile.TemporaryDirectory(prefix="order-portal-bench-"))
            obvious = up.enter_context(obvious_way(secret, f"sqlite:///{Path(folder) / 'obvious.sqlite3'}"))
            yield [
                Side("portal", self.portal.measure),
                Side("webhook", lambda seconds: figures(send(hook, secret, seconds, path="/hooks/fulfill"))),
                Side("obvious", lambda seconds: figures(send(obvious, secret, seconds))),
            ]

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """The three rows, and the durable one."""
        ours = medians["portal"]
        told = (
            f"p50 {ours['p50']:.1f} ms, p99 {ours['p99']:.1f} ms (webhook {medians['webhook']['p99']:.1f} ms), "
            f"{ours['web CPU ms']:.2f} ms of the web processes' time each"
        )
        return [
            at_least(
                _BESIDE_WEBHOOK,
                ours["per second"],
                medians["webhook"]["per second"],
                0.55,
                note=told,
                also=ours["p99"] <= _P99_MS,
            ),
            at_least(
                _BESIDE_OBVIOUS,
                ours["per second"],
                medians["obvious"]["per second"],
                1.8,
                else_why="the obvious way writes one row, and keeps no nonce, limit, counter or log line",
            ),
            Row(_BUSIEST, ours["busiest"], 0.5, None, f"≤ {_SHARE}", ours["busiest"] <= _SHARE),
            self.portal.durable(),
        ]


class Portal:
    """Ours under load, and what it must know afterwards."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.accepted = 0

    def measure(self, seconds: float) -> Figures:
        """One round. busiest: the part of the web processes' time that the busiest of them used."""
        pid = self.stack.child("web").pid
        before = {each: seconds_of(each) for each in descendants(pid) if each != pid}
        result = send(self.stack.urls["portal"], self.stack.secret("sf_webhook_secret"), seconds)
        self.accepted += result.statuses[202]
        used = [seconds_of(each) - begun for each, begun in before.items()]
        cost = sum(used) / result.statuses[202] * 1000
        return {**figures(result), "busiest": max(used) / sum(used), "web CPU ms": cost}

    def durable(self) -> Row:
        """Everything of the portal killed with -9: whatever was answered with 202 must be in the ledger."""
        for name in ("web", "valkey"):
            self.stack.kill(name)
        known = int(self.stack.ledger("SELECT count(*) AS n FROM fulfillments")[0]["n"])
        return Row(_DURABLE, known, self.accepted, known / self.accepted, "= all", known == self.accepted)


@contextlib.contextmanager
def obvious_way(secret: str, database: str) -> Iterator[str]:
    """bench.peers.obvious over an empty database, with a Valkey of its own. Gives its address."""
    with servers.valkey() as redis:
        environ = {"SECRET": secret, "DATABASE_URL": database, "REDIS_URL": redis}
        with servers.flask_peer("obvious", environ) as url:
            yield url


def send(url: str, secret: str, seconds: float, path: str = "/orders/{order}/fulfill") -> Result:
    """Deliveries over 16 connections."""
    return deliveries.send(url, secret, connections=CONNECTIONS, seconds=seconds, path=path)


def figures(result: Result) -> dict[str, float]:
    """What is compared."""
    return {
        "per second": result.per_second,
        "p50": result.percentile(0.5),
        "p99": result.percentile(0.99),
    }
