"""A ledger that isn't known to be the latest: what must be noted in it before anything is done on its word.

docs/reliability.md#restores says what then holds. Moments are seconds since 1970.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.engine import Connection

from portal.domain.protocol import SEND_WINDOW
from portal.ledger import installation, queueing, sessions

#: How long a restored ledger takes no new order's history for complete.
DOUBT_SECONDS: Final = 30 * 86_400.0


def mark(
    connection: Connection,
    *,
    now: float,
    max_request_seconds: float,
    actor: str | None = None,
    detail: dict[str, Any] | None = None,
) -> int:
    """Note that orders may have been created of which this ledger knows nothing; returns how many it doubts.

    Every order that hasn't ended is looked for in WHMCS before anything is created, and so are new ones for
    DOUBT_SECONDS. max_request_seconds: WHMCS_MAX_REQUEST_SECONDS, after which no call sent before takes effect.
    """
    installation.note_restored(connection, now=now, doubt_seconds=DOUBT_SECONDS, actor=actor, detail=detail)
    return queueing.doubt_unfinished(connection, now=now, until=now + SEND_WINDOW + max_request_seconds)


def end_sessions(connection: Connection, *, now: float) -> None:
    """Sign everybody out: who signed out, or was signed out, after the copy was made mustn't be signed in again."""
    sessions.end_all(connection, now=now)
