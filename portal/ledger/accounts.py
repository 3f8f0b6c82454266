"""Everything the ledger holds on one account (a customer of Salesforce): exported whole, or its personal data deleted.

Personal are addresses, names, domains, and what the mails said. What stays after `forget` names nobody: ids, states,
moments, products and amounts, and the audit trail. Moments are seconds since 1970.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import CustomerStatus, JsonObject, State
from portal.errors import PortalError
from portal.ledger import events, orders, outbox
from portal.ledger import schema as s

FORGOTTEN: Final = "account_forgotten"

_OPEN_ORDERS: Final = (CustomerStatus.PENDING_REVIEW, CustomerStatus.ACTIVATING)
_ENDED: Final = (State.PROVISIONED, State.FAILED)
_NAMES: Final = ("domain", "hostname")
_MANY: Final = 400  # values of one IN


class AccountBusy(PortalError):
    """Something of the account's is still under way: nothing was deleted."""


# --- reading -----------------------------------------------------------------------------------------------------


def export(connection: Connection, account_id: str, *, now: float) -> JsonObject:
    """All there is on an account, as JSON with moments in ISO 8601. Secrets' digests are left out."""
    rows = _rows(connection, sa.select(s.orders).where(s.orders.c.account_id == account_id))
    found = _fulfillments(connection, [row["sf_order_id"] for row in rows if row["sf_order_id"]])
    ids = [row["sf_order_id"] for row in found]
    clients = sorted({row["client_id"] for row in found if row["client_id"]})
    emails = {row["email"] for row in rows if row["email"]}
    sessions = _rows(connection, sa.select(s.sessions).where(s.sessions.c.account_id == account_id))
    emails |= {row["email"] for row in sessions}
    subjects = [row["reference"] for row in rows] + ids + [account_id]
    return {
        "accountId": account_id,
        "exportedAt": _iso(now),
        "orders": rows,
        "fulfillments": found,
        "services": _of(connection, s.services, s.services.c.sf_order_id, ids),
        "steps": _of(connection, s.steps, s.steps.c.sf_order_id, ids),
        "deliveries": [
            _without(row, "nonce") for row in _of(connection, s.deliveries, s.deliveries.c.sf_order_id, ids)
        ],
        "idempotencyKeys": _of(connection, s.idempotency_keys, s.idempotency_keys.c.sf_order_id, ids),
        "messages": _messages(connection, subjects, emails),
        "events": _of(connection, s.events, s.events.c.subject, subjects),
        "paymentHints": _of(connection, s.payment_hints, s.payment_hints.c.client_id, clients),
        "languages": _of(connection, s.account_languages, s.account_languages.c.account_id, [account_id]),
        "sessions": [_without(row, "id") for row in sessions],
    }


# Built once: each order that is seen in Salesforce for the first time asks.
_FORGOTTEN_AT = sa.select(sa.func.max(s.events.c.at)).where(
    s.events.c.subject == sa.bindparam("account"), s.events.c.kind == FORGOTTEN
)


def forgotten_at(connection: Connection, account_id: str) -> float | None:
    """When the account was last forgotten: what Salesforce shows of older orders isn't learnt again. None: never."""
    moment = connection.execute(_FORGOTTEN_AT, {"account": account_id}).scalar()
    return None if moment is None else float(moment)


# --- forgetting --------------------------------------------------------------------------------------------------


def forget(connection: Connection, account_id: str, *, now: float, actor: str, why: str) -> dict[str, int]:
    """Delete an account's personal data, and record who did it, when and why; returns how many rows lost how much.

    Raises AccountBusy while an order is open, or a write-back about one isn't sent yet.
    """
    rows = connection.execute(
        sa.select(
            s.orders.c.reference,
            s.orders.c.sf_order_id,
            s.orders.c.email,
            s.orders.c.status,
            s.orders.c["items"].label("lines"),  # `.items` is a method
        )
        .where(s.orders.c.account_id == account_id)
        .with_for_update()
    ).all()
    found = _fulfillments(connection, [row.sf_order_id for row in rows if row.sf_order_id])
    ids = [row["sf_order_id"] for row in found]
    subjects = [row.reference for row in rows] + ids + [account_id]
    _refuse_if_busy(connection, [row.reference for row in rows if row.status in _OPEN_ORDERS], found, subjects)
    emails = {row.email for row in rows if row.email}
    emails |= set(
        connection.execute(sa.select(s.sessions.c.email).where(s.sessions.c.account_id == account_id)).scalars()
    )
    clients = sorted({row["client_id"] for row in found if row["client_id"]})
    for order in rows:
        _unindex_domains(connection, order.reference, order.lines)
        connection.execute(
            sa.update(s.orders)
            .where(s.orders.c.reference == order.reference)
            .values(email=None, items=[nameless(item) for item in order.lines])
        )
    for fulfillment in found:
        if fulfillment["plan"]:
            connection.execute(
                sa.update(s.fulfillments)
                .where(s.fulfillments.c.sf_order_id == fulfillment["sf_order_id"])
                .values(plan=_nameless_plan(fulfillment["plan"]))
            )
    counts = {
        "orders": len(rows),
        "domains": _delete(connection, s.order_domains, s.order_domains.c.reference, [row.reference for row in rows]),
        "steps": _delete(connection, s.steps, s.steps.c.sf_order_id, ids),
        "messages": _delete_messages(connection, subjects, emails),
        "paymentHints": _delete(connection, s.payment_hints, s.payment_hints.c.client_id, clients),
        "languages": _delete(connection, s.account_languages, s.account_languages.c.account_id, [account_id]),
        "sessions": _delete(connection, s.sessions, s.sessions.c.account_id, [account_id]),
    }
    events.record(connection, FORGOTTEN, now=now, subject=account_id, actor=actor, detail={"why": why, **counts})
    return counts


