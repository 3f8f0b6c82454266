"""Transactions over the ledger: SQLite (development, one host) or PostgreSQL.

SQLite: every writing transaction is BEGIN IMMEDIATE behind a lock file shared by all processes, because SQLite's own
busy handler starves writers; WAL with synchronous=FULL, so that what was committed survives a power cut.
PostgreSQL: READ COMMITTED; the functions that write update the fenced row first and check the row count.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from portal.errors import PortalError
from portal.ledger import counters

BUSY_SECONDS = 30.0

#: Connections one process may have at most where nobody says fewer (`bound_connections`). A thread holds one at a time,
#: and opens it when it needs it: what bounds them is the number of threads. This is for more than anybody runs.
MAX_CONNECTIONS: Final = 512
#: Seconds to wait for one of them before the ledger is called unavailable.
POOL_SECONDS: Final = 5.0

#: For so many seconds after its last transaction a connection isn't asked whether its server is still there: less than
#: PostgreSQL takes to be restarted.
_SURELY_THERE_SECONDS: Final = 0.1

#: No request and no run hangs on a database for ever: not on a network that swallows packets, not on somebody's lock
#: on a table, and no process stopped inside a transaction keeps the rows it has written locked.
POSTGRES: Final = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "options": "-c idle_in_transaction_session_timeout=5s -c lock_timeout=10s -c statement_timeout=20s",
}


#: SQLSTATEs of a transaction that PostgreSQL ended so that others can go on: two that waited for each other.
_GAVE_WAY: Final = frozenset({"40P01", "40001"})
#: SQLSTATEs of a statement that this user may not run, or this server doesn't take: a standby.
_REFUSED: Final = frozenset({"42501", "25006"})


class LedgerUnavailable(PortalError):
    """The database can't be reached or is locked: nothing of this transaction was written."""


class GaveWay(LedgerUnavailable):
    """The database ended this transaction for another's sake (a deadlock): the same again may well be written."""


class CommitUnknown(PortalError):
    """The connection was lost while committing: read again before anything is sent on the strength of it."""


class Ledger:
    """The ledger's database. One per process; safe for threads; opens its connections after a fork."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.gathered = counters.Gathered()  # what is counted outside of transactions, until the next one
        self._pool_size = pool_size
        self._most: int | None = None
        self._engine: sa.Engine | None = None
        self._pid = os.getpid()
        self._gate = _SqliteGate(Path(self.url.database or "ledger")) if self.sqlite else None
        self._guard = threading.Lock()

    @property
    def engine(self) -> sa.Engine:
        """This process's engine; a forked child never uses its parent's connections."""
        with self._guard:
            if self._engine is None or self._pid != os.getpid():
                if self._engine is not None:
                    self._engine.dispose(close=False)
                self._engine = self._open()
                self._pid = os.getpid()
            return self._engine

    def keep_connections(self, count: int) -> None:
        """Keep so many connections open, for a process with as many threads; before the first one is opened."""
        self._pool_size = count

    def bound_connections(self, most: int) -> None:
        """Have no more than so many open at once: whoever wants another one waits for it, POOL_SECONDS at most. Before
        the first one is opened.
        """
        self._most = most

    def dispose(self) -> None:
        """Close every connection of this process."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()
        self._engine = None
        if self._gate:
            self._gate.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises LedgerUnavailable."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except (DBAPIError, PoolTimeout) as error:
            raise _translate(error, self.url) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed when the block ends, rolled back when it raises.

        Raises LedgerUnavailable when nothing was written, CommitUnknown when the commit's outcome is unknown.
        """
        if self._gate is None:
            with self._transaction() as connection:
                yield connection
        else:
            with self._gate.passed(), self._transaction() as connection:
                yield connection

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No transaction of any process writes meanwhile; of SQLite only, PostgreSQL has no need of it."""
        assert self._gate is not None
        with self._gate.passed():
            yield

    @contextmanager
    def unhurried(self, connection: Connection) -> Iterator[None]:
        """In this transaction of `connection` no statement is given up: what goes through whole tables takes as long as
        it takes, and so does waiting for another who does.
        """
        if self.sqlite:
            yield
            return
        from portal.ledger.postgresql import unhurried

        with unhurried(connection):
            yield

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        committing = False
        gathered: counters.Amounts = {}
        try:
            with self.engine.connect() as connection:
                if self.sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                counters.begin(connection)
                yield connection
                gathered = self.gathered.take()
                counters.write(connection, gathered)
                committing = True
                try:
                    connection.commit()
                except DBAPIError:
                    if self.sqlite:
                        connection.invalidate()  # a COMMIT that SQLite refuses leaves its transaction open
                    raise
        except (DBAPIError, PoolTimeout) as error:
            if not committing:
                self.gathered.give_back(gathered)
            if committing and isinstance(error, DBAPIError) and error.connection_invalidated:
                raise CommitUnknown("the database went away while committing") from error
            raise _translate(error, self.url) from error

    def _open(self) -> sa.Engine:
        most = MAX_CONNECTIONS if self._most is None else self._most
        kept = min(self._pool_size, most)
        if not self.sqlite:
            engine = sa.create_engine(
                self.url,
                pool_size=kept,
                max_overflow=most - kept,
                pool_timeout=POOL_SECONDS,
                pool_use_lifo=True,  # the one used last needn't be asked whether it is still there
                isolation_level="READ COMMITTED",
                connect_args=POSTGRES,
            )
            event.listen(engine, "do_connect", _connect_postgresql)
            event.listen(engine, "connect", _mark_used)
            event.listen(engine, "checkin", _mark_used)
            event.listen(engine, "checkout", _still_there)
            return engine
        # How long a transaction waits for somebody else's lock (a backup's): `sqlite:///…?timeout=5` says otherwise.
        timeout = float(str(self.url.query.get("timeout", BUSY_SECONDS)))
        engine = sa.create_engine(
            self.url,
            pool_size=kept,
            max_overflow=most - kept,
            pool_timeout=POOL_SECONDS,
            connect_args={"timeout": timeout},
        )

        @event.listens_for(engine, "connect")
        def _prepare(dbapi_connection: object, _record: object) -> None:
            dbapi_connection.isolation_level = None  # type: ignore[attr-defined]  # we say BEGIN ourselves
            cursor = dbapi_connection.cursor()  # type: ignore[attr-defined]
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        return engine


