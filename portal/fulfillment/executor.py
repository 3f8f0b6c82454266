"""Carrying out what the exactly-once protocol decides: each action with its intent before and its outcome after.

`portal.domain.protocol` decides; this asks WHMCS and writes the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from sqlalchemy.engine import Connection

from portal.domain.completeness import claim_fault, difference, is_complete
from portal.domain.ids import bears_reference, external_reference
from portal.domain.model import (
    ErrorCode,
    FulfillmentFailed,
    JsonObject,
    NeedsDecision,
    UpstreamError,
    WhmcsOrder,
    WhmcsProduct,
    WhmcsService,
)
from portal.domain.protocol import PREPARE_WINDOW, Action, Do, Facts, after_election, conclude, elects_at_once, intend
from portal.domain.seen import ACTIVE, PENDING, Candidate, Look, Outcome, Seen
from portal.fulfillment.run import Run, WaitUntil
from portal.ledger import events, fulfillments, installation, runs

log = logging.getLogger("portal.fulfillment")

#: Seconds for which what Salesforce said of an order is taken as approved.
APPROVAL_KEPT = 60.0

#: Seconds for which a product's custom fields are taken as read.
PRODUCTS_KEPT = 300.0


def execute(run: Run, decide: Callable[[float], Action]) -> None:
    """Do what is decided until it is DONE. Raises WaitUntil, FulfillmentFailed, NeedsDecision, UpstreamError."""
    while True:
        action = decide(run.context.now())
        if action.do is Do.DONE:
            return
        if action.do is Do.WAIT:
            assert action.until is not None
            raise WaitUntil(action.until, action.why, ErrorCode.WHMCS_UNAVAILABLE)  # it left us without an answer
        if action.do is Do.FAIL:
            raise FulfillmentFailed(action.code, action.why)
        if action.do is Do.NEED_DECISION:
            raise NeedsDecision(action.why, action.code)
        if action.do in _READS:
            run.flush_old()  # the others begin with a transaction of their own
        _ACTIONS[action.do](run, action)


# --- reading -------------------------------------------------------------------------------------------


def _read_order(run: Run, action: Action) -> None:
    assert action.order_id is not None
    order = run.context.whmcs.order(action.order_id)
    if order is not None and order.client_id not in ("", run.client_id) and run.facts.elected is not None:
        # Named by a person: a slip of the pen must not set up, and bill, somebody else's order.
        raise NeedsDecision(
            f"WHMCS order {order.id} belongs to WHMCS client {order.client_id}, this order to client {run.client_id}"
        )
    run.seen = run.seen.with_order(order)
    if order is not None and run.facts.add_attempts and not run.seen.look:
        _learn_about_notes(run, order)


def _learn_about_notes(run: Run, order: WhmcsOrder) -> None:
    """Remember whether WHMCS gave the mark in the notes of an order of ours back."""
    now = run.context.now()
    readable = bears_reference(order.notes, run.id)
    with run.context.ledger.read() as connection:
        known = installation.references_readable(connection)
    if known is readable:
        return
    run.later(lambda c: installation.put(c, "references_readable", readable, now=now))
    if not readable and not run.plan.get("referenceInField"):
        _warn_of_references(run)


def _warn_of_references(run: Run) -> None:
    log.warning(
        "WHMCS doesn't give an order's mark back: an AddOrder without an answer will need a decision",
        extra={"sfOrderId": run.id, "whmcsOrderId": run.facts.elected},
    )


def _learn_about_field(run: Run, services: tuple[WhmcsService, ...]) -> None:
    """The same of the custom field: apart, for the field belongs to some products only and speaks for no other."""
    field = run.context.settings.whmcs_marker_custom_field
    if not field or not run.plan.get("referenceInField") or not services:
        return
    now = run.context.now()
    readable = any(_field_bears_reference(service, field, run.id) for service in services)
    with run.context.ledger.read() as connection:
        known = installation.references_in_field_readable(connection)
        in_notes = installation.references_readable(connection)
    if known is not readable:
        run.later(lambda c: installation.put(c, "references_in_field_readable", readable, now=now))
        if not readable and not in_notes:
            _warn_of_references(run)


def references_readable(run: Run) -> bool | None:
    """Whether the mark of what this order's AddOrder made can be read back; None when no order has told yet."""
    with run.context.ledger.read() as connection:
        known = {installation.references_readable(connection)}
        if run.plan.get("referenceInField"):
            known.add(installation.references_in_field_readable(connection))
    return True if True in known else None if None in known else False


