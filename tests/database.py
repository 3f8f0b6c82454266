"""Which database the tests' portals have: SQLite, or with PORTAL_TEST_DATABASE=postgresql (`make test-postgres`) a
PostgreSQL, and their Valkey then is reached by its address instead of a socket.

A test or fixture that names its DATABASE_URL keeps it; one marked `sqlite` is about SQLite itself and isn't run there.
"""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

if TYPE_CHECKING:
    from tests.postgres import Postgres

#: Whether the portals of this run are to have a PostgreSQL.
ON_POSTGRESQL = os.environ.get("PORTAL_TEST_DATABASE") == "postgresql"

#: On which databases a test is run that is for either: what SQLite does, `make test` has seen.
DATABASES = ("postgresql",) if ON_POSTGRESQL else ("sqlite", "postgresql")


@cache
def shared_server() -> Postgres:
    """The one PostgreSQL of this test process; ended with it."""
    from tests.postgres import Postgres  # which needs the portal, and so isn't for whoever has SQLite

    things = ExitStack()
    atexit.register(things.close)
    return things.enter_context(Postgres())


def rows(url: str, sql: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Rows of a query with `?` for values, JSON columns as text: as SQLite gives them."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.adapters.register_loader("json", TextLoader)
        return connection.execute(sql.replace("%", "%%").replace("?", "%s"), values).fetchall()


def change(url: str, sql: str, values: tuple[Any, ...]) -> None:
    """Carry out a statement with `?` for values."""
    with psycopg.connect(url) as connection:
        connection.execute(sql.replace("%", "%%").replace("?", "%s"), values)
