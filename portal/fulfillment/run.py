"""One worker's run of one order under one fence: what it remembers, and how it writes to the ledger.

Every write goes through the fence; LeaseLost means that the order is another's now and nothing more may be done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection

from portal.domain.model import (
    CustomerStatus,
    ErrorCode,
    JsonObject,
    OrderLine,
    PortalError,
    SalesforceItem,
    SalesforceOrder,
    State,
    Step,
    StepState,
    UpstreamError,
    WhmcsProduct,
)
from portal.domain.ports import SalesforcePort, WhmcsPort
from portal.domain.protocol import Facts, Seen, taken_up
from portal.ledger import counters, installation, orders, outbox, runs
from portal.ledger.engine import Ledger
from portal.ledger.fulfillments import Fulfillment
from portal.settings import Settings

log = logging.getLogger("portal.fulfillment")

#: How long one write-back may take before another process may send it too, in seconds.
WRITE_BACK_CLAIM = 45.0

#: Seconds after the possible late commit of an AddOrder at which an order that had a second chance is looked at again.
AUDITS = (0.0, 3600.0, 86_400.0)


class Waiting(PortalError):
    """The order can go on at a later moment only; nothing has failed. `until`: seconds since 1970."""

    def __init__(self, until: float, why: str) -> None:
        super().__init__(why)
        self.until = until
        self.why = why


@dataclass(frozen=True)
class RunContext:
    """What every run of one worker process works with."""

    ledger: Ledger
    salesforce: SalesforcePort
    whmcs: WhmcsPort
    settings: Settings
    now: Callable[[], float]
    worker_id: str
    whmcs_slot: Callable[[], AbstractContextManager[None]]  # one of WHMCS_MAX_IN_FLIGHT; held again it costs nothing
    fault_point: Callable[[str], None]  # where a crash test may stop this process; does nothing in production
    known_products: dict[str, tuple[float, WhmcsProduct]] = field(default_factory=dict)  # product id → when read, what


class Run:
    """See the module. `plan` is what is to be made; `facts` what the protocol remembers; `seen` what WHMCS showed."""

    def __init__(self, context: RunContext, row: Fulfillment, done: set[str]) -> None:
        self.context = context
        self.id = row.sf_order_id
        self.fence = row.fence
        self.attempt = row.attempt
        self.tries = row.tries
        self.first_failed_at = row.first_failed_at
        self.plan: JsonObject = dict(row.plan or {})
        self.service_ids: list[str] = row.service_ids
        self.salesforce_status = row.salesforce_status
        self.facts: Facts = taken_up(row.facts)
        self.seen = Seen()
        self.current: Step | None = None
        self._done = done
        self._step_id: int | None = None
        self._pending: list[Callable[[Connection], None]] = []

    # --- steps ---

    def step(self, step: Step, do: Callable[[Run], JsonObject]) -> None:
        """Do one step: its intent in the ledger before, its outcome (what `do` returns) after.

        A step that has a good outcome in this attempt isn't done again.
        """
        if step in self._done:
            return
        self.current = step
        log.info(step.value, extra={"sfOrderId": self.id, "attempt": self.attempt})
        begun = self.context.now()
        self.later(lambda c: self._begin_step(c, step, begun))
        if step is Step.VALIDATION:
            self.flush()  # the other steps write before they ask anybody: their intent goes with it
        self.context.fault_point(f"{step.value}:begun")
        detail = do(self)
        self.first_failed_at = None  # that trouble is over: waiting for the next starts anew
        ended = self.context.now()
        self.later(lambda c: self._end_step(c, StepState.DONE, detail, ended))

    def _begin_step(self, connection: Connection, step: Step, now: float) -> None:
        self._step_id = runs.begin_step(connection, self.id, self.attempt, self.fence, step, now=now)

    def _end_step(self, connection: Connection, state: StepState, detail: JsonObject, now: float) -> None:
        if self._step_id is not None:
            runs.end_step(connection, self._step_id, state, detail, now=now)
            self._step_id = None

    def later(self, write: Callable[[Connection], None]) -> None:
        """Write this with the run's next transaction."""
        self._pending.append(write)

    def save(self, connection: Connection, **values: Any) -> None:
        """Write to the order's row, and everything kept for later. Raises LeaseLost when the fence has moved."""
        runs.update(connection, self.id, self.fence, now=self.context.now(), **values)
        for write in self._pending:
            write(connection)
        # A transaction that is rolled back ends the run, so nothing kept is lost by forgetting it here.
        self._pending = []

    def save_facts(self, connection: Connection, facts: Facts, **values: Any) -> None:
        """Write the protocol's facts; `self.facts` is to be set once the transaction is through."""
        self.save(connection, **values)
        runs.save_facts(connection, self.id, self.fence, facts, now=self.context.now())

    def flush(self) -> None:
        """Write what was kept for later."""
        if self._pending:
            with self.context.ledger.write() as connection:
                self.save(connection)

    def refuse_when_paused(self, connection: Connection) -> None:
        """Raises Waiting while an operator has paused fulfillments: nothing is written to WHMCS then."""
        if installation.paused(connection):
            raise Waiting(self.context.now() + 5.0, "an operator has paused fulfillments")

    @property
    def items(self) -> list[SalesforceItem]:
        return [SalesforceItem(**item) for item in self.plan["order"]["items"]]

    @property
    def lines(self) -> list[OrderLine]:
        return [OrderLine(**line) for line in self.plan.get("lines", [])]

    @property
    def client_id(self) -> str:
        return str(self.plan["clientId"])

    # --- how a run ends ---

    def provisioned(self) -> None:
        """End well."""
        with self.context.ledger.write() as connection:
            self._finish(connection, State.PROVISIONED, CustomerStatus.PROVISIONED, None, None)

    def failed(self, state: State, code: ErrorCode, message: str) -> None:
        """End as Failed or as needing a decision: in the ledger, and in Salesforce."""
        message = message[:255]
        uncertain = state is State.NEEDS_DECISION
        # "Needs a decision" is Activating to the customer: somebody is looking into it.
        customer = CustomerStatus.ACTIVATING if uncertain else CustomerStatus.FAILED
        message_id = None
        with self.context.ledger.write() as connection:
            self._close_step(StepState.UNCERTAIN if uncertain else StepState.FAILED, code, message)
            self._finish(connection, state, customer, code, message)
            if code is not ErrorCode.ORDER_NOT_FOUND:  # Salesforce has nothing to show it on
                message_id = self._put_write_back(connection, CustomerStatus.FAILED, code, message)
        if message_id is not None:
            self.send_write_back(message_id, CustomerStatus.FAILED, code, message)
            with self.context.ledger.write() as connection:
                self._write_pending(connection)

    def reschedule(self, until: float, why: str, *, uncertain: bool) -> None:
        """Give the order back; it goes on at `until`."""
        with self.context.ledger.write() as connection:
            self._close_step(StepState.UNCERTAIN if uncertain else StepState.FAILED, None, why)
            self.save(
                connection,
                state=State.WAITING,
                due_at=until,
                waiting_for=why[:255],
                owner=None,
                job_id=None,
                enqueued_at=None,
                tries=self.tries,
                first_failed_at=self.first_failed_at,
            )

    def _finish(
        self,
        connection: Connection,
        state: State,
        customer: CustomerStatus,
        code: ErrorCode | None,
        message: str | None,
    ) -> None:
        now = self.context.now()
        doubtful = self.facts.duplicate_possible or self.facts.add_open
        audit_at = None
        if doubtful:
            audit_at = max(now, self.facts.add_in_doubt_until or 0.0) + self.context.settings.whmcs_max_request_seconds
        self.save(
            connection,
            state=state,
            owner=None,
            job_id=None,
            enqueued_at=None,
            waiting_for=None,
            error_code=code,
            error_message=message,
            finished_at=now,
            service_ids=self.service_ids,
            audit_due_at=audit_at,
            audits=0,
            salesforce_status=self.salesforce_status,
        )
        orders.set_status(connection, self.id, customer, now=now, error_code=code)
        counters.add(connection, "order_provisioning_attempts_total", str(state is State.PROVISIONED).lower())

    def _close_step(self, state: StepState, code: ErrorCode | None, message: str) -> None:
        detail = {"error": message[:255]} | ({"code": code.value} if code else {})
        now = self.context.now()
        self.later(lambda c: self._end_step(c, state, detail, now))

    def _write_pending(self, connection: Connection) -> None:
        """Write what is left after the end, where the fence no longer guards anything of ours."""
        for write in self._pending:
            write(connection)
        self._pending = []

    # --- telling Salesforce ---

    def tell_salesforce(self, status: CustomerStatus) -> JsonObject:
        """Write a status to Salesforce: kept in the outbox first, so that it arrives even if Salesforce is away."""
        with self.context.ledger.write() as connection:
            self.save(connection)
            message_id = self._put_write_back(connection, status, None, None)
        told = message_id is not None and self.send_write_back(message_id, status, None, None)
        return {"status": status.value, "salesforce_status": told}

    def _put_write_back(
        self, connection: Connection, status: CustomerStatus, code: ErrorCode | None, message: str | None
    ) -> int | None:
        now = self.context.now()
        fields = write_back_fields(status, now, self.facts.elected, code, message)
        message_id = outbox.put(
            connection,
            "salesforce",
            self.id,
            {"fields": fields},
            now=now,
            claimed_by=self.context.worker_id,
            claimed_until=now + WRITE_BACK_CLAIM,
        )
        if message_id is not None and outbox.earlier_pending(connection, message_id, "salesforce", self.id):
            outbox.release(connection, self.context.worker_id, "salesforce", [message_id])
            return None  # an earlier one must go first: the relay_ sends both
        return message_id

    def send_write_back(
        self, message_id: int, status: CustomerStatus, code: ErrorCode | None, message: str | None
    ) -> bool:
        """Send one write-back now. It isn't critical: what isn't taken stays in the outbox. Returns if it was taken."""
        fields = write_back_fields(status, self.context.now(), self.facts.elected, code, message)
        extra = {"sfOrderId": self.id, "status": status.value, "whmcsOrderId": self.facts.elected}
        try:
            self.context.salesforce.update_order(self.id, fields)
        except UpstreamError as error:
            log.error("Failed to update order status in Salesforce", extra=extra | {"error": str(error)})
            due_at, text = self.context.now() + (error.retry_after or 2.0), str(error)
            self.later(lambda c: outbox.again(c, message_id, due_at=due_at, error=text))
            return False
        log.info("Order status updated in Salesforce", extra=extra)
        self.salesforce_status = status.value
        self.later(lambda c: outbox.sent(c, message_id, now=self.context.now()))
        return True


def write_back_fields(
    status: CustomerStatus, now: float, whmcs_order_id: str | None, code: ErrorCode | str | None, message: str | None
) -> JsonObject:
    """The Order fields for a status: errors are set with Failed and cleared with anything else. `now`: seconds."""
    fields: JsonObject = {
        "Provisioning_Status__c": status.value,
        "Last_Provisioning_At__c": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
        "Provisioning_Error_Code__c": str(code) if code else None,
        "Provisioning_Error_Message__c": message[:255] if code and message else None,
    }
    if whmcs_order_id is not None and status is not CustomerStatus.ACTIVATING:
        fields["WHMCS_Order_ID__c"] = whmcs_order_id
    return fields


def frozen_order(order: SalesforceOrder) -> JsonObject:
    """A Salesforce order as the plan keeps it: without the contact's data, which nothing needs later."""
    return asdict(replace(order, contact={}, email=None))
