"""What a run has seen in WHMCS, and what became of its calls: the protocol decides on it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from portal.domain.model import WhmcsOrder, WhmcsService

#: WHMCS' words for an order and for a service that are live.
ACTIVE = "Active"
PENDING = "Pending"
LIVE_SERVICE = frozenset({"Active", "Completed"})


class Outcome(StrEnum):
    """What became of a CREATE or ACCEPT."""

    DONE = "done"
    REFUSED = "refused"  # a definite answer: it had no effect
    NOT_SENT = "not_sent"  # it never left
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Candidate:
    """A WHMCS order that bears our mark (or that AddOrder told us of), as a look saw it."""

    order: WhmcsOrder
    complete: bool  # has the products, quantities, cycles and domains asked for, and its invoice
    services: tuple[WhmcsService, ...] | None = None  # where the look has read them
    difference: str | None = None  # how its services differ from what was asked for, where they have been read


@dataclass(frozen=True)
class Look:
    """One conclusive listing of the client's orders. `started_at`: the moment before the first page was asked for."""

    started_at: float
    marked: tuple[Candidate, ...]
    unmarked: tuple[str, ...] = ()  # ids of live orders without a mark, nobody's elected one: might be ours


@dataclass(frozen=True)
class Seen:
    """What this run has seen in WHMCS so far; effects make parts of it stale again. None: not read yet."""

    look: Look | None = None
    order: WhmcsOrder | None = None  # the elected or adopted order
    order_read: bool = False
    services: tuple[WhmcsService, ...] | None = None  # of the elected or adopted order
    difference: str | None = None  # how these differ from what was asked for, in words
    claim_fault: str | None = None  # why the order that Salesforce names can't be this one, in words
    accept_error: str | None = None  # AcceptOrder's definite refusal in this run
    cancelled: frozenset[str] = frozenset()  # strays this run has cancelled

    def with_order(self, order: WhmcsOrder | None) -> Seen:
        """After READ_ORDER."""
        return replace(self, order=order, order_read=True)

    def with_look(self, look: Look, elected: str | None) -> Seen:
        """After LOOK; it has read the elected order, too."""
        mine = next((each for each in look.marked if each.order.id == elected), None)
        seen = replace(self, look=look)
        if mine is None:
            return seen
        return replace(seen, order=mine.order, order_read=True, services=mine.services, difference=mine.difference)

    def with_services(self, services: tuple[WhmcsService, ...], difference: str | None) -> Seen:
        """After READ_SERVICES."""
        return replace(self, services=services, difference=difference)

    def after_election(self, elected: str) -> Seen:
        """After ELECT: what was read of another order doesn't count."""
        if self.look is None and self.order is not None and self.order.id == elected:
            return self
        unread = replace(self, order=None, order_read=False, services=None, difference=None)
        return unread if self.look is None else unread.with_look(self.look, elected)

    def after_cancel(self, order_id: str) -> Seen:
        """After CANCEL_STRAY: look again."""
        return replace(self, cancelled=self.cancelled | {order_id}, look=None, order=None, order_read=False)

    def after_accept(self, outcome: Outcome, error: str | None = None) -> Seen:
        """After ACCEPT: done, the services are to be read; else the order and its services are, whoever made others."""
        if outcome is Outcome.DONE:
            assert self.order is not None
            return replace(self, order=replace(self.order, status=ACTIVE), services=None)
        return replace(self, look=None, order=None, order_read=False, services=None, accept_error=error)
