"""What is to be told to somebody, written in the transaction of the fact it tells; tried until taken or hopeless.

Kinds: `salesforce` (write-backs: an order's state as it is when it is sent, or an account's WHMCS client), `mail`,
`alert`, and `sign_in`: mails anybody can ask for, which are kept apart so that those to customers never wait for them.

Moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.ledger import counters, totals
from portal.ledger.engine import insert
from portal.ledger.schema import outbox

_O = outbox.c

SIGN_IN: Final = "sign_in"
KINDS: Final = ("salesforce", "mail", "alert", SIGN_IN)


@dataclass(frozen=True)
class Message:
    """One row that is to be sent."""

    id: int
    kind: str
    subject: str
    payload: dict[str, Any]
    tries: int
    created_at: float
    error_code: str | None = None


_COLUMNS = (_O.id, _O.kind, _O.subject, _O.payload, _O.tries, _O.created_at, _O.error_code)


# Statements of every run are built once: see portal.ledger.runs.
_DUE = (
    sa.select(*_COLUMNS)
    .where(
        _O.kind == sa.bindparam("wanted"),
        _O.state == "pending",
        _O.due_at <= sa.bindparam("moment"),
        sa.or_(_O.claimed_until.is_(None), _O.claimed_until < sa.bindparam("moment")),
    )
    .order_by(_O.due_at, _O.id)
    .limit(sa.bindparam("most"))
)
_BEING_SENT = (
    sa.select(_O.id)
    .where(
        _O.kind == sa.bindparam("wanted"),
        _O.subject == sa.bindparam("about"),
        _O.state == "pending",
        _O.claimed_until >= sa.bindparam("moment"),
    )
    .limit(1)
)


_SETTLE = (
    sa.update(outbox)
    .where(_O.id == sa.bindparam("message"), _O.state == "pending")
    .values(refused_at=None)
    .returning(_O.kind)
)
_CLAIM = (
    sa.update(outbox)
    .where(
        _O.id.in_(sa.bindparam("messages", expanding=True)),
        _O.state == "pending",
        sa.or_(_O.claimed_until.is_(None), _O.claimed_until < sa.bindparam("moment")),
    )
    .values(claimed_by=sa.bindparam("who"), claimed_until=sa.bindparam("until"))
    .returning(_O.id)
)
_CLAIM_HELD = sa.select(_O.id).where(
    _O.id.in_(sa.bindparam("messages", expanding=True)),
    _O.claimed_by == sa.bindparam("who"),
    _O.claimed_until > sa.bindparam("moment"),
    _O.state == "pending",
)
_SENT_BY_OTHERS = sa.select(_O.subject).where(
    _O.kind == sa.bindparam("wanted"),
    _O.subject.in_(sa.bindparam("subjects", expanding=True)),
    _O.state == "pending",
    _O.claimed_until >= sa.bindparam("moment"),
    _O.claimed_by != sa.bindparam("who"),
)


@cache
def _put(dialect: str) -> Any:
    return insert(dialect, outbox).on_conflict_do_nothing(index_elements=[_O.once]).returning(_O.id)


def put(
    connection: Connection,
    kind: str,
    subject: str,
    payload: dict[str, Any],
    *,
    now: float,
    once: str | None = None,
    due_at: float | None = None,
    claimed_by: str | None = None,
    claimed_until: float | None = None,
) -> int | None:
    """Write one message; returns its id, or None when `once` was written before. Not sent before `due_at`."""
    row = {
        "kind": kind,
        "subject": subject,
        "once": once,
        "payload": payload,
        "state": "pending",
        "tries": 0,
        "due_at": now if due_at is None else due_at,
        "claimed_by": claimed_by,
        "claimed_until": claimed_until,
        "created_at": now,
    }
    message_id = connection.execute(_put(connection.dialect.name), row).scalar_one_or_none()
    if message_id is None:
        return None
    counters.add(connection, totals.UNSENT, kind)
    return int(message_id)


def due(connection: Connection, kind: str, *, now: float, limit: int) -> list[Message]:
    """Messages whose time has come and that nobody is sending, the earliest due first."""
    return [Message(*row) for row in connection.execute(_DUE, {"wanted": kind, "moment": now, "most": limit})]


def kinds_due(connection: Connection, *, now: float) -> set[str]:
    """The kinds of which a message's time has come that nobody is sending."""
    return {kind for kind in KINDS if due(connection, kind, now=now, limit=1)}


def being_sent(connection: Connection, kind: str, subject: str, *, now: float) -> bool:
    """Whether somebody is sending a message of this kind and subject right now."""
    return connection.execute(_BEING_SENT, {"wanted": kind, "about": subject, "moment": now}).first() is not None


def sent_by_others(
    connection: Connection, kind: str, subjects: Sequence[str], worker_id: str, *, now: float
) -> set[str]:
    """Of which of these subjects another process is sending a message of this kind right now."""
    asked = {"wanted": kind, "subjects": list(subjects), "moment": now, "who": worker_id}
    return set(connection.execute(_SENT_BY_OTHERS, asked).scalars())


def leave(connection: Connection, message_ids: Sequence[int], worker_id: str, *, due_at: float) -> None:
    """Give messages back unsent; they are due again at `due_at`."""
    connection.execute(
        sa.update(outbox)
        .where(_O.id.in_(message_ids), _O.claimed_by == worker_id, _O.state == "pending")
        .values(claimed_by=None, claimed_until=None, due_at=due_at)
    )


def claim_held(connection: Connection, message_ids: Sequence[int], worker_id: str, *, now: float) -> set[int]:
    """Which of these messages are still this process's to send."""
    asked = {"messages": list(message_ids), "who": worker_id, "moment": now}
    return set(connection.execute(_CLAIM_HELD, asked).scalars())


