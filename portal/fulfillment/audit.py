"""What is set right after the fact: audits of ended orders that may have a second WHMCS order, and requests of
Salesforce that never reached us."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from portal.domain.model import (
    FINISHED_STATES,
    CustomerStatus,
    ErrorCode,
    LeaseLost,
    NeedsDecision,
    State,
    UpstreamError,
)
from portal.domain.protocol import LIVE_SERVICE, Do, decide_audit
from portal.fulfillment.executor import cancel_stray, look
from portal.fulfillment.run import AUDITS, Run, RunContext, Waiting, write_back_fields
from portal.ledger import audits, events, fulfillments, orders, outbox
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.schema import fulfillments as fulfillments_table

log = logging.getLogger("portal.fulfillment")

#: An audit that was begun and not ended is done again after so many seconds.
AUDIT_CLAIM = 120.0


def audit(context: RunContext, sf_order_id: str) -> bool:
    """Do an ended order's audit if it is due: cancel strays, and find what only a person can decide.

    Returns whether there was one to do. Where WHMCS can't be asked, or mustn't be written to, it is done again later.
    """
    now = context.now()
    with context.ledger.write() as connection:
        row = fulfillments.get(connection, sf_order_id)
        if row is None or not row.finished or row.audit_due_at is None or row.audit_due_at > now:
            return False
        if not audits.claim_audit(connection, row, due_again_at=now + AUDIT_CLAIM):
            return False
    if row.plan is None or "clientId" not in row.plan:
        _settle(context, row, again=False)
        return True
    run = Run(context, row, set())
    try:
        _look_after(run)
        _follow_elected(run, row)
    except NeedsDecision as doubt:
        _doubt(context, row, doubt)
        return True
    except LeaseLost:
        return True  # somebody asked for the order again meanwhile: its new run looks for itself
    except (UpstreamError, Waiting) as trouble:
        log.warning("Audit put off", extra={"sfOrderId": sf_order_id, "error": str(trouble)})
        later = trouble.until if isinstance(trouble, Waiting) else context.now() + (trouble.retry_after or 15.0)
        with context.ledger.write() as connection:
            _audit_at(connection, row, later, row.audits)
        return True
    _settle(context, row, again=True)
    return True


def _look_after(run: Run) -> None:
    while True:
        action = decide_audit(run.facts, run.seen)
        if action.do is Do.DONE:
            return
        if action.do is Do.NEED_DECISION:
            raise NeedsDecision(action.why, action.code)
        if action.do is Do.LOOK:
            run.seen = run.seen.with_look(look(run), run.facts.elected)
        else:
            assert action.do is Do.CANCEL_STRAY and action.order_id is not None
            cancel_stray(run, action.order_id)
            _verify_cancelled(run, action.order_id)
            run.seen = run.seen.after_cancel(action.order_id)


def _follow_elected(run: Run, row: Fulfillment) -> None:
    """What became of the elected order in WHMCS after the fulfillment had ended there."""
    order = run.seen.order
    if order is None:
        return
    now = run.context.now()
    if row.state is State.PROVISIONED and order.status in ("Cancelled", "Fraud"):
        log.warning(
            "A provisioned order was cancelled in WHMCS",
            extra={"sfOrderId": row.sf_order_id, "whmcsOrderId": order.id, "status": order.status},
        )
        with run.context.ledger.write() as connection:
            if orders.set_cancelled_in_whmcs(connection, row.sf_order_id, now=now):
                events.record(
                    connection,
                    "cancelled_in_whmcs",
                    now=now,
                    subject=row.sf_order_id,
                    detail={"whmcsOrderId": order.id, "status": order.status},
                )
                fields = {"Provisioning_Status__c": CustomerStatus.CANCELLED.value}
                outbox.put(connection, "salesforce", row.sf_order_id, {"fields": fields}, now=now)
    elif row.state is State.NEEDS_DECISION and row.error_code == ErrorCode.WHMCS_SERVICE_NOT_ACTIVE:
        # Somebody may have set the service up in WHMCS since: then nothing is left to decide.
        services = [s for s in run.context.whmcs.services(run.client_id) if s.order_id == order.id]
        if services and all(service.status in LIVE_SERVICE for service in services):
            with run.context.ledger.write() as connection:
                fulfillments.start_again(connection, row, now=now, requested_by="whmcs")


def _verify_cancelled(run: Run, order_id: str) -> None:
    """A cancelled stray must leave nothing the customer pays or is served for: no open invoice, no live service."""
    order = run.context.whmcs.order(order_id)
    live = [s for s in run.context.whmcs.services(run.client_id) if s.order_id == order_id and s.status == "Active"]
    if live:
        raise NeedsDecision(f"the stray WHMCS order {order_id} has a live service: {', '.join(s.id for s in live)}")
    if order is not None and order.invoice_id is not None:
        status = run.context.whmcs.invoice_status(order.invoice_id)
        if status not in (None, "Cancelled", "Refunded"):
            log.error(
                "A cancelled stray order left an open invoice: cancel it in WHMCS",
                extra={"sfOrderId": run.id, "strayWhmcsOrderId": order_id, "invoiceId": order.invoice_id},
            )
            with run.context.ledger.write() as connection:
                events.record(
                    connection,
                    "stray_invoice_open",
                    now=run.context.now(),
                    subject=run.id,
                    detail={"whmcsOrderId": order_id, "invoiceId": order.invoice_id, "status": status},
                )


def _settle(context: RunContext, row: Fulfillment, *, again: bool) -> None:
    """Note an audit as done, say the present state to Salesforce once more, and plan the next audit.

    An audit that a hint from WHMCS brought on early stands in for none of the planned ones: what they wait for may
    not have happened yet.
    """
    now = context.now()
    planned = _planned(context, row) if again else None
    early = planned is not None and now < planned[row.audits]
    audits = row.audits if early or planned is None else row.audits + 1
    next_at = planned[audits] if planned is not None and audits < len(planned) else None
    with context.ledger.write() as connection:
        _audit_at(connection, row, next_at, audits)
        if planned is not None and row.audits == 0 and not early:
            # A write-back that a stopped process sent late may have overtaken ours.
            fulfillments.plan_resync(connection, row.sf_order_id, now=now, due_at=now)


def _planned(context: RunContext, row: Fulfillment) -> tuple[float, ...] | None:
    """When an order that may have a second WHMCS order is to be audited; None when none can be, or all are done."""
    doubtful = row.duplicate_possible or row.add_open
    if not doubtful or row.audits >= len(AUDITS):
        return None
    first = max(row.finished_at or 0.0, row.add_in_doubt_until or 0.0) + context.settings.whmcs_max_request_seconds
    return tuple(first + later for later in AUDITS)


def _audit_at(connection: sa.Connection, row: Fulfillment, at: float | None, audits: int) -> None:
    connection.execute(
        sa.update(fulfillments_table)
        .where(
            fulfillments_table.c.sf_order_id == row.sf_order_id,
            fulfillments_table.c.fence == row.fence,
            fulfillments_table.c.state.in_(FINISHED_STATES),
        )
        .values(audit_due_at=at, audits=audits)
    )


def _doubt(context: RunContext, row: Fulfillment, doubt: NeedsDecision) -> None:
    """An ended order turns out to need a person."""
    now = context.now()
    log.error("Order needs a decision", extra={"sfOrderId": row.sf_order_id, "error": doubt.message})
    with context.ledger.write() as connection:
        done = connection.execute(
            sa.update(fulfillments_table)
            .where(fulfillments_table.c.sf_order_id == row.sf_order_id, fulfillments_table.c.fence == row.fence)
            .values(
                state=State.NEEDS_DECISION,
                error_code=doubt.code,
                error_message=doubt.message[:255],
                audit_due_at=None,
                updated_at=now,
            )
        )
        if done.rowcount == 1:
            orders.set_status(connection, row.sf_order_id, CustomerStatus.ACTIVATING, now=now, error_code=doubt.code)
            fields = write_back_fields(CustomerStatus.FAILED, now, row.elected_whmcs_id, doubt.code, doubt.message)
            outbox.put(connection, "salesforce", row.sf_order_id, {"fields": fields}, now=now)


def present_fields(row: Fulfillment, now: float) -> dict[str, object] | None:
    """What Salesforce is to show of a fulfillment as it stands; None when there is nothing it could be shown on."""
    if row.state == State.PROVISIONED:
        return write_back_fields(CustomerStatus.PROVISIONED, now, row.elected_whmcs_id, None, None)
    if row.state in (State.FAILED, State.NEEDS_DECISION):
        if row.error_code == "ORDER_NOT_FOUND":
            return None
        return write_back_fields(CustomerStatus.FAILED, now, row.elected_whmcs_id, row.error_code, row.error_message)
    return write_back_fields(CustomerStatus.ACTIVATING, now, None, None, None)
