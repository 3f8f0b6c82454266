"""One ledger copied into another, empty one: SQLite → PostgreSQL, when one host isn't enough any more (or back).

Every table, in batches, in one transaction on either side: one moment of the source arrives, whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.errors import PortalError
from portal.ledger import installation
from portal.ledger.engine import Ledger
from portal.ledger.migrate import WRITTEN_BY_UPGRADE, require_migrated, upgrade
from portal.ledger.schema import installation as installation_table
from portal.ledger.schema import metadata

BATCH = 1000


class CopyRefused(PortalError):
    """Nothing was copied; the text says why."""


def copy(
    source: Ledger, target: Ledger, *, now: float, actor: str, say: Callable[[str], None] = lambda _line: None
) -> dict[str, int]:
    """Copy every row; returns how many each table has. The target's tables are made first, where it has none.

    The source is paused with it: two ledgers mustn't run the same orders. `now`: seconds since 1970. Raises CopyRefused
    where the target holds anything, or doesn't hold what was copied; LedgerNotMigrated for a source of another version;
    LedgerUnavailable.
    """
    if source.url == target.url:
        raise CopyRefused("source and target are the same ledger")
    if source.sqlite and not Path(source.url.database or "").is_file():
        raise CopyRefused(f"there is no ledger at {source.url.database}")
    require_migrated(source)
    upgrade(target)
    counts: dict[str, int] = {}
    with source.write() as here, target.write() as there, source.unhurried(here), target.unhurried(there):
        # What the upgrade wrote there comes with the source's rows, too.
        there.execute(sa.delete(installation_table).where(installation_table.c.key.in_(WRITTEN_BY_UPGRADE)))
        for table in metadata.sorted_tables:
            if _count(there, table):
                raise CopyRefused(f"the target isn't empty: it has rows in {table.name}. Name an empty database")
        for table in metadata.sorted_tables:
            counts[table.name] = _copy_table(here, there, table)
            say(f"{table.name}: {counts[table.name]}")
        for table in metadata.sorted_tables:
            arrived = _count(there, table)
            if not arrived == counts[table.name] == _count(here, table):
                raise CopyRefused(
                    f"{table.name} has {counts[table.name]} rows, and {arrived} arrived: nothing was kept"
                )
        if not target.sqlite:
            _set_sequences(there)
        installation.pause(here, actor=actor, why="this ledger was copied: another one is the ledger now", now=now)
    return counts


def _count(connection: Connection, table: sa.Table) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def _copy_table(here: Connection, there: Connection, table: sa.Table) -> int:
    count = 0
    # Without a value is NULL, not JSON's own null, except where NULL isn't allowed.
    columns = [
        sa.column(
            each.name, sa.JSON(none_as_null=True) if isinstance(each.type, sa.JSON) and each.nullable else each.type
        )
        for each in table.columns
    ]
    insert = sa.insert(sa.table(table.name, *columns))
    found = here.execute(sa.select(table), execution_options={"yield_per": BATCH})
    for some in found.mappings().partitions():
        there.execute(insert, [dict(row) for row in some])
        count += len(some)
    return count


def _set_sequences(connection: Connection) -> None:
    """The next id of each table that counts comes after the ones that were copied."""
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None or not isinstance(column.type, sa.Integer):
            continue
        newest = connection.scalar(sa.select(sa.func.max(column))) or 0
        connection.execute(
            sa.select(sa.func.setval(sa.func.pg_get_serial_sequence(table.name, column.name), newest + 1, False))
        )
