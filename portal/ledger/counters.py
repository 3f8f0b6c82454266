"""Counters that every process adds to and metrics read: right across hosts and restarts, and never a scan."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger.engine import insert
from portal.ledger.schema import counters


def add(connection: Connection, name: str, label: str, amount: float = 1) -> None:
    """Add to the counter `name` (a Prometheus name) under one label's value."""
    statement = insert(connection, counters).values(name=name, label=label, value=amount)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[counters.c.name, counters.c.label],
            set_={"value": counters.c.value + sa.literal(amount)},
        )
    )


def of(connection: Connection, name: str) -> dict[str, float]:
    """A counter's values by label."""
    query = sa.select(counters.c.label, counters.c.value).where(counters.c.name == name)
    return {row.label: row.value for row in connection.execute(query)}
