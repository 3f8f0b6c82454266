"""What Salesforce is told of an order: how it stands, when it was about to be told, and what it has taken.

Every function takes a connection of `Ledger.read()` or `Ledger.write()`; moments are seconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import State
from portal.domain.write_back import Standing
from portal.ledger import orders
from portal.ledger.fulfillments import Fulfillment, get_all
from portal.ledger.schema import fulfillments

_F = fulfillments.c

# Statements of every run are built once: see portal.ledger.runs.
_TOLD = sa.update(fulfillments).where(_F.sf_order_id == sa.bindparam("wanted"), _F.attempt == sa.bindparam("this"))
_TELLING = sa.update(fulfillments).where(_F.sf_order_id.in_(sa.bindparam("wanted", expanding=True)))


def note_status(connection: Connection, sf_order_id: str, attempt: int, status: str) -> None:
    """Salesforce took this status; of an attempt that is over by now it says nothing any more."""
    connection.execute(_TOLD, {"wanted": sf_order_id, "this": attempt, "salesforce_status": status})


def note_write(connection: Connection, sf_order_ids: Sequence[str], *, now: float) -> None:
    """Salesforce is about to be told of these orders: from now on it may show Last_Provisioning_At__c = `now`.

    Written before the call leaves. A later moment found in Salesforce tells of an attempt this ledger has forgotten.
    """
    connection.execute(_TELLING, {"wanted": list(sf_order_ids), "salesforce_written_at": now})


def standing(connection: Connection, sf_order_id: str) -> tuple[Standing, Fulfillment | None]:
    """How an order stands as a whole, for Salesforce; and its fulfillment, if it was ever asked for."""
    return standings(connection, [sf_order_id])[sf_order_id]


def standings(connection: Connection, sf_order_ids: Sequence[str]) -> dict[str, tuple[Standing, Fulfillment | None]]:
    """The same of many orders, by their Salesforce ids (18 characters)."""
    rows = get_all(connection, sf_order_ids)
    cancelled = orders.withdrawn_of(connection, sf_order_ids)
    return {each: _standing(rows.get(each), cancelled=each in cancelled) for each in sf_order_ids}


def _standing(row: Fulfillment | None, *, cancelled: bool) -> tuple[Standing, Fulfillment | None]:
    if row is None:
        return Standing(None, cancelled), None
    waiting = row.state is State.WAITING
    return Standing(
        row.state,
        cancelled,
        row.elected_whmcs_id,
        row.error_code,
        row.error_message,
        row.waiting_for,
        row.waiting_code,
        row.due_at if waiting else None,
    ), row
