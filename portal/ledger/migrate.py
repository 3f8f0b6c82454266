"""Migrating the ledger: under an exclusive lock and inside one transaction, or not at all.

Only `flask db upgrade` does it. Every other process compares the revision and refuses to start on a mismatch.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from portal.errors import PortalError
from portal.ledger.engine import Ledger

_LOCK = 7_021_983_642  # PostgreSQL advisory lock: any number, the same for all


class LedgerNotMigrated(PortalError):
    """The ledger's tables aren't those this version works with."""


def upgrade(ledger: Ledger) -> tuple[str | None, str]:
    """Bring the ledger to this version's tables; returns the revision before and after.

    Several at once wait for each other. One killed midway leaves the ledger as it was.
    """
    config = _config()
    with ledger.write() as connection:
        if not ledger.sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        after = MigrationContext.configure(connection).get_current_revision()
    assert after is not None
    return before, after


def require_migrated(ledger: Ledger) -> None:
    """Raises LedgerNotMigrated with the command that helps; LedgerUnavailable when the database can't be reached."""
    with ledger.read() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    wanted = head()
    if current != wanted:
        raise LedgerNotMigrated(
            f"the ledger is at revision {current or 'none'}, this version needs {wanted}: run `flask db upgrade`"
        )


def head() -> str:
    """The revision this version works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
