"""Carrying out what the exactly-once protocol decides: each move with its intent before and its outcome after.

`portal.domain.protocol` decides; this asks WHMCS and writes the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from portal.domain.model import (
    ErrorCode,
    FulfillmentFailed,
    NeedsDecision,
    UpstreamError,
    WhmcsOrder,
    WhmcsService,
    bears_mark,
    mark_of,
)
from portal.domain.protocol import (
    ACTIVE,
    PENDING,
    PREPARE_WINDOW,
    Candidate,
    Do,
    Facts,
    Look,
    Move,
    Outcome,
    Seen,
    after_election,
    conclude,
    elects_at_once,
    intend,
    is_complete,
)
from portal.fulfillment.run import Run, Waiting
from portal.ledger import events, fulfillments, installation

log = logging.getLogger("portal.fulfillment")

#: Seconds for which a product's custom fields are taken as read.
PRODUCTS_KEPT = 300.0


def pursue(run: Run, decide: Callable[[float], Move]) -> None:
    """Do what is decided until it is DONE. Raises Waiting, FulfillmentFailed, NeedsDecision, UpstreamError."""
    while True:
        move = decide(run.around.now())
        if move.do is Do.DONE:
            return
        if move.do is Do.WAIT:
            assert move.until is not None
            raise Waiting(move.until, move.why)
        if move.do is Do.FAIL:
            raise FulfillmentFailed(move.code, move.why)
        if move.do is Do.NEED_DECISION:
            raise NeedsDecision(move.why, move.code)
        if move.do in _READS:
            run.flush()  # the others begin with a transaction of their own
        _MOVES[move.do](run, move)


# --- reading -------------------------------------------------------------------------------------------


def _read_order(run: Run, move: Move) -> None:
    assert move.order_id is not None
    order = run.around.whmcs.order(move.order_id)
    if order is not None and order.client_id not in ("", run.client_id):
        # Named by Salesforce or by a person: a slip of the pen must not set up, and bill, somebody else's order.
        raise NeedsDecision(
            f"WHMCS order {order.id} belongs to WHMCS client {order.client_id}, this order to client {run.client_id}"
        )
    run.seen = run.seen.with_order(order)
    if order is not None and run.facts.adds and not run.seen.look:
        _learn_about_notes(run, order)


def _learn_about_notes(run: Run, order: WhmcsOrder) -> None:
    """Remember whether WHMCS gave the mark in the notes of an order of ours back."""
    now = run.around.now()
    readable = bears_mark(order.notes, run.id)
    with run.around.ledger.read() as connection:
        known = installation.marks_readable(connection)
    if known is readable:
        return
    run.later(lambda c: installation.put(c, "marks_readable", readable, now=now))
    if not readable and not run.plan.get("markedInField"):
        _warn_of_marks(run)


def _warn_of_marks(run: Run) -> None:
    log.warning(
        "WHMCS doesn't give an order's mark back: an AddOrder without an answer will need a decision",
        extra={"sfOrderId": run.id, "whmcsOrderId": run.facts.elected},
    )


def _learn_about_field(run: Run, services: tuple[WhmcsService, ...]) -> None:
    """The same of the custom field: apart, for the field belongs to some products only and speaks for no other."""
    field = run.around.settings.whmcs_marker_custom_field
    if not field or not run.plan.get("markedInField") or not services:
        return
    now = run.around.now()
    readable = any(_field_bears_mark(service, field, run.id) for service in services)
    with run.around.ledger.read() as connection:
        known = installation.marks_in_field_readable(connection)
        in_notes = installation.marks_readable(connection)
    if known is not readable:
        run.later(lambda c: installation.put(c, "marks_in_field_readable", readable, now=now))
        if not readable and not in_notes:
            _warn_of_marks(run)


def marks_readable(run: Run) -> bool | None:
    """Whether the mark of what this order's AddOrder made can be read back; None when no order has told yet."""
    with run.around.ledger.read() as connection:
        known = {installation.marks_readable(connection)}
        if run.plan.get("markedInField"):
            known.add(installation.marks_in_field_readable(connection))
    return True if True in known else None if None in known else False


