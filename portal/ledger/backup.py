"""Backups of the whole ledger into one file, and back: SQLite by its online backup, PostgreSQL by pg_dump.

Both copy one moment while everything runs. What is restored has been checked first, is marked as restored, and is
brought to this version's tables. Moments are seconds since 1970.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from portal.errors import PortalError
from portal.ledger import installation, postgres_programs, restored, workers
from portal.ledger.engine import Ledger
from portal.ledger.migrate import head, revision, upgrade
from portal.ledger.schema import metadata

#: A process whose last heartbeat is younger may still be running.
SILENT_SECONDS: Final = 10.0


class BackupFailed(PortalError):
    """No backup was made, or nothing was restored; the text says why and what to do."""


@dataclass(frozen=True)
class Restored:
    """What a restore did. `made_at`: when the backup was begun; None: it doesn't say."""

    made_at: float | None
    doubted: int  # orders that hadn't ended in the backup
    kept: Path | None  # the ledger that was there before; PostgreSQL's isn't kept


def backup(ledger: Ledger, target: Path, *, now: float) -> Path:
    """Copy the ledger into `target`: a new file, or a folder in which a file is made. Returns the file.

    Nobody but its owner may read it. It is there whole and checked, or not at all. Raises BackupFailed,
    LedgerUnavailable.
    """
    if target.is_dir():
        ending = "sqlite3" if ledger.sqlite else "dump"
        target /= f"ledger-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}.{ending}"
    if target.exists():
        raise BackupFailed(f"{target} is there already: name a new file, or a folder")
    if ledger.sqlite and not Path(ledger.url.database or "").is_file():
        raise BackupFailed(f"there is no ledger at {ledger.url.database}")
    with ledger.write() as connection:  # in the copy, too: a restore tells how old it is
        installation.put(connection, "backup_begun", now, now=now)
    with _new_file(target) as part:
        if ledger.sqlite:
            _copy_sqlite(Path(ledger.url.database or ""), part)
            _check_sqlite(part)
        else:
            postgres_programs.dump(ledger.url, part)
            _check_tables(part)
    return target


def restore(ledger: Ledger, source: Path, *, now: float, max_request_seconds: float, actor: str) -> Restored:
    """Put a backup in the ledger's place, marked as restored. Raises BackupFailed, LedgerUnavailable.

    Refused while workers or sweeps run, and where the backup is damaged or of a newer version. max_request_seconds:
    WHMCS_MAX_REQUEST_SECONDS. `actor` is kept in the ledger.
    """
    if not source.is_file():
        raise BackupFailed(f"there is no file {source}")
    if ledger.sqlite:
        _check_sqlite(source)
        refuse_while_running(ledger, now=now)
        return _restore_sqlite(ledger, source, now=now, max_request_seconds=max_request_seconds, actor=actor)
    tables = _check_tables(source)
    refuse_while_running(ledger, now=now)
    postgres_programs.restore(ledger.url, source)
    with ledger.write() as connection:  # tables newer than the backup: the upgrade makes them anew
        for name in set(metadata.tables) - tables:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
    upgrade(ledger)
    made_at, doubted = _mark(ledger, now=now, max_request_seconds=max_request_seconds, actor=actor)
    return Restored(made_at, doubted, None)


def refuse_while_running(ledger: Ledger, *, now: float) -> None:
    """Raises BackupFailed while a worker or sweep has a heartbeat. Web servers have none: that is their operator's."""
    if ledger.sqlite and not Path(ledger.url.database or "").is_file():
        return
    try:
        with ledger.read() as connection:
            beaten = workers.last_heartbeats(connection) if revision(connection) == head() else {}
    except (sa.exc.DatabaseError, PortalError):
        if ledger.sqlite:
            return  # the file is damaged, which is why it is restored
        raise
    running = [kind for kind, moment in beaten.items() if now - moment < SILENT_SECONDS]
    if running:
        raise BackupFailed(
            f"processes of the portal are running ({', '.join(sorted(running))}): stop web servers, workers and sweeps "
            f"on every host, wait {SILENT_SECONDS:.0f} seconds, and try again"
        )


