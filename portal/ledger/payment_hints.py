"""Clients of WHMCS that were said to have a payment method now, so that orders which failed for want of one go on.

A hint is kept for any client: the order it helps may be running, and about to fail. However often one is repeated,
WHMCS is asked about it once in ASK_EVERY seconds. Moments are seconds since 1970.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import ErrorCode, State
from portal.ledger.engine import insert
from portal.ledger.fulfillments import failed_for_payment_method
from portal.ledger.schema import fulfillments, payment_hints

_H = payment_hints.c
ASK_EVERY = 60.0
KEPT_SECONDS = 86_400.0


def hear(connection: Connection, client_id: str, *, now: float) -> list[str]:
    """Keep a hint; returns the Salesforce orders of the client that may go on. The oldest of them gets an audit."""
    connection.execute(
        insert(connection, payment_hints)
        .values(client_id=client_id, heard_at=now)
        .on_conflict_do_update(index_elements=[_H.client_id], set_={"heard_at": now})
    )
    failed = failed_for_payment_method(connection, client_id)
    if failed:
        asked_at = connection.execute(sa.select(_H.asked_at).where(_H.client_id == client_id)).scalar()
        due_at = now if asked_at is None else max(now, asked_at + ASK_EVERY)
        connection.execute(
            sa.update(fulfillments)
            .where(
                fulfillments.c.sf_order_id == failed[0],
                fulfillments.c.state == State.FAILED,
                fulfillments.c.error_code == ErrorCode.PAYMENT_METHOD_MISSING,
            )
            .values(audit_due_at=due_at)
        )
    return failed


def heard_since(connection: Connection, client_id: str, moment: float) -> bool:
    """Whether a hint came at or after `moment`."""
    query = sa.select(_H.client_id).where(_H.client_id == client_id, _H.heard_at >= moment)
    return connection.execute(query).first() is not None


def note_asked(connection: Connection, client_id: str, *, now: float) -> None:
    """WHMCS is about to be asked for the client's payment methods because of a hint."""
    connection.execute(sa.update(payment_hints).where(_H.client_id == client_id).values(asked_at=now))


def forget_old(connection: Connection, *, now: float, limit: int) -> int:
    """Delete hints that helped nobody; returns how many."""
    old = sa.select(_H.client_id).where(_H.heard_at < now - KEPT_SECONDS).limit(limit)
    return connection.execute(sa.delete(payment_hints).where(_H.client_id.in_(old))).rowcount
