"""Migrating the ledger: under an exclusive lock and inside one transaction, or not at all.

Only `flask db upgrade` does it. Every other process compares the revision and refuses to start on a mismatch; for that
it needn't load Alembic, which would cost each of them 10 MB and 0.4 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.errors import PortalError
from portal.ledger.engine import Ledger

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK = 7_021_983_642  # PostgreSQL advisory lock: any number, the same for all


class LedgerNotMigrated(PortalError):
    """The ledger's tables aren't those this version works with."""


def upgrade(ledger: Ledger) -> tuple[str | None, str]:
    """Bring the ledger to this version's tables; returns the revision before and after.

    Several at once wait for each other. One killed midway leaves the ledger as it was.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with ledger.write() as connection:
        if not ledger.sqlite:
            # As long as it takes, both waiting for another's migration and this one.
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = revision(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        after = revision(connection)
    assert after is not None
    return before, after


def require_migrated(ledger: Ledger) -> None:
    """Raises LedgerNotMigrated with the command that helps; LedgerUnavailable when the database can't be reached."""
    with ledger.read() as connection:
        current = revision(connection)
    wanted = head()
    if current != wanted:
        raise LedgerNotMigrated(
            f"the ledger is at revision {current or 'none'}, this version needs {wanted}: run `flask db upgrade`"
        )


def revision(connection: Connection) -> str | None:
    """The revision a ledger is at; None before its first migration."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def head() -> str:
    """The revision this version works with: the last of the numbered files."""
    return max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))
