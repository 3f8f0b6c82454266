"""The last known state of Salesforce and WHMCS: for /health, and for the circuit breaker all processes share.

A side has a row of its own name, and one for each known fault of its set-up (`setup_name`).

Moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger.engine import insert
from portal.ledger.schema import upstreams

_U = upstreams.c


@dataclass(frozen=True)
class Upstream:
    """The last known state of one other side; moments are seconds since 1970."""

    name: str
    failures: int
    opened_at: float | None
    probe_at: float | None
    last_ok_at: float | None
    last_error_at: float | None
    last_error: str | None


def get(connection: Connection, name: str) -> Upstream | None:
    """One side's state; None before its first call."""
    row = connection.execute(
        sa.select(*(_U[field] for field in Upstream.__dataclass_fields__)).where(_U.name == name)
    ).one_or_none()
    return None if row is None else Upstream(*row)


def setup_name(side: str, action: str) -> str:
    """The row of one action's (`*`: every action's) fault of the set-up: `sa:fetch_order`; 20 characters at most."""
    return f"{side[:2]}:{action}"[:20]


# Built once: each process looks every second.
_OF_SIDE = sa.select(*(_U[field] for field in Upstream.__dataclass_fields__)).where(
    sa.or_(
        _U.name == sa.bindparam("side"),
        sa.and_(_U.name >= sa.bindparam("first"), _U.name < sa.bindparam("behind")),
    )
)


def of_side(connection: Connection, side: str) -> dict[str, Upstream]:
    """A side's own row and those of its set-up, by name."""
    first = setup_name(side, "")
    asked = {"side": side, "first": first, "behind": first[:-1] + ";"}  # ":" … ";"
    return {row.name: Upstream(*row) for row in connection.execute(_OF_SIDE, asked)}


def open_of(rows: dict[str, Upstream], side: str) -> tuple[bool, bool]:
    """Of a side's rows (`of_side`): whether its own circuit is open, and whether one of its set-up's is."""
    mine = rows.get(side)
    setup = any(row.opened_at is not None for name, row in rows.items() if name != side)
    return mine is not None and mine.opened_at is not None, setup


def note_ok(connection: Connection, name: str, *, now: float) -> bool:
    """It answered: the circuit is closed. Returns whether it was open before."""
    query = sa.select(_U.opened_at).where(_U.name == name).with_for_update()
    was_open = connection.execute(query).scalar_one_or_none() is not None
    values = {"failures": 0, "opened_at": None, "probe_at": None, "last_ok_at": now}
    connection.execute(
        insert(connection, upstreams)
        .values(name=name, **values)
        .on_conflict_do_update(index_elements=[_U.name], set_=values)
    )
    return was_open


def note_failure(connection: Connection, name: str, *, now: float, error: str, opens_at: int, pause: float) -> bool:
    """It didn't answer: after `opens_at` failures in a row the circuit opens for `pause` seconds. Returns if it is."""
    values = {"last_error_at": now, "last_error": error[:255]}
    connection.execute(
        insert(connection, upstreams)
        .values(name=name, failures=1, **values)
        .on_conflict_do_update(index_elements=[_U.name], set_={"failures": _U.failures + 1, **values})
    )
    opened = connection.execute(
        sa.update(upstreams)
        .where(_U.name == name, _U.failures >= opens_at)
        .values(opened_at=sa.func.coalesce(_U.opened_at, now), probe_at=now + pause)
    )
    return opened.rowcount == 1


def claim_probe(connection: Connection, name: str, *, now: float, next_at: float) -> bool:
    """Whether this caller may be the one that tries while the circuit is open."""
    done = connection.execute(
        sa.update(upstreams)
        .where(_U.name == name, _U.opened_at.is_not(None), _U.probe_at <= now)
        .values(probe_at=next_at)
    )
    return done.rowcount == 1
