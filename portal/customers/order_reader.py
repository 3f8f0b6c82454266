"""Reads what pages show of an order, and whether its visitor may see it; for polls that come together, all at once."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.engine import Connection

from portal.customers.lead_time import LeadTime
from portal.customers.visitor import Visitor, visitor_of
from portal.domain.ids import salesforce_id_18
from portal.domain.model import CustomerStatus
from portal.ledger import fulfillments, orders, runs
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.orders import Order
from portal.ledger.runs import StepRow
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
    steps: Sequence[StepRow] = ()
    lead_time: float | None = None


class OrderReader:
    """One per application."""

    def __init__(self, services: Services, lead_time: LeadTime) -> None:
        self._services = services
        self._lead_time = lead_time

    def read(self, batch: Sequence[Asked]) -> list[Found | Exception]:
        """Each, in one transaction. Raises LedgerUnavailable."""
        with self._services.ledger.read() as connection:
            return [self._read(connection, each) for each in batch]

    def _read(self, connection: Connection, asked: Asked) -> Found:
        visitor = visitor_of(connection, asked.session_ids, now=self._services.now())
        if visitor.account is None and not visitor.single_orders:
            return Found(visitor)
        order = _named(connection, asked.reference)
        if order is None or not visitor.may_see(order):
            return Found(visitor)
        fulfillment, steps = None, []
        if order.sf_order_id is not None and order.status is not CustomerStatus.PENDING_REVIEW:
            fulfillment = fulfillments.get(connection, order.sf_order_id)
            steps = runs.steps_of(connection, order.sf_order_id) if fulfillment else []
        activating = order.status is CustomerStatus.ACTIVATING
        lead_time = self._lead_time.seconds(connection) if activating else None
        return Found(visitor, order, fulfillment, steps, lead_time)


def _named(connection: Connection, reference: str) -> Order | None:
    if not _REFERENCE.fullmatch(reference):
        return None
    order = orders.get(connection, reference) or orders.get(connection, reference.upper())
    if order is None:
        with contextlib.suppress(ValueError):
            order = orders.by_sf_order_id(connection, salesforce_id_18(reference))
    return order
