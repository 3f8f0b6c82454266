"""Web server, worker and sweep refuse to start alike: one sentence that names host and reason, and no password."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade
from sandbox.processes import ROOT
from tests.deploy.tools import free_port
from tests.postgres import Postgres
from tests.stack import PRODUCTION

PROCESSES = {
    "web": ["gunicorn", "wsgi:app"],
    "worker": ["jobs.worker"],
    "sweep": ["jobs.sweep"],
}
PASSWORD = "canary-9d41"


@pytest.fixture
def environ(lonely: dict[str, str], valkey: object, store: redis.Redis, tmp_path: Path) -> dict[str, str]:
    """A production portal's that starts: one whose ledger is SQLite, over a Valkey that answers."""
    del store  # emptied
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    upgrade(ledger)
    ledger.dispose()
    return lonely | {
        **PRODUCTION,
        "PORTAL_BASE_URL": "http://127.0.0.1:1",
        "WEB_BIND": f"127.0.0.1:{free_port()}",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}",
        "REDIS_URL": f"unix://{valkey.unix_socket_path}",  # type: ignore[attr-defined]
        "SECRET_KEY": "k" * 32,
        "SMTP_URL": "smtp://127.0.0.1:9",
        "MAIL_FROM": "orders@northwind.example",
    }


@pytest.fixture(scope="module")
def guarded(postgres: Postgres) -> Iterator[str]:
    """The address of a migrated database whose user `guarded` has a password and no rights."""
    url = postgres.ledger()
    postgres.server.psql(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'")
    hba = Path(str(postgres.server.pgdata)) / "pg_hba.conf"
    before = hba.read_text(encoding="utf-8")
    hba.write_text(f"local all guarded scram-sha-256\n{before}", encoding="utf-8")
    postgres.server.psql("SELECT pg_reload_conf()")
    yield url
    hba.write_text(before, encoding="utf-8")
    postgres.server.psql("SELECT pg_reload_conf()")


def refusals(environ: dict[str, str]) -> dict[str, str]:
    """What each process says, all started at once; fails when one of them starts."""
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, words in PROCESSES.items()
    }
    told = {}
    try:
        for name, process in running.items():
            output, _ = process.communicate(timeout=60)
            assert process.returncode not in (0, None), f"{name} started: {output}"
            assert "Traceback" not in output, output
            assert PASSWORD not in output
            [told[name]] = [line for first, line in itertools.pairwise(output.splitlines()) if "can't start:" in first]
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return told


def check(environ: dict[str, str], *words: str) -> None:
    told = refusals(environ)
    assert len(set(told.values())) == 1, told
    for word in words:
        assert word in told["web"]


def as_guarded(url: str, password: str = PASSWORD, **changed: str) -> str:
    """The same database's address for the user with the password."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"guarded:{password}@", **changed).geturl()


def test_a_wrong_password_of_the_database(environ: dict[str, str], guarded: str) -> None:
    check(environ | {"DATABASE_URL": as_guarded(guarded, "wrong" + PASSWORD)}, "password authentication failed")


def test_a_right_that_is_missing(environ: dict[str, str], guarded: str) -> None:
    check(environ | {"DATABASE_URL": as_guarded(guarded)}, "permission denied for table alembic_version")


def test_a_database_that_is_not_there(environ: dict[str, str], guarded: str) -> None:
    check(environ | {"DATABASE_URL": as_guarded(guarded, path="/nowhere")}, 'database "nowhere" does not exist')


def test_a_database_that_takes_no_writes(environ: dict[str, str], guarded: str) -> None:
    database = urlsplit(guarded).path.removeprefix("/")
    with psycopg.connect(guarded, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    try:
        check(environ | {"DATABASE_URL": guarded}, "read-only transaction")
    finally:
        with psycopg.connect(guarded, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")


def test_nothing_listens_where_the_database_should_be(environ: dict[str, str]) -> None:
    port = free_port()
    address = f"postgres://portal:{PASSWORD}@127.0.0.1:{port},127.0.0.1:{port}/portal?sslmode=disable"
    check(environ | {"DATABASE_URL": address}, f"127.0.0.1:{port}, 127.0.0.1:{port}: Connection refused")


def test_a_ledger_in_a_folder_that_can_not_be_used(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ledger = tmp_path / "file" / "ledger.sqlite3"
    check(environ | {"DATABASE_URL": f"sqlite:///{ledger}"}, str(ledger))
    development = {name: value for name, value in environ.items() if name != "DATABASE_URL"}
    check(development | {"PORTAL_ENV": "development", "PORTAL_VAR_DIR": str(tmp_path / "file" / "var")}, "file/var")


def test_a_wrong_password_of_redis(environ: dict[str, str], valkey: object) -> None:
    address = f"unix://nobody:{PASSWORD}@{valkey.unix_socket_path}"  # type: ignore[attr-defined]
    check(environ | {"REDIS_URL": address}, str(valkey.unix_socket_path), "refuses the user or password")  # type: ignore[attr-defined]


def test_nothing_listens_where_redis_should_be(environ: dict[str, str]) -> None:
    port = free_port()
    check(environ | {"REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{port}/0"}, f"127.0.0.1:{port}", "connection refused")


def test_sentinels_that_are_not_there(environ: dict[str, str]) -> None:
    port = free_port()
    address = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{port}/orders/0"
    check(environ | {"REDIS_URL": address}, "orders of the Sentinels", f"127.0.0.1:{port}", "connection refused")


def test_sqlite_is_for_one_host(environ: dict[str, str], store: redis.Redis) -> None:
    store.set("portal:sqlite:host", "another-boot-id", ex=60)
    check(environ, "DATABASE_URL is SQLite", "another host")


def test_every_fault_of_the_settings(environ: dict[str, str]) -> None:
    check(environ | {"SMTP_URL": "smtp://x:notaport"}, "SMTP_URL has a port that is no number")
    check({name: value for name, value in environ.items() if name != "SMTP_URL"}, "SMTP_URL is missing")
