"""Deliveries durably accepted per second on PostgreSQL, beside the obvious way on the same server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bench.harness import Figures, Group, PeerMissing, Row, Side, at_least
from bench.portals import own_portal
from bench.rows.accepts import figures, obvious_way, send
from tests.postgres import Postgres, sqlalchemy_url

_NAME: Final = "deliveries accepted per second on PostgreSQL, beside the obvious way"


class AcceptsPostgresql(Group):
    """On PostgreSQL."""

    name = "postgresql"
    promised = ((_NAME, "≥ 1.5 ×"),)

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """Two databases of one server."""
        with contextlib.ExitStack() as up:
            try:
                server = up.enter_context(Postgres())
            except Exception as error:
                raise PeerMissing(f"PostgreSQL didn't start: {error}") from error
            settings = {"DATABASE_URL": server.database()}
            stack = up.enter_context(own_portal(settings))
            secret = stack.secret("sf_webhook_secret")
            obvious = up.enter_context(obvious_way(secret, sqlalchemy_url(server.database())))
            yield [
                Side("portal", lambda seconds: figures(send(stack.urls["portal"], secret, seconds))),
                Side("obvious", lambda seconds: figures(send(obvious, secret, seconds))),
            ]

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """One."""
        ours = medians["portal"]
        note = f"p50 {ours['p50']:.1f} ms, p99 {ours['p99']:.1f} ms"
        return [at_least(_NAME, ours["per second"], medians["obvious"]["per second"], 1.5, note=note)]
