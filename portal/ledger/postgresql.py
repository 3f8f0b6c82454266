"""A connection to PostgreSQL on which nobody waits for ever. Apart, because SQLite needs no driver of PostgreSQL's."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

RV = TypeVar("RV")

#: Seconds for an answer: more than the server itself takes for any statement. A server that is frozen ends nothing, and
#: its kernel still acknowledges every packet for it.
ANSWER_SECONDS: Final = 25.0


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself where the server doesn't answer: whoever waits gets psycopg.OperationalError."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Consume what a statement waits for; `interval`, `timeout` in seconds, at most ANSWER_SECONDS.

        Raises psycopg.OperationalError when the server owes the answer for longer.
        """
        try:
            return super().wait(gen, interval, min(timeout or ANSWER_SECONDS, ANSWER_SECONDS))
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # the answer may still come: to nobody
            raise
