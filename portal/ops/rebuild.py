"""A ledger that lost everything is filled again from what both other sides show; what they don't show is said.

It creates nothing and calls nothing an effect: what isn't finished is looked for in WHMCS by ordinary runs afterwards.
It works in pages, keeps how far it came, and goes on there when it is run again. Moments are seconds since 1970.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.engine import Connection

from portal.customers.salesforce_sync import sync_changes
from portal.domain.ids import references_in
from portal.domain.model import CustomerStatus, SalesforceOrder, UpstreamError, WhmcsOrder, WhmcsService
from portal.domain.seen import ACTIVE, PENDING
from portal.errors import PortalError
from portal.ledger import audits, fulfillments, installation, restored, statistics, unheard
from portal.services import Services

_KEY: Final = "rebuild"
_LIVE: Final = (ACTIVE, PENDING)

#: What neither Salesforce nor WHMCS shows: printed at the end, and in the runbook.
UNKNOWABLE: Final = (
    "orders that customers placed here and that Salesforce doesn't have yet (the e-mail “order received” names them)",
    "clicks of which Salesforce shows nothing: an order still in Pending Review although somebody clicked; click again",
    "why and how often older attempts failed: Salesforce has the last reason of each Failed order",
    "decisions that people made, who paused what, and the rest of the audit trail",
    "Idempotency-Keys and nonces: a recorded request that is sent again within its time passes once more, and makes no "
    "second WHMCS order",
    "sessions, used sign-in links, and e-mails not sent yet: some may be sent twice or never",
    "WHMCS orders that bear no reference, in notes or WHMCS_MARKER_CUSTOM_FIELD, unless Salesforce names them in "
    "WHMCS_Order_ID__c",
)


class NotEmpty(PortalError):
    """The ledger knows of fulfillments: it isn't lost."""


@dataclass(frozen=True)
class Report:
    """How far a rebuild came, over all its calls. `counts`: how many WHMCS orders were found to be what."""

    done: bool
    counts: Counter[str]


def rebuild(services: Services, *, actor: str, most_pages: int, say: Callable[[str], None]) -> Report:
    """Read both sides, at most `most_pages` pages of each. Raises NotEmpty, UpstreamError; call it again to go on."""
    state = _begin(services, actor)
    pages = 0
    while not state["salesforce"] and pages < most_pages:
        state["salesforce"] = sync_changes(services)
        pages += 1
        _save(services, state)
        say(f"Salesforce: {'all orders read' if state['salesforce'] else f'round {pages}'}")
    pages = 0
    while state["salesforce"] and not state["whmcs"] and pages < most_pages:
        rows, more = services.whmcs.orders_page(state["start"])
        counts = Counter(state["counts"])
        listed: dict[str, list[WhmcsService]] = {}  # a client's services are asked for once a page
        for row in rows:
            for sf_order_id in _references(services, row, listed):
                counts[_compare(services, sf_order_id, row)] += 1
        state |= {"start": state["start"] + len(rows), "whmcs": not more, "counts": dict(counts)}
        pages += 1
        _save(services, state)
        say(f"WHMCS: {state['start']} orders read")
    return Report(state["salesforce"] and state["whmcs"], Counter(state["counts"]))


def _begin(services: Services, actor: str) -> dict[str, Any]:
    """What an earlier call came to; or a start, which marks the ledger as one that can't vouch for anything."""
    with services.ledger.write() as connection:
        kept = installation.get(connection, _KEY)
        if isinstance(kept, dict) and not (kept["salesforce"] and kept["whmcs"]):
            return kept
        if statistics.any_fulfillment(connection):
            raise NotEmpty(
                "this ledger isn't empty: a rebuild is for one that lost everything (after `flask db upgrade`)"
            )
        state: dict[str, Any] = {"salesforce": False, "whmcs": False, "start": 0, "counts": {}}
        restored.mark(
            connection,
            now=services.now(),
            max_request_seconds=services.settings.whmcs_max_request_seconds,
            actor=actor,
            detail={"rebuilt": True},
        )
        installation.put(connection, _KEY, state, now=services.now())
    return state


def _save(services: Services, state: dict[str, Any]) -> None:
    with services.ledger.write() as connection:
        installation.put(connection, _KEY, state, now=services.now())


def _references(services: Services, row: WhmcsOrder, listed: dict[str, list[WhmcsService]]) -> list[str]:
    """The Salesforce orders whose reference a WHMCS order bears: in its notes, else in its products' custom field.

    The field (WHMCS_MARKER_CUSTOM_FIELD) is asked for as runs do it, and only where it tells something new: of orders
    that live and that Salesforce doesn't name. `listed`: the services of clients that were asked for already.
    """
    field = services.settings.whmcs_marker_custom_field
    in_notes = references_in(row.notes)
    if in_notes or not field or row.status not in _LIVE:
        return in_notes
    with services.ledger.read() as connection:
        known = fulfillments.by_elected(connection, row.id)
    if known is not None:
        return [known.sf_order_id]
    if row.client_id not in listed:
        listed[row.client_id] = services.whmcs.services(row.client_id)
    values = [each.custom_fields.get(field, "") for each in listed[row.client_id] if each.order_id == row.id]
    return list(dict.fromkeys(reference for value in values for reference in references_in(value)))


def _compare(services: Services, sf_order_id: str, row: WhmcsOrder) -> str:
    """What a WHMCS order with a reference is to this ledger; an order of which it must know is run, looking first."""
    with services.ledger.write() as connection:
        known = fulfillments.get(connection, sf_order_id)
        if known is not None:
            if known.elected_whmcs_id not in (None, row.id) and row.status in _LIVE:
                audits.hint(connection, sf_order_id, now=services.now())
                return "a second live order: its audit decides"
            return "known from Salesforce"
    if row.status not in _LIVE:
        return "ended in WHMCS, and not Provisioned in Salesforce"
    try:
        order = services.salesforce.fetch_order(sf_order_id)
    except UpstreamError as error:
        if not error.permanent:
            raise
        order = None
    if order is None:
        return "live in WHMCS, and not to be found in Salesforce"
    with services.ledger.write() as connection:
        return _take_up(connection, order, now=services.now())


def _take_up(connection: Connection, order: SalesforceOrder, *, now: float) -> str:
    """A live WHMCS order of a Salesforce order that doesn't show it: its click was accepted, or it Failed since."""
    if order.provisioning_status in (CustomerStatus.FAILED, CustomerStatus.CANCELLED):
        return f"{order.provisioning_status} in Salesforce: left to a new click, which finds it"
    unheard.request_unheard(connection, order.id, now=now)
    return "accepted, and not finished in Salesforce: goes on, looking first"
