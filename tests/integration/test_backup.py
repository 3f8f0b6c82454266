"""`flask ledger backup` and `restore`, as they are typed, on SQLite and PostgreSQL, while orders run."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from portal.domain.protocol import SEND_WINDOW
from portal.ledger import fulfillments, installation, postgres_programs, sessions
from portal.ledger.backup import BackupFailed, _new_file, backup, restore
from portal.ledger.engine import Ledger, LedgerUnavailable
from portal.ledger.migrate import require_migrated
from sandbox.processes import ProcessFailed
from tests.database import DATABASES
from tests.deploy.tools import free_port
from tests.fulfilling import provisioned, statuses
from tests.old_ledger import fill
from tests.postgres import Postgres, programs, sqlalchemy_url
from tests.stack import Stack

OURS = ("web", "worker", "sweep")
NOW = 1_800_000_000.0


def with_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's own programs, of the version of the server that the tests run."""
    monkeypatch.setenv("PATH", f"{programs()}:{os.environ['PATH']}")


@pytest.fixture(params=DATABASES)
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    settings = {"FULFILLMENT_RETRY_SCHEDULE": "1,2,2,2,2,2,2,2,2,2"}
    if request.param == "sqlite":
        with Stack(tmp_path / "stack", settings=settings) as running:
            yield running
        return
    with_programs(monkeypatch)
    server: Postgres = request.getfixturevalue("postgres")
    with Stack(tmp_path / "stack", settings={**settings, "DATABASE_URL": server.database()}) as running:
        yield running


def orders_while(shop: Stack, done: threading.Event) -> tuple[threading.Thread, list[str]]:
    """A thread that asks for order after order until `done`; and the orders asked for."""
    asked: list[str] = []

    def ask() -> None:
        while not done.is_set():
            order = shop.order("starter")
            assert shop.fulfill(order, prefer="respond-async").status == 202
            asked.append(order)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, asked


