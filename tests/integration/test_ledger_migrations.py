"""`flask db upgrade` and the processes that refuse to start without it, on SQLite and on PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from portal.ledger import engine, installation, postgresql
from portal.ledger.engine import Ledger, LedgerUnavailable
from portal.ledger.migrate import _LOCK, LedgerNotMigrated, head, require_migrated, upgrade
from portal.ledger.schema import metadata
from sandbox.processes import ROOT
from tests.database import DATABASES
from tests.postgres import Postgres, sqlalchemy_url

#: A process that dies by SIGKILL in the middle of a migration: right after the named table was made.
DIES_MIDWAY = """
import os, signal, sys
import sqlalchemy as sa
from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade
ledger = Ledger(sys.argv[1])
@sa.event.listens_for(ledger.engine, "after_cursor_execute")
def die(_connection, _cursor, statement, *_rest):
    if statement.strip().startswith("CREATE TABLE " + sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
upgrade(ledger)
"""


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger's address, not migrated yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def environ(url: str, lonely: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Settings of a portal that could start if its ledger were right."""
    return {
        **lonely,
        "PORTAL_VAR_DIR": str(tmp_path / "var"),
        "DATABASE_URL": url,
        "REDIS_URL": f"unix://{tmp_path / 'nobody.sock'}",
    }


def run(environ: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """A command of the product, to its end."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environ,
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )


def opened(url: str) -> Ledger:
    return Ledger(sqlalchemy_url(url))


def check_migrated(url: str) -> None:
    """The ledger has this version's revision and every table."""
    ledger = opened(url)
    try:
        require_migrated(ledger)
        assert set(metadata.tables) <= set(sa.inspect(ledger.engine).get_table_names())
    finally:
        ledger.dispose()


def test_six_upgrades_at_once_all_succeed(environ: dict[str, str], url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: run(environ, "flask", "db", "upgrade"), range(6)))
    assert [each.returncode for each in done] == [0] * 6, [each.stderr[-500:] for each in done]
    said = sorted(each.stdout.strip().splitlines()[-1] for each in done)
    assert said == sorted([f"Migrated the ledger to {head()}."] + [f"The ledger is at revision {head()}."] * 5)
    check_migrated(url)


def test_an_upgrade_takes_as_long_as_it_takes(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it waits for, another's migration or its own rows: nobody gives it up after so many seconds."""
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 0.5)
    monkeypatch.setitem(engine.POSTGRES, "options", "-c statement_timeout=500 -c lock_timeout=500")
    address = postgres.database()
    ledger = opened(address)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(address, autocommit=True) as another:
        another.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        waiting = pool.submit(upgrade, ledger)
        begun = time.monotonic()
        while time.monotonic() - begun < 2 and not waiting.done():
            time.sleep(0.05)
        assert not waiting.done(), waiting.exception()
        another.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
        assert waiting.result(60) == (None, head())
    check_migrated(address)
    # What is no migration is given up as before, on the same connection.
    with pytest.raises(LedgerUnavailable), ledger.read() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text("SELECT pg_sleep(5)"))
    ledger.dispose()


@pytest.mark.parametrize("table", ["fulfillments", "services"])  # in the first migration, and in a later one
def test_an_upgrade_that_is_killed_midway_leaves_the_ledger_as_it_was(
    environ: dict[str, str], url: str, table: str
) -> None:
    address = sqlalchemy_url(url)
    killed = subprocess.run(
        [sys.executable, "-c", DIES_MIDWAY, address, table],
        cwd=ROOT,
        env=environ,
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ledger = opened(url)
    try:
        assert sa.inspect(ledger.engine).get_table_names() == []
        with pytest.raises(LedgerNotMigrated):
            require_migrated(ledger)
    finally:
        ledger.dispose()
    done = run(environ, "flask", "db", "upgrade")
    assert done.returncode == 0, done.stderr
    check_migrated(url)


PROCESSES = (("jobs.worker",), ("jobs.sweep",), ("gunicorn", "wsgi:app", "--bind", "127.0.0.1:0"))


def refusals(environ: dict[str, str]) -> list[str]:
    """What each of the processes says when it refuses to start."""
    with ThreadPoolExecutor(len(PROCESSES)) as pool:
        ended = list(pool.map(lambda command: run(environ, *command), PROCESSES))
    assert all(each.returncode != 0 for each in ended)
    return [each.stderr for each in ended]


def test_no_process_starts_on_an_unmigrated_ledger(environ: dict[str, str]) -> None:
    for said in refusals(environ):
        assert "Traceback" not in said
        assert f"the ledger is at revision none, this version needs {head()}: run `flask db upgrade`" in said


def test_no_process_starts_on_another_whmcs_ledger_until_that_is_accepted(environ: dict[str, str], url: str) -> None:
    assert run(environ, "flask", "db", "upgrade").returncode == 0
    ledger = opened(url)
    try:
        with ledger.write() as connection:
            installation.put(connection, "whmcs_address", "https://old.example/includes/api.php", now=1.0)
        for said in refusals(environ):
            assert "Traceback" not in said
            assert "belongs to another WHMCS" in said
            assert "flask installation accept" in said
        accepted = run(environ, "flask", "installation", "accept")
        assert accepted.returncode == 0, accepted.stderr
        with ledger.read() as connection:
            assert installation.get(connection, "whmcs_address") == environ["WHMCS_API_URL"]
            events = connection.execute(sa.text("SELECT kind, actor FROM events")).all()
        assert [event.kind for event in events] == ["installation_accepted"]
        assert events[0].actor
    finally:
        ledger.dispose()


def test_a_command_on_an_unmigrated_ledger_says_what_to_do(environ: dict[str, str]) -> None:
    for command in (("fulfillments", "pause", "--why", "x"), ("fulfillments", "show", "801000000000001AAA")):
        ended = run(environ, "flask", *command)
        assert ended.returncode != 0
        assert "Traceback" not in ended.stderr
        assert "flask db upgrade" in ended.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FULFILLMENT_WAIT_SECONDS", "soon"),
        ("FULFILLMENT_WAIT_SECONDS", "nan"),
        ("WEB_THREADS", "many"),
        ("WEB_CONCURRENCY", "0"),
        ("WEB_SERVER", "sync"),
    ],
)
def test_what_gunicorn_reads_is_refused_in_a_sentence_too(environ: dict[str, str], name: str, value: str) -> None:
    ended = run({**environ, name: value}, "gunicorn", "wsgi:app", "--bind", "127.0.0.1:0")
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert any(line.startswith(f"{name} must be ") for line in ended.stderr.splitlines()), ended.stderr