def look(run: Run) -> Look:
    """List every order of the client, and find those that are ours."""
    started_at = run.around.now()
    rows = run.around.whmcs.orders_of(run.client_id)
    marked = [row for row in rows if bears_mark(row.notes, run.id) or row.id == run.facts.answered]
    field = run.around.settings.whmcs_marker_custom_field
    services: list[WhmcsService] | None = None
    if field or any(row.status == PENDING for row in marked):
        services = run.around.whmcs.services(run.client_id)
    if field and services:
        ids = {service.order_id for service in services if _field_bears_mark(service, field, run.id)}
        marked += [row for row in rows if row.id in ids and row not in marked]
    others = [
        row.id
        for row in rows
        if row not in marked and row.status in (PENDING, ACTIVE) and "sfOrderId=" not in row.notes  # another's mark
    ]
    with run.around.ledger.read() as connection:
        spoken_for = fulfillments.elected_elsewhere(connection, run.id, others)
    found = Look(
        started_at=started_at,
        marked=tuple(Candidate(row, is_complete(row, services or (), run.lines)) for row in marked),
        unmarked=tuple(each for each in others if each not in spoken_for),
    )
    log.info(
        "Looked for the order in WHMCS",
        extra={"sfOrderId": run.id, "orders": len(rows), "marked": [row.id for row in marked]},
    )
    return found


def _field_bears_mark(service: WhmcsService, field: str, sf_order_id: str) -> bool:
    return bears_mark(service.custom_fields.get(field, ""), sf_order_id)


def _look(run: Run, _move: Move) -> None:
    run.seen = run.seen.with_look(look(run), run.facts.elected)


def _read_services(run: Run, move: Move) -> None:
    order = run.seen.order
    known = order.service_ids if order else ()
    only = known[0] if len(known) == 1 else None
    rows = run.around.whmcs.services(run.client_id, only)
    mine = tuple(row for row in rows if row.order_id == move.order_id or (not row.order_id and row.id in known))
    run.seen = replace(run.seen, services=mine)
    _learn_about_field(run, mine)


# --- changing WHMCS ------------------------------------------------------------------------------------


def _create(run: Run, move: Move) -> None:
    custom_fields = _mark_fields(run)
    with run.around.whmcs_place():  # before the intent: a call must leave soon after it
        _add_order(run, move, custom_fields)


def _add_order(run: Run, move: Move, custom_fields: dict[str, dict[str, str]]) -> None:
    before = run.facts
    begun = run.around.now()
    run.plan["markedInField"] = bool(custom_fields)
    intended = intend(before, move, begun, run.around.settings.whmcs_max_request_seconds)
    with run.around.ledger.write() as connection:
        run.refuse_when_paused(connection)
        run.save_facts(connection, intended, plan=run.plan)
    run.facts = intended
    run.seen = Seen()
    run.around.fault_point("add_order:intended")
    try:
        _in_time(run, begun)
        added = run.around.whmcs.add_order(
            run.client_id,
            run.plan["paymentMethod"],
            run.lines,
            notes=mark_of(run.id),
            custom_fields=custom_fields,
        )
    except UpstreamError as error:
        _conclude(run, before, move, error)
        if error.unknown:
            return  # the next decision is to look
        if error.permanent:
            raise FulfillmentFailed(ErrorCode.WHMCS_ADD_ORDER_FAILED, f"WHMCS refused the order: {error}") from error
        raise
    run.around.fault_point("add_order:answered")
    facts = conclude(before, intended, move, Outcome.DONE, added.order_id)
    with run.around.ledger.write() as connection:
        run.save_facts(connection, facts, service_ids=list(added.service_ids))
        if elects_at_once(before):
            elected = fulfillments.elect(connection, run.id, run.fence, added.order_id, now=run.around.now())
            facts = after_election(facts, elected)
    run.facts, run.service_ids = facts, list(added.service_ids)
    run.around.fault_point("add_order:recorded")


def _mark_fields(run: Run) -> dict[str, dict[str, str]]:
    """The mark as product custom field values: product id → {field id → mark}; a field's id differs per product."""
    name = run.around.settings.whmcs_marker_custom_field
    if not name:
        return {}
    pids = sorted({line.pid for line in run.lines})
    known, now = run.around.known_products, run.around.now()
    if any(pid not in known or now - known[pid][0] > PRODUCTS_KEPT for pid in pids):
        known.update((product.pid, (now, product)) for product in run.around.whmcs.products(pids))
    fields = {pid: known[pid][1].custom_fields for pid in pids if pid in known}
    return {pid: {ids[name]: mark_of(run.id)} for pid, ids in fields.items() if name in ids}