def test_a_backup_made_while_orders_run_is_restored_and_every_order_ends_once(shop: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    done = threading.Event()
    thread, asked = orders_while(shop, done)
    shop.wait_for(lambda: len(asked) >= 3, "some orders")
    said = shop.flask("ledger", "backup", str(folder))
    (made,) = folder.iterdir()
    assert f"Backed up to {made}" in said
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    before = len(asked)
    shop.wait_for(lambda: len(asked) >= before + 2, "orders after the backup")
    done.set()
    thread.join()
    for order in asked:
        provisioned(shop, order)
    with pytest.raises(ProcessFailed, match="processes of the portal are running"):
        shop.flask("ledger", "restore", str(made), "--yes")
    for name in OURS:
        shop.child(name).stop()
    said = shop.wait_for(lambda: restored(shop, made), "the last heartbeats to be old", 40)
    assert "Restored the backup that was made at 2" in said
    assert "are looked for in WHMCS" in said
    for name in ("worker", "sweep", "web"):
        shop.restart(name)
    known = {row["sf_order_id"] for row in shop.ledger("SELECT sf_order_id FROM fulfillments")}
    assert known
    for order in asked:
        assert statuses(shop, order) == ["Active"]
        if order in known:
            provisioned(shop, order)
    (event,) = [
        row
        for row in shop.ledger("SELECT actor, detail FROM events WHERE kind = 'ledger_restored' ORDER BY id")
        if row["actor"] is not None
    ]
    assert "backupBegun" in event["detail"]
    fresh = shop.order("business")
    assert shop.fulfill(fresh).status == 200
    provisioned(shop, fresh)


def restored(shop: Stack, backup: Path) -> str | None:
    """What the restore said, once it isn't refused any more because of the heartbeats there were."""
    try:
        return shop.flask("ledger", "restore", str(backup), "--yes")
    except ProcessFailed as error:
        assert "processes of the portal are running" in str(error)
        return None


# --- what is refused -----------------------------------------------------------------------------------------


def put_back(ledger: Ledger, source: Path) -> None:
    restore(ledger, source, now=NOW, max_request_seconds=3.0, actor="ada")


def note(ledger: Ledger) -> str | None:
    """Something of the ledger that a restore would change."""
    with ledger.read() as connection:
        rows = connection.exec_driver_sql("SELECT value FROM installation WHERE key = 'backup_begun'").all()
    return str(rows[0][0]) if rows else None


def test_a_damaged_backup_is_refused_and_changes_nothing(
    each_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_programs(monkeypatch)
    made = backup(each_ledger, tmp_path / "copy", now=NOW)
    before = note(each_ledger)
    whole = made.read_bytes()
    damaged = bytearray(whole)
    middle = len(whole) // 2
    damaged[middle : middle + 4096] = b"\xff" * 4096
    for content in (b"", b"no backup\n" * 1000, whole[: len(whole) // 2], bytes(damaged)):
        bad = tmp_path / "bad"
        bad.write_bytes(content)
        with pytest.raises((BackupFailed, postgres_programs.ProgramFailed)):
            put_back(each_ledger, bad)
    with pytest.raises(BackupFailed, match="there is no file"):
        put_back(each_ledger, tmp_path / "missing")
    require_migrated(each_ledger)
    assert note(each_ledger) == before
    assert not list(tmp_path.glob("*.restoring*"))


def test_a_backup_never_overwrites_and_leaves_no_half_file(each_ledger: Ledger, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("something else")
    with pytest.raises(BackupFailed, match="is there already"):
        backup(each_ledger, there, now=NOW)
    assert there.read_text() == "something else"
    with pytest.raises(BackupFailed, match="can't be written"):
        backup(each_ledger, tmp_path / "no" / "such" / "folder", now=NOW)
    assert not list(tmp_path.glob("*.part"))


def test_there_is_no_backup_of_a_ledger_that_isnt_there(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    with pytest.raises(BackupFailed, match=f"there is no ledger at {tmp_path / 'ledger.sqlite3'}"):
        backup(ledger, tmp_path / "copy", now=NOW)
    assert list(tmp_path.iterdir()) == [], "nor is an empty one made"


def test_another_databases_dump_is_no_backup_of_a_ledger(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_programs(monkeypatch)
    other, url = postgres.database(), postgres.ledger()
    with psycopg.connect(other) as connection:
        connection.execute("CREATE TABLE fulfillments (a int)")  # of somebody else's shop
    dumped = tmp_path / "other.dump"
    dumped.touch()
    postgres_programs.dump(make_url(other), dumped)
    ledger = Ledger(sqlalchemy_url(url))
    with pytest.raises(BackupFailed, match=f"{dumped} is no backup of a ledger"):
        put_back(ledger, dumped)
    require_migrated(ledger)
    ledger.dispose()


def test_nothing_is_restored_over_a_postgresql_that_cant_be_asked_who_runs(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged SQLite file is what a restore is for; a PostgreSQL that is away may be in use by others."""
    with_programs(monkeypatch)
    ledger = Ledger(sqlalchemy_url(postgres.ledger()))
    made = backup(ledger, tmp_path / "copy", now=NOW)
    ledger.dispose()
    away = Ledger(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none")
    with pytest.raises(LedgerUnavailable):
        put_back(away, made)
    away.dispose()


def test_a_file_that_cant_get_its_name_is_no_backup(tmp_path: Path) -> None:
    """Somebody has made something of that name while it was written."""
    target = tmp_path / "copy"
    with pytest.raises(BackupFailed, match=f"{target} can't be written: Is a directory"), _new_file(target):
        target.mkdir()
    assert list(tmp_path.iterdir()) == [target]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes meanwhile: what writes on gets an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.sqlite
def test_a_disk_that_is_full_leaves_the_ledger_as_it_is(ledger: Ledger, tmp_path: Path) -> None:
    """There is room for the copy that is made ready, but not for putting it in the ledger's place."""
    made = backup(ledger, tmp_path / "copy", now=NOW)
    with ledger.write() as connection:
        installation.put(connection, "since_the_backup", "kept", now=NOW)
    with (
        files_of_at_most(made.stat().st_size + 1024),
        pytest.raises(BackupFailed, match=f"{ledger.url.database} can't be written"),
    ):
        put_back(ledger, made)
    require_migrated(ledger)
    with ledger.read() as connection:
        assert installation.get(connection, "since_the_backup") == "kept"
    put_back(ledger, made)  # with room again
    with ledger.read() as connection:
        assert installation.get(connection, "since_the_backup") is None


@pytest.mark.sqlite
def test_a_newer_versions_backup_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    made = backup(ledger, tmp_path / "copy", now=NOW)
    with closing(sqlite3.connect(made)) as copy, copy:
        copy.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BackupFailed, match="of a newer version"):
        put_back(ledger, made)


@pytest.mark.sqlite
def test_an_older_versions_backup_is_brought_to_this_version(ledger: Ledger, tmp_path: Path) -> None:
    old = tmp_path / "old.sqlite3"
    shutil.copy(Path(fill.__file__).parent / "ledger.sqlite3", old)
    put_back(ledger, old)
    require_migrated(ledger)
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM fulfillments").scalar_one() > 0
    kept = list(tmp_path.glob("ledger.sqlite3.before-restore-*"))
    assert len(kept) == 1
    assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600


@pytest.mark.sqlite
@pytest.mark.parametrize("present", ["gone", "damaged"])
def test_a_ledger_that_is_lost_or_damaged_is_replaced(ledger: Ledger, tmp_path: Path, present: str) -> None:
    made = backup(ledger, tmp_path / "copy", now=NOW)
    ledger.dispose()
    path = Path(ledger.url.database or "")
    for beside in tmp_path.glob("ledger.sqlite3-*"):
        beside.unlink()
    if present == "gone":
        path.unlink()
    else:
        path.write_bytes(b"\xff" * path.stat().st_size)
    put_back(ledger, made)
    require_migrated(ledger)
    assert note(ledger) is not None
    assert len(list(tmp_path.glob("*.before-restore-*"))) == (present == "damaged")


@pytest.mark.sqlite
def test_a_damaged_ledger_is_kept_with_what_hadnt_reached_its_file(ledger: Ledger, tmp_path: Path) -> None:
    """A web server is still there, as it may be where a disk went bad: its newest orders are in the -wal alone."""
    made = backup(ledger, tmp_path / "copy", now=NOW)
    ledger.dispose()
    path = Path(ledger.url.database or "")
    wal = path.with_name("ledger.sqlite3-wal")
    with closing(sqlite3.connect(path)) as server:
        server.execute("INSERT INTO installation (key, value, updated_at) VALUES ('newest', '1', 1.0)")
        server.commit()
        newest = wal.read_bytes()
        assert newest
        path.write_bytes(b"\xff" * path.stat().st_size)
        put_back(ledger, made)
        kept = {each.name.rpartition("Z")[2]: each for each in tmp_path.glob("*.before-restore-*")}
        assert kept.keys() == {"", "-wal", "-shm"}
        assert kept["-wal"].read_bytes() == newest
    require_migrated(ledger)
    assert note(ledger) is not None


def test_a_restored_ledger_vouches_for_nothing(
    each_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for orders it has, not for new ones, and not for who is still signed in."""
    with_programs(monkeypatch)
    old, new = "801000000000001AAA", "801000000000002AAA"
    now = time.time()
    with each_ledger.write() as connection:
        before = fulfillments.request_fulfillment(connection, old, now=now, requested_at=now)
        assert before.history_complete
        sessions.insert(connection, sessions.Session("id", "a@example.com", None, "001", None, now, now + 9000))
    made = backup(each_ledger, tmp_path / "copy", now=now)
    done = restore(each_ledger, made, now=now, max_request_seconds=3.0, actor="ada")
    assert (done.made_at, done.doubted) == (now, 1)
    with each_ledger.write() as connection:
        after = fulfillments.get(connection, old)
        assert after is not None
        assert not after.history_complete
        assert after.add_in_doubt_until == now + SEND_WINDOW + 3.0
        assert not fulfillments.request_fulfillment(connection, new, now=now, requested_at=now).history_complete
        assert sessions.find(connection, ["id"], now=now) == []


def test_without_postgresqls_programs_it_says_what_to_install(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    url = make_url("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(
        postgres_programs.ProgramFailed, match="pg_dump isn't there: install PostgreSQL's client programs"
    ):
        postgres_programs.dump(url, tmp_path / "copy")


def test_the_password_is_in_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ps` shows arguments to everybody."""
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$@" >"$0.arguments"\necho "$PGPASSWORD" >"$0.environment"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for url in ("postgresql+psycopg://me:s3cr%40t@db/portal", "postgresql+psycopg://me@db/portal?password=s3cr%40t"):
        postgres_programs.dump(make_url(url), tmp_path / "copy")
        assert "s3cr" not in (tmp_path / "pg_dump.arguments").read_text()
        assert (tmp_path / "pg_dump.environment").read_text() == "s3cr@t\n"


def test_a_table_made_since_the_backup_doesnt_stop_the_upgrade(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup of the version before 0004, which made payment_hints, over a ledger of today's."""
    with_programs(monkeypatch)
    old, new = postgres.database(), postgres.ledger()
    with psycopg.connect(old) as connection:
        connection.execute((Path(fill.__file__).parent / "ledger.postgresql.sql").read_text())  # type: ignore[arg-type]
    dumped = tmp_path / "old.dump"
    dumped.touch()
    postgres_programs.dump(make_url(old), dumped)
    ledger = Ledger(new.replace("postgresql://", "postgresql+psycopg://"))
    put_back(ledger, dumped)
    require_migrated(ledger)
    ledger.dispose()
