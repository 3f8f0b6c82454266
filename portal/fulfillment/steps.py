"""The seven steps, under the runbook's names. Each returns what the ledger keeps of its outcome.

A step may raise FulfillmentFailed, NeedsDecision, WaitUntil, UpstreamError or LeaseLost; the orchestrator decides what
that means for the order.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from functools import partial

from sqlalchemy.engine import Connection

from portal.domain.ids import whmcs_id
from portal.domain.mapping import map_items, refuse_faults
from portal.domain.model import (
    CustomerStatus,
    ErrorCode,
    FulfillmentFailed,
    JsonObject,
    NeedsDecision,
    SalesforceOrder,
    State,
    UpstreamError,
)
from portal.domain.protocol import SEND_WINDOW, decide_accept, decide_create
from portal.fulfillment.customer import gateway_of, known_client, refuse_status
from portal.fulfillment.executor import execute, references_readable
from portal.fulfillment.run import Run, RunContext, frozen_order
from portal.ledger import fulfillments, order_sync, orders, outbox

log = logging.getLogger("portal.fulfillment")


def validation(run: Run) -> JsonObject:
    """One Salesforce query for everything: the order is known and fulfillable, its client is known and can pay."""
    asked_first = _ask_first_whom_it_waited_for(run)
    order = _order(run)
    run.later(partial(order_sync.sync, snapshot=order, now=run.context.now()))
    refuse_status(run.context.settings, order)
    with run.context.ledger.read() as connection:
        withdrawn = orders.withdrawn(connection, run.id)
    if withdrawn:
        raise FulfillmentFailed(ErrorCode.ORDER_NOT_FULFILLABLE, "The customer has withdrawn the order")
    _believe_salesforce(run, order)
    client_id = _client(run, order)
    run.keep(client_id=client_id)
    payment_method = asked_first.get(client_id) or _payment_method(run, client_id)
    run.plan |= {"order": frozen_order(order), "clientId": client_id, "paymentMethod": payment_method}
    run.keep(plan=run.plan, adopt_whmcs_id=run.facts.adopt, history_complete=run.facts.history_complete)
    return {"orderStatus": order.status, "items": len(order.items), "whmcsClientId": client_id}


def _ask_first_whom_it_waited_for(run: Run) -> dict[str, str]:
    """Client → gateway, where the order waited for WHMCS: as long as that is away, Salesforce needn't be asked."""
    client_id = run.plan.get("clientId")
    if run.waiting_code != ErrorCode.WHMCS_UNAVAILABLE or not client_id:
        return {}
    return {client_id: _payment_method(run, client_id)}


def sf_status_update(run: Run) -> JsonObject:
    """Salesforce is told Activating, which clears the errors of an earlier attempt.

    Where a crowd waits, the relay tells it of many in one call, perhaps after AddOrder. Not where WHMCS doesn't give
    the reference back: then only Salesforce can tell a restored ledger that this order was begun.
    """
    if run.context.crowd.waits(run.context) and references_readable(run):
        run.have_relay_tell()
        return {"status": CustomerStatus.ACTIVATING.value, "written": False}
    return run.tell_salesforce(State.RUNNING)


def order_details(run: Run) -> JsonObject:
    """Items, quantities, domains and hostnames."""
    items = run.items
    if not items:
        raise FulfillmentFailed(ErrorCode.ORDER_HAS_NO_ITEMS, "The order has no items in Salesforce")
    return {"items": len(items), "quantity": sum(item.quantity for item in items)}


def mapping(run: Run) -> JsonObject:
    """Each item's WHMCS product and billing cycle; the report of all items is logged."""
    report = map_items(run.items, run.context.settings.whmcs_price_source)
    log.log(
        logging.ERROR if report.faults else logging.INFO,
        "Item mapping report",
        extra={"sfOrderId": run.id, "items": list(report.rows), "faults": list(report.faults)},
    )
    refuse_faults(report)
    run.fresh_lines = [asdict(line) for line in report.lines]
    if not run.facts.add_attempts:  # else what AddOrder was asked for is what is looked for
        run.plan["lines"] = run.fresh_lines
        run.keep(plan=run.plan)
    return {"items": list(report.rows)}


def whmcs_create(run: Run) -> JsonObject:
    """One WHMCS order is elected: found by its mark, or made by AddOrder."""
    with run.context.whmcs_slot():  # one for the whole step: each costs two round trips
        execute(
            run,
            lambda now: decide_create(
                run.facts,
                run.seen,
                now=now,
                references_readable=(
                    references_readable(run) if run.facts.add_attempts or not run.facts.history_complete else None
                ),
            ),
        )
    return {"whmcsOrderId": run.facts.elected, "addOrders": run.facts.add_attempts}


def whmcs_accept(run: Run) -> JsonObject:
    """The elected order is accepted, and each of its services is active."""
    with run.context.whmcs_slot():
        execute(run, lambda now: decide_accept(run.facts, run.seen, now=now))
    run.service_ids = [service.id for service in run.seen.services or ()]
    run.keep(active=True, service_ids=run.service_ids)
    return {"whmcsOrderId": run.facts.elected, "serviceIds": run.service_ids}


def sf_success_update(run: Run) -> JsonObject:
    """Salesforce is told Provisioned and the WHMCS order's id; by the relay, with others, where a crowd waits."""
    if run.context.crowd.waits(run.context):
        return {"status": CustomerStatus.PROVISIONED.value, "written": False}  # the end leaves it to the relay
    return run.tell_salesforce(State.PROVISIONED)


# --- what validation asks ------------------------------------------------------------------------------


