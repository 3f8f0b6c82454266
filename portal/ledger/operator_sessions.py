"""The ledger's sessions of operators. Only digests of secrets are kept; moments are seconds since 1970 UTC."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger.schema import operator_sessions

_S = operator_sessions.c


def insert(connection: Connection, session_id: str, email: str, *, now: float, expires_at: float) -> None:
    """Sign a browser in until `expires_at`."""
    connection.execute(
        operator_sessions.insert().values(id=session_id, email=email, created_at=now, expires_at=expires_at)
    )


def email_of(connection: Connection, session_id: str, *, now: float) -> str | None:
    """Whose session this is; None once it has ended."""
    query = sa.select(_S.email).where(_S.id == session_id, _S.expires_at > now)
    return connection.execute(query).scalar_one_or_none()


def end(connection: Connection, session_id: str) -> None:
    """Sign one browser out."""
    connection.execute(operator_sessions.delete().where(_S.id == session_id))


def forget_expired(connection: Connection, *, now: float, limit: int = 500) -> int:
    """Delete sessions that have ended, a bounded number; how many there were."""
    expired = sa.select(_S.id).where(_S.expires_at <= now).limit(limit).scalar_subquery()
    return connection.execute(operator_sessions.delete().where(_S.id.in_(expired))).rowcount
