"""What came in through the signed doors: each nonce once and for good, each Idempotency-Key with its final answer.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

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


def key_of(connection: Connection, key: str, *, now: float) -> Key | None:
    """What is known of a key; None for a free one."""
    query = sa.select(_K.key, _K.sf_order_id, _K.attempt, _K.answer_status, _K.answer_body).where(
        _K.key == key, _K.expires_at > now
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Key(*row)


def claim_key(connection: Connection, key: str, sf_order_id: str, *, now: float) -> Key:
    """The key's row: a new one for this order when the key was free, else the one there is (of whatever order)."""
    connection.execute(sa.delete(idempotency_keys).where(_K.key == key, _K.expires_at <= now))
    values = {
        "key": key, "sf_order_id": sf_order_id, "attempt": 0, "created_at": now, "expires_at": now + KEY_SECONDS,
    }  # fmt: skip
    if _insert_unless_there(connection, idempotency_keys, values):
        return Key(key, sf_order_id, 0, None, None, new=True)
    known = key_of(connection, key, now=now)
    assert known is not None  # the insert met it, and this transaction holds it
    return known


def set_attempt(connection: Connection, key: str, attempt: int) -> None:
    """Note which attempt of the fulfillment a new key asked for."""
    connection.execute(sa.update(idempotency_keys).where(_K.key == key).values(attempt=attempt))


def keep_answer(connection: Connection, key: str, status: int, body: dict[str, Any]) -> None:
    """Keep a key's final answer; the first one stands."""
    connection.execute(
        sa.update(idempotency_keys)
        .where(_K.key == key, _K.answer_status.is_(None))
        .values(answer_status=status, answer_body=body)
    )


def record(
    connection: Connection,
    nonce_id: str,
    *,
    now: float,
    keep: float,
    sf_order_id: str | None = None,
    idempotency_key: str | None = None,
) -> bool:
    """Write one delivery under its nonce_id (portal.webhooks.nonces); False when that nonce was used before.

    keep: seconds for which its timestamp could pass.
    """
    values = {
        "nonce": nonce_id, "sf_order_id": sf_order_id, "idempotency_key": idempotency_key,
        "received_at": now, "expires_at": now + max(keep, DELIVERY_SECONDS),
    }  # fmt: skip
    return _insert_unless_there(connection, deliveries, values)


def recorded(connection: Connection, nonce_id: str) -> bool:
    """Whether the delivery of this nonce is in the ledger."""
    query = sa.select(deliveries.c.nonce).where(deliveries.c.nonce == nonce_id)
    return connection.execute(query).first() is not None


def forget_expired(connection: Connection, *, now: float, limit: int = 500) -> int:
    """Delete up to `limit` expired deliveries and as many keys; returns how many. For the sweep, now and then."""
    count = 0
    for table, identity in ((deliveries, deliveries.c.nonce), (idempotency_keys, _K.key)):
        old = sa.select(identity).where(table.c.expires_at <= now).limit(limit)
        count += connection.execute(sa.delete(table).where(identity.in_(old))).rowcount
    return count


def _insert_unless_there(connection: Connection, table: sa.Table, values: dict[str, Any]) -> bool:
    """Insert, or leave what has the same primary key; waits for a concurrent insert of it to be decided."""
    if connection.dialect.name == "postgresql":
        done = connection.execute(postgresql.insert(table).values(values).on_conflict_do_nothing())
    else:
        done = connection.execute(sqlite.insert(table).values(values).on_conflict_do_nothing())
    return done.rowcount == 1
