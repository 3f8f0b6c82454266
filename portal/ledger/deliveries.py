"""What came in through the signed receivers: each nonce once and for good, each Idempotency-Key with its final answer.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.sql.base import Executable

from portal.ledger.schema import deliveries, idempotency_keys

#: How long a key is kept: published in docs/webhooks.md. After that it is free again.
KEY_SECONDS: Final = 7 * 86_400.0
#: How long at least a delivery is kept, even when its timestamp can't pass any more.
DELIVERY_SECONDS: Final = 86_400.0

_K = idempotency_keys.c


@dataclass(frozen=True)
class Key:
    """One Idempotency-Key that hasn't expired."""

    key: str
    sf_order_id: str
    attempt: int
    answer_status: int | None
    answer_body: dict[str, Any] | None
    new: bool = False  # made by the call that returned this


# Built once: this is what every accepted request goes through.
_KEY_OF = sa.select(_K.key, _K.sf_order_id, _K.attempt, _K.answer_status, _K.answer_body).where(
    _K.key == sa.bindparam("key"), _K.expires_at > sa.bindparam("now")
)
_FREE_EXPIRED = sa.delete(idempotency_keys).where(_K.key == sa.bindparam("key"), _K.expires_at <= sa.bindparam("now"))
_SET_ATTEMPT = (
    sa.update(idempotency_keys).where(_K.key == sa.bindparam("which")).values(attempt=sa.bindparam("new_attempt"))
)
_KEEP_ANSWER = (
    sa.update(idempotency_keys)
    .where(_K.key == sa.bindparam("which"), _K.answer_status.is_(None))
    .values(answer_status=sa.bindparam("status"), answer_body=sa.bindparam("body", type_=sa.JSON))
)
_INSERTS: Final[dict[tuple[str, str], Executable]] = {
    (dialect, table.name): insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    for dialect, insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
    for table in (deliveries, idempotency_keys)
}


def key_of(connection: Connection, key: str, *, now: float) -> Key | None:
    """What is known of a key; None for a free one."""
    row = connection.execute(_KEY_OF, {"key": key, "now": now}).one_or_none()
    return None if row is None else Key(*row)


def claim_key(connection: Connection, key: str, sf_order_id: str, *, now: float) -> Key:
    """The key's row: a new one for this order when the key was free, else the one there is (of whatever order)."""
    values = {
        "key": key,
        "sf_order_id": sf_order_id,
        "attempt": 0,
        "created_at": now,
        "expires_at": now + KEY_SECONDS,
    }
    while not _insert_unless_there(connection, idempotency_keys, values):
        known = key_of(connection, key, now=now)
        if known is not None:
            return known
        connection.execute(_FREE_EXPIRED, {"key": key, "now": now})
    return Key(key, sf_order_id, 0, None, None, new=True)


def set_attempt(connection: Connection, key: str, attempt: int) -> None:
    """Note which attempt of the fulfillment a new key asked for."""
    connection.execute(_SET_ATTEMPT, {"which": key, "new_attempt": attempt})


def keep_answer(connection: Connection, key: str, status: int, body: dict[str, Any]) -> None:
    """Keep a key's final answer; the first one stands."""
    connection.execute(_KEEP_ANSWER, {"which": key, "status": status, "body": body})


def record(
    connection: Connection,
    nonce_id: str,
    *,
    now: float,
    keep: float,
    sf_order_id: str | None = None,
    idempotency_key: str | None = None,
    requested_by: str | None = None,
) -> bool:
    """Write one delivery under its nonce_id (portal.webhooks.nonces); False when that nonce was used before.

    keep: seconds for which its timestamp could pass.
    """
    values = {
        "nonce": nonce_id,
        "sf_order_id": sf_order_id,
        "idempotency_key": idempotency_key,
        "requested_by": requested_by,
        "received_at": now,
        "expires_at": now + max(keep, DELIVERY_SECONDS),
    }
    return _insert_unless_there(connection, deliveries, values)


def recorded(connection: Connection, nonce_id: str) -> bool:
    """Whether the delivery of this nonce is in the ledger."""
    query = sa.select(deliveries.c.nonce).where(deliveries.c.nonce == nonce_id)
    return connection.execute(query).first() is not None


def forget_expired(connection: Connection, *, before: float, limit: int) -> int:
    """Delete up to `limit` deliveries that had expired by then (seconds since 1970); returns how many."""
    old = sa.select(deliveries.c.nonce).where(deliveries.c.expires_at <= before).limit(limit)
    return connection.execute(sa.delete(deliveries).where(deliveries.c.nonce.in_(old))).rowcount


def forget_keys(connection: Connection, *, now: float, limit: int) -> int:
    """Delete up to `limit` keys that have expired, and so are free again; returns how many."""
    old = sa.select(_K.key).where(_K.expires_at <= now).limit(limit)
    return connection.execute(sa.delete(idempotency_keys).where(_K.key.in_(old))).rowcount


def _insert_unless_there(connection: Connection, table: sa.Table, values: dict[str, Any]) -> bool:
    """Insert, or leave what has the same primary key; waits for a concurrent insert of it to be decided."""
    return connection.execute(_INSERTS[connection.dialect.name, table.name], values).rowcount == 1
