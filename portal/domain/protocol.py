"""How one Salesforce order becomes one Active WHMCS order although AddOrder isn't idempotent: the decisions, pure.

A run repeats: `decide` on what the ledger remembers (Facts) and what it has seen in WHMCS (Seen), write the intent
(`intend`), do the action, write the outcome (`conclude`). Nothing here does I/O; tests/protocol_search.py
drives these very functions through every interleaving of three runs that may pause anywhere or die.

The rules (docs/reliability.md tells why):
- One order is elected, once, by a conditional write. Only it is ever accepted; only others are ever cancelled.
- Before every AddOrder, look: the ledger itself may be older than the world (restored, or a replica promoted without
  the last commits). Not finding is conclusive at once where the ledger knows of no AddOrder, else only when nothing
  sent earlier can take effect any more.
- What is accepted, and what is called Provisioned, has the products, quantities, cycles and domains asked for, however
  the order was found; an order that Salesforce names is a claim to be checked.
- What only a person can know waits for a person.

Moments are seconds since 1970, durations seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from portal.domain.model import ErrorCode
from portal.domain.seen import ACTIVE, LIVE_SERVICE, PENDING, Candidate, Outcome, Seen

#: A call is on its way at most this many seconds after its intent was written: PREPARE_WINDOW until the last look at
#: the clock, and what a process may be stopped afterwards without missing its heartbeats (3 s), which stops the call.
SEND_WINDOW = 5.0
PREPARE_WINDOW = 2.0


@dataclass(frozen=True)
class Facts:
    """What the ledger remembers of one order's WHMCS side; columns of `fulfillments`."""

    elected: str | None = None  # the one order that may be accepted
    adopt: str | None = None  # the order Salesforce named before we ever created one
    answered: str | None = None  # the last order AddOrder told us of, not elected yet
    history_complete: bool = True  # every attempt there ever was is in this ledger
    duplicate_possible: bool = False  # there may be more marked orders than the elected one
    add_attempts: int = 0  # AddOrder intents
    add_open: bool = False  # the last AddOrder has no definite outcome
    add_in_doubt_until: float | None = None  # until then an AddOrder without outcome may still take effect
    accept_attempts: int = 0
    accept_open: bool = False
    accept_in_doubt_until: float | None = None
    active: bool = False  # the elected order was accepted
    confirmed: bool = False  # a person named the elected order, knowing how it differs

    def doubted(self, until: float | None) -> Facts:
        """There was an attempt this ledger doesn't know: look first; `until` then it may still take effect."""
        return replace(self, history_complete=False, add_in_doubt_until=until)


class Do(StrEnum):
    """What a run may do next."""

    READ_ORDER = "read_order"
    LOOK = "look"
    CREATE = "create"
    ELECT = "elect"
    CANCEL_STRAY = "cancel_stray"
    ACCEPT = "accept"
    READ_SERVICES = "read_services"
    WAIT = "wait"
    FAIL = "fail"
    NEED_DECISION = "need_decision"
    DONE = "done"


@dataclass(frozen=True)
class Action:
    """The next thing to do; which of the other members are set depends on `do`."""

    do: Do
    order_id: str | None = None  # READ_ORDER, ELECT, CANCEL_STRAY, ACCEPT, READ_SERVICES
    until: float | None = None  # WAIT
    why: str = ""  # WAIT, FAIL, NEED_DECISION: a sentence for people
    code: ErrorCode = ErrorCode.OUTCOME_UNCERTAIN  # FAIL, NEED_DECISION


# --- deciding ------------------------------------------------------------------------------------------


def decide_create(facts: Facts, seen: Seen, *, now: float, references_readable: bool | None) -> Action:
    """The next action towards an elected order; DONE when one is elected.

    references_readable: whether this WHMCS is known to give the mark back (None: not known yet).
    """
    if facts.elected is not None:
        return Action(Do.DONE)
    if facts.adopt is not None:
        return _adopt(facts.adopt, seen)
    if seen.look is None:
        return Action(Do.LOOK)
    choice = elect_among(seen.look.marked)
    if isinstance(choice, Action):
        return choice
    if facts.confirmed and facts.add_attempts == 0:
        return Action(Do.CREATE)  # a person has seen what there is, and ordered a new one
    still_possible = facts.add_in_doubt_until is not None and seen.look.started_at < facts.add_in_doubt_until
    if seen.look.marked:  # marked ones, but none that can be elected: half-built, or withdrawn by somebody
        if still_possible:
            return _wait(facts.add_in_doubt_until, "an order in WHMCS is still being built")
        return Action(Do.NEED_DECISION, why=_unelectable(seen.look.marked))
    if still_possible:
        return _wait(facts.add_in_doubt_until, "it isn't certain yet whether WHMCS made the order")
    attempted = facts.add_attempts or not facts.history_complete
    if attempted and (references_readable is False or (references_readable is None and seen.look.unmarked)):
        return Action(
            Do.NEED_DECISION,
            why="WHMCS doesn't give the order's mark back, so whether AddOrder made it can't be told by machine: "
            "look at the client's orders, then adopt the one that belongs here or order a new one",
        )
    return Action(Do.CREATE)


