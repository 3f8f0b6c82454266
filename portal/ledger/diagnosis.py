"""What `flask doctor` asks the database itself: is it there, may it be written, without changing anything."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from portal.ledger import installation
from portal.ledger.engine import Ledger
from portal.ledger.migrate import revision


class _Undo(Exception):
    """Takes a write back."""


def missing_file(ledger: Ledger) -> Path | None:
    """The file of an SQLite ledger that isn't there (connecting would make it); None where it is, or for PostgreSQL."""
    path = sqlite_file(ledger)
    return path if path is not None and not path.is_file() else None


def sqlite_file(ledger: Ledger) -> Path | None:
    """Where an SQLite ledger is; None for PostgreSQL and for one in memory."""
    name = ledger.url.database
    return Path(name) if ledger.sqlite and name and name != ":memory:" else None


def kind_and_revision(ledger: Ledger) -> tuple[str, str | None]:
    """What database it is (`PostgreSQL 16.4`), and the ledger's revision. Raises LedgerUnavailable."""
    with ledger.read() as connection:
        name = "SQLite" if ledger.sqlite else "PostgreSQL"
        version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
        return f"{name} {version}".strip(), revision(connection)


def why_read_only(ledger: Ledger) -> str | None:
    """Why the ledger can't be written, as far as that can be seen without writing; None where nothing says so."""
    path = sqlite_file(ledger)
    if path is not None:
        closed = next((each for each in (path, path.parent) if not os.access(each, os.W_OK)), None)
        return f"{closed} can't be written by this user" if closed else None
    with ledger.read() as connection:
        if connection.execute(sa.text("SELECT pg_is_in_recovery()")).scalar_one():
            return "this server is a standby"
        if connection.execute(sa.text("SHOW default_transaction_read_only")).scalar_one() == "on":
            return "transactions are read-only by default"
        may = "SELECT has_table_privilege('installation', 'INSERT') AND has_table_privilege('installation', 'UPDATE')"
        return None if connection.execute(sa.text(may)).scalar_one() else "this user may not write the ledger's tables"


def try_write(ledger: Ledger, *, now: float) -> None:
    """Write a row at `now` (seconds since 1970) and take it back. Raises LedgerUnavailable."""
    try:
        with ledger.write() as connection:
            installation.put(connection, "doctor", now, now=now)
            raise _Undo
    except _Undo:
        return
