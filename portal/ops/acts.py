"""What an operator may do about an order, shared by /ops and the commands: each act is refused in words or recorded.

Everything that may lead to AddOrder or AcceptOrder goes through the ledger's decisions: no act speaks to WHMCS past the
protocol, but for ModuleCreate of a service that is the elected order's.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from redis import RedisError

from portal.domain.model import State, Step
from portal.domain.seen import LIVE_SERVICE
from portal.errors import PortalError
from portal.ledger import decisions, events, fulfillments, installation, order_record, orders
from portal.ledger.fulfillments import Fulfillment
from portal.services import Services


class Refused(PortalError):
    """The act isn't possible; `str()` says why, in words for the operator."""


@dataclass(frozen=True)
class Order:
    """What an act is about, and who does it why."""

    services: Services
    sf_order_id: str
    actor: str
    why: str
    fields: Mapping[str, str]

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return self.services.now()


@dataclass(frozen=True)
class Act:
    """One act. `why_not`: of a row, why it isn't possible now ("" where it is); `do`: returns what was done."""

    name: str
    label: str
    explains: str
    why_not: Callable[[Fulfillment], str]
    do: Callable[[Order], str]
    fields: tuple[tuple[str, str], ...] = ()  # name and label of what is asked beside the reason
    danger: bool = False


def perform(
    services: Services, name: str, sf_order_id: str, *, actor: str, why: str, fields: Mapping[str, str] | None = None
) -> str:
    """Do one act; returns a sentence. Raises Refused, and what the ledger or WHMCS raise."""
    act = ACTS.get(name)
    if act is None:
        raise Refused("there is no such act")
    why = " ".join(why.split())[:200]
    if not why:
        raise Refused("say why: it is kept with the order")
    with services.ledger.read() as connection:
        row = fulfillments.get(connection, sf_order_id)
    if row is None:
        raise Refused(f"nobody asked to fulfil {sf_order_id} yet")
    reason = act.why_not(row)
    if reason:
        raise Refused(reason)
    try:
        return act.do(Order(services, sf_order_id, actor[:120], why, fields or {}))
    except ValueError as error:  # somebody, or the order itself, was quicker
        raise Refused(str(error)) from error


def _queue(order: Order) -> None:
    with contextlib.suppress(RedisError):  # the sweep sends a job as well
        order.services.jobs.send(order.sf_order_id, front=True)


# --- the acts ------------------------------------------------------------------------------------------------


def _try_now(order: Order) -> str:
    with order.services.ledger.write() as connection:
        decisions.resume(connection, order.sf_order_id, now=order.now, actor=order.actor, why=order.why)
    _queue(order)
    return "It is tried now."


def _retry(order: Order) -> str:
    step = order.fields.get("step") or Step.VALIDATION.value
    if step not in {each.value for each in Step}:
        raise Refused(f"{step} is no step")
    with order.services.ledger.write() as connection:
        decisions.retry_from(connection, order.sf_order_id, Step(step), now=order.now, actor=order.actor, why=order.why)
    _queue(order)
    return f"A new attempt begins with {step}."


def _adopt(order: Order) -> str:
    number = order.fields.get("whmcs_order_id", "").strip().lstrip("#")
    if not number.isascii() or not number.isdigit() or len(number) > 20:
        raise Refused("a WHMCS order id is a number")
    with order.services.ledger.write() as connection:
        decisions.adopt(connection, order.sf_order_id, number, now=order.now, actor=order.actor, why=order.why)
    _queue(order)
    return f"Adopted WHMCS order {number}; queued."


def _create(order: Order) -> str:
    if not order.fields.get("looked"):
        raise Refused("look in WHMCS first, and say that you did: this is how a customer gets billed twice")
    with order.services.ledger.write() as connection:
        decisions.create_afresh(connection, order.sf_order_id, now=order.now, actor=order.actor, why=order.why)
    _queue(order)
    return "Queued for a new AddOrder."


def _service(order: Order) -> str:
    """ModuleCreate for one service of the elected order, then a look at all of them."""
    services, service_id = order.services, order.fields.get("service_id", "").strip()
    with services.ledger.read() as connection:
        row = fulfillments.get(connection, order.sf_order_id)
        paused = installation.paused(connection)
    assert row is not None
    assert row.elected_whmcs_id is not None
    if paused:
        raise Refused("WHMCS writes are paused: resume them first")
    found = services.whmcs.services(row.client_id or "")
    mine = {each.id: each for each in found if each.order_id == row.elected_whmcs_id}
    service = mine.get(service_id)
    if service is None:
        raise Refused(f"service {service_id} isn't one of this order's: {', '.join(mine) or 'it has none'}")
    if service.status not in LIVE_SERVICE:  # a second one would set up, and perhaps wipe, what the customer uses
        with services.ledger.write() as connection:
            events.record(
                connection,
                "module_create_ordered",
                now=order.now,
                subject=order.sf_order_id,
                actor=order.actor,
                detail={"serviceId": service_id, "why": order.why},
            )
        services.whmcs.module_create(service_id)
    with services.ledger.write() as connection:
        decisions.adopt(
            connection, order.sf_order_id, row.elected_whmcs_id, now=order.now, actor=order.actor, why=order.why
        )
    _queue(order)
    return "The service is active; the order is checked again."