def _mark(ledger: Ledger, *, now: float, max_request_seconds: float, actor: str) -> tuple[float | None, int]:
    """Note in the ledger that it was restored; returns when its backup was begun, and how many orders are doubted."""
    with ledger.write() as connection:
        made = installation.get(connection, "backup_begun")
        made_at = float(made) if isinstance(made, int | float) else None
        doubted = restored.mark(
            connection,
            now=now,
            max_request_seconds=max_request_seconds,
            actor=actor,
            detail={"backupBegun": made_at},
        )
        restored.end_sessions(connection, now=now)
    return made_at, doubted


# --- files -------------------------------------------------------------------------------------------------------


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """An empty file beside `target` that only its owner may read; it becomes `target` when the block ends well."""
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise BackupFailed(f"{target} can't be written: {error.strerror}") from error
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(target)
    except OSError as error:
        raise BackupFailed(f"{target} can't be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _check_tables(dump: Path) -> set[str]:
    """The tables of a PostgreSQL backup that can be read to its end. Raises BackupFailed."""
    tables = postgres_programs.tables_of(dump)
    if not {"alembic_version", "fulfillments"} <= tables:
        raise BackupFailed(f"{dump} is no backup of a ledger")
    return tables


def _copy_sqlite(source: Path, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as here,
            closing(sqlite3.connect(target, isolation_level=None, timeout=30)) as there,
        ):
            here.backup(there)
            there.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
    except sqlite3.Error as error:
        raise BackupFailed(f"{source} can't be copied to {target}: {error}") from error


def _check_sqlite(file: Path) -> None:
    """Raises BackupFailed unless the file is a whole ledger of this version or an older one."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as copy:
            (said,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
            (version,) = copy.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise BackupFailed(f"{file} is damaged, or no ledger: {error}") from error
    if said != "ok":
        raise BackupFailed(f"{file} is damaged: {said}")
    if version > head():
        raise BackupFailed(f"{file} is of a newer version (revision {version}): install that version, or a newer one")


def _restore_sqlite(ledger: Ledger, source: Path, *, now: float, max_request_seconds: float, actor: str) -> Restored:
    """Into the file that is there, so that nobody's open connection writes past it; what was there is kept."""
    present = Path(ledger.url.database or "")
    kept: Path | None = present.with_name(
        f"{present.name}.before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    )
    present.parent.mkdir(parents=True, exist_ok=True)
    made = present.with_name(f"{present.name}.restoring")
    beside = [made.with_name(made.name + ending) for ending in ("", "-wal", "-shm", ".lock")]
    try:
        _remove(beside)
        os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _copy_sqlite(source, made)
        copy = Ledger(f"sqlite:///{made}")
        try:
            upgrade(copy)
            made_at, doubted = _mark(copy, now=now, max_request_seconds=max_request_seconds, actor=actor)
        finally:
            copy.dispose()
        ledger.dispose()
        kept = _keep_present(present, kept) if kept and present.exists() else None
        with ledger.alone():
            _copy_over(made, present)
    finally:
        _remove(beside)
    return Restored(made_at, doubted, kept)


def _keep_present(present: Path, kept: Path) -> Path:
    """Put the ledger that is there aside: a copy, or the very files where they can't be read."""
    try:
        with _new_file(kept) as part:
            _copy_sqlite(present, part)
    except BackupFailed:
        for ending in ("-wal", "-shm"):
            beside = present.with_name(present.name + ending)
            if beside.exists():
                beside.rename(kept.with_name(kept.name + ending))
        present.rename(kept)
    return kept


def _copy_over(made: Path, present: Path) -> None:
    if not present.exists():
        os.close(os.open(present, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            closing(sqlite3.connect(made, isolation_level=None, timeout=30)) as here,
            closing(sqlite3.connect(present, isolation_level=None, timeout=30)) as there,
        ):
            here.execute("PRAGMA journal_mode=DELETE")
            (size,) = there.execute("PRAGMA page_size").fetchone()
            if here.execute("PRAGMA page_size").fetchone() != (size,):  # else a file in WAL mode refuses the copy
                here.execute(f"PRAGMA page_size={size}")
                here.execute("VACUUM")
            there.execute("PRAGMA synchronous=FULL")
            here.backup(there)
    except sqlite3.Error as error:
        raise BackupFailed(f"{present} can't be written: {error}") from error


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
