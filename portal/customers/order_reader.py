"""Reads what pages show of an order, and whether its visitor may see it; for polls that come together, all at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.engine import Connection

from portal.customers.lead_time import LeadTime
from portal.customers.visitor import Visitor, visitor_with
from portal.domain.ids import salesforce_id_18
from portal.domain.model import CustomerStatus
from portal.ledger import fulfillments, orders, runs, sessions
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.orders import Order
from portal.services import Services

#: What an order can be called: nothing else reaches the database.
_REFERENCE: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True)
class Asked:
    """One order, by its reference or Salesforce id (15 or 18 characters), and who wants to see it."""

    reference: str
    session_ids: Mapping[str, bool]  # as `portal.customers.visitor.session_ids` has them


@dataclass(frozen=True)
class Found:
    """What the ledger knows. order: None for one that doesn't exist, and for one that this visitor may not see.

    lead_time: within how many seconds three of four orders are set up, where this one is being set up.
    """

    visitor: Visitor
    order: Order | None = None
    fulfillment: Fulfillment | None = None
    done_at: Mapping[str, float] = field(default_factory=dict)  # as `portal.ledger.runs.done_at` has it
    lead_time: float | None = None


class OrderReader:
    """One per application."""

    def __init__(self, services: Services, lead_time: LeadTime) -> None:
        self._services = services
        self._lead_time = lead_time

    def read(self, batch: Sequence[Asked]) -> list[Found | Exception]:
        """Each, in one transaction, and in one statement what each alone would read by one of its own.

        Raises LedgerUnavailable.
        """
        with self._services.ledger.read() as connection:
            visitors = _visitors(connection, batch, now=self._services.now())
            asking = [asked.reference for asked, visitor in zip(batch, visitors, strict=True) if visitor.sees_any]
            named = _named(connection, asking)
            visible = [
                order if (order := named.get(asked.reference)) is not None and visitor.may_see(order) else None
                for asked, visitor in zip(batch, visitors, strict=True)
            ]
            begun = {
                order.sf_order_id
                for order in visible
                if order and order.sf_order_id is not None and order.status is not CustomerStatus.PENDING_REVIEW
            }
            rows = fulfillments.get_all(connection, begun) if begun else {}
            done_at = runs.done_at(connection, rows) if rows else {}
            found: list[Found | Exception] = []
            for visitor, order in zip(visitors, visible, strict=True):
                name = (order and order.sf_order_id) or ""
                activating = order is not None and order.status is CustomerStatus.ACTIVATING
                lead_time = self._lead_time.seconds(connection) if activating else None
                found.append(Found(visitor, order, rows.get(name), done_at.get(name, {}), lead_time))
            return found


def _visitors(connection: Connection, batch: Sequence[Asked], *, now: float) -> list[Visitor]:
    """Who asks each (now: seconds since 1970)."""
    ids = {each for asked in batch for each in asked.session_ids}
    living = {each.id: each for each in sessions.find(connection, ids, now=now)} if ids else {}
    return [
        visitor_with([living[each] for each in asked.session_ids if each in living], asked.session_ids)
        for asked in batch
    ]


def _named(connection: Connection, names: Collection[str]) -> dict[str, Order]:
    """The orders that there are, by what they are called: a reference in either case, or a Salesforce id."""
    wanted = {each for each in names if _REFERENCE.fullmatch(each)}
    found = orders.named(connection, wanted) if wanted else {}
    if missing := {each: each.upper() for each in wanted - found.keys()}:
        upper = orders.named(connection, missing.values())
        found |= {each: upper[name] for each, name in missing.items() if name in upper}
    if missing := {each: name for each in wanted - found.keys() if (name := _salesforce_id(each))}:
        placed = orders.named_in_salesforce(connection, missing.values())
        found |= {each: placed[name] for each, name in missing.items() if name in placed}
    return found


def _salesforce_id(text: str) -> str | None:
    try:
        return salesforce_id_18(text)
    except ValueError:
        return None