def _handled(order: Order) -> str:
    with order.services.ledger.write() as connection:
        decisions.mark_handled(connection, order.sf_order_id, now=order.now, actor=order.actor, why=order.why)
    return "Marked as handled: it isn't among what is to be decided any more."


def _write_back(order: Order) -> str:
    with order.services.ledger.write() as connection:
        fulfillments.plan_resync(connection, order.sf_order_id, now=order.now, due_at=order.now)
        detail = {"why": order.why}
        events.record(
            connection, "write_back_ordered", now=order.now, subject=order.sf_order_id, actor=order.actor, detail=detail
        )
    return "Salesforce is told once more how the order stands."


def _mail(order: Order) -> str:
    number = order.fields.get("message", "")
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise Refused("which mail?")
    with order.services.ledger.write() as connection:
        known = orders.by_sf_order_id(connection, order.sf_order_id)
        subjects = [order.sf_order_id, *([known.reference] if known else [])]
        name = f"{subjects[-1]}.again.{secrets.token_hex(4)}".lower()
        if not order_record.mail_again(connection, int(number), subjects, now=order.now, name=name):
            raise Refused("there is no such mail of this order any more")
        detail = {"why": order.why, "outboxId": int(number)}
        events.record(
            connection, "mail_ordered", now=order.now, subject=order.sf_order_id, actor=order.actor, detail=detail
        )
    return "The mail is sent once more."


# --- when each is possible -----------------------------------------------------------------------------------


def _waits(row: Fulfillment) -> str:
    return "" if row.state is State.WAITING else "it doesn't wait: there is nothing to hurry"


def _retriable(row: Fulfillment) -> str:
    return decisions.restart_points(row)[Step.VALIDATION]


def _decidable(row: Fulfillment) -> str:
    if row.state in (State.FAILED, State.NEEDS_DECISION):
        return ""
    return f"it is {row.state.value}: only an order that Failed or needs a decision can be decided"


def _has_whmcs_order(row: Fulfillment) -> str:
    if row.state in (State.FAILED, State.NEEDS_DECISION) and row.elected_whmcs_id:
        return ""
    return "only for an order with a WHMCS order that Failed or needs a decision"


def _always(_row: Fulfillment) -> str:
    return ""


ACTS: Final = {
    act.name: act
    for act in (
        Act("try_now", "Try now", "It waits; it is tried at once, with all its tries before it.", _waits, _try_now),
        Act(
            "retry",
            "Retry",
            "A new attempt, which resumes what was begun. It is safe: nothing is made twice.",
            _retriable,
            _retry,
            fields=(("step", "Begin with"),),
        ),
        Act(
            "service",
            "Set up one service again",
            "Has WHMCS run ModuleCreate for a service that isn't active, then checks the order.",
            _has_whmcs_order,
            _service,
            fields=(("service_id", "WHMCS service id"),),
        ),
        Act(
            "adopt",
            "Adopt a WHMCS order",
            "You name the WHMCS order that is this one. It is taken as it is, and accepted if it is Pending.",
            _decidable,
            _adopt,
            fields=(("whmcs_order_id", "WHMCS order id"),),
            danger=True,
        ),
        Act(
            "create",
            "Order a fresh create",
            "A new AddOrder. Only if WHMCS has none for this one and none is to come: else the customer pays twice.",
            _decidable,
            _create,
            fields=(("looked", "I looked at this client's orders in WHMCS: there is none"),),
            danger=True,
        ),
        Act(
            "handled",
            "Mark as handled",
            "You have seen to it elsewhere. It stays as it is, and nobody is asked about it any more.",
            lambda row: _decidable(row) or ("it is marked already" if row.handled_at is not None else ""),
            _handled,
        ),
        Act(
            "write_back",
            "Tell Salesforce again",
            "Writes how the order stands now to Salesforce.",
            _always,
            _write_back,
        ),
        Act(
            "mail",
            "Send a mail again",
            "The same mail, to the same address.",
            _always,
            _mail,
            (("message", "Which mail"),),
        ),
    )
}


def pause(services: Services, *, actor: str, why: str) -> None:
    """Accept orders, but write nothing to WHMCS until `resume`. Raises Refused without a reason."""
    _change_pause(services, installation.pause, actor, why)


def resume(services: Services, *, actor: str, why: str) -> None:
    """End `pause`. Raises Refused without a reason."""
    _change_pause(services, installation.resume, actor, why)


def _change_pause(services: Services, change: Callable[..., None], actor: str, why: str) -> None:
    why = " ".join(why.split())[:200]
    if not why:
        raise Refused("say why: it is kept, and shown while writes are paused")
    with services.ledger.write() as connection:
        change(connection, actor=actor[:120], why=why, now=services.now())