def _elect(run: Run, move: Move) -> None:
    assert move.order_id is not None
    with run.around.ledger.write() as connection:
        taken = fulfillments.by_elected(connection, move.order_id)
        if taken is not None and taken.sf_order_id != run.id:
            raise NeedsDecision(f"WHMCS order {move.order_id} is already Salesforce order {taken.sf_order_id}")
        elected = fulfillments.elect(connection, run.id, run.fence, move.order_id, now=run.around.now())
        facts = after_election(run.facts, elected)
        run.save_facts(connection, facts)
    run.facts = facts
    run.seen = run.seen.after_election(elected)
    log.info("Elected the WHMCS order", extra={"sfOrderId": run.id, "whmcsOrderId": elected})
    run.around.fault_point("elected")


def _cancel_stray(run: Run, move: Move) -> None:
    assert move.order_id is not None and move.order_id != run.facts.elected
    cancel_stray(run, move.order_id)
    run.seen = run.seen.after_cancel(move.order_id)


def cancel_stray(run: Run, order_id: str) -> None:
    """Cancel a second order that a call sent long ago made; WHMCS refuses it unless the order is Pending."""
    with run.around.ledger.write() as connection:
        run.refuse_when_paused(connection)
        run.save(connection)
        events.record(
            connection, "stray_cancelled", now=run.around.now(), subject=run.id, detail={"whmcsOrderId": order_id}
        )
    log.warning("Cancelling a stray WHMCS order", extra={"sfOrderId": run.id, "strayWhmcsOrderId": order_id})
    run.around.fault_point("cancel_stray:intended")
    try:
        run.around.whmcs.cancel_order(order_id)
    except UpstreamError as error:
        if not error.permanent:
            raise
        # Definitely refused: somebody changed its status meanwhile. The look that follows tells how it stands.
        log.warning(
            "WHMCS didn't cancel a stray order",
            extra={"sfOrderId": run.id, "strayWhmcsOrderId": order_id, "error": str(error)},
        )
    run.around.fault_point("cancel_stray:answered")


def _accept(run: Run, move: Move) -> None:
    with run.around.whmcs_place():
        _accept_order(run, move)


def _accept_order(run: Run, move: Move) -> None:
    assert move.order_id is not None and move.order_id == run.facts.elected
    before = run.facts
    begun = run.around.now()
    intended = intend(before, move, begun, run.around.settings.whmcs_max_request_seconds)
    with run.around.ledger.write() as connection:
        run.refuse_when_paused(connection)
        run.save_facts(connection, intended)
    run.facts = intended
    run.around.fault_point("accept_order:intended")
    try:
        _in_time(run, begun)
        run.around.whmcs.accept_order(move.order_id)
    except UpstreamError as error:
        _conclude(run, before, move, error)
        if not error.unknown and not error.permanent:
            raise
        # How the order and its services stand now decides: read both again.
        if error.unknown:
            run.seen = run.seen.after_accept(Outcome.UNKNOWN)
        else:
            run.seen = run.seen.after_accept(Outcome.REFUSED, f"WHMCS refused to accept the order: {error}")
        return
    run.around.fault_point("accept_order:answered")
    facts = conclude(before, intended, move, Outcome.DONE)
    with run.around.ledger.write() as connection:
        run.save_facts(connection, facts)
    run.facts = facts
    run.seen = run.seen.after_accept(Outcome.DONE)
    run.around.fault_point("accept_order:recorded")


def _conclude(run: Run, before: Facts, move: Move, error: UpstreamError) -> None:
    """Write what an error of AddOrder or AcceptOrder leaves us knowing."""
    outcome = Outcome.UNKNOWN if error.unknown else Outcome.REFUSED if error.permanent else Outcome.NOT_SENT
    facts = conclude(before, run.facts, move, outcome)
    log.warning(
        "WHMCS call without a good answer",
        extra={"sfOrderId": run.id, "call": move.do.value, "outcome": outcome.value, "error": str(error)},
    )
    with run.around.ledger.write() as connection:
        run.save_facts(connection, facts)
    run.facts = facts


def _in_time(run: Run, begun: float) -> None:
    """What others wait out assumes that a call leaves soon after its intent; a late one isn't sent."""
    if not 0 <= run.around.now() - begun <= PREPARE_WINDOW:
        raise UpstreamError(
            "whmcs", "too late to send the call: this process was held up", permanent=False, reached=False
        )


_READS = frozenset({Do.READ_ORDER, Do.LOOK, Do.READ_SERVICES})

_MOVES: dict[Do, Callable[[Run, Move], None]] = {
    Do.READ_ORDER: _read_order,
    Do.LOOK: _look,
    Do.READ_SERVICES: _read_services,
    Do.CREATE: _create,
    Do.ELECT: _elect,
    Do.CANCEL_STRAY: _cancel_stray,
    Do.ACCEPT: _accept,
}
