"""Every interleaving of three runs of one order that may pause anywhere or die, over the product's own decisions.

The states searched are: the ledger's row (Facts, owner), what each run remembers, WHMCS' orders, and calls that may
still take effect there. Decisions and transitions are `portal.domain.protocol`'s; only the ledger's conditional
writes, WHMCS and the clock are modelled. A run may be taken over at any moment, dead or only slow; a call may be lost,
answered, or take effect as late as WHMCS can.

At any moment the ledger may be copied, and later restored from that copy with everything else that could tell of it
gone (Redis, too): what was written in between is forgotten, calls under way and stopped processes are not.

Safety, in every state: never two Active orders, never a cancelled elected one. And as long as no stopped process sent a
call after it was taken over (which no fence can prevent), and none was under way when the ledger was restored, never a
second order at all. Taking away any of the rules (the election, the look, the wait) makes the search find a violation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from portal.domain.model import WhmcsOrder, WhmcsService
from portal.domain.protocol import (
    Action,
    Do,
    Facts,
    after_election,
    conclude,
    decide_accept,
    decide_create,
    elects_at_once,
    intend,
    taken_over,
    taken_up,
)
from portal.domain.seen import ACTIVE, PENDING, Candidate, Look, Outcome, Seen

TICK = 10.0  # seconds; a call sent in one tick takes effect by the end of the next
MAX_REQUEST = 10.0
LAST_TICK = 4
RUNS = 3
MOST_ORDERS = 3

CANCELLED = "Cancelled"


@dataclass(frozen=True)
class Rules:
    """The rules that a test may take away."""

    election: bool = True
    look: bool = True
    wait: bool = True
    restores: bool = False  # whether the ledger may be copied, and restored from the copy, once


@dataclass(frozen=True)
class Order:
    """One WHMCS order; ids count from 1 in the order in which they became visible."""

    id: int
    status: str = PENDING
    complete: bool = True


@dataclass(frozen=True)
class Call:
    """A call that WHMCS is still working on although nobody listens: it takes effect until `deadline`, or never."""

    do: Do
    order_id: int | None
    deadline: int


@dataclass(frozen=True)
class Process:
    """One run: idle, deciding, or with its intent written and its last check passed (`checked`), or over.

    Where a stopped run could do nothing more than notice that it lost its order, it isn't told apart from a dead one.
    """

    phase: str = "idle"
    facts: Facts = Facts()
    before: Facts = Facts()
    seen: Seen = Seen()
    action: Action | None = None


@dataclass(frozen=True)
class World:
    now: int = 0
    copy: Facts | None = None  # what a copy of the ledger remembers
    restored: bool = False
    facts: Facts = Facts()
    owner: int | None = None
    due: int = 0
    ended: bool = False
    runs: tuple[Process, ...] = (Process(),) * RUNS
    orders: tuple[Order, ...] = ()
    calls: tuple[Call, ...] = ()
    zombie_sent: bool = False


class Violation(Exception):
    def __init__(self, what: str, world: World) -> None:
        super().__init__(f"{what}: {world}")


# --- WHMCS ---------------------------------------------------------------------------------------------


def row(order: Order) -> WhmcsOrder:
    return WhmcsOrder(str(order.id), "1", order.status, "", "1.00", "1", True, ())


def services(order: Order) -> tuple[WhmcsService, ...]:
    return (WhmcsService(str(order.id), str(order.id), "7", "Monthly", 1, order.status),) if order.complete else ()


def difference(order: Order) -> str | None:
    return None if order.complete else "product 7 isn't there"


def effect(world: World, call: Call) -> tuple[World, int | None, bool]:
    """Carry a call out: the world after it, AddOrder's id, and whether it was accepted."""
    if call.do is Do.CREATE:
        order = Order(len(world.orders) + 1)
        return replace(world, orders=(*world.orders, order)), order.id, True
    assert call.order_id is not None
    target = world.orders[call.order_id - 1]
    if target.status != PENDING:
        return world, None, False
    status = ACTIVE if call.do is Do.ACCEPT else CANCELLED
    orders = tuple(replace(o, status=status) if o.id == target.id else o for o in world.orders)
    return replace(world, orders=orders), None, True


