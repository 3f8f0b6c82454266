"""Deliveries of many requests taken together: one transaction and a handful of statements for all that come at once.

Only what nearly every delivery is goes this way: a new nonce, a new Idempotency-Key, an order never asked for. All else
is taken alone by `portal.ledger.accepting.accept`, which has the rules; a test holds the two ways against each other.

Functions take a Connection of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine import Connection

from portal.domain.model import State, customer_status
from portal.errors import PortalError
from portal.ledger import deliveries, fulfillments, installation, orders, outbox, totals
from portal.ledger import schema as tables
from portal.ledger.accepting import Accepted, Delivery, accept
from portal.ledger.engine import Ledger
from portal.ledger.group_commit import GroupCommit

_POSTGRESQL: Final[sa.Dialect] = PGDialect()  # type: ignore[no-untyped-call]  # for its names of types

#: A delivery and the moment it came.
Dated = tuple[Delivery, float]


class Overtaken(PortalError):
    """Another process wrote one of the same rows at the same time (PostgreSQL): nothing of the batch may be kept."""


class Acceptor:
    """Takes the deliveries of one process, those that come together in one transaction."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._together: GroupCommit[Dated, Accepted] = GroupCommit(ledger, accept_new)

    def accept(self, batch: Sequence[Dated]) -> list[Accepted | Exception]:
        """What became of each: as `portal.ledger.accepting.accept`, and committed.

        Instead of it KeyReused or NonceUsed, where nothing was written, and LedgerUnavailable and CommitUnknown as
        `Ledger.write` raises them.
        """
        outcomes = self._together.commit(batch)
        return [
            outcome or self._alone(delivery, now=now) for outcome, (delivery, now) in zip(outcomes, batch, strict=True)
        ]

    def _alone(self, delivery: Delivery, *, now: float) -> Accepted | Exception:
        try:
            with self._ledger.write() as connection:
                return accept(connection, delivery, now=now)
        except Exception as error:
            return error


def accept_new(connection: Connection, batch: Sequence[Dated]) -> list[Accepted | None]:
    """Take those that are new in every way; None for each that isn't. Raises Overtaken."""
    known = _known(connection, [delivery for delivery, _now in batch])
    new: list[Dated] = []
    for delivery, now in batch:
        names = _names(delivery)
        if known.isdisjoint(names):
            known |= names  # the second of two that have something in common is taken alone, after this one
            new.append((delivery, now))
    accepted = _insert(connection, new) if new else {}
    return [accepted.get(id(delivery)) for delivery, _now in batch]


def _names(delivery: Delivery) -> set[tuple[str, str]]:
    return {("key", delivery.idempotency_key), ("nonce", delivery.nonce_id), ("order", delivery.sf_order_id)}


def _known(connection: Connection, batch: Sequence[Delivery]) -> set[tuple[str, str]]:
    """Which of their names the ledger has; a key that has expired is one, too."""
    query = _KNOWN[connection.dialect.name]
    names = {
        "keys": json.dumps([delivery.idempotency_key for delivery in batch]),
        "nonces": json.dumps([delivery.nonce_id for delivery in batch]),
        "orders": json.dumps([delivery.sf_order_id for delivery in batch]),
    }
    return {(what, name) for what, name in connection.execute(query, names)}


def _insert(connection: Connection, batch: Sequence[Dated]) -> dict[int, Accepted]:
    """Write new deliveries; gives what became of each by its id(). Raises Overtaken.

    Everybody writes the tables in this order, and each in its keys' order: on PostgreSQL nobody then waits in a circle.
    """
    history_complete = installation.history_complete(connection)
    keys = [
        {
            "key": delivery.idempotency_key,
            "sf_order_id": delivery.sf_order_id,
            "created_at": now,
            "expires_at": now + deliveries.KEY_SECONDS,
        }
        for delivery, now in batch
    ]
    nonces = [
        {
            "nonce": delivery.nonce_id,
            "sf_order_id": delivery.sf_order_id,
            "idempotency_key": delivery.idempotency_key,
            "requested_by": delivery.requested_by,
            "received_at": now,
            "expires_at": now + max(delivery.nonce_seconds, deliveries.DELIVERY_SECONDS),
        }
        for delivery, now in batch
    ]
    rows = [
        fulfillments.new_own(
            delivery.sf_order_id,
            now=now,
            requested_at=delivery.requested_at,
            requested_by=delivery.requested_by,
            origin=delivery.origin,
            history_complete=history_complete,
        )
        for delivery, now in batch
    ]
    _insert_all(connection, {tables.idempotency_keys: keys, tables.deliveries: nonces, tables.fulfillments: rows})
    totals.moved(connection, None, State.QUEUED, count=len(rows))
    shown = [delivery.sf_order_id for delivery, _now in batch]
    orders.set_status_of_all(connection, shown, customer_status(State.QUEUED), now=batch[0][1])
    accepted = {}
    for (delivery, now), row in zip(batch, rows, strict=True):
        resync = None
        if delivery.resync_at is not None:
            resync = outbox.put(connection, "salesforce", delivery.sf_order_id, {}, now=now, due_at=delivery.resync_at)
        key = deliveries.Key(delivery.idempotency_key, delivery.sf_order_id, 1, None, None, new=True)
        accepted[id(delivery)] = Accepted(key, fulfillments.fulfillment_with(row), resync)
    return accepted


