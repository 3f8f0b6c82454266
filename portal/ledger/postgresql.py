"""A connection to PostgreSQL on which nobody waits for ever. Apart, because SQLite needs no driver of PostgreSQL's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy.engine import Connection

RV = TypeVar("RV")

#: Seconds for an answer: more than the server itself takes for any statement. A server that is frozen ends nothing, and
#: its kernel still acknowledges every packet for it.
ANSWER_SECONDS: Final = 25.0


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself where the server doesn't answer: whoever waits gets psycopg.OperationalError."""

    bounded = True  # False while a statement may take as long as it takes

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Consume what a statement waits for; `interval`, `timeout` in seconds, at most ANSWER_SECONDS.

        Raises psycopg.OperationalError when the server owes the answer for longer.
        """
        if not self.bounded:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, min(timeout or ANSWER_SECONDS, ANSWER_SECONDS))
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # the answer may still come: to nobody
            raise


@contextmanager
def unhurried(connection: Connection) -> Iterator[None]:
    """What Ledger.unhurried is on PostgreSQL."""
    for timeout in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(sa.text(f"SET LOCAL {timeout} = 0"))
    driver = connection.connection.driver_connection
    assert isinstance(driver, BoundedConnection)
    driver.bounded = False
    try:
        yield
    finally:
        driver.bounded = True
