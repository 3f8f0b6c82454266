"""One worker's run of one order under one fence: what it remembers, and how it writes to the ledger.

Every write goes through the fence; LeaseLost means that the order is another's now and nothing more may be done.

Moments are seconds since 1970.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from portal import logs
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
from portal.domain.protocol import Facts, taken_up
from portal.domain.seen import Seen
from portal.domain.write_back import Standing, order_fields, status_in_salesforce
from portal.fulfillment.crowd import Crowd
from portal.ledger import fulfillments, installation, outbox, payment_hints, runs, write_backs
from portal.ledger.engine import Ledger
from portal.ledger.fulfillments import Fulfillment
from portal.settings import Settings

log = logging.getLogger("portal.fulfillment")

#: How long one write-back may take before another process may send it too, in seconds.
WRITE_BACK_CLAIM = 45.0

#: Seconds after which a service that wasn't active is looked at again: somebody, or its module, may have set it up.
SERVICE_MAY_FOLLOW = 60.0

#: Seconds for which the beginning and the end of steps may be kept for the run's next transaction, to save one.
KEPT_AT_MOST = 1.0

#: The same reason is told to Salesforce again once what it shows of the next try is so old, in seconds.
TELL_AGAIN = 60.0


#: Calls kept with one step; a step makes a few.
MOST_CALLS = 12


class WaitUntil(PortalError):
    """The order can go on at a later moment only; nothing has failed. `until`: seconds since 1970.

    code: what Salesforce shows beside `why`; None where nothing is wrong.
    """

    def __init__(self, until: float, why: str, code: ErrorCode | None = None) -> None:
        super().__init__(why)
        self.code = code
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
    crowd: Crowd = field(default_factory=Crowd)
    known_products: dict[str, tuple[float, WhmcsProduct]] = field(default_factory=dict)  # product id → when read, what
    span: Callable[[Fulfillment], AbstractContextManager[object]] = lambda _row: nullcontext()  # around each run


class Run:
    """See the module. `plan` is what is to be made; `facts` what the protocol remembers; `seen` what WHMCS showed."""

    def __init__(self, context: RunContext, row: Fulfillment, done: set[str]) -> None:
        self.context = context
        self.id = row.sf_order_id
        self.lease = runs.Lease(row.sf_order_id, row.fence, row.owner)  # an audit has none: the order has ended
        self.attempt = row.attempt
        self.tries = row.tries
        self.first_failed_at = row.first_failed_at
        self.plan: JsonObject = dict(row.plan or {})
        self.service_ids: list[str] = row.service_ids
        self.salesforce_status = row.salesforce_status
        self.facts: Facts = taken_up(row.facts)
        self.seen = Seen()
        self.validated_at: float | None = None  # when Salesforce was asked for what is to be made, by this run
        self.fresh_lines: list[JsonObject] = []  # what Salesforce asks for now, as this run has mapped it
        self.payment_asked_at: float | None = None  # when WHMCS was asked how the client pays
        self.paying_client = ""
        self.current: Step | None = None
        self._done = done
        self._hints = row.hints
        self._requested_at = row.requested_at
        self.waiting_code = row.waiting_code
        self._written_at = 0.0
        self.salesforce_written_at = row.salesforce_written_at
        self._step_id: int | None = None
        self._begun: Step | None = None  # with the claim
        self._saved_at = context.now()
        self._pending: list[Callable[[Connection], None]] = []
        self._kept: dict[str, Any] = {}
        self._calls: list[JsonObject] = []  # what the present step has sent and been answered

    # --- steps ---

    def step(self, step: Step, do: Callable[[Run], JsonObject]) -> None:
        """Do one step: its intent in the ledger before, its outcome (what `do` returns) after.

        A step that has a good outcome in this attempt isn't done again.
        """
        if step in self._done:
            return
        self.current = step
        logs.bind(step=step.value)
        log.info(step.value, extra={"sfOrderId": self.id, "attempt": self.attempt})
        begun = self.context.now()
        begin = partial(self._begin_step, step=step, now=begun)
        if step is not self._begun:
            self.later(begin)
        self.context.fault_point(f"{step.value}:begun")
        detail = do(self) | self._calls_made()
        self.first_failed_at = None  # that trouble is over: waiting for the next starts anew
        ended = self.context.now()
        if begin in self._pending:  # it came and went without a transaction: one row says all
            self._pending.remove(begin)
            done = partial(runs.record_step, lease=self.lease, attempt=self.attempt, step=step, detail=detail)
            self.later(partial(done, started_at=begun, ended_at=ended))
        else:
            self.later(lambda c: self._end_step(c, StepState.DONE, detail, now=ended))

    def begin_with_claim(self, connection: Connection, step: Step) -> None:
        """Record the first step's intent in the transaction that claims the order, which saves one."""
        if step not in self._done:
            self._begun = step
            self._begin_step(connection, step, now=self.context.now())

    def called(self, action: str, sent: JsonObject, answered: JsonObject | UpstreamError) -> None:
        """Keep with the step, for operators, what was sent and answered: ids and words without anybody's data."""
        answer = {"error": str(answered)[:255]} if isinstance(answered, UpstreamError) else answered
        self._calls.append({"call": action, "sent": sent, "answered": answer})

    def _calls_made(self) -> JsonObject:
        made, self._calls = self._calls[-MOST_CALLS:], []
        return {"calls": made} if made else {}

    def _begin_step(self, connection: Connection, step: Step, *, now: float) -> None:
        self._step_id = runs.begin_step(connection, self.id, self.attempt, self.lease.fence, step, now=now)

    def _end_step(self, connection: Connection, state: StepState, detail: JsonObject, *, now: float) -> None:
        if self._step_id is not None:
            runs.end_step(connection, self._step_id, state, detail, now=now)
            self._step_id = None

    def later(self, write: Callable[[Connection], None]) -> None:
        """Write this with the run's next transaction."""
        self._pending.append(write)

    def keep(self, **values: Any) -> None:
        """Write this to the order's row with the run's next transaction."""
        self._kept |= values

    def keep_facts(self, facts: Facts) -> None:
        """Remember these from now on, and write them with the run's next transaction."""
        self.facts = facts
        self._kept |= runs.columns_of(facts)

    def save(self, connection: Connection, facts: Facts | None = None, **values: Any) -> None:
        """Write to the order's row, and everything kept for later. Raises LeaseLost when the fence has moved.

        facts: the protocol's, to be written too; `self.facts` is to be set once the transaction is through.
        """
        values, now = self._kept | values, self.context.now()
        if facts is None:
            runs.update(connection, self.lease, now=now, **values)
        else:
            runs.save_facts(connection, self.lease, facts, now=now, **values)
        for write in self._pending:
            write(connection)
        # A transaction that is rolled back ends the run, so nothing kept is lost by forgetting it here.
        self._kept, self._pending = {}, []
        self._saved_at = now

    def flush_old(self) -> None:
        """Write what was kept for later, if that is long enough ago for somebody to wonder where the order is."""
        if (self._pending or self._kept) and not 0 <= self.context.now() - self._saved_at <= KEPT_AT_MOST:
            with self.context.ledger.write() as connection:
                self.save(connection)

    def refuse_when_paused(self, connection: Connection) -> None:
        """Raises WaitUntil while an operator has paused fulfillments: nothing is written to WHMCS then."""
        if installation.paused(connection):
            raise WaitUntil(self.context.now() + 5.0, "an operator has paused fulfillments")

    @property
    def items(self) -> list[SalesforceItem]:
        """The items as Salesforce had them when the plan was made."""
        return [SalesforceItem(**item) for item in self.plan["order"]["items"]]

    @property
    def lines(self) -> list[OrderLine]:
        """What AddOrder is asked for."""
        return [OrderLine(**line) for line in self.plan.get("lines", [])]

    @property
    def client_id(self) -> str:
        """The WHMCS client the plan is for."""
        return str(self.plan["clientId"])

    # --- how a run ends ---

    def provisioned(self) -> None:
        """End well."""
        with self.context.ledger.write() as connection:
            self._finish(connection, State.PROVISIONED, None, None)

    def failed(self, state: State, code: ErrorCode, message: str) -> None:
        """End as Failed or as needing a decision: in the ledger, and in Salesforce."""
        message = message[:255]
        uncertain = state is State.NEEDS_DECISION
        with self.context.ledger.write() as connection:
            self._close_step(StepState.UNCERTAIN if uncertain else StepState.FAILED, code, message)
            message_id = self._finish(connection, state, code, message)
        if message_id is None:
            return
        standing = Standing(state, False, self.facts.elected, code, message)
        if self._send_write_back(message_id, standing):
            self.later(lambda c: write_backs.note_status(c, self.id, self.attempt, self.salesforce_status or ""))
        with self.context.ledger.write() as connection:
            self._write_pending(connection)

    def reschedule(self, until: float, why: str, *, uncertain: bool, code: ErrorCode | None) -> None:
        """Give the order back; it goes on at `until`. code: whose trouble it waits for, if it is another side's."""
        now = self.context.now()
        with self.context.ledger.write() as connection:
            self._close_step(StepState.UNCERTAIN if uncertain else StepState.FAILED, None, why)
            self.save(connection)  # what was kept for later is written while the order is still ours
            self.save(
                connection,
                state=State.WAITING,
                due_at=until,
                waiting_for=why[:255],
                waiting_code=code,
                owner=None,
                job_id=None,
                enqueued_at=None,
                tries=self.tries,
                first_failed_at=self.first_failed_at,
            )
            told_at = self.salesforce_written_at or 0.0
            if code != self.waiting_code or max(until, now) - max(told_at, self._written_at) > TELL_AGAIN:
                fulfillments.plan_resync(connection, self.id, now=now, due_at=now)

    def _finish(self, connection: Connection, state: State, code: ErrorCode | None, message: str | None) -> int | None:
        """Write the end; returns the id of the message that tells Salesforce, where it hasn't taken that yet.

        A Provisioned that it has taken already needs none; of others the message is this process's to send first.
        """
        now = self.context.now()
        kept, self._kept = self._kept, {}
        runs.finish(
            connection,
            self.lease,
            state,
            now=now,
            kept=kept,
            then=self._write_pending,  # the order may have to be synced before its customer can be shown an end
            error_code=code,
            error_message=message,
            service_ids=self.service_ids,
            audit_due_at=self._first_audit(connection, state, code, now=now),
            hints=self._hints,
            requested_at=self._requested_at,
            salesforce_status=self.salesforce_status,
        )
        if code is ErrorCode.ORDER_NOT_FOUND:  # Salesforce has nothing to show it on
            return None
        if state is State.PROVISIONED:
            if self.salesforce_status != CustomerStatus.PROVISIONED:
                fulfillments.plan_resync(connection, self.id, now=now, due_at=now)
            return None
        message_id = self._put_write_back(connection, now=now)
        if message_id is not None:
            write_backs.note_write(connection, [self.id], now=now)
        return message_id

    def _first_audit(self, connection: Connection, state: State, code: ErrorCode | None, *, now: float) -> float | None:
        """When to look at WHMCS for the first time after the end."""
        doubtful = self.facts.duplicate_possible or self.facts.add_open
        if doubtful:
            return max(now, self.facts.add_in_doubt_until or 0.0) + self.context.settings.whmcs_max_request_seconds
        if code is ErrorCode.PAYMENT_METHOD_MISSING and self.payment_asked_at is not None:
            if payment_hints.heard_since(connection, self.paying_client, self.payment_asked_at):
                return now
            return now + self.context.settings.whmcs_audit_schedule[0]  # for a hint may get lost
        if self.facts.elected is None:
            return None
        if code is ErrorCode.WHMCS_SERVICE_NOT_ACTIVE:
            return now + SERVICE_MAY_FOLLOW
        return now + self.context.settings.whmcs_audit_schedule[0]

    def _close_step(self, state: StepState, code: ErrorCode | None, message: str) -> None:
        detail = {"error": message[:255]} | ({"code": code.value} if code else {}) | self._calls_made()
        now = self.context.now()
        self.later(lambda c: self._end_step(c, state, detail, now=now))

    def _write_pending(self, connection: Connection) -> None:
        """Write what goes with the end, or is left after it, where the lease no longer guards anything of ours."""
        for write in self._pending:
            write(connection)
        self._pending = []

    # --- telling Salesforce ---

    def tell_salesforce(self, state: State) -> JsonObject:
        """Tell Salesforce a state now: kept in the outbox first, so that it arrives even if Salesforce is away."""
        now = self.context.now()
        with self.context.ledger.write() as connection:
            self.save(connection, salesforce_written_at=now)
            message_id = self._put_write_back(connection, now=now)
        standing = Standing(state, False, self.facts.elected)
        written = message_id is not None and self._send_write_back(message_id, standing)
        if written:
            self.keep(salesforce_status=self.salesforce_status)
        return {"status": status_in_salesforce(standing).value, "written": written}

    def have_relay_tell(self) -> None:
        """Have the relay tell Salesforce how the order stands, with others in one call."""
        now = self.context.now()

        def put(connection: Connection) -> None:
            fulfillments.plan_resync(connection, self.id, now=now, due_at=now)

        self.later(put)

    def _put_write_back(self, connection: Connection, *, now: float) -> int | None:
        """A message that is this process's to send; None where another process is sending one: the relay sends both."""
        busy = outbox.being_sent(connection, "salesforce", self.id, now=now)
        message_id = outbox.put(
            connection,
            "salesforce",
            self.id,
            {},
            now=now,
            claimed_by=None if busy else self.context.worker_id,
            claimed_until=None if busy else now + WRITE_BACK_CLAIM,
        )
        if busy:
            return None
        self._written_at = now
        return message_id

    def _send_write_back(self, message_id: int, standing: Standing) -> bool:
        """Send one write-back now. It isn't critical: what isn't taken stays in the outbox. Returns if it was taken."""
        fields = order_fields(standing, now=self._written_at)
        assert fields is not None
        status = fields["Provisioning_Status__c"]
        extra = {"sfOrderId": self.id, "status": status, "whmcsOrderId": self.facts.elected}
        try:
            self.context.salesforce.update_order(self.id, fields)
        except UpstreamError as error:
            self.called("update Order", fields, error)
            log.error("Failed to update order status in Salesforce", extra=extra | {"error": str(error)})
            now, text, code = self.context.now(), str(error), error.code
            due_at, refused = now + (error.retry_after or 2.0), error.refused
            self.later(
                lambda c: outbox.again(c, message_id, now=now, due_at=due_at, error=text, code=code, refused=refused)
            )
            return False
        self.called("update Order", fields, {"taken": True})
        log.info("Order status updated in Salesforce", extra=extra)
        self.salesforce_status = status
        self.later(lambda c: outbox.sent(c, message_id, now=self.context.now(), told=fields))
        return True


def frozen_order(order: SalesforceOrder) -> JsonObject:
    """A Salesforce order as the plan keeps it: without the contact's data, which nothing needs later."""
    return asdict(replace(order, contact={}, email=None))
