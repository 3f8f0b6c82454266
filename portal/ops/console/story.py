"""One order in plain words: what the ledger remembers of its WHMCS side, and what happens next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from portal.domain.model import CustomerStatus, ErrorCode, State
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.orders import PLACING, REFUSED, Order
from portal.ledger.runs import StepRow
from portal.ops.console.words import seconds, utc


def happens_next(row: Fulfillment, *, paused: bool, now: float) -> str:
    """What becomes of the order by itself, in one sentence. Moments are seconds since 1970."""
    if row.state is State.PROVISIONED:
        again = f" WHMCS is looked at again {_at(row.audit_due_at)}." if row.audit_due_at else ""
        return f"Nothing is left to do.{again}"
    if row.handled_at is not None:
        return f"It was marked as handled {_at(row.handled_at)}; nothing is sent to WHMCS until somebody acts."
    if row.state is State.NEEDS_DECISION:
        return f"Nothing is sent to WHMCS until somebody decides: {_ways_on(row)}."
    if row.state is State.FAILED:
        return "Nothing happens by itself: mend the cause, then click in Salesforce or retry it here."
    if paused:
        return "WHMCS writes are paused: it goes on after they are resumed."
    if row.state is State.RUNNING:
        return "A worker runs it now."
    if row.state is State.WAITING and row.due_at > now:
        return f"It is tried again by itself {_at(row.due_at)}, in {seconds(row.due_at - now)}."
    return "It is run as soon as a worker is free."


def before_the_click(order: Order) -> str:
    """What becomes of an order that nobody asked to fulfil yet."""
    times = f"{order.place_tries} tr{'ies' if order.place_tries != 1 else 'y'} so far"
    if order.placing == PLACING:
        return f"Salesforce doesn't have it yet ({times}); it is tried again by itself {_at(order.place_due_at)}."
    if order.placing == REFUSED and order.status is CustomerStatus.FAILED:
        return "Salesforce refuses it: the log has its words. Its customer was told, and has to order again."
    if order.final:
        return "Nothing is left to do."
    return "It waits in Salesforce to be reviewed: nobody asked to fulfil it yet."


def _ways_on(row: Fulfillment) -> str:
    if row.undecided_before_whmcs:
        return "mend what the message names, then click in Salesforce or retry it here; or adopt a WHMCS order"
    if row.error_code == ErrorCode.WHMCS_SERVICE_NOT_ACTIVE and row.elected_whmcs_id:
        return "mend the cause in WHMCS, then set the service up again, there or here"
    return "adopt the right WHMCS order, or order a fresh one"


def election(row: Fulfillment, *, now: float) -> list[str]:
    """How one Salesforce order becomes one WHMCS order, as far as it has come: a sentence each. Moments in seconds."""
    said = []
    if not row.history_complete:
        said.append(
            "This ledger doesn't know of every attempt there was (it was restored, or Salesforce shows a later one)."
        )
    if row.adopt_whmcs_id and row.confirmed:
        said.append(f"A person named WHMCS order {row.adopt_whmcs_id} as this order.")
    elif row.adopt_whmcs_id:
        said.append(f"Salesforce named WHMCS order {row.adopt_whmcs_id} before AddOrder was ever sent.")
    elif row.confirmed:
        said.append("A person saw that WHMCS had no usable order, and ordered a new one.")
    times = f"{row.add_attempts} time{'s' * (row.add_attempts != 1)}"
    said.append(f"AddOrder was sent {times}." if row.add_attempts else "AddOrder was never sent.")
    if row.add_open:
        said.append("The last AddOrder has no answer: it may have made an order all the same.")
    if row.add_in_doubt_until is not None and row.add_in_doubt_until > now:
        said.append(
            f"Until {utc(row.add_in_doubt_until)} UTC one sent earlier may still take effect; then it is looked for."
        )
    if row.answered_whmcs_id and not row.elected_whmcs_id:
        said.append(f"AddOrder answered with WHMCS order {row.answered_whmcs_id}; it isn't elected yet.")
    if row.elected_whmcs_id:
        said.append(
            f"WHMCS order {row.elected_whmcs_id} is the elected one: only it is ever accepted, and any other Pending "
            "order that bears this order's reference is cancelled."
        )
    else:
        said.append("No WHMCS order is elected yet: none is accepted until one is.")
    if row.duplicate_possible:
        said.append("A second WHMCS order may exist: they are all looked at before anything is accepted.")
    if row.accept_attempts:
        end = "; the last has no answer" if row.accept_open else ""
        said.append(f"AcceptOrder was sent {row.accept_attempts} time{'s' * (row.accept_attempts != 1)}{end}.")
    if row.active:
        said.append("The elected order was seen Active with all its services.")
    return said


def in_salesforce(login_url: str, sf_order_id: str) -> str:
    """Where a browser finds the order: by My Domain at once, by Salesforce's common sign-in after it."""
    common = urlsplit(login_url).hostname in ("login.salesforce.com", "test.salesforce.com")
    return f"{login_url}/?startURL=%2F{sf_order_id}" if common else f"{login_url}/{sf_order_id}"


def _at(moment: float | None) -> str:
    return f"at {utc(moment)} UTC"


@dataclass(frozen=True)
class TimelineRow:
    """One step on the time line; lengths in seconds."""

    step: StepRow
    waited: float | None  # since the step before it ended
    took: float | None  # None: it hasn't ended
    first_of_attempt: bool


def timeline(steps: Sequence[StepRow], requested_at: float) -> list[TimelineRow]:
    """The steps in their order with how long each took and what passed before it. requested_at: the click's moment."""
    rows: list[TimelineRow] = []
    ended, attempt = requested_at, 0
    for step in steps:
        first = step.attempt != attempt
        waited = step.started_at - ended if rows or step.attempt == 1 else None
        took = None if step.ended_at is None else step.ended_at - step.started_at
        rows.append(TimelineRow(step, waited, took, first))
        ended, attempt = step.ended_at or step.started_at, step.attempt
    return rows