def _adopt(order_id: str, seen: Seen) -> Action:
    """Salesforce names the order. A copied Salesforce order (a clone) carries the id of another's: check the claim."""
    if not seen.order_read:
        return Action(Do.READ_ORDER, order_id)
    if seen.order is None:
        return _claim_refused(order_id, "WHMCS doesn't have")
    if seen.order.status not in (ACTIVE, PENDING):
        return _claim_refused(order_id, f"is {seen.order.status} in WHMCS")
    if seen.services is None:
        return Action(Do.READ_SERVICES, order_id)
    if seen.claim_fault is not None:
        return _claim_refused(order_id, seen.claim_fault)
    if seen.difference is not None:
        return _claim_refused(order_id, f"isn't what was ordered: {seen.difference}")
    return Action(Do.ELECT, order_id)


def _claim_refused(order_id: str, fault: str) -> Action:
    return Action(
        Do.NEED_DECISION,
        why=f"Salesforce names WHMCS order {order_id}, which {fault}. Clear WHMCS_Order_ID__c and provision again, or "
        "adopt the order on purpose",
    )


def elect_among(marked: Sequence[Candidate]) -> Action | None:
    """Whom to elect: the Active one, else the complete Pending one with the lowest id; None when none can be.

    Two Active ones are for a person.
    """
    active = [each for each in marked if each.order.status == ACTIVE]
    if len(active) > 1:
        return Action(Do.NEED_DECISION, why=_two_active([each.order.id for each in active]))
    complete = [each for each in marked if each.order.status == PENDING and each.complete]
    chosen = active or sorted(complete, key=lambda each: _numeric(each.order.id))
    return Action(Do.ELECT, chosen[0].order.id) if chosen else None


def decide_accept(facts: Facts, seen: Seen, *, now: float) -> Action:
    """The next action towards the elected order being Active with all its services; DONE when it is."""
    elected = facts.elected
    assert elected is not None
    if facts.duplicate_possible and seen.look is None:
        return Action(Do.LOOK)
    about_others = _others(elected, seen)
    if about_others is not None:
        return about_others
    if seen.look is not None:
        # As long as it is Pending, a run that this ledger has forgotten may yet accept it.
        left = [c.order.id for c in seen.look.marked if c.order.status == PENDING and c.order.id != elected]
        if left:
            return Action(Do.NEED_DECISION, why=f"WHMCS doesn't cancel this order's second WHMCS order {left[0]}")
    if not seen.order_read:
        return Action(Do.READ_ORDER, elected)
    if seen.order is None:
        return Action(Do.NEED_DECISION, why=f"WHMCS order {elected} isn't there any more")
    if seen.order.status == ACTIVE:
        return _services(facts, seen, now=now, elected=elected)
    if seen.order.status != PENDING:
        return Action(Do.NEED_DECISION, why=f"WHMCS order {elected} is {seen.order.status} in WHMCS")
    if facts.accept_open and facts.accept_in_doubt_until is not None and now < facts.accept_in_doubt_until:
        return _wait(facts.accept_in_doubt_until, "WHMCS may still be accepting the order")
    if not _confirmed(facts):
        if seen.services is None:
            return Action(Do.READ_SERVICES, elected)
        if seen.difference is not None:
            if facts.add_open and facts.add_in_doubt_until is not None and now < facts.add_in_doubt_until:
                return _wait(facts.add_in_doubt_until, "WHMCS may still be making the order")
            return _incomplete(elected, seen.difference)
    if seen.accept_error is not None:
        return Action(Do.FAIL, code=ErrorCode.WHMCS_ACCEPT_ORDER_FAILED, why=seen.accept_error)
    return Action(Do.ACCEPT, elected)


def _services(facts: Facts, seen: Seen, *, now: float, elected: str) -> Action:
    if seen.services is None:
        return Action(Do.READ_SERVICES, elected)
    idle = [service for service in seen.services if service.status not in LIVE_SERVICE]
    if seen.services and not idle and (seen.difference is None or _confirmed(facts)):
        return Action(Do.DONE)
    if facts.accept_open and facts.accept_in_doubt_until is not None and now < facts.accept_in_doubt_until:
        return _wait(facts.accept_in_doubt_until, "WHMCS may still be setting up the services")
    if not seen.services:
        return Action(
            Do.NEED_DECISION,
            code=ErrorCode.WHMCS_SERVICE_NOT_ACTIVE,
            why=f"WHMCS order {elected} is Active, but WHMCS shows no service of it",
        )
    if not idle:
        assert seen.difference is not None
        return _incomplete(elected, seen.difference)
    names = ", ".join(f"{each.id} ({each.name or 'product ' + each.pid}: {each.status})" for each in idle)
    reason = f"; WHMCS said: {seen.accept_error}" if seen.accept_error else ""
    return Action(
        Do.NEED_DECISION,
        code=ErrorCode.WHMCS_SERVICE_NOT_ACTIVE,
        why=f"WHMCS order {elected} is Active, but not its service {names}{reason}",
    )


def _confirmed(facts: Facts) -> bool:
    """Whether a person named this very order: they know how it differs."""
    return facts.confirmed and facts.adopt == facts.elected