def nameless(item: orders.Item) -> orders.Item:
    """An order's line without what tells whose it is."""
    return orders.Item(**{**item, "domain": None, "hostname": None})


def _unindex_domains(connection: Connection, reference: str, items: Sequence[orders.Item]) -> None:
    """The order isn't found by its domains any more (portal.ledger.orders.index_domains)."""
    names = {(item[kind] or "").lower()[:255] for item in items for kind in _NAMES if item.get(kind)}
    connection.execute(
        sa.delete(s.order_domains).where(
            s.order_domains.c.domain.in_(sorted(names)), s.order_domains.c.reference == reference
        )
    )


def _nameless_plan(plan: JsonObject) -> JsonObject:
    """A plan as audits need it. A line without a domain is complete with any."""
    gone = {"domain": None, "hostname": None}

    def lines(of: Any) -> list[JsonObject]:
        return [{**each, **{name: None for name in gone if name in each}} for each in of or ()]

    changed = dict(plan)
    if "order" in plan:
        changed["order"] = {**plan["order"], "account_name": "", "items": lines(plan["order"].get("items"))}
    if "lines" in plan:
        changed["lines"] = lines(plan["lines"])
    return changed


def _refuse_if_busy(
    connection: Connection, open_orders: list[str], found: Sequence[JsonObject], subjects: Sequence[str]
) -> None:
    busy = open_orders + [row["sf_order_id"] for row in found if row["state"] not in _ENDED]
    if busy:
        named = ", ".join(dict.fromkeys(busy[:3]))
        raise AccountBusy(
            f"the account has open orders ({named}{', …' if len(busy) > 3 else ''}): let them end, decide or cancel "
            "them first; nothing was deleted"
        )
    for some in _chunks(subjects):
        query = sa.select(s.outbox.c.subject).where(
            s.outbox.c.kind == "salesforce", s.outbox.c.subject.in_(some), s.outbox.c.state == "pending"
        )
        waiting = connection.execute(query.limit(1)).scalar()
        if waiting is not None:
            raise AccountBusy(
                f"Salesforce hasn't been told yet how {waiting} ended: try again when it has; nothing was deleted"
            )


# --- pieces ------------------------------------------------------------------------------------------------------


def _fulfillments(connection: Connection, sf_order_ids: Sequence[str]) -> list[JsonObject]:
    """Those of these orders, and those of the same WHMCS clients that no page shows."""
    own = _of(connection, s.fulfillments, s.fulfillments.c.sf_order_id, sf_order_ids)
    clients = sorted({row["client_id"] for row in own if row["client_id"]})
    theirs = _of(connection, s.fulfillments, s.fulfillments.c.client_id, clients)
    return list({row["sf_order_id"]: row for row in own + theirs}.values())


def _messages(connection: Connection, subjects: Sequence[str], emails: set[str]) -> list[JsonObject]:
    about = [
        row
        for kind in ("salesforce", "mail")
        for some in _chunks(subjects)
        for row in _rows(connection, sa.select(s.outbox).where(s.outbox.c.kind == kind, s.outbox.c.subject.in_(some)))
    ]
    ids = _sign_in_links(connection, emails)
    return about + _of(connection, s.outbox, s.outbox.c.id, ids)


def _sign_in_links(connection: Connection, emails: set[str]) -> list[int]:
    """Messages with a sign-in link to one of these addresses; they are kept for a day, so there are few to look at."""
    folded = {email.lower() for email in emails}
    query = sa.select(s.outbox.c.id, s.outbox.c.payload).where(
        s.outbox.c.kind == outbox.SIGN_IN, s.outbox.c.state.in_(("pending", "sent", "dead"))
    )
    return [row.id for row in connection.execute(query) if str(row.payload.get("address", "")).lower() in folded]


def _delete_messages(connection: Connection, subjects: Sequence[str], emails: set[str]) -> int:
    links = _sign_in_links(connection, emails)
    count = sum(outbox.forget(connection, s.outbox.c.id.in_(some)) for some in _chunks(links))
    for some in _chunks(subjects):
        count += outbox.forget(connection, s.outbox.c.kind == "mail", s.outbox.c.subject.in_(some))
    return count


def _of(connection: Connection, table: sa.Table, column: sa.Column[Any], values: Sequence[Any]) -> list[JsonObject]:
    return [row for some in _chunks(values) for row in _rows(connection, sa.select(table).where(column.in_(some)))]


def _delete(connection: Connection, table: sa.Table, column: sa.Column[Any], values: Sequence[Any]) -> int:
    return sum(connection.execute(sa.delete(table).where(column.in_(some))).rowcount for some in _chunks(values))


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]


def _rows(connection: Connection, query: sa.Select[Any]) -> list[JsonObject]:
    return [
        {name: _iso(value) if _is_moment(name) and value is not None else value for name, value in row.items()}
        for row in connection.execute(query).mappings()
    ]


def _is_moment(column: str) -> bool:
    return column == "at" or column.endswith(("_at", "_until"))


def _iso(seconds: float) -> str:
    """Seconds since 1970 in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _without(row: JsonObject, *names: str) -> JsonObject:
    return {name: value for name, value in row.items() if name not in names}