def look(run: Run) -> Look:
    """List every order of the client, and find those that are ours."""
    started_at = run.context.now()
    rows = run.context.whmcs.orders_of(run.client_id)
    marked = [row for row in rows if bears_reference(row.notes, run.id) or row.id == run.facts.answered]
    field = run.context.settings.whmcs_marker_custom_field
    services: list[WhmcsService] | None = None
    if field or any(row.status == PENDING for row in marked):
        services = run.context.whmcs.services(run.client_id)
    if field and services:
        ids = {service.order_id for service in services if _field_bears_reference(service, field, run.id)}
        marked += [row for row in rows if row.id in ids and row not in marked]
    others = [
        row.id
        for row in rows
        if row not in marked and row.status in (PENDING, ACTIVE) and "sfOrderId=" not in row.notes  # another's mark
    ]
    with run.context.ledger.read() as connection:
        spoken_for = fulfillments.elected_elsewhere(connection, run.id, others)
    found = Look(
        started_at=started_at,
        marked=tuple(_candidate(run, row, services) for row in marked),
        unmarked=tuple(each for each in others if each not in spoken_for),
    )
    log.info(
        "Looked for the order in WHMCS",
        extra={"sfOrderId": run.id, "orders": len(rows), "marked": [row.id for row in marked]},
    )
    return found


def _candidate(run: Run, order: WhmcsOrder, services: list[WhmcsService] | None) -> Candidate:
    if services is None:
        return Candidate(order, complete=False)
    mine = tuple(service for service in services if service.order_id == order.id)
    return Candidate(order, is_complete(order, services, run.lines), mine, difference(mine, run.lines))


def _field_bears_reference(service: WhmcsService, field: str, sf_order_id: str) -> bool:
    return bears_reference(service.custom_fields.get(field, ""), sf_order_id)


def _look(run: Run, _action: Action) -> None:
    run.seen = run.seen.with_look(look(run), run.facts.elected)


def _read_services(run: Run, action: Action) -> None:
    order = run.seen.order
    known = order.service_ids if order else ()
    only = known[0] if len(known) == 1 else None
    rows = run.context.whmcs.services(run.client_id, only)
    mine = tuple(row for row in rows if row.order_id == action.order_id or (not row.order_id and row.id in known))
    run.seen = run.seen.with_services(mine, difference(mine, run.lines))
    if run.facts.elected is None and order is not None:
        run.seen = replace(run.seen, claim_fault=_claim_fault(run, order, mine))
    else:
        _learn_about_field(run, mine)


def _claim_fault(run: Run, order: WhmcsOrder, services: tuple[WhmcsService, ...]) -> str | None:
    with run.context.ledger.read() as connection:
        taken = fulfillments.by_elected(connection, order.id)
    if taken is not None and taken.sf_order_id != run.id:
        return f"is Salesforce order {taken.sf_order_id} already"
    return claim_fault(
        order,
        services,
        sf_order_id=run.id,
        client_id=run.client_id,
        ordered_at=run.plan["order"].get("created_at"),
        reference_field=run.context.settings.whmcs_marker_custom_field,
    )


# --- changing WHMCS ------------------------------------------------------------------------------------


def _create(run: Run, action: Action) -> None:
    custom_fields = _reference_fields(run)
    with run.context.whmcs_slot():  # before the intent: a call must leave soon after it
        if run.validated_at is None or run.context.now() - run.validated_at > APPROVAL_KEPT:
            # What is created is what is approved now: the run that takes it up next asks Salesforce again.
            raise WaitUntil(run.context.now(), "what Salesforce said of the order is too old by now")
        _add_order(run, action, custom_fields)