def _incomplete(elected: str, difference: str) -> Action:
    return Action(
        Do.NEED_DECISION,
        why=f"WHMCS order {elected} isn't what was ordered: {difference}. Put it right in WHMCS and adopt it, or "
        "cancel it there and order a new one",
    )


def decide_audit(facts: Facts, seen: Seen) -> Action:
    """After the end: look whether a call sent long ago made another order; DONE when all is well."""
    elected = facts.elected
    if seen.look is None:
        return Action(Do.LOOK)
    if elected is None:
        live = [each.order.id for each in seen.look.marked if each.order.status == ACTIVE]
        if live:
            return Action(Do.NEED_DECISION, why=f"WHMCS order {', '.join(live)} is Active although this order Failed")
        return Action(Do.DONE)  # a Pending one does no harm: the next click finds and elects it
    return _others(elected, seen) or Action(Do.DONE)


def _others(elected: str, seen: Seen) -> Action | None:
    """What the marked orders beside the elected one ask for: an Active one a person, a Pending one its end."""
    if seen.look is None:
        return None
    others = [each.order for each in seen.look.marked if each.order.id != elected]
    active = [order.id for order in others if order.status == ACTIVE]
    if active:
        return Action(Do.NEED_DECISION, why=_two_active([elected, *active]))
    strays = [order.id for order in others if order.status == PENDING and order.id not in seen.cancelled]
    return Action(Do.CANCEL_STRAY, strays[0]) if strays else None


# --- what intents and outcomes change ------------------------------------------------------------------


def taken_over(facts: Facts) -> Facts:
    """What a takeover makes of the facts (portal.ledger.queueing.take_over writes the same in SQL).

    Every intent is in the ledger before its call leaves: where there is none, nothing can have been sent.
    """
    return replace(facts, duplicate_possible=facts.duplicate_possible or facts.add_open)


def after_election(facts: Facts, elected: str, *, found: bool) -> Facts:
    """What is remembered once one is elected. found: it was there, rather than made by this run's own AddOrder.

    Who finds an order may have found it beside others, or beside one that a forgotten run is about to accept: they
    are looked for again before anything is accepted.
    """
    return replace(
        facts, elected=elected, add_open=False, answered=None, duplicate_possible=facts.duplicate_possible or found
    )


def taken_up(facts: Facts) -> Facts:
    """What a run that takes up an unfinished order must believe: an intent without outcome may have had its effect."""
    return replace(facts, duplicate_possible=True) if facts.add_open else facts


def intend(facts: Facts, action: Action, *, now: float, max_request: float) -> Facts:
    """What to write before a CREATE or ACCEPT is made. `max_request`: WHMCS_MAX_REQUEST_SECONDS."""
    latest = now + SEND_WINDOW + max_request
    if action.do is Do.CREATE:
        until = latest if facts.add_in_doubt_until is None else max(latest, facts.add_in_doubt_until)
        return replace(
            facts,
            add_attempts=facts.add_attempts + 1,
            add_open=True,
            add_in_doubt_until=until,
            duplicate_possible=facts.duplicate_possible or facts.add_open or not facts.history_complete,
        )
    assert action.do is Do.ACCEPT
    return replace(facts, accept_attempts=facts.accept_attempts + 1, accept_open=True, accept_in_doubt_until=latest)


def conclude(before: Facts, intended: Facts, action: Action, outcome: Outcome, order_id: str | None = None) -> Facts:
    """What to write after a CREATE or ACCEPT. `before`, `intended`: around its intent; order_id: AddOrder's answer."""
    if action.do is Do.CREATE:
        if outcome is Outcome.UNKNOWN:
            return replace(intended, duplicate_possible=True)
        settled = replace(intended, add_open=False, add_in_doubt_until=before.add_in_doubt_until)
        return replace(settled, answered=order_id) if outcome is Outcome.DONE else settled
    if outcome is Outcome.UNKNOWN:
        return intended
    if outcome is Outcome.DONE:
        return replace(intended, accept_open=False, accept_in_doubt_until=None, active=True)
    # Refused: an earlier accept whose answer was lost may still be at work.
    return replace(intended, accept_open=before.accept_open, accept_in_doubt_until=before.accept_in_doubt_until)


def elects_at_once(before: Facts) -> bool:
    """Whether AddOrder's answer may be elected without a look: nothing else can have made an order."""
    return before.history_complete and before.add_attempts == 0


def _numeric(order_id: str) -> tuple[int, str]:
    return (int(order_id), "") if order_id.isascii() and order_id.isdigit() else (10**18, order_id)


def _wait(until: float | None, why: str) -> Action:
    assert until is not None
    return Action(Do.WAIT, until=until, why=why)


def _two_active(ids: Sequence[str]) -> str:
    return f"more than one live WHMCS order bears this order's mark: {', '.join(ids)}"


def _unelectable(marked: Sequence[Candidate]) -> str:
    names = ", ".join(
        f"{each.order.id} ({each.order.status}{'' if each.complete else ', not complete'})" for each in marked
    )
    return f"WHMCS has an order for this one that can't be used as it is: {names}"
