"""The fulfillments in the ledger: asking for one, claiming it, running it under a fence, taking it over.

Every write of a run is conditional on its fence; a row count of zero means that somebody else owns the order now.
Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import (
    FINISHED_STATES,
    ErrorCode,
    JsonObject,
    State,
    customer_status,
)
from portal.domain.protocol import Facts
from portal.ledger import installation, orders, outbox, totals
from portal.ledger.engine import insert
from portal.ledger.lists import Among
from portal.ledger.schema import fulfillments, services

_F = fulfillments.c


@dataclass(frozen=True)
class Fulfillment:
    """One row of `fulfillments`; the columns are explained in portal.ledger.schema."""

    sf_order_id: str
    state: State
    attempt: int
    tries: int
    first_failed_at: float | None
    due_at: float
    waiting_for: str | None
    waiting_code: str | None
    owner: str | None
    fence: int
    job_id: str | None
    enqueued_at: float | None
    elected_whmcs_id: str | None
    adopt_whmcs_id: str | None
    answered_whmcs_id: str | None
    history_complete: bool
    duplicate_possible: bool
    add_attempts: int
    add_open: bool
    add_in_doubt_until: float | None
    accept_attempts: int
    accept_open: bool
    accept_in_doubt_until: float | None
    active: bool
    confirmed: bool
    hints: int
    audit_due_at: float | None
    audits: int
    plan: JsonObject | None
    client_id: str | None
    service_ids: list[str]
    error_code: str | None
    error_message: str | None
    salesforce_status: str | None
    salesforce_written_at: float | None
    requested_at: float
    requested_by: str | None
    origin: JsonObject | None
    created_at: float
    updated_at: float
    finished_at: float | None
    handled_at: float | None

    @property
    def finished(self) -> bool:
        """Whether no run is wanted any more."""
        return self.state in FINISHED_STATES

    @property
    def undecided_before_whmcs(self) -> bool:
        """Whether it needs a decision although nothing of it was sent to WHMCS: trying again can do no harm."""
        return self.state is State.NEEDS_DECISION and not self.add_attempts and self.elected_whmcs_id is None

    @property
    def facts(self) -> Facts:
        """What the exactly-once protocol decides on."""
        return Facts(
            elected=self.elected_whmcs_id,
            adopt=self.adopt_whmcs_id,
            answered=self.answered_whmcs_id,
            history_complete=self.history_complete,
            duplicate_possible=self.duplicate_possible,
            add_attempts=self.add_attempts,
            add_open=self.add_open,
            add_in_doubt_until=self.add_in_doubt_until,
            accept_attempts=self.accept_attempts,
            accept_open=self.accept_open,
            accept_in_doubt_until=self.accept_in_doubt_until,
            active=self.active,
            confirmed=self.confirmed,
        )


_NAMES = tuple(f.name for f in fields(Fulfillment))
COLUMNS = tuple(fulfillments.c[name] for name in _NAMES)

# Statements of every run are built once: see portal.ledger.runs.
_GET = sa.select(*COLUMNS).where(_F.sf_order_id == sa.bindparam("wanted"))
_GET_ALL = sa.select(*COLUMNS).where(Among(_F.sf_order_id, "wanted"))
_ORDER_OF_SERVICE = sa.select(services.c.sf_order_id).where(services.c.service_id == sa.bindparam("wanted"))
_BY_ELECTED = sa.select(*COLUMNS).where(_F.elected_whmcs_id == sa.bindparam("wanted")).limit(1)


def fulfillment_of(row: Any) -> Fulfillment:
    """A row of COLUMNS as a Fulfillment."""
    values = dict(zip(_NAMES, row, strict=True))
    return Fulfillment(**{**values, "state": State(values["state"]), "service_ids": values["service_ids"] or []})


def get(connection: Connection, sf_order_id: str) -> Fulfillment | None:
    """The fulfillment of a Salesforce order (18 characters), if it was ever asked for."""
    row = connection.execute(_GET, {"wanted": sf_order_id}).one_or_none()
    return None if row is None else fulfillment_of(row)


def get_all(connection: Connection, sf_order_ids: Collection[str]) -> dict[str, Fulfillment]:
    """Those of these Salesforce orders (18 characters) that were ever asked for."""
    rows = connection.execute(_GET_ALL, {"wanted": list(sf_order_ids)})
    return {found.sf_order_id: found for found in map(fulfillment_of, rows)}


# --- asking for a fulfillment --------------------------------------------------------------------------


def request_fulfillment(
    connection: Connection,
    sf_order_id: str,
    *,
    now: float,
    requested_at: float,
    requested_by: str | None = None,
    origin: JsonObject | None = None,
    new_click: bool = True,
) -> Fulfillment:
    """Make sure the order has a fulfillment, and return it.

    The first request inserts it. A new click on a Failed one starts a new attempt, which resumes what was begun, and
    so it does on one that needs a decision before anything was sent to WHMCS: what was wrong may be mended. One that
    waits is tried at once, with all its tries before it. Anything else is returned as it is.
    `requested_at`: the signed moment. origin: which click it is, for logs and traces; nothing depends on it.
    """
    row = get(connection, sf_order_id)
    if row is None:
        insert_new(
            connection, sf_order_id, now=now, requested_at=requested_at, requested_by=requested_by, origin=origin
        )
        row = get(connection, sf_order_id)
        assert row is not None
        return row
    if new_click and (row.state == State.FAILED or row.undecided_before_whmcs):
        return start_again(
            connection, row, now=now, requested_at=requested_at, requested_by=requested_by, origin=origin
        )
    if new_click and hurry(connection, sf_order_id, now=now):
        return get(connection, sf_order_id) or row
    return row


def insert_new(
    connection: Connection,
    sf_order_id: str,
    *,
    now: float,
    requested_at: float,
    requested_by: str | None,
    origin: JsonObject | None = None,
    history_complete: bool = True,
) -> None:
    """Insert an order that was never asked for before, unless somebody else just did; its customer sees it queued."""
    values = new_row(
        sf_order_id,
        now=now,
        requested_at=requested_at,
        requested_by=requested_by,
        origin=origin,
        history_complete=history_complete and installation.history_complete(connection),
    )
    insert_row(connection, values)
    show(connection, sf_order_id, State.QUEUED, now=now)


def insert_row(connection: Connection, values: Mapping[str, Any]) -> bool:
    """Insert a `new_row`, perhaps with further columns, and count it; False where the ledger has the order already."""
    inserted = connection.execute(
        insert(connection, fulfillments)
        .values(values)
        .on_conflict_do_nothing()
        .execution_options(preserve_rowcount=True)
    )
    if inserted.rowcount != 1:
        return False
    totals.moved(connection, None, values["state"])
    return True


#: What is the same of every order that was never asked for before; what isn't here is its column's default.
NEW: Final[Mapping[str, Any]] = {
    "state": State.QUEUED,
    "attempt": 1,
    "tries": 0,
    "fence": 0,
    "duplicate_possible": False,
    "add_attempts": 0,
    "add_open": False,
    "accept_attempts": 0,
    "accept_open": False,
    "active": False,
    "confirmed": False,
    "hints": 0,
    "audits": 0,
}


_UNSET: Final = {**dict.fromkeys(_NAMES), **NEW}


def new_row(sf_order_id: str, **own: Any) -> dict[str, Any]:
    """The columns of an order that was never asked for before: NEW, and its own (`new_own`)."""
    return {**NEW, **new_own(sf_order_id, **own)}


def new_own(
    sf_order_id: str,
    *,
    now: float,
    requested_at: float,
    requested_by: str | None,
    history_complete: bool,
    origin: JsonObject | None = None,
) -> dict[str, Any]:
    """Those of its columns that aren't the same as any other new order's."""
    return {
        "sf_order_id": sf_order_id,
        "due_at": now,
        "history_complete": history_complete,
        "service_ids": [],
        "requested_at": requested_at,
        "requested_by": requested_by,
        "origin": origin,
        "created_at": now,
        "updated_at": now,
    }


def fulfillment_with(own: Mapping[str, Any]) -> Fulfillment:
    """What reading a new order with these `new_own` back would give."""
    return Fulfillment(**{**_UNSET, **own})


def show(connection: Connection, sf_order_id: str, state: State, *, now: float, error_code: str | None = None) -> None:
    """Let the customer see the state a fulfillment has come to, in the transaction that brought it there.

    `orders.status` follows `fulfillments.state` here and, for many at once, in portal.ledger.acceptor.
    """
    orders.set_status(connection, sf_order_id, customer_status(state), now=now, error_code=error_code)


def start_again(
    connection: Connection,
    row: Fulfillment,
    *,
    now: float,
    requested_at: float | None = None,
    requested_by: str | None = None,
    origin: JsonObject | None = None,
    **changes: Any,
) -> Fulfillment:
    """A new attempt of a finished fulfillment: it resumes at what the ledger knows, never from nothing.

    Returns the row as it now is (another caller may have been first).
    """
    done = connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == row.sf_order_id, _F.state == row.state, _F.attempt == row.attempt)
        .values(
            state=State.QUEUED,
            attempt=row.attempt + 1,
            tries=0,
            first_failed_at=None,
            due_at=now,
            waiting_for=None,
            waiting_code=None,
            owner=None,
            fence=_F.fence + 1,
            job_id=None,
            enqueued_at=None,
            error_code=None,
            error_message=None,
            salesforce_status=None,  # what it shows since this click isn't known yet
            requested_at=now if requested_at is None else requested_at,
            requested_by=requested_by,
            origin=origin,
            updated_at=now,
            finished_at=None,
            handled_at=None,
            audit_due_at=None,
            **{"history_complete": row.history_complete and installation.history_complete(connection), **changes},
        )
    )
    if done.rowcount == 1:
        totals.moved(connection, row.state, State.QUEUED)
    show(connection, row.sf_order_id, State.QUEUED, now=now)
    again = get(connection, row.sf_order_id)
    assert again is not None
    return again


def failed_for_payment_method(connection: Connection, client_id: str, limit: int = 50) -> list[str]:
    """Orders of a WHMCS client that Failed for the lack of a payment method, but for those marked as handled."""
    query = (
        sa.select(_F.sf_order_id)
        .where(
            _F.client_id == client_id,
            _F.state == State.FAILED,
            _F.error_code == ErrorCode.PAYMENT_METHOD_MISSING,
            _F.handled_at.is_(None),
        )
        .limit(limit)
    )
    return sorted(connection.execute(query).scalars())


def by_elected(connection: Connection, whmcs_order_id: str) -> Fulfillment | None:
    """The fulfillment whose elected WHMCS order this is."""
    row = connection.execute(_BY_ELECTED, {"wanted": whmcs_order_id}).one_or_none()
    return None if row is None else fulfillment_of(row)


def by_service(connection: Connection, service_id: str) -> Fulfillment | None:
    """The fulfillment this WHMCS service came of."""
    sf_order_id = connection.execute(_ORDER_OF_SERVICE, {"wanted": service_id}).scalar_one_or_none()
    return None if sf_order_id is None else get(connection, sf_order_id)


def elected_elsewhere(connection: Connection, sf_order_id: str, whmcs_order_ids: list[str]) -> set[str]:
    """Which of these WHMCS orders are the elected ones of other Salesforce orders."""
    if not whmcs_order_ids:
        return set()
    query = sa.select(_F.elected_whmcs_id).where(
        _F.elected_whmcs_id.in_(whmcs_order_ids), _F.sf_order_id != sf_order_id
    )
    return {str(row) for row in connection.execute(query).scalars()}


def hurry(connection: Connection, sf_order_id: str, *, now: float) -> bool:
    """A person wants a waiting fulfillment tried now, with all its tries before it. False: it doesn't wait.

    What only time can settle goes on waiting by itself: such a try looks, and waits again.
    """
    done = connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == sf_order_id, _F.state == State.WAITING)
        .values(due_at=now, tries=0, first_failed_at=None)
    )
    return done.rowcount == 1


def plan_resync(connection: Connection, sf_order_id: str, *, now: float, due_at: float) -> int:
    """Have Salesforce told at `due_at` how the order stands then, whatever it was told before. Returns the message id.

    The guide's own Apex writes Failed over our outcome on any answer but 200, and a stopped process may send late.
    """
    message_id = outbox.put(connection, "salesforce", sf_order_id, {}, now=now, due_at=due_at)
    assert message_id is not None
    return message_id