def _add_order(run: Run, action: Action, custom_fields: dict[str, dict[str, str]]) -> None:
    before = run.facts
    begun = run.context.now()
    run.plan["referenceInField"] = bool(custom_fields)
    # Nothing was found of an earlier AddOrder: what is made now is what Salesforce says now.
    run.plan["lines"] = run.fresh_lines
    intended = intend(before, action, now=begun, max_request=run.context.settings.whmcs_max_request_seconds)
    with run.context.ledger.write() as connection:
        run.refuse_when_paused(connection)
        run.save(connection, intended, plan=run.plan)
    run.facts = intended
    run.seen = Seen()
    run.context.fault_point("add_order:intended")
    try:
        added = run.context.whmcs.add_order(
            run.client_id,
            run.plan["paymentMethod"],
            run.lines,
            notes=external_reference(run.id),
            custom_fields=custom_fields,
            before_send=lambda: _in_time(run, begun),
        )
    except UpstreamError as error:
        run.called("AddOrder", _sent(run), error)
        _conclude(run, before, action, error)
        if error.unknown:
            return  # the next decision is to look
        if error.permanent:
            raise FulfillmentFailed(ErrorCode.WHMCS_ADD_ORDER_FAILED, f"WHMCS refused the order: {error}") from error
        raise
    run.called("AddOrder", _sent(run), {"orderId": added.order_id, "serviceIds": list(added.service_ids)})
    run.context.fault_point("add_order:answered")
    facts = conclude(before, intended, action, Outcome.DONE, added.order_id)
    with run.context.ledger.write() as connection:
        run.save(connection, facts, service_ids=list(added.service_ids))
        if elects_at_once(before):
            elected = _elected(connection, run, added.order_id)
            facts = after_election(facts, elected, found=False)
    run.facts, run.service_ids = facts, list(added.service_ids)
    run.context.fault_point("add_order:recorded")


def _sent(run: Run) -> JsonObject:
    """What AddOrder was asked for, without what is nobody's business: domains and hostnames."""
    lines = [{"pid": line.pid, "billingCycle": line.billing_cycle, "quantity": line.quantity} for line in run.lines]
    return {"clientId": run.client_id, "paymentMethod": run.plan["paymentMethod"], "lines": lines}


def _reference_fields(run: Run) -> dict[str, dict[str, str]]:
    """The mark as product custom field values: product id → {field id → mark}; a field's id differs per product."""
    name = run.context.settings.whmcs_marker_custom_field
    if not name:
        return {}
    pids = sorted({line.pid for line in run.lines})
    known, now = run.context.known_products, run.context.now()
    if any(pid not in known or now - known[pid][0] > PRODUCTS_KEPT for pid in pids):
        known.update((product.pid, (now, product)) for product in run.context.whmcs.products(pids))
    return reference_fields(name, run.id, [known[pid][1] for pid in pids if pid in known])


def reference_fields(name: str, sf_order_id: str, products: Iterable[WhmcsProduct]) -> dict[str, dict[str, str]]:
    """The mark in the custom field `name` of those products that have it: product id → {field id → mark}."""
    return {
        product.pid: {product.custom_fields[name]: external_reference(sf_order_id)}
        for product in products
        if name in product.custom_fields
    }


def _elect(run: Run, action: Action) -> None:
    assert action.order_id is not None
    with run.context.ledger.write() as connection:
        elected = _elected(connection, run, action.order_id)
        facts = after_election(run.facts, elected, found=True)
        run.save(connection, facts)
    run.facts = facts
    run.seen = run.seen.after_election(elected)
    log.info("Elected the WHMCS order", extra={"sfOrderId": run.id, "whmcsOrderId": elected})
    run.context.fault_point("elected")


def _elected(connection: Connection, run: Run, whmcs_order_id: str) -> str:
    taken = fulfillments.by_elected(connection, whmcs_order_id)
    if taken is not None and taken.sf_order_id != run.id:
        raise NeedsDecision(f"WHMCS order {whmcs_order_id} is already Salesforce order {taken.sf_order_id}")
    return runs.elect(connection, run.lease, whmcs_order_id, now=run.context.now())


def _cancel_stray(run: Run, action: Action) -> None:
    assert action.order_id is not None
    assert action.order_id != run.facts.elected
    cancel_stray(run, action.order_id)
    run.seen = run.seen.after_cancel(action.order_id)