def revive(connection: Connection, kind: str, error_codes: Sequence[str], *, now: float) -> int:
    """What was refused for these reasons is due now: the first one got through, so the fault is mended."""
    done = connection.execute(
        sa.update(outbox)
        .where(_O.kind == kind, _O.state == "pending", _O.due_at > now, _O.error_code.in_(error_codes))
        .values(due_at=now)
    )
    return done.rowcount


def claim(connection: Connection, message_ids: Sequence[int], worker_id: str, *, now: float, until: float) -> set[int]:
    """Make this process the sender of messages until `until`; returns of which it is, for some may be another's."""
    asked = {"messages": list(message_ids), "who": worker_id, "moment": now, "until": until}
    return set(connection.execute(_CLAIM, asked).scalars())


def sent(connection: Connection, message_id: int, *, now: float, told: dict[str, Any] | None = None) -> None:
    """The other side took it. told: the fields it took, where they weren't known before: kept to be seen."""
    values: dict[str, Any] = {"state": "sent", "sent_at": now, "error": None, "claimed_by": None, "claimed_until": None}
    if told is not None:
        values["payload"] = {"told": told}
    kind = _settle(connection, message_id, **values)
    if kind is not None:
        counters.add(connection, totals.SENT, kind)


def again(
    connection: Connection,
    message_id: int,
    *,
    now: float,
    due_at: float,
    error: str,
    code: str = "",
    refused: bool = False,
) -> None:
    """It wasn't taken: try again at `due_at`. code: the other side's own, of its refusal.

    refused: the other side answered, and said no; the others just couldn't be sent.
    """
    kind = connection.execute(
        sa.update(outbox)
        .where(_O.id == message_id)
        .values(
            tries=_O.tries + 1,
            due_at=due_at,
            error=error[:255],
            error_code=code[:80] or None,
            claimed_by=None,
            claimed_until=None,
            **({"refused_at": sa.func.coalesce(_O.refused_at, now)} if refused else {}),
        )
        .returning(_O.kind)
    ).scalar_one_or_none()
    if refused and kind is not None:
        counters.add(connection, totals.REFUSED, kind)


def dead(connection: Connection, message_id: int, *, error: str) -> None:
    """It can never be taken: kept for the operators, not tried again."""
    kind = _settle(connection, message_id, state="dead", error=error[:255], claimed_by=None, claimed_until=None)
    if kind is not None:
        counters.add(connection, totals.GIVEN_UP, kind)


def _settle(connection: Connection, message_id: int, *guard: sa.ColumnElement[bool], **values: Any) -> str | None:
    """A pending message comes to its end; returns its kind, or None when it had come to one before."""
    statement = _SETTLE.where(*guard) if guard else _SETTLE
    kind: str | None = connection.execute(statement, {"message": message_id, **values}).scalar_one_or_none()
    if kind is not None:
        counters.add(connection, totals.UNSENT, kind, -1)
    return kind


def unsent(connection: Connection) -> dict[str, int]:
    """How many messages of each kind wait to be sent; kinds that never had one aren't there."""
    return {kind: round(count) for kind, count in counters.of(connection, totals.UNSENT).items()}


def longest_overdue(connection: Connection, kind: str) -> float | None:
    """Since when (seconds since 1970) the message of this kind is due that was due first; None: none waits."""
    query = sa.select(_O.due_at).where(_O.kind == kind, _O.state == "pending").order_by(_O.due_at).limit(1)
    return connection.execute(query).scalar_one_or_none()


def longest_refused(connection: Connection, kind: str) -> float | None:
    """Since when (seconds since 1970) the unsent message of this kind has been refused that was refused first."""
    query = sa.select(_O.refused_at).where(_O.kind == kind, _O.refused_at.is_not(None))
    return connection.execute(query.order_by(_O.refused_at).limit(1)).scalar_one_or_none()


def put_off(connection: Connection, message_id: int, *, due_at: float) -> None:
    """Send it at `due_at` instead."""
    connection.execute(sa.update(outbox).where(_O.id == message_id, _O.state == "pending").values(due_at=due_at))


def drop(connection: Connection, message_id: int, *, now: float) -> None:
    """It needn't be sent any more."""
    _settle(connection, message_id, _O.claimed_by.is_(None), state="sent", sent_at=now)


def release_all(connection: Connection, worker_id: str) -> list[tuple[str, str]]:
    """Free what a dead process was sending; returns kind and subject of each. It may have been sent nevertheless."""
    query = sa.select(_O.id, _O.kind, _O.subject).where(_O.claimed_by == worker_id, _O.state == "pending")
    rows = connection.execute(query).all()
    for message_id, _kind, _subject in rows:
        connection.execute(
            sa.update(outbox)
            .where(_O.id == message_id, _O.claimed_by == worker_id)
            .values(claimed_by=None, claimed_until=None)
        )
    return [(kind, subject) for _id, kind, subject in rows]


def forget(connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    """Delete messages, unsent ones, too; returns how many."""
    gone = connection.execute(sa.delete(outbox).where(*which).returning(_O.kind, _O.state)).all()
    for row in gone:
        if row.state == "pending":
            counters.add(connection, totals.UNSENT, row.kind, -1)
    return len(gone)


def forget_sign_in_links(connection: Connection, *, before: float, limit: int) -> int:
    """Delete sign-in mails that were sent, or given up, and were due before that moment; returns how many."""
    count = 0
    for state in ("sent", "dead"):
        old = sa.select(_O.id).where(_O.kind == SIGN_IN, _O.state == state, _O.due_at < before).limit(limit)
        count += connection.execute(sa.delete(outbox).where(_O.id.in_(old))).rowcount
    return count
