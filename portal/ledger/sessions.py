"""The ledger's sessions: who is signed in, and which sign-in links have been used.

Only digests of secrets are kept: what the ledger holds opens nothing. Moments are seconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from portal.ledger.lists import Among
from portal.ledger.schema import account_languages, sessions, used_links

#: A sign-in button pressed twice: the first press' answer, and the cookie in it, may be lost.
AGAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Session:
    """One signed-in browser. `order_reference` set: it may see that one order and nothing else.

    language: the one the account's customers chose, if any.
    """

    id: str
    email: str
    contact_id: str | None
    account_id: str
    order_reference: str | None
    created_at: float
    expires_at: float
    currency: str | None = None
    client_id: str | None = None
    language: str | None = None


# Made once: every poll of every customer runs it.
_LIVING: Final[sa.Select[Any]] = (
    sa.select(
        *(sessions.c[each.name] for each in fields(Session) if each.name in sessions.c), account_languages.c.language
    )
    .outerjoin_from(
        sessions,
        account_languages,
        sa.and_(account_languages.c.account_id == sessions.c.account_id, account_languages.c.chosen),
    )
    .where(Among(sessions.c.id, "ids"), sessions.c.expires_at > sa.bindparam("now"))
)


def insert(connection: Connection, session: Session) -> None:
    """Sign a browser in."""
    connection.execute(
        sessions.insert().values(
            id=session.id,
            email=session.email,
            contact_id=session.contact_id,
            account_id=session.account_id,
            order_reference=session.order_reference,
            created_at=session.created_at,
            expires_at=session.expires_at,
            currency=session.currency,
            client_id=session.client_id,
        )
    )


def find(connection: Connection, ids: Collection[str], *, now: float) -> list[Session]:
    """Those of the sessions that exist and haven't ended."""
    return [Session(*row) for row in connection.execute(_LIVING, {"ids": list(ids), "now": now})]


def end(connection: Connection, session_id: str) -> None:
    """Sign one browser out."""
    connection.execute(sessions.delete().where(sessions.c.id == session_id))


def end_everywhere(connection: Connection, email: str) -> None:
    """Sign every browser of this address out, those that see one order only included."""
    connection.execute(sessions.delete().where(sessions.c.email == email))


def end_all(connection: Connection, *, now: float) -> None:
    """Sign everybody out."""
    connection.execute(sessions.delete().where(sessions.c.expires_at > now))


def use_link(
    connection: Connection, link_id: str, *, now: float, expires_at: float, browser: str | None = None
) -> bool:
    """Note that a sign-in link is used; False when it was before (of two at once, one wins).

    browser: what this one is known by; the one that used the link may do so again for AGAIN_SECONDS.
    """
    try:
        with connection.begin_nested():
            values = {"id": link_id, "used_at": now, "expires_at": expires_at, "browser": browser}
            connection.execute(used_links.insert().values(**values))
    except IntegrityError:
        return not link_used(connection, link_id, now=now, browser=browser)
    return True


def link_used(connection: Connection, link_id: str, *, now: float, browser: str | None = None) -> bool:
    """Whether a sign-in link has been used, and this browser didn't just do so itself."""
    query = sa.select(used_links.c.browser, used_links.c.used_at).where(used_links.c.id == link_id)
    row = connection.execute(query).first()
    if row is None:
        return False
    return browser is None or row.browser != browser or now - row.used_at > AGAIN_SECONDS


def forget_expired(connection: Connection, *, now: float, limit: int) -> int:
    """Delete ended sessions and used links that have expired anyway, a bounded number; how many there were."""
    forgotten = 0
    for table in (sessions, used_links):
        expired = sa.select(table.c.id).where(table.c.expires_at <= now).limit(limit).scalar_subquery()
        forgotten += connection.execute(table.delete().where(table.c.id.in_(expired))).rowcount
    return forgotten