def _order(run: Run) -> SalesforceOrder:
    """The order as Salesforce has it now, or had it moments ago when it was read with others.

    One that was read ahead serves only if there is nothing against it: a refusal is never older than the run.
    """
    ahead = run.context.crowd.read_ahead(run.context, run.id)
    if ahead is not None and _nothing_against(run, ahead[1]):
        run.validated_at = ahead[0]
        return ahead[1]
    run.validated_at = run.context.now()
    order = run.context.salesforce.fetch_order(run.id)
    if order is None:
        raise FulfillmentFailed(ErrorCode.ORDER_NOT_FOUND, "Salesforce knows no order with this id")
    return order


def _nothing_against(run: Run, order: SalesforceOrder) -> bool:
    settings = run.context.settings
    try:
        refuse_status(settings, order)
    except FulfillmentFailed:
        return False
    return bool(order.items) and not map_items(order.items, settings.whmcs_price_source).faults


def _believe_salesforce(run: Run, order: SalesforceOrder) -> None:
    """Hold what Salesforce tells of earlier attempts against what this ledger knows."""
    facts = run.facts
    decided_by_person = facts.elected == facts.adopt if facts.elected else facts.confirmed
    if decided_by_person:
        return
    named = whmcs_id(order.whmcs_order_id) if order.whmcs_order_id else None
    if named and facts.elected and named != facts.elected:
        raise NeedsDecision(f"Salesforce names WHMCS order {named}, but this order is WHMCS order {facts.elected}")
    if facts.elected or facts.add_attempts:
        return
    run.facts = replace(run.facts, adopt=named)  # None too: somebody may have cleared the field since
    if named is None and _attempt_unknown(run, order):
        # Some ledger has told of an attempt that this one has never heard of: it may have been restored, or be new.
        over = order.provisioning_status == CustomerStatus.FAILED
        run.facts = run.facts.doubted(
            None if over else run.context.now() + SEND_WINDOW + run.context.settings.whmcs_max_request_seconds
        )
        run.keep(add_in_doubt_until=run.facts.add_in_doubt_until)
    elif named is None:
        # It shows no attempt but this ledger's own. Where WHMCS gives no reference back, that is what decides.
        run.facts = replace(run.facts, history_complete=True)


def _attempt_unknown(run: Run, order: SalesforceOrder) -> bool:
    """Whether Salesforce shows an attempt later than any this ledger may have told of.

    A new click overwrites the status (Requested), but not the time of the last attempt; a time before the order was
    made was copied with it from another order.
    """
    if not _later_than(order, run.salesforce_written_at):
        return False
    with run.context.ledger.read() as connection:  # the relay may have told it since this run began
        row = fulfillments.get(connection, run.id)
    run.salesforce_written_at = row.salesforce_written_at if row else None
    return _later_than(order, run.salesforce_written_at)


def _later_than(order: SalesforceOrder, written_at: float | None) -> bool:
    told_at = order.last_provisioning_at
    if told_at is None:
        in_our_hands = order.provisioning_status in (CustomerStatus.ACTIVATING, CustomerStatus.PROVISIONED)
        return in_our_hands and written_at is None
    if order.created_at is not None and told_at < order.created_at:
        return False
    return written_at is None or told_at > written_at + 1.0  # Salesforce keeps whole seconds


def _client(run: Run, order: SalesforceOrder) -> str:
    """The order's WHMCS client; one found by e-mail or made anew is written to the account."""
    if order.whmcs_client_id:
        return order.whmcs_client_id
    client_id = known_client(run.context.settings, run.context.salesforce, run.context.whmcs, order)
    if client_id is None:
        client_id = _add_client(run, order)
    run.later(partial(_tell_account, run=run, account_id=order.account_id, client_id=client_id))
    return client_id


def _tell_account(connection: Connection, run: Run, account_id: str, client_id: str) -> None:
    payload = {"account": account_id, "fields": {"WHMCS_Client_ID__c": client_id}}
    once = f"client:{account_id}:{client_id}"
    outbox.put(connection, "salesforce", account_id, payload, now=run.context.now(), once=once)


def _add_client(run: Run, order: SalesforceOrder) -> str:
    """AddClient; an address it knows already is found instead, so a lost answer makes no second client."""
    assert order.email
    with run.context.ledger.read() as connection:
        run.refuse_when_paused(connection)
    try:
        return run.context.whmcs.add_client({**order.contact, "email": order.email})
    except UpstreamError as error:
        known = run.context.whmcs.client(email=order.email) if error.permanent else None
        if known is not None:
            return known.id
        if error.permanent:
            raise FulfillmentFailed(ErrorCode.CLIENT_NOT_MAPPED, f"WHMCS refused to make a client: {error}") from error
        raise


def _payment_method(run: Run, client_id: str) -> str:
    """The gateway to order with. Raises FulfillmentFailed when the client can't pay, or doesn't exist."""
    run.payment_asked_at, run.paying_client = run.context.now(), client_id
    try:
        with run.context.whmcs_slot():
            gateway = gateway_of(run.context.settings, run.context.whmcs, client_id)
    except UpstreamError as error:
        if error.permanent:
            raise FulfillmentFailed(
                ErrorCode.CLIENT_NOT_MAPPED, f"WHMCS client {client_id} can't be used: {error}"
            ) from error
        raise
    if gateway is None:
        raise FulfillmentFailed(
            ErrorCode.PAYMENT_METHOD_MISSING,
            "The customer has no payment method in WHMCS: ask them to add one, then provision again",
        )
    return gateway


def can_pay(context: RunContext, client_id: str) -> bool:
    """Whether the client has a way to pay now. Raises UpstreamError when WHMCS can't be asked."""
    return bool(context.whmcs.pay_methods(client_id))