def _mark_used(_dbapi_connection: object, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _still_there(dbapi_connection: Any, record: Any, _proxy: object) -> None:
    """A connection that wasn't used for a moment is asked first: the server may have been restarted meanwhile.

    Not each time, as SQLAlchemy's `pool_pre_ping` would: that is a round trip for every transaction.
    """
    if time.monotonic() - record.info.get("used_at", 0.0) < _SURELY_THERE_SECONDS:
        return
    try:
        dbapi_connection.execute("SELECT 1")
        dbapi_connection.rollback()
    except Exception as error:
        raise InvalidatePoolError from error  # the pool opens another one, and so for all others from before: unasked


def _connect_postgresql(_dialect: object, _record: object, args: Any, options: Any) -> object:
    from portal.ledger.postgresql import BoundedConnection

    return BoundedConnection.connect(*args, **options)


def insert(dialect: Connection | str, table: sa.Table) -> Any:
    """An INSERT into `table` that knows `on_conflict_do_nothing` and `on_conflict_do_update`, for either database.

    `dialect`: the connection's name of it, or a connection.

    Asking first and then inserting is enough on SQLite, where one transaction writes at a time, but not on PostgreSQL.
    """
    if (dialect if isinstance(dialect, str) else dialect.dialect.name) == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table)
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite

    return insert_sqlite(table)


class _SqliteGate:
    """Lets one writer at a time through: threads by a lock, processes by flock on a file beside the database."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._threads = threading.Lock()
        self._file: int | None = None
        self._pid = os.getpid()

    @contextmanager
    def passed(self) -> Iterator[None]:
        if self._pid != os.getpid():  # the parent's thread lock and file lock aren't ours
            self._threads = threading.Lock()
            self._file, self._pid = None, os.getpid()
        with self._threads:
            if self._file is None:
                try:
                    self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                except OSError as error:
                    raise LedgerUnavailable(
                        f"the ledger's database can't be used: {self._path}: {error.strerror}"
                    ) from error
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._file is not None and self._pid == os.getpid():
            os.close(self._file)
            self._file = None


def _translate(error: DBAPIError | PoolTimeout, url: sa.URL) -> PortalError | DBAPIError:
    """Unreachable, locked, refused and out of connections become LedgerUnavailable; a broken statement stays what it
    is.
    """
    if isinstance(error, PoolTimeout):
        return LedgerUnavailable("the ledger's database can't be used: every connection to it is taken")
    state = getattr(error.orig, "sqlstate", None)
    if state in _GAVE_WAY:
        return GaveWay(f"the ledger's database can't be used: {_where(url)}: {_reason(error.orig, url)}")
    if (
        state in _REFUSED
        or error.connection_invalidated
        or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
    ):
        return LedgerUnavailable(f"the ledger's database can't be used: {_where(url)}: {_reason(error.orig, url)}")
    return error


def _where(url: sa.URL) -> str:
    """The database for people: its file, or where its server is; never the user's password."""
    if url.get_backend_name() == "sqlite":
        return url.database or "SQLite"
    hosts = str(url.host or url.query.get("host") or "the local socket").split(",")
    ports = str(url.port or url.query.get("port") or "").split(",")
    ports *= len(hosts) if len(ports) == 1 else 1
    return ", ".join(f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False))


def _reason(error: BaseException | None, url: sa.URL) -> str:
    """The database's own words, its first sentence: what follows may repeat a row's values."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    lines = [line.strip() for line in (primary or str(error)).splitlines() if line.strip()]
    # One line for each address that was tried, after "connection failed" or the like: of several hosts these.
    tried = [line for line in lines if line.startswith("- host: ")] or lines[:1] or [type(error).__name__]
    told = "; ".join(dict.fromkeys(line.rpartition("failed: ")[2] for line in tried))
    if url.password:
        told = told.replace(str(url.password), "…")
    return told[:300]
