"""Creates a checkout's order in Salesforce exactly once, however often this is begun and wherever it dies.

The ledger's row came first and has one reference, which Salesforce keeps as a unique external id. Whoever claims the
row may try; a try that isn't the first looks the reference up before it sends anything, and a create that finds the
reference taken means that an earlier one arrived. Called by the checkout and, for every row that is due, by the sweep.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import Final

from portal.clients.salesforce.records import NewOrder, NewOrderItem
from portal.domain.model import CustomerStatus, UpstreamError
from portal.ledger import orders, placements
from portal.ledger.orders import Order
from portal.services import Services

log = logging.getLogger("portal.placing")

#: Seconds before each further try while Salesforce can't be asked; the last one repeats for as long as it takes.
SCHEDULE: Final = (2.0, 5.0, 15.0, 60.0, 300.0)

_TAKEN: Final = "DUPLICATE_VALUE"


def place(services: Services, reference: str) -> None:
    """Try to get one order into Salesforce, if it is due and nobody else is trying. Settles or postpones it.

    Raises LedgerUnavailable or CommitUnknown, after which the sweep tries again; what Salesforce answers isn't raised.
    """
    with services.ledger.write() as connection:
        order = placements.claim(connection, reference, now=services.now())
    if order is None:
        return
    try:
        sf_order_id = _create(services, order)
    except UpstreamError as error:
        _not_created(services, order, error)
        return
    with services.ledger.write() as connection:
        if sf_order_id is None:
            placements.settle_refused(connection, reference, orders.WITHDRAWN, now=services.now())
        else:
            placements.settle_placed(connection, reference, sf_order_id, now=services.now())
    log.info("Order placed in Salesforce", extra={"reference": reference, "sfOrderId": sf_order_id})


def place_soon(services: Services, reference: str, wait_seconds: float) -> None:
    """`place` beside the request, which waits at most `wait_seconds` for it: the page never hangs on Salesforce.

    Never raises. A process that dies meanwhile loses nothing: the sweep finds the row.
    """
    thread = threading.Thread(target=_place_quietly, args=(services, reference), name="placing", daemon=True)
    thread.start()
    thread.join(wait_seconds)


def _place_quietly(services: Services, reference: str) -> None:
    try:
        place(services, reference)
    except Exception:
        log.exception("An order couldn't be placed for now", extra={"reference": reference})


def _create(services: Services, order: Order) -> str | None:
    """The Salesforce id of the order; None when it is withdrawn and never got there. Raises UpstreamError."""
    salesforce = services.salesforce
    if order.place_tries > 1:
        found = salesforce.find_order_by_reference(order.reference)
        if found is not None:
            return found
        if order.status is CustomerStatus.CANCELLED:
            return None  # what may still arrive is found, and cancelled, by the sweep
    try:
        return salesforce.create_order(_new_order(services, order))
    except UpstreamError as error:
        if error.code != _TAKEN:
            raise
        found = salesforce.find_order_by_reference(order.reference)
        if found is None:  # taken, yet not to be seen: its transaction is still going on
            raise UpstreamError(
                "salesforce", "the reference is taken by an order that can't be read yet", permanent=False
            ) from error
        return found


def _not_created(services: Services, order: Order, error: UpstreamError) -> None:
    now = services.now()
    details = {"reference": order.reference, "error": str(error), "errorCode": error.code}
    # What the set-up refuses is tried again until somebody mends it; where nothing was named, NOT_FOUND is the address.
    refused = error.permanent and not error.unknown and error.code != "NOT_FOUND"
    with services.ledger.write() as connection:
        if refused:
            placements.settle_refused(connection, order.reference, error.code, now=now)
        else:
            pause = SCHEDULE[min(order.place_tries, len(SCHEDULE)) - 1]
            placements.postpone(connection, order.reference, now + max(pause, error.retry_after or 0.0))
    if refused:
        log.error("Salesforce refused an order", extra=details)
    else:
        log.warning("An order couldn't be placed for now", extra=details)


def _new_order(services: Services, order: Order) -> NewOrder:
    return NewOrder(
        reference=order.reference,
        account_id=order.account_id,
        pricebook_id=services.settings.portal_pricebook_id,
        effective_date=datetime.fromtimestamp(order.created_at, UTC).date(),
        currency=order.currency,
        items=tuple(
            NewOrderItem(
                pricebook_entry_id=item["entryId"] or "",
                quantity=item["quantity"],
                unit_price=item["unitPrice"],
                domain=item["domain"],
                hostname=item["hostname"],
            )
            for item in order.items
        ),
    )
