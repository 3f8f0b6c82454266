"""Migrating the ledger: under an exclusive lock and inside one transaction, or not at all.

Only `flask db upgrade` does it. Every other process compares the revision and refuses to start on a mismatch; for that
it needn't load Alembic, which would cost each of them 10 MB and 0.4 s.
"""

from __future__ import annotations

import re
import time
from functools import cache
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.errors import PortalError
from portal.ledger import installation
from portal.ledger.engine import Ledger

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK = 7_021_983_642  # PostgreSQL advisory lock: any number, the same for all


#: What a migration may say of itself, a line each: the oldest revision whose version goes on working on the tables that
#: it leaves (`compatible_from = "0012"`), and that its own version works without it, too (`cleanup = True`).
_COMPATIBLE: Final = re.compile(r'^compatible_from = "([0-9]{4})"$', re.MULTILINE)
_CLEANUP: Final = re.compile(r"^cleanup = True$", re.MULTILINE)
_KEY: Final = "compatible_from"
#: The keys of `installation` that an upgrade writes into a new ledger.
WRITTEN_BY_UPGRADE: Final = (_KEY,)


class LedgerNotMigrated(PortalError):
    """The ledger's tables aren't those this version works with."""


class NotCompatible(PortalError):
    """The migration asked for can't be done while the old version runs."""


def upgrade(ledger: Ledger, *, before_restart: bool = False) -> tuple[str | None, str]:
    """Bring the ledger to this version's tables; returns the revision before and after.

    before_restart: only as far as the version that runs goes on working. Raises NotCompatible where that isn't far
    enough for this one. Several at once wait for each other. One killed midway leaves the ledger as it was.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with ledger.write() as connection, ledger.unhurried(connection):
        if not ledger.sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = revision(connection)
        target = _before_restart(before) if before_restart and before else head()
        config.attributes["connection"] = connection
        if before is None or before < target:
            command.upgrade(config, target)
        after = revision(connection)
        assert after is not None
        if after != before:
            # Not for PostgreSQL's eyes alone: a version that knows only its own files reads here whether it may start.
            installation.put(connection, _KEY, compatible_from(after), now=time.time())
    return before, after


def require_migrated(ledger: Ledger) -> None:
    """Raises LedgerNotMigrated with the command that helps; LedgerUnavailable when the database can't be reached."""
    wanted = head()
    with ledger.read() as connection:
        current = revision(connection)
        if current is not None and current > wanted:  # a newer version's, which is being brought in
            known: object = installation.get(connection, _KEY)
            if isinstance(known, str) and known <= wanted:
                return
    if current is None or current < needed():
        raise LedgerNotMigrated(
            f"the ledger is at revision {current or 'none'}, this version needs {wanted}: run `flask db upgrade`"
        )
    if current > wanted:
        raise LedgerNotMigrated(
            f"the ledger is at revision {current}, which this version ({wanted}) can't work on: run a newer one"
        )


def revision(connection: Connection) -> str | None:
    """The revision a ledger is at; None before its first migration."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def head() -> str:
    """The revision this version works with: the last of the numbered files."""
    return max(_files())


def needed() -> str:
    """The oldest revision this version works with: the last that is more than a cleanup of what older ones used."""
    return max(number for number, text in _files().items() if not _CLEANUP.search(text))


def compatible_from(number: str) -> str:
    """The oldest revision whose version works on the tables as the migration of this number leaves them."""
    files = _files()
    oldest = number
    for candidate in sorted((each for each in files if each < number), reverse=True):
        marks = [_COMPATIBLE.search(text) for each, text in files.items() if candidate < each <= number]
        if not all(mark is not None and mark[1] <= candidate for mark in marks):
            break
        oldest = candidate
    return oldest


def _before_restart(current: str) -> str:
    """As far as the version that `current` is the head of goes on working."""
    target = max(each for each in _files() if each == current or each > current and compatible_from(each) <= current)
    if target < needed():
        raise NotCompatible(
            f"after {target} the old version can't go on: stop its processes, then run `flask db upgrade`"
        )
    return target


@cache
def _files() -> dict[str, str]:
    """The migrations' texts by their numbers."""
    found = (_MIGRATIONS / "versions").glob("[0-9]*_*.py")
    return {path.name.partition("_")[0]: path.read_text(encoding="utf-8") for path in found}
