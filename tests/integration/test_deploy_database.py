"""docs/deployment's pages on PostgreSQL, done as they are written: two users, backup and restore, connections."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.deploy.image import Installation, Running
from tests.deploy.stores import flask, program, run_roles, socket_folder
from tests.deploy.tools import BIN, ROOT, free_port, run, said
from tests.postgres import Postgres
from tests.stack import http

DOCS = ROOT / "docs" / "deployment"
RESTORED = "The ledger was restored from a backup"


class House:
    """PostgreSQL with both users, migrated by the one; settings for the processes, which use the other."""

    def __init__(self, server: Postgres, installation: Installation, folder: Path) -> None:
        self.server = server
        self.installation = installation
        self.folder = folder
        faults, urls = run_roles(ROOT / "deploy" / "postgresql" / "roles.sql", server, folder)
        assert not faults
        environ = {key: value for key, value in installation.environ.items() if key != "DATABASE_URL_FILE"}
        assert not said(flask(ROOT, {**environ, "DATABASE_URL": urls["portal_owner"]}, "db", "upgrade"))
        self.port = free_port()
        self.environ = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(folder),
            "WEB_BIND": f"127.0.0.1:{self.port}",
            **environ,
            "DATABASE_URL": urls["portal"],
        }

    def process(self, *command: str) -> Running:
        return Running([str(BIN / command[0]), *command[1:]], self.environ, self.folder, ROOT)

    def wait_for_count(self, *, beyond: int) -> int:
        """Until ledger and Redis have counted further than this; the number."""
        client = self.installation.valkey.client()
        deadline = time.monotonic() + 60
        while (count := int(client.get(told_to_redis()[1]) or 0)) <= beyond:
            assert time.monotonic() < deadline, "the sweep counts no further"
            time.sleep(0.1)
        return count

    def as_superuser(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's own programs."""
        environ = {"PATH": "/usr/bin:/bin", "PGHOST": str(socket_folder(self.server)), "PGUSER": "postgres"}
        return run([program(self.server, name), *arguments], env=environ, cwd=self.folder)


def told_to_redis() -> list[str]:
    """The command of the page that makes a sweep distrust the ledger: SET, the key, a number."""
    (words,) = re.findall(r"valkey-cli (SET \S+ \d+)", (DOCS / "backup.md").read_text(encoding="utf-8"))
    return str(words).split()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with Postgres() as server, Installation(folder, ROOT) as installation:
        yield House(server, installation, folder)


def test_a_restored_database_is_noticed(house: House) -> None:
    with house.process("python", "-m", "jobs.sweep") as sweep:
        counted = house.wait_for_count(beyond=0)
        copy = house.folder / "portal.dump"
        assert not said(house.as_superuser("pg_dump", "--format=custom", f"--file={copy}", "portal"))
        house.wait_for_count(beyond=counted)
        assert RESTORED not in sweep.output

    restore = ("pg_restore", "--create", "--clean", "--if-exists", "--dbname=postgres", str(copy))
    assert not said(house.as_superuser(*restore))
    with house.process("python", "-m", "jobs.sweep") as sweep:
        assert sweep.says(RESTORED), sweep.output
    # Both users can do again what they could, and no more.
    assert not said(flask(ROOT, house.environ, "fulfillments", "pause", "--why", "after the restore"))
    assert said(flask(ROOT, house.environ, "db", "upgrade")) == []
    refused = run([program(house.server, "psql"), "-c", "DROP TABLE orders", house.environ["DATABASE_URL"]])
    assert "must be owner" in refused.stdout


def test_a_restored_database_with_a_new_redis_is_noticed_when_told(house: House) -> None:
    with house.process("python", "-m", "jobs.sweep") as sweep:
        assert sweep.says("This sweep acts now"), sweep.output
    client = house.installation.valkey.client()
    client.flushall()
    client.execute_command(*told_to_redis())
    with house.process("python", "-m", "jobs.sweep") as sweep:
        assert sweep.says(RESTORED), sweep.output


def test_sqlite_is_backed_up_as_the_page_says(tmp_path: Path) -> None:
    (line,) = re.findall(
        r"^ {4}flask (ledger backup) \S+$", (DOCS / "backup.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    with Installation(tmp_path, ROOT) as installation:
        environ = installation.environ
        assert not said(flask(ROOT, environ, "db", "upgrade"))
        copy = tmp_path / "copy.sqlite3"
        assert str(copy) in flask(ROOT, environ, *line.split(), str(copy)).stdout
        copied = {key: value for key, value in environ.items() if key != "DATABASE_URL_FILE"}
        copied["DATABASE_URL"] = f"sqlite:///{copy}"
        assert "The ledger is at revision" in flask(ROOT, copied, "db", "upgrade").stdout


def test_no_process_opens_more_connections_than_the_page_says(house: House) -> None:
    text = (DOCS / "database.md").read_text(encoding="utf-8")
    most = {name: int(number) for name, number in re.findall(r"^\| ([a-z ]+) \| .* \| (\d+) \|$", text, re.MULTILINE)}
    opened: dict[str, int] = {}
    with ExitStack() as stack:
        superuser = stack.enter_context(psycopg.connect(f"host={socket_folder(house.server)} user=postgres"))
        superuser.autocommit = True
        for name, command, words in (
            ("sweep", ("python", "-m", "jobs.sweep"), "This sweep acts now"),
            ("worker", ("python", "-m", "jobs.worker"), "Worker started"),
            ("web server", ("gunicorn", "wsgi:app"), "Booting worker"),
        ):
            # Each by itself: what another one opens late would count as its own.
            with house.process(*command) as process:
                assert process.says(words), process.output
                stop = threading.Event()
                stack.callback(stop.set)
                for _ in range(48 if name == "web server" else 0):
                    threading.Thread(target=ask, args=(f"http://127.0.0.1:{house.port}/health", stop)).start()
                opened[name] = max(connections(superuser) for _ in range(300))
                stop.set()
            deadline = time.monotonic() + 30
            while connections(superuser):
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert {name: count for name, count in opened.items() if count > most[name]} == {}
    assert all(count > 0 for count in opened.values()), opened


def ask(url: str, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(OSError):
            http("GET", url, timeout=10)


def connections(superuser: psycopg.Connection[Any]) -> int:
    """How many the portal's user has at a moment, a little later than the one before."""
    time.sleep(0.01)
    row = superuser.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'portal'").fetchone()
    assert row is not None
    return int(row[0])