def cancel_stray(run: Run, order_id: str) -> None:
    """Cancel a second order that a call sent long ago made; WHMCS refuses it unless the order is Pending."""
    with run.context.ledger.write() as connection:
        run.refuse_when_paused(connection)
        run.save(connection)
        events.record(
            connection, "stray_cancelled", now=run.context.now(), subject=run.id, detail={"whmcsOrderId": order_id}
        )
    log.warning("Cancelling a stray WHMCS order", extra={"sfOrderId": run.id, "strayWhmcsOrderId": order_id})
    run.context.fault_point("cancel_stray:intended")
    try:
        run.context.whmcs.cancel_order(order_id)
    except UpstreamError as error:
        if not error.permanent:
            raise
        # Definitely refused: somebody changed its status meanwhile. The look that follows tells how it stands.
        log.warning(
            "WHMCS didn't cancel a stray order",
            extra={"sfOrderId": run.id, "strayWhmcsOrderId": order_id, "error": str(error)},
        )
    run.context.fault_point("cancel_stray:answered")


def _accept(run: Run, action: Action) -> None:
    with run.context.whmcs_slot():
        _accept_order(run, action)


def _accept_order(run: Run, action: Action) -> None:
    assert action.order_id is not None
    assert action.order_id == run.facts.elected
    before = run.facts
    begun = run.context.now()
    intended = intend(before, action, now=begun, max_request=run.context.settings.whmcs_max_request_seconds)
    with run.context.ledger.write() as connection:
        run.refuse_when_paused(connection)
        run.save(connection, intended)
    run.facts = intended
    run.context.fault_point("accept_order:intended")
    try:
        run.context.whmcs.accept_order(action.order_id, before_send=lambda: _in_time(run, begun))
    except UpstreamError as error:
        run.called("AcceptOrder", {"orderId": action.order_id}, error)
        _conclude(run, before, action, error)
        if not error.unknown and not error.permanent:
            raise
        # How the order and its services stand now decides: read both again.
        if error.unknown:
            run.seen = run.seen.after_accept(Outcome.UNKNOWN)
        else:
            run.seen = run.seen.after_accept(Outcome.REFUSED, f"WHMCS refused to accept the order: {error}")
        return
    run.called("AcceptOrder", {"orderId": action.order_id}, {"accepted": True})
    run.context.fault_point("accept_order:answered")
    # Written with the run's next transaction: what comes before that only reads, and whoever takes over before reads
    # the same again.
    run.keep_facts(conclude(before, intended, action, Outcome.DONE))
    run.seen = run.seen.after_accept(Outcome.DONE)
    run.context.fault_point("accept_order:recorded")


def _conclude(run: Run, before: Facts, action: Action, error: UpstreamError) -> None:
    """Write what an error of AddOrder or AcceptOrder leaves us knowing."""
    outcome = Outcome.UNKNOWN if error.unknown else Outcome.REFUSED if error.reached else Outcome.NOT_SENT
    facts = conclude(before, run.facts, action, outcome)
    log.warning(
        "WHMCS call without a good answer",
        extra={"sfOrderId": run.id, "call": action.do.value, "outcome": outcome.value, "error": str(error)},
    )
    with run.context.ledger.write() as connection:
        run.save(connection, facts)
    run.facts = facts


def _in_time(run: Run, begun: float) -> None:
    """What others wait out assumes that a call leaves soon after its intent; a late one isn't sent.

    Asked when the connection stands: a slow look-up of the name, connection or TLS handshake counts.
    """
    if not 0 <= run.context.now() - begun <= PREPARE_WINDOW:
        raise UpstreamError(
            "whmcs", "too late to send the call: this process was held up", permanent=False, reached=False
        )


_READS = frozenset({Do.READ_ORDER, Do.LOOK, Do.READ_SERVICES})

_ACTIONS: dict[Do, Callable[[Run, Action], None]] = {
    Do.READ_ORDER: _read_order,
    Do.LOOK: _look,
    Do.READ_SERVICES: _read_services,
    Do.CREATE: _create,
    Do.ELECT: _elect,
    Do.CANCEL_STRAY: _cancel_stray,
    Do.ACCEPT: _accept,
}
