"""Counters that every process adds to and metrics read: right across hosts, restarts and retention, and never a scan.

What is added in a transaction is written with it, as its last statement: rows that every transaction touches are
locked for the commit only, and always in the same order, so that no two transactions wait for each other. Each counter
has SHARDS rows, so that not all processes wait for one.
"""

from __future__ import annotations

import os
import threading
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from portal.ledger.schema import counters

SHARDS: Final = 8

#: Where a connection keeps what its transaction adds, until the commit.
_PENDING: Final = "portal.counters"

#: Name and label of a counter → what is added to it.
Amounts = dict[tuple[str, str], float]


# Built once: nearly every transaction runs it.
_ADD: Final = {
    dialect: made.on_conflict_do_update(
        index_elements=[counters.c.name, counters.c.label, counters.c.shard],
        set_={"value": counters.c.value + made.excluded.value},
    )
    for dialect, made in (("postgresql", postgresql.insert(counters)), ("sqlite", sqlite.insert(counters)))
}


def add(connection: Connection, name: str, label: str, amount: float = 1) -> None:
    """Add to the counter `name` (a Prometheus name) under one label's value, with this transaction's commit."""
    pending: Amounts = connection.info.setdefault(_PENDING, {})
    pending[name, label[:80]] = pending.get((name, label[:80]), 0.0) + amount


def begin(connection: Connection) -> None:
    """Forget what an earlier transaction of this connection added and never committed."""
    connection.info.pop(_PENDING, None)


def write(connection: Connection, gathered: Amounts) -> None:
    """Write what the transaction has added, and what was gathered: `portal.ledger.engine.Ledger` does it at the end."""
    for (name, label), amount in gathered.items():
        add(connection, name, label, amount)
    pending = connection.info.pop(_PENDING, None) or {}
    shard = os.getpid() % SHARDS
    rows = [
        {"name": name, "label": label, "shard": shard, "value": amount}
        for (name, label), amount in sorted(pending.items())
        if amount
    ]
    if not rows:
        return
    connection.execute(_ADD[connection.dialect.name], rows if len(rows) > 1 else rows[0])


def of(connection: Connection, name: str) -> dict[str, float]:
    """A counter's values by label."""
    query = (
        sa.select(counters.c.label, sa.func.sum(counters.c.value))
        .where(counters.c.name == name)
        .group_by(counters.c.label)
    )
    return {label: float(value) for label, value in connection.execute(query)}


class Gathered:
    """What one process counts outside of any transaction: it is written with the next one. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._amounts: Amounts = {}

    def add(self, name: str, label: str, amount: float = 1) -> None:
        """Add to the counter `name` under one label's value, with whatever transaction commits next."""
        with self._lock:
            self._mine()
            self._amounts[name, label] = self._amounts.get((name, label), 0.0) + amount

    def take(self) -> Amounts:
        """All of it, which is the caller's now, to write or to give back."""
        with self._lock:
            self._mine()
            taken, self._amounts = self._amounts, {}
            return taken

    def give_back(self, amounts: Amounts) -> None:
        """It wasn't written."""
        for (name, label), amount in amounts.items():
            self.add(name, label, amount)

    def _mine(self) -> None:
        if self._pid != os.getpid():  # a forked child's parent counts its own
            self._pid, self._amounts = os.getpid(), {}
