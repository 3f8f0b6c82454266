"""Finding orders as operators do: lists by state, code and age, newest first, and whatever a person may quote of one.

Every list is a keyset page over an index, so it costs the same at a million orders as at a thousand.
Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.ids import salesforce_id_18, whmcs_id
from portal.domain.model import ErrorCode, State
from portal.domain.names import to_ascii
from portal.ledger import deliveries
from portal.ledger.schema import fulfillments, order_domains, orders, services
from portal.ledger.statistics import HANDLED

_F = fulfillments.c

#: Orders that one quoted word may give; more are too many to look through.
MOST_FOUND: Final = 100


@dataclass(frozen=True)
class Listed:
    """A fulfillment as lists show it; the columns are explained in portal.ledger.schema."""

    sf_order_id: str
    state: State
    attempt: int
    due_at: float
    waiting_for: str | None
    waiting_code: str | None
    error_code: str | None
    error_message: str | None
    elected_whmcs_id: str | None
    client_id: str | None
    created_at: float
    updated_at: float
    handled_at: float | None


@dataclass(frozen=True)
class Filter:
    """Which fulfillments. Ages are moments: `since` <= created_at <= `until`, in seconds since 1970."""

    state: State | None = None
    code: str | None = None  # an error's, or of what a waiting one waits for
    since: float | None = None
    until: float | None = None
    handled: bool = False  # only those that a person has marked as handled; a state's list is without them


def filter_of(
    chosen: str | None, *, code: str | None = None, since: float | None = None, until: float | None = None
) -> Filter:
    """The filter of what people choose as a state: one of State, HANDLED, or nothing."""
    if chosen == HANDLED:
        return Filter(None, code or None, since, until, handled=True)
    return Filter(State(chosen) if chosen else None, code or None, since, until)


Cursor = tuple[float, str]  # created_at and Salesforce id of the last row seen

_COLUMNS = tuple(_F[each.name] for each in fields(Listed))


def _listed(row: Any) -> Listed:
    values = dict(zip((each.name for each in fields(Listed)), row, strict=True))
    return Listed(**{**values, "state": State(values["state"])})


def page(connection: Connection, wanted: Filter, *, limit: int, before: Cursor | None = None) -> list[Listed]:
    """The newest fulfillments of a filter, at most `limit`, those older than `before`."""
    found: list[Listed] = []
    for where in _wheres(wanted):
        query = sa.select(*_COLUMNS).where(*where, *_ages(wanted, before))
        query = query.order_by(_F.created_at.desc(), _F.sf_order_id.desc()).limit(limit)
        found += map(_listed, connection.execute(query))
    return sorted(found, key=lambda each: (each.created_at, each.sf_order_id), reverse=True)[:limit]


def ids(connection: Connection, wanted: Filter, *, limit: int) -> list[str]:
    """Salesforce ids of a filter's fulfillments, newest first, at most `limit`."""
    found: list[tuple[float, str]] = []
    for where in _wheres(wanted):
        query = sa.select(_F.created_at, _F.sf_order_id).where(*where, *_ages(wanted, None))
        query = query.order_by(_F.created_at.desc(), _F.sf_order_id.desc()).limit(limit)
        found += [(moment, sf_order_id) for moment, sf_order_id in connection.execute(query)]
    return [sf_order_id for _, sf_order_id in sorted(found, reverse=True)[:limit]]


def count(connection: Connection, wanted: Filter, *, most: int) -> int:
    """How many fulfillments a filter has; `most` + 1 where there are more than `most`."""
    total = 0
    for where in _wheres(wanted):
        some = sa.select(_F.sf_order_id).where(*where, *_ages(wanted, None)).limit(most + 1).subquery()
        total += connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
    return min(total, most + 1)


def _wheres(wanted: Filter) -> list[list[sa.ColumnElement[bool]]]:
    """One condition for each index that has a part of the answer; no fulfillment is in two of them."""
    if wanted.handled:
        handled = _F.handled_at.is_not(None)
        return [[handled] if wanted.code is None else [handled, _F.error_code == wanted.code]]
    if wanted.code is None:
        return [[_F.state == wanted.state, _F.handled_at.is_(None)]] if wanted.state is not None else [[]]
    waiting = [_F.state == State.WAITING, _F.waiting_code == wanted.code]
    if wanted.state is State.WAITING:
        return [waiting]
    ended = [_F.error_code == wanted.code, _F.state != State.WAITING]
    if wanted.state is not None:
        return [[*ended, _F.state == wanted.state, _F.handled_at.is_(None)]]
    return [ended, waiting]


def _ages(wanted: Filter, before: Cursor | None) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [_F.created_at >= (wanted.since or 0.0)]
    if wanted.until is not None:
        conditions.append(_F.created_at <= wanted.until)
    if before is not None:
        moment, sf_order_id = before
        conditions.append(
            sa.tuple_(_F.created_at, _F.sf_order_id) < sa.tuple_(sa.literal(moment), sa.literal(sf_order_id))
        )
    return conditions


def oldest(connection: Connection, state: State, *, limit: int) -> list[Listed]:
    """The fulfillments that are in a state and were asked for first, those a person has handled left out."""
    query = (
        sa.select(*_COLUMNS)
        .where(_F.state == state, _F.handled_at.is_(None))
        .order_by(_F.created_at, _F.sf_order_id)
        .limit(limit)
    )
    return [_listed(row) for row in connection.execute(query)]