# --- one run's next step -------------------------------------------------------------------------------


def with_run(world: World, index: int, **changes: object) -> World:
    process = replace(world.runs[index], **changes)  # type: ignore[arg-type]
    return replace(world, runs=(*world.runs[:index], process, *world.runs[index + 1 :]))


def over(world: World, index: int) -> World:
    return with_run(world, index, phase="over", facts=Facts(), before=Facts(), seen=Seen(), action=None)


def decide(rules: Rules, process: Process, *, now: int) -> Action:
    facts = process.facts
    if facts.elected is None:
        seen = process.seen
        if not rules.look:  # as if nothing were there
            facts, seen = replace(facts, add_attempts=0), replace(seen, look=Look(now * TICK, ()))
        if not rules.wait:
            facts = replace(facts, add_in_doubt_until=None)
        action = decide_create(facts, seen, now=now * TICK, references_readable=True)
        if action.do is not Do.DONE:
            return action
    return decide_accept(process.facts, process.seen, now=now * TICK)


def claimed(rules: Rules, world: World, index: int) -> World:
    facts = taken_up(world.facts)
    if not rules.election:
        facts = replace(facts, elected=None)  # each run chooses for itself
    return with_run(replace(world, owner=index), index, phase="decide", facts=facts, seen=Seen())


