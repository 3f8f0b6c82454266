"""The ledger's languages: what each account's customers are spoken to in, on pages and in mails.

Every function takes a connection of `Ledger.read()` or `Ledger.write()`; moments are seconds since 1970 UTC. A language
is a locale's name, such as "de" or "en_US".
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger.engine import insert
from portal.ledger.schema import account_languages


class Kept(NamedTuple):
    """An account's language, and whether one of its customers chose it."""

    language: str
    chosen: bool


_OF_ACCOUNT = sa.select(account_languages.c.language, account_languages.c.chosen).where(
    account_languages.c.account_id == sa.bindparam("account")
)


def of_account(connection: Connection, account_id: str) -> Kept | None:
    """What the account's mails are written in; None where nothing is known."""
    row = connection.execute(_OF_ACCOUNT, {"account": account_id}).first()
    return None if row is None else Kept(*row)


def choose(connection: Connection, account_id: str, language: str, *, now: float) -> None:
    """The customer chose: from now on pages and mails are in it."""
    values = {"language": language, "chosen": True, "updated_at": now}
    statement = insert(connection, account_languages).values(account_id=account_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["account_id"], set_=values))


def note(connection: Connection, account_id: str, language: str, *, now: float) -> None:
    """The language somebody ordered in: mails are in it, until one is chosen; pages follow each browser's own."""
    values = {"language": language, "updated_at": now}
    statement = insert(connection, account_languages).values(account_id=account_id, chosen=False, **values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["account_id"], set_=values, where=account_languages.c.chosen.is_(False)
        )
    )