def _insert_all(connection: Connection, rows: Mapping[sa.Table, Sequence[Mapping[str, Any]]]) -> None:
    """Insert rows, those of a table of one shape, by statements whose text doesn't grow with them. Raises Overtaken.

    Not by executemany: Python's own lock is let go and asked for again at each row.
    """
    shapes = tuple((table.name, tuple(each[0])) for table, each in rows.items())
    values = {}
    for table, each in rows.items():
        identity = next(iter(table.primary_key)).name
        values[table.name] = json.dumps(sorted(each, key=lambda row: str(row[identity])))
    written: list[int] = []
    for statement in _inserts(connection.dialect.name, shapes):
        result = connection.execute(statement, values)
        written += result.one() if result.returns_rows else [result.rowcount]
    if written != [len(each) for each in rows.values()]:
        raise Overtaken("another process wrote of the same orders at the same time")


#: Columns that all rows of a table get alike: they stand in the statement's text.
_ALIKE: Final[Mapping[str, Mapping[str, Any]]] = {
    tables.idempotency_keys.name: {"attempt": 1},
    tables.fulfillments.name: fulfillments.NEW,
}


@cache
def _inserts(dialect: str, shapes: tuple[tuple[str, tuple[str, ...]], ...]) -> Sequence[sa.Executable]:
    """INSERT INTO … SELECT for each of these tables, from the JSON array by its name of objects with these members.

    On PostgreSQL one statement does it for all, for one round trip, and gives how many rows each has got.
    """
    if dialect != "postgresql":
        return [
            sa.text(
                _insert_from(table_name, names, [f"json_extract(value, '$.{name}')" for name in names])
                + f" FROM json_each(:{table_name}) WHERE true ON CONFLICT DO NOTHING"
            ).execution_options(preserve_rowcount=True)
            for table_name, names in shapes
        ]
    parts = []
    for table_name, names in shapes:
        types = tables.metadata.tables[table_name].c
        kinds = ", ".join(f'"{name}" {types[name].type.compile(_POSTGRESQL)}' for name in names)
        insert = _insert_from(table_name, names, [f'"{name}"' for name in names])
        source = f"json_to_recordset(CAST(:{table_name} AS json)) AS r({kinds})"
        parts.append(f"{table_name}_ AS ({insert} FROM {source} ON CONFLICT DO NOTHING RETURNING 1)")
    counts = ", ".join(f"(SELECT count(*) FROM {table_name}_)" for table_name, _names in shapes)
    return [sa.text(f"WITH {', '.join(parts)} SELECT {counts}")]


def _insert_from(table_name: str, names: Sequence[str], values: Sequence[str]) -> str:
    alike = _ALIKE.get(table_name, {})
    columns = ", ".join(f'"{name}"' for name in [*names, *alike])
    literals = [f"'{value}'" if isinstance(value, str) else str(value).upper() for value in alike.values()]
    return f"INSERT INTO {table_name} ({columns}) SELECT {', '.join([*values, *literals])}"


#: By unique index each: the arrays of names are what is gone through. Written out for each database: with
#: `portal.ledger.lists.Among` in three selects it took more of every delivery's time.
_KNOWN: Final = {
    "sqlite": sa.text(
        "SELECT 'key', k.key FROM json_each(:keys) AS e CROSS JOIN idempotency_keys AS k ON k.key = e.value"
        " UNION ALL SELECT 'nonce', d.nonce FROM json_each(:nonces) AS e"
        " CROSS JOIN deliveries AS d ON d.nonce = e.value"
        " UNION ALL SELECT 'order', f.sf_order_id FROM json_each(:orders) AS e"
        " CROSS JOIN fulfillments AS f ON f.sf_order_id = e.value"
    ),
    "postgresql": sa.text(
        "SELECT 'key', key FROM idempotency_keys"
        " WHERE key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:keys AS json))))"
        " UNION ALL SELECT 'nonce', nonce FROM deliveries"
        " WHERE nonce = ANY (ARRAY(SELECT json_array_elements_text(CAST(:nonces AS json))))"
        " UNION ALL SELECT 'order', sf_order_id FROM fulfillments"
        " WHERE sf_order_id = ANY (ARRAY(SELECT json_array_elements_text(CAST(:orders AS json))))"
    ),
}
