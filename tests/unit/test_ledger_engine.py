"""Connections to the ledger: enough for every thread, and an end to waiting for one that the portal understands."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from portal.ledger import engine
from portal.ledger.engine import Ledger, LedgerUnavailable


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    yield made
    made.dispose()


def test_more_threads_than_anybody_runs_have_a_connection_each_at_the_same_time(ledger: Ledger) -> None:
    threads = 64
    together = threading.Barrier(threads + 1, timeout=60)
    failed: list[Exception] = []

    def read() -> None:
        try:
            with ledger.read() as connection:
                connection.execute(sa.text("SELECT 1"))
                together.wait()
        except Exception as error:
            failed.append(error)
            together.abort()

    running = [threading.Thread(target=read) for _ in range(threads)]
    for thread in running:
        thread.start()
    together.wait()
    for thread in running:
        thread.join(60)
    assert failed == []


@pytest.mark.parametrize("transaction", ["read", "write"])
def test_no_connection_left_is_a_ledger_that_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transaction: str
) -> None:
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.1)
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.bound_connections(1)
    with (
        ledger.read(),
        pytest.raises(LedgerUnavailable, match="every connection"),
        getattr(ledger, transaction)() as connection,
    ):
        connection.execute(sa.text("SELECT 1"))
    with ledger.write() as connection:  # given back: usable again
        connection.execute(sa.text("CREATE TABLE t (a int)"))
    ledger.dispose()


def test_whoever_wants_one_more_than_there_may_be_waits_for_it(each_ledger: Ledger) -> None:
    each_ledger.dispose()
    each_ledger.bound_connections(2)
    opened: list[object] = []
    sa.event.listen(each_ledger.engine, "connect", lambda connection, _record: opened.append(connection))
    done: list[int] = []

    def read() -> None:
        for _ in range(5):
            with each_ledger.read() as connection:
                done.append(connection.execute(sa.text("SELECT 1")).scalar_one())

    with each_ledger.read() as connection:
        connection.execute(sa.text("SELECT 1"))
        running = [threading.Thread(target=read) for _ in range(8)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(60)
    assert done == [1] * 40
    assert len(opened) == 2


def test_a_folder_that_cant_be_used_is_a_ledger_that_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "ledger.sqlite3"
    ledger = Ledger(f"sqlite:///{path}")
    with pytest.raises(LedgerUnavailable, match=f"{path}.lock: No such file or directory"), ledger.write():
        raise AssertionError
    path.parent.mkdir()
    with ledger.write() as connection:  # put right: usable without a restart
        connection.execute(sa.text("CREATE TABLE t (a int)"))
    ledger.dispose()


def test_nobody_writes_while_one_is_alone(ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.execute(sa.text("CREATE TABLE t (a int)"))
    other = Ledger(str(ledger.url))  # its own gate, as another process has
    began, wrote = threading.Event(), threading.Event()

    def write() -> None:
        began.set()
        with other.write() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        wrote.set()

    writing = threading.Thread(target=write)
    with ledger.alone():
        writing.start()
        assert began.wait(60)
        assert not wrote.wait(0.2)
    assert wrote.wait(60)
    writing.join(60)
    other.dispose()


def test_a_commit_that_sqlite_refuses_leaves_no_connection_inside_its_transaction(tmp_path: Path) -> None:
    """A deferred reference to nobody is found by COMMIT, which leaves the transaction open."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    with ledger.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (name TEXT PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE u (t TEXT REFERENCES t (name) DEFERRABLE INITIALLY DEFERRED)")
    for _ in range(2):
        with pytest.raises(sa.exc.IntegrityError), ledger.write() as connection:
            connection.exec_driver_sql("INSERT INTO u VALUES ('nobody')")
    with ledger.write() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES ('somebody')")
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM u").scalar() == 0
    ledger.dispose()