def decided(rules: Rules, world: World, index: int, action: Action) -> World:
    """The owner does what it decided: reads at once, and for an effect writes the intent and passes the last check."""
    process = world.runs[index]
    seen = process.seen
    if action.do is Do.LOOK:
        marked = tuple(
            Candidate(row(order), order.complete, services(order), difference(order)) for order in world.orders
        )
        look = Look(world.now * TICK, marked)
        return with_run(world, index, seen=seen.with_look(look, process.facts.elected))
    if action.do is Do.READ_ORDER:
        assert action.order_id is not None
        return with_run(world, index, seen=seen.with_order(row(world.orders[int(action.order_id) - 1])))
    if action.do is Do.ELECT:
        assert action.order_id is not None
        chosen = world.facts.elected if rules.election and world.facts.elected else action.order_id
        facts = after_election(process.facts, chosen, found=True)
        return with_run(replace(world, facts=facts), index, facts=facts, seen=seen.after_election(chosen))
    if action.do in (Do.CREATE, Do.ACCEPT):
        facts = intend(process.facts, action, now=world.now * TICK, max_request=MAX_REQUEST)
        seen = Seen() if action.do is Do.CREATE else seen
        world = replace(world, facts=facts)
        return with_run(world, index, phase="checked", before=process.facts, facts=facts, seen=seen, action=action)
    if action.do is Do.CANCEL_STRAY:
        return with_run(world, index, phase="checked", action=action)
    if action.do is Do.WAIT:
        assert action.until is not None
        world = replace(world, owner=None, due=-(-int(action.until) // int(TICK)))
        return with_run(over(world, index), index, phase="idle")
    if action.do is Do.READ_SERVICES:
        assert action.order_id is not None
        order = world.orders[int(action.order_id) - 1]
        return with_run(world, index, seen=seen.with_services(services(order), difference(order)))
    assert action.do in (Do.NEED_DECISION, Do.FAIL, Do.DONE), action  # the run ends
    return over(replace(world, owner=None, ended=True), index)


def sent(world: World, index: int) -> Iterator[World]:
    """The call leaves, and what comes of it is recorded, unless the run has lost its order meanwhile."""
    process = world.runs[index]
    action = process.action
    assert action is not None
    call = Call(action.do, int(action.order_id) if action.order_id else None, world.now + 1)
    world = replace(world, zombie_sent=world.zombie_sent or world.owner != index)
    if call.do is Do.CREATE and len(world.orders) + sum(c.do is Do.CREATE for c in world.calls) >= MOST_ORDERS:
        return
    done, made, accepted = effect(world, call)
    yield recorded(done, index, Outcome.DONE if accepted else Outcome.REFUSED, made)
    yield recorded(done, index, Outcome.UNKNOWN, None)  # done, but the answer is lost
    yield recorded(world, index, Outcome.UNKNOWN, None)  # never done
    later = replace(world, calls=tuple(sorted((*world.calls, call), key=repr)))
    yield recorded(later, index, Outcome.UNKNOWN, None)  # to be done when nobody listens any more


def recorded(world: World, index: int, outcome: Outcome, made: int | None) -> World:
    process = world.runs[index]
    action = process.action
    if world.owner != index:
        return over(world, index)  # the fence refuses the write
    assert action is not None
    if action.do is Do.CANCEL_STRAY:
        assert action.order_id is not None
        if outcome is Outcome.UNKNOWN:  # the run gives the order back, and the next one looks for itself
            return over(replace(world, owner=None, due=world.now), index)
        return with_run(world, index, phase="decide", seen=process.seen.after_cancel(action.order_id), action=None)
    facts = conclude(process.before, process.facts, action, outcome, str(made) if made else None)
    seen = process.seen
    if action.do is Do.ACCEPT:
        seen = seen.after_accept(outcome, "refused" if outcome is Outcome.REFUSED else None)
    elif outcome is Outcome.DONE and elects_at_once(process.before):
        facts = after_election(facts, world.facts.elected or str(made), found=False)
    world = replace(world, facts=facts)
    return with_run(world, index, phase="decide", facts=facts, before=Facts(), seen=seen, action=None)


# --- everything that may happen next -------------------------------------------------------------------


def successors(rules: Rules, world: World) -> Iterator[World]:
    if world.owner is None and not world.ended and world.now >= world.due:
        idle = [index for index in range(RUNS) if world.runs[index].phase == "idle"]
        if idle:  # they are alike: it doesn't matter which one claims
            yield claimed(rules, world, idle[0])
    for index, process in enumerate(world.runs):
        if process.phase == "decide":
            yield decided(rules, world, index, decide(rules, process, now=world.now))
        elif process.phase == "checked":
            yield from sent(world, index)
    if world.owner is not None:
        taken = replace(world, owner=None, due=world.now, facts=taken_over(world.facts))
        yield over(taken, world.owner)  # it was dead, or will only notice that it lost the order
        if world.runs[world.owner].phase == "checked":
            yield taken  # it was stopped right before sending, and goes on some day
    if rules.restores and not world.restored:
        yield from copied_or_restored(world)
    for position, call in enumerate(world.calls):
        others = world.calls[:position] + world.calls[position + 1 :]
        done, made, _ = effect(replace(world, calls=others), call)
        yield done
        if made is not None:  # the row is visible before its items are
            half = tuple(replace(o, complete=False) if o.id == made else o for o in done.orders)
            yield replace(done, orders=half)
    for order in world.orders:
        if not order.complete:
            yield replace(world, orders=tuple(replace(o, complete=True) if o is order else o for o in world.orders))
    overdue = any(call.deadline <= world.now for call in world.calls)
    half_built = any(not order.complete for order in world.orders)
    waiting = world.owner is None and not world.ended and world.due > world.now
    if world.now < LAST_TICK and not overdue and not half_built and (waiting or world.calls):
        yield replace(world, now=world.now + 1)
    if overdue:  # what hasn't taken effect by then never does
        yield replace(world, calls=tuple(call for call in world.calls if call.deadline > world.now))


def copied_or_restored(world: World) -> Iterator[World]:
    """The ledger is copied, or restored from its copy: then nobody's lease is known to it any more."""
    if world.copy is None:
        if not world.ended:
            yield replace(world, copy=taken_over(world.facts))
        return
    under_way = bool(world.calls) or any(process.phase == "checked" for process in world.runs)
    runs = tuple(process if process.phase == "checked" else Process("over") for process in world.runs)
    idle = sum(process.phase == "idle" for process in world.runs)
    runs = tuple(Process() if process.phase == "idle" else each for process, each in zip(world.runs, runs, strict=True))
    if idle:
        yield replace(
            world,
            facts=world.copy,
            owner=None,
            due=world.now,
            ended=False,
            restored=True,
            copy=Facts(),
            runs=runs,
            zombie_sent=world.zombie_sent or under_way,
        )


def check(world: World) -> None:
    active = [order.id for order in world.orders if order.status == ACTIVE]
    if len(active) > 1:
        raise Violation("two Active orders", world)
    elected = world.facts.elected
    # A run that the restored ledger has forgotten may cancel what it took for a stray: then a person decides.
    forgotten = world.restored and world.zombie_sent
    if elected is not None and not forgotten and world.orders[int(elected) - 1].status == CANCELLED:
        raise Violation("the elected order was cancelled", world)
    if len(world.orders) > 1 and not world.zombie_sent:
        raise Violation("a second order although no stopped process sent anything", world)


class Fingerprint:
    """A world as a tuple of numbers, one for each part: most parts are shared between worlds, and hashed once."""

    def __init__(self) -> None:
        self._by_value: dict[object, int] = {}
        self._by_identity: dict[int, int] = {}  # of the parts that `_by_value` keeps alive

    def of(self, world: World) -> tuple[object, ...]:
        return (
            world.now,
            world.owner,
            world.due,
            world.ended,
            world.restored,
            world.zombie_sent,
            self._number(world.copy),
            self._number(world.facts),
            self._number(world.orders),
            self._number(world.calls),
            *map(self._number, world.runs),
        )

    def _number(self, part: object) -> int:
        known = self._by_identity.get(id(part))
        if known is None:
            known = self._by_value.get(part)
        if known is None:
            known = self._by_value[part] = self._by_identity[id(part)] = len(self._by_value)
        return known


def search(rules: Rules, most: int) -> tuple[int, set[bool]]:
    """Visit every reachable state. Returns how many there are, and how they can end. Raises Violation."""
    start = World()
    fingerprint = Fingerprint()
    seen = {fingerprint.of(start)}
    stack = [start]
    endings: set[bool] = set()
    while stack:
        world = stack.pop()
        check(world)
        stuck = True
        for following in successors(rules, world):
            stuck = False
            mark = fingerprint.of(following)
            if mark not in seen:
                seen.add(mark)
                stack.append(following)
                assert len(seen) < most, "the search has outgrown its bounds"
        if stuck:
            endings.add(any(order.status == ACTIVE for order in world.orders))
    return len(seen), endings


# --- the tests -----------------------------------------------------------------------------------------


def test_no_interleaving_breaks_the_promise() -> None:
    states, endings = search(Rules(), 1_000_000)
    assert states > 50_000  # it did search
    assert endings == {True, False}  # it provisions; and where nothing more can come, it has left some undone


@pytest.mark.long
def test_no_restore_of_the_ledger_breaks_the_promise() -> None:
    states, endings = search(Rules(restores=True), 3_000_000)
    assert states > 100_000
    assert endings == {True, False}


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        (Rules(restores=True, look=False), "two Active orders|a second order"),
        (Rules(election=False), "two Active orders|the elected order was cancelled"),
        (Rules(look=False), "a second order"),
        (Rules(wait=False), "a second order"),
    ],
)
def test_without_a_rule_the_search_finds_what_goes_wrong(rules: Rules, what: str) -> None:
    with pytest.raises(Violation, match=what):
        search(rules, 1_000_000)
