"""pg_dump and pg_restore, PostgreSQL's own programs: what they are told, and what they say, as one sentence.

The password goes by the environment: a process list shows arguments to everybody on the host.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from sqlalchemy.engine import URL

from portal.errors import PortalError


class ProgramFailed(PortalError):
    """PostgreSQL's program isn't there, or didn't do it; the text has its own words."""


def dump(url: URL, target: Path) -> None:
    """Write the database into `target`, which is there and empty. Raises ProgramFailed."""
    address, environ = _address(url)
    with target.open("wb") as file:
        _run("pg_dump", ["--format=custom", f"--dbname={address}"], environ, output=file.fileno())


def restore(url: URL, source: Path) -> None:
    """Replace the tables of a backup in the database, all or none. Raises ProgramFailed."""
    address, environ = _address(url)
    options = ["--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error"]
    _run("pg_restore", [*options, f"--dbname={address}", str(source)], environ)


def tables_of(source: Path) -> set[str]:
    """The tables whose rows a backup holds; it is read to its end. Raises ProgramFailed for a damaged one."""
    listed = _run("pg_restore", ["--list", str(source)], {})
    _run("pg_restore", ["--file=/dev/null", str(source)], {})
    return set(re.findall(r"^\d+; \d+ \d+ TABLE DATA \S+ (\S+) ", listed, re.MULTILINE))


def _address(url: URL) -> tuple[str, dict[str, str]]:
    """A libpq address without the password, and the environment that has it."""
    query = dict(url.query)
    password = query.pop("password", None) if url.password is None else url.password
    bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return bare.render_as_string(), {} if password is None else {"PGPASSWORD": str(password)}


def _run(program: str, arguments: list[str], environ: dict[str, str], *, output: int | None = None) -> str:
    found = shutil.which(program)
    if found is None:
        raise ProgramFailed(
            f"{program} isn't there: install PostgreSQL's client programs, of the server's version or newer (Debian: "
            "postgresql-client), or use your provider's backups"
        )
    done = subprocess.run(
        [found, *arguments],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if output is None else output,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        raise ProgramFailed(f"{Path(found).name} failed: {' '.join(said)[:500]}")
    return "" if done.stdout is None else done.stdout.decode(errors="replace")