# --- what a person quotes ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """An order that fits a quoted word. `name`: its Salesforce id, or its reference while Salesforce has none."""

    name: str
    what: str  # what the word is of it
    status: str  # the fulfillment's state, else what its customer is told
    code: str | None
    why: str | None
    created_at: float
    handled: bool = False  # a person has seen to it: it waits for nobody's decision


def find(connection: Connection, text: str) -> list[Match]:
    """Orders of which a person may mean this: Salesforce id or number, portal reference, WHMCS order, service or
    client id, Idempotency-Key, customer's address, domain. The newest first, at most MOST_FOUND.

    An error code is a filter, not a word of one order: see `Filter`.
    """
    text = text.strip()
    if not text or len(text) > 255:
        return []
    whats: dict[str, str] = {}  # Salesforce id or reference → what the word is
    for what, look in _LOOKS:
        for name in look(connection, text):
            whats.setdefault(name, what)
    found = [match for match in (_match(connection, name, what) for name, what in list(whats.items())) if match]
    unique = {match.name: match for match in reversed(found)}
    return sorted(unique.values(), key=lambda match: match.created_at, reverse=True)[:MOST_FOUND]


def _match(connection: Connection, name: str, what: str) -> Match | None:
    order = connection.execute(
        sa.select(orders.c.reference, orders.c.sf_order_id, orders.c.status, orders.c.error_code, orders.c.created_at)
        .where(sa.or_(orders.c.sf_order_id == name, orders.c.reference == name))
        .limit(1)
    ).one_or_none()
    sf_order_id = order.sf_order_id if order is not None else name
    row = None
    if sf_order_id is not None:
        row = connection.execute(sa.select(*_COLUMNS).where(_F.sf_order_id == sf_order_id)).one_or_none()
    if row is not None:
        each = _listed(row)
        code, why = each.error_code or each.waiting_code, each.error_message or each.waiting_for
        return Match(
            each.sf_order_id, what, each.state.value, code, why, each.created_at, handled=each.handled_at is not None
        )
    if order is None:
        return None
    return Match(order.sf_order_id or order.reference, what, order.status, order.error_code, None, order.created_at)


def _by_salesforce_id(_connection: Connection, text: str) -> Iterable[str]:
    """As it stands, or inside of what has it: Salesforce's address of the order, the reference in WHMCS' notes."""
    for word in re.findall(r"(?<![A-Za-z0-9])[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?(?![A-Za-z0-9])", text):
        with contextlib.suppress(ValueError):
            yield salesforce_id_18(word)


def _by_reference(_connection: Connection, text: str) -> Iterable[str]:
    return {text, text.upper()} if len(text) <= 40 else []


def _by_order_number(connection: Connection, text: str) -> Iterable[str]:
    query = sa.select(orders.c.reference).where(orders.c.order_number.in_({text, text.zfill(8)})).limit(MOST_FOUND)
    return connection.execute(query).scalars().all()


def _by_email(connection: Connection, text: str) -> Iterable[str]:
    if "@" not in text:
        return []
    query = sa.select(orders.c.reference).where(orders.c.email.in_({text, text.lower()}))
    query = query.limit(MOST_FOUND)
    return connection.execute(query).scalars().all()


def _by_domain(connection: Connection, text: str) -> Iterable[str]:
    if "." not in text or "@" in text:
        return []
    host = re.sub(r"^[a-z]+://", "", text.lower()).partition("/")[0].partition(":")[0].rstrip(".")
    bare = (to_ascii(host) or host).removeprefix("www.")
    query = sa.select(order_domains.c.reference).where(order_domains.c.domain.in_({host, bare, f"www.{bare}"}))
    return connection.execute(query.limit(MOST_FOUND)).scalars().all()


def _by_key(connection: Connection, text: str) -> Iterable[str]:
    key = deliveries.key_of(connection, text, now=0.0)
    return [key.sf_order_id] if key is not None else []


def _by_whmcs_order(connection: Connection, text: str) -> Iterable[str]:
    if not _number(text):
        return []
    query = sa.select(_F.sf_order_id).where(_F.elected_whmcs_id == whmcs_id(text.lstrip("#")))
    return connection.execute(query).scalars().all()


def _by_service(connection: Connection, text: str) -> Iterable[str]:
    if not _number(text):
        return []
    query = sa.select(services.c.sf_order_id).where(services.c.service_id == whmcs_id(text.lstrip("#")))
    return connection.execute(query).scalars().all()


def _by_client(connection: Connection, text: str) -> Iterable[str]:
    if not _number(text):
        return []
    query = (
        sa.select(_F.sf_order_id)
        .where(_F.client_id == whmcs_id(text.lstrip("#")))
        .order_by(_F.created_at.desc())
        .limit(MOST_FOUND)
    )
    return connection.execute(query).scalars().all()


def _number(text: str) -> bool:
    digits = text.lstrip("#")
    return digits.isascii() and digits.isdigit() and len(digits) <= 32


_LOOKS: Final[tuple[tuple[str, Callable[[Connection, str], Iterable[str]]], ...]] = (
    ("Salesforce id", _by_salesforce_id),
    ("reference", _by_reference),
    ("Salesforce order number", _by_order_number),
    ("WHMCS order", _by_whmcs_order),
    ("WHMCS service", _by_service),
    ("WHMCS client", _by_client),
    ("Idempotency-Key", _by_key),
    ("customer's address", _by_email),
    ("domain or hostname", _by_domain),
)


def error_code(text: str) -> ErrorCode | None:
    """The error code a person has typed or pasted; None for what is none."""
    with contextlib.suppress(ValueError):
        return ErrorCode("_".join(re.split(r"[\s_-]+", text.strip().upper())))
    return None
