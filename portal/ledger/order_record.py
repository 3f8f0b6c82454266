"""Everything the ledger has of one order, for whoever looks into it: deliveries, messages, what was recorded.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger import outbox
from portal.ledger.schema import deliveries, idempotency_keys
from portal.ledger.schema import outbox as outbox_table

_O = outbox_table.c

#: Rows of each kind that are shown of one order.
MOST_ROWS: Final = 40


@dataclass(frozen=True)
class ClickRow:
    """One accepted delivery: its Idempotency-Key, who clicked, when it came, what it was answered for good."""

    received_at: float
    key: str | None
    requested_by: str | None
    attempt: int | None  # the fulfillment's attempt its key asked for; None once the key was forgotten
    answer_status: int | None


@dataclass(frozen=True)
class MessageRow:
    """One message about an order; `payload` as portal.ledger.outbox has it."""

    id: int
    kind: str
    state: str
    tries: int
    due_at: float
    error: str | None
    created_at: float
    sent_at: float | None
    payload: dict[str, Any]


def clicks(connection: Connection, sf_order_id: str) -> list[ClickRow]:
    """The deliveries for an order, the newest first."""
    came = (
        sa.select(deliveries.c.received_at, deliveries.c.idempotency_key, deliveries.c.requested_by)
        .where(deliveries.c.sf_order_id == sf_order_id)
        .limit(500)
    )
    known = sa.select(idempotency_keys.c.key, idempotency_keys.c.attempt, idempotency_keys.c.answer_status)
    keys = {
        row.key: (row.attempt, row.answer_status)
        for row in connection.execute(known.where(idempotency_keys.c.sf_order_id == sf_order_id).limit(500))
    }
    found = [
        ClickRow(row.received_at, row.idempotency_key, row.requested_by, *keys.get(row.idempotency_key, (None, None)))
        for row in connection.execute(came)
    ]
    return sorted(found, key=lambda each: each.received_at, reverse=True)[:MOST_ROWS]


def messages(connection: Connection, kind: str, subjects: list[str]) -> list[MessageRow]:
    """The messages of a kind about an order, by its Salesforce id or its reference; the newest first."""
    found: list[MessageRow] = []
    for subject in subjects:
        for state in ("pending", "sent", "dead"):
            query = (
                sa.select(*(_O[each.name] for each in fields(MessageRow)))
                .where(_O.kind == kind, _O.subject == subject, _O.state == state)
                .order_by(_O.id.desc())
                .limit(MOST_ROWS)
            )
            found += [MessageRow(*row) for row in connection.execute(query)]
    return sorted(found, key=lambda each: each.id, reverse=True)[:MOST_ROWS]


def mail_again(connection: Connection, message_id: int, subjects: list[str], *, now: float, name: str) -> bool:
    """Send a mail about this order once more, as a message of its own; `name`: what its Message-ID begins with.

    False where that message is none of this order's, or holds nothing to send any more.
    """
    query = sa.select(_O.kind, _O.subject, _O.payload).where(_O.id == message_id)
    row = connection.execute(query).one_or_none()
    if row is None or row.kind != "mail" or row.subject not in subjects or "template" not in (row.payload or {}):
        return False
    outbox.put(connection, "mail", row.subject, {**row.payload, "message_id": name}, now=now)
    return True


def unsent(connection: Connection, kind: str, *, most: int) -> tuple[int, float | None]:
    """How many messages of a kind are still to be sent (`most` + 1: more than that), and when the first was due."""
    waiting = sa.select(_O.id, _O.due_at).where(_O.kind == kind, _O.state == "pending").order_by(_O.due_at)
    rows = connection.execute(waiting.limit(most + 1)).all()
    return len(rows), rows[0].due_at if rows else None
