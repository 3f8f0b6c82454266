"""The append-only list of security events and operators' actions.

Moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger.schema import events

#: Actors that are programs: what they did is kept for RETENTION_DAYS. What a person did is the audit trail.
MACHINES: Final = ("portal", "whmcs", "salesforce")


@dataclass(frozen=True)
class Event:
    """One row of `events`; `at` is in seconds since 1970."""

    id: int
    at: float
    kind: str
    subject: str | None
    actor: str | None
    detail: dict[str, Any] | None


_RECORD = sa.insert(events).inline()  # built once; nobody asks for its id


def record(
    connection: Connection,
    kind: str,
    *,
    now: float,
    subject: str | None = None,
    actor: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Append one event. `detail` holds neither secrets nor personal data."""
    row = {"at": now, "kind": kind, "subject": subject, "actor": actor, "detail": detail or {}}
    connection.execute(_RECORD, row)


def of_subject(connection: Connection, subject: str, limit: int = 100) -> list[Event]:
    """The newest events about one order, newest first."""
    query = (
        sa.select(events.c.id, events.c.at, events.c.kind, events.c.subject, events.c.actor, events.c.detail)
        .where(events.c.subject == subject)
        .order_by(events.c.id.desc())
        .limit(limit)
    )
    return [Event(*row) for row in connection.execute(query)]
