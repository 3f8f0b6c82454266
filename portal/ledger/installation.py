"""Facts about this installation that outlive processes: which other sides it belongs to, whether it is paused,
whether this ledger can vouch for what happened before, and whether WHMCS gives the orders' marks back.

Moments are seconds since 1970.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger import events
from portal.ledger.engine import insert
from portal.ledger.schema import installation

_GET = sa.select(installation.c.value).where(installation.c.key == sa.bindparam("wanted"))


def get(connection: Connection, key: str) -> Any:
    """The value kept under `key`, or None."""
    return connection.execute(_GET, {"wanted": key}).scalar_one_or_none()


def get_for_update(connection: Connection, key: str) -> Any:
    """As `get`; who else asks for the same key waits until this transaction ends (SQLite has one writer anyway)."""
    query = sa.select(installation.c.value).where(installation.c.key == key).with_for_update()
    return connection.execute(query).scalar_one_or_none()


def noted_at(connection: Connection, key: str) -> float | None:
    """When (seconds since 1970) the value under `key` was put there; None: never."""
    query = sa.select(installation.c.updated_at).where(installation.c.key == key)
    return connection.execute(query).scalar_one_or_none()


def put(connection: Connection, key: str, value: Any, *, now: float) -> None:
    """Keep a JSON value under `key`."""
    row = {"value": value, "updated_at": now}
    connection.execute(
        insert(connection, installation)
        .values(key=key, **row)
        .on_conflict_do_update(index_elements=[installation.c.key], set_=row)
    )


def paused(connection: Connection) -> dict[str, Any] | None:
    """Who paused fulfillments, when and why; None when they run."""
    value = get(connection, "paused")
    return value if isinstance(value, dict) else None


def pause(connection: Connection, *, actor: str, why: str, now: float) -> None:
    """Keep accepting orders, but write nothing to WHMCS until `resume`."""
    put(connection, "paused", {"by": actor, "why": why, "at": now}, now=now)
    events.record(connection, "paused", now=now, actor=actor, detail={"why": why})


def resume(connection: Connection, *, actor: str, why: str, now: float) -> None:
    """End `pause`, and record who did it and why."""
    put(connection, "paused", False, now=now)
    events.record(connection, "unpaused", now=now, actor=actor, detail={"why": why})


def note_restored(
    connection: Connection,
    *,
    now: float,
    doubt_seconds: float,
    actor: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """This ledger was restored from a backup: for some time it can't vouch for what it doesn't know."""
    put(connection, "doubt_until", now + doubt_seconds, now=now)
    events.record(connection, "ledger_restored", now=now, actor=actor, detail=detail)


def next_epoch(connection: Connection, *, now: float) -> int:
    """Count on: a Redis that remembers a higher epoch than its ledger tells of a restored ledger."""
    epoch = int(get(connection, "epoch") or 0) + 1
    put(connection, "epoch", epoch, now=now)
    return epoch


def history_complete(connection: Connection) -> bool:
    """Whether this ledger knows of every attempt there ever was: not for some time after it was restored."""
    doubt_until = get(connection, "doubt_until")
    return not (isinstance(doubt_until, int | float) and time.time() < doubt_until)


def references_in_field_readable(connection: Connection) -> bool | None:
    """Whether WHMCS gave the mark in a product's custom field back, last time the notes didn't; None: not known."""
    value = get(connection, "references_in_field_readable")
    return value if isinstance(value, bool) else None


def references_readable(connection: Connection) -> bool | None:
    """Whether WHMCS gave the last order's mark back; None when no order has told yet."""
    value = get(connection, "references_readable")
    return value if isinstance(value, bool) else None
