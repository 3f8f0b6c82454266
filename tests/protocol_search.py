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

What makes it fast leaves nothing out: worlds that differ only in which run is which are one; of a run that has lost its
order only the call it may still send is kept; an order is claimed and first looked at in one step; a world that
promises less than one that was searched isn't searched; and as nothing but a restore reads a copy, the worlds before
it are searched once, for all copies together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

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


class Rules(NamedTuple):
    """The rules that a test may take away."""

    election: bool = True
    look: bool = True  # before any AddOrder
    first_look: bool = True  # before one of which the ledger knows that it is the first
    wait: bool = True


class Order(NamedTuple):
    """One WHMCS order; ids count from 1 in the order in which they became visible."""

    id: int
    status: str = PENDING
    complete: bool = True


class Call(NamedTuple):
    """A call that WHMCS is still working on although nobody listens: it takes effect until `deadline`, or never."""

    do: Do
    order_id: int | None
    deadline: int


class Process(NamedTuple):
    """One run: idle, deciding, or with its intent written and its last check passed (`checked`), or over.

    Where a stopped run could do nothing more than notice that it lost its order, it isn't told apart from a dead one.
    """

    phase: str = "idle"
    facts: Facts = Facts()
    before: Facts = Facts()
    seen: Seen = Seen()
    action: Action | None = None


class World(NamedTuple):
    """Everything there is. `zombie_sent`: some call left although its run had lost the order."""

    now: int = 0
    restored: bool = False
    facts: Facts = Facts()
    owner: int | None = None
    due: int = 0
    ended: bool = False
    runs: tuple[Process, ...] = (Process(),) * RUNS
    orders: tuple[Order, ...] = ()
    calls: tuple[Call, ...] = ()
    zombie_sent: bool = False


OVER = Process("over")


class Violation(Exception):
    """A state that must not be reachable."""

    def __init__(self, what: str, world: World) -> None:
        super().__init__(f"{what}: {world}")


# --- WHMCS ---------------------------------------------------------------------------------------------


def row(order: Order) -> WhmcsOrder:
    """An order as GetOrders shows it."""
    return WhmcsOrder(str(order.id), "1", order.status, "", "1.00", "1", True, ())


def services(order: Order) -> tuple[WhmcsService, ...]:
    """Its services, which are there once it is whole."""
    return (WhmcsService(str(order.id), str(order.id), "7", "Monthly", 1, order.status),) if order.complete else ()


def difference(order: Order) -> str | None:
    """How it differs from what was asked for, in words."""
    return None if order.complete else "product 7 isn't there"


def effect(world: World, call: Call) -> tuple[World, int | None, bool]:
    """Carry a call out: the world after it, AddOrder's id, and whether it was accepted."""
    if call.do is Do.CREATE:
        order = Order(len(world.orders) + 1)
        return world._replace(orders=(*world.orders, order)), order.id, True
    assert call.order_id is not None
    target = world.orders[call.order_id - 1]
    if target.status != PENDING:
        return world, None, False
    status = ACTIVE if call.do is Do.ACCEPT else CANCELLED
    orders = tuple(o._replace(status=status) if o.id == target.id else o for o in world.orders)
    return world._replace(orders=orders), None, True


# --- one run's next step -------------------------------------------------------------------------------


def with_run(world: World, index: int, **changes: Any) -> World:
    """The world with one run changed."""
    process = world.runs[index]._replace(**changes)
    return world._replace(runs=(*world.runs[:index], process, *world.runs[index + 1 :]))


def over(world: World, index: int) -> World:
    """The world in which one run does nothing more."""
    return world._replace(runs=(*world.runs[:index], OVER, *world.runs[index + 1 :]))


def lost(world: World, index: int) -> World:
    """A run that stands right before sending has lost its order: all it can do is to send that call."""
    action = world.runs[index].action
    assert action is not None
    return with_run(world, index, facts=Facts(), before=Facts(), seen=Seen(), action=Action(action.do, action.order_id))


def decide(rules: Rules, process: Process, *, now: int) -> Action:
    """What the product decides for a run, under the rules that are in force."""
    facts = process.facts
    if facts.elected is None:
        seen = process.seen
        if not rules.look:  # as if nothing were there
            facts, seen = replace(facts, add_attempts=0), replace(seen, look=Look(now * TICK, ()))
        if not rules.first_look and facts.history_complete and not facts.add_attempts:
            seen = replace(seen, look=Look(now * TICK, ()))
        if not rules.wait:
            facts = replace(facts, add_in_doubt_until=None)
        action = decide_create(facts, seen, now=now * TICK, references_readable=True)
        if action.do is not Do.DONE:
            return action
    return decide_accept(process.facts, process.seen, now=now * TICK)


def claimed(rules: Rules, world: World, index: int) -> World:
    """A run takes the order up."""
    facts = taken_up(world.facts)
    if not rules.election:
        facts = replace(facts, elected=None)  # each run chooses for itself
    world = with_run(world._replace(owner=index), index, phase="decide", facts=facts, seen=Seen())
    action = decide(rules, world.runs[index], now=world.now)
    # Between the claim and what is read first nothing can happen that might not as well have happened before it.
    return decided(rules, world, index, action) if action.do in (Do.LOOK, Do.READ_ORDER) else world


def counted(facts: Facts) -> Facts:
    """How often calls were tried is kept only as far as decisions ask: whether AddOrder was, of AcceptOrder nothing."""
    return replace(facts, add_attempts=min(facts.add_attempts, 1), accept_attempts=0)


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
        return with_run(world._replace(facts=facts), index, facts=facts, seen=seen.after_election(chosen))
    if action.do in (Do.CREATE, Do.ACCEPT):
        facts = counted(intend(process.facts, action, now=world.now * TICK, max_request=MAX_REQUEST))
        seen = Seen() if action.do is Do.CREATE else seen
        world = world._replace(facts=facts)
        return with_run(world, index, phase="checked", before=process.facts, facts=facts, seen=seen, action=action)
    if action.do is Do.CANCEL_STRAY:
        return with_run(world, index, phase="checked", action=action)
    if action.do is Do.WAIT:
        assert action.until is not None
        world = world._replace(owner=None, due=-(-int(action.until) // int(TICK)))
        return with_run(over(world, index), index, phase="idle")
    if action.do is Do.READ_SERVICES:
        assert action.order_id is not None
        order = world.orders[int(action.order_id) - 1]
        return with_run(world, index, seen=seen.with_services(services(order), difference(order)))
    assert action.do in (Do.NEED_DECISION, Do.FAIL, Do.DONE), action  # the run ends
    return over(world._replace(owner=None, ended=True), index)


def sent(world: World, index: int) -> Iterator[World]:
    """The call leaves, and what comes of it is recorded, unless the run has lost its order meanwhile."""
    process = world.runs[index]
    action = process.action
    assert action is not None
    call = Call(action.do, int(action.order_id) if action.order_id else None, world.now + 1)
    world = world._replace(zombie_sent=world.zombie_sent or world.owner != index)
    if call.do is Do.CREATE and len(world.orders) + sum(c.do is Do.CREATE for c in world.calls) >= MOST_ORDERS:
        return
    done, made, accepted = effect(world, call)
    yield recorded(done, index, Outcome.DONE if accepted else Outcome.REFUSED, made)
    yield recorded(done, index, Outcome.UNKNOWN, None)  # done, but the answer is lost
    yield recorded(world, index, Outcome.UNKNOWN, None)  # never done
    later = world._replace(calls=tuple(sorted((*world.calls, call), key=repr)))
    yield recorded(later, index, Outcome.UNKNOWN, None)  # to be done when nobody listens any more


def recorded(world: World, index: int, outcome: Outcome, made: int | None) -> World:
    """What came of a call is written, if the run still holds the order."""
    process = world.runs[index]
    action = process.action
    if world.owner != index:
        return over(world, index)  # the fence refuses the write
    assert action is not None
    if action.do is Do.CANCEL_STRAY:
        assert action.order_id is not None
        if outcome is Outcome.UNKNOWN:  # the run gives the order back, and the next one looks for itself
            return over(world._replace(owner=None, due=world.now), index)
        return with_run(world, index, phase="decide", seen=process.seen.after_cancel(action.order_id), action=None)
    facts = conclude(process.before, process.facts, action, outcome, str(made) if made else None)
    seen = process.seen
    if action.do is Do.ACCEPT:
        seen = seen.after_accept(outcome, "refused" if outcome is Outcome.REFUSED else None)
    elif outcome is Outcome.DONE and elects_at_once(process.before):
        facts = after_election(facts, world.facts.elected or str(made), found=False)
    world = world._replace(facts=facts)
    return with_run(world, index, phase="decide", facts=facts, before=Facts(), seen=seen, action=None)


# --- everything that may happen next -------------------------------------------------------------------


def successors(rules: Rules, world: World) -> Iterator[World]:
    """Every world that may follow."""
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
        taken = world._replace(owner=None, due=world.now, facts=taken_over(world.facts))
        yield over(taken, world.owner)  # it was dead, or will only notice that it lost the order
        if world.runs[world.owner].phase == "checked":
            yield lost(taken, world.owner)  # it was stopped right before sending, and goes on some day
    for position, call in enumerate(world.calls):
        others = world.calls[:position] + world.calls[position + 1 :]
        done, made, _ = effect(world._replace(calls=others), call)
        yield done
        if made is not None:  # the row is visible before its items are
            half = tuple(o._replace(complete=False) if o.id == made else o for o in done.orders)
            yield done._replace(orders=half)
    for order in world.orders:
        if not order.complete:
            yield world._replace(orders=tuple(o._replace(complete=True) if o is order else o for o in world.orders))
    overdue = any(call.deadline <= world.now for call in world.calls)
    half_built = any(not order.complete for order in world.orders)
    waiting = world.owner is None and not world.ended and world.due > world.now
    if world.now < LAST_TICK and not overdue and not half_built and (waiting or world.calls):
        yield world._replace(now=world.now + 1)
    if overdue:  # what hasn't taken effect by then never does
        yield world._replace(calls=tuple(call for call in world.calls if call.deadline > world.now))


def restored(world: World, copy: Facts) -> World | None:
    """The ledger is restored from a copy and everything started anew: no lease, no job and no process is left but
    those that were stopped, and what they had checked before they may yet send. None: no run is left to go on."""
    runs = tuple(process if process.phase in ("checked", "idle") else OVER for process in world.runs)
    if Process() not in runs:
        return None
    under_way = bool(world.calls) or any(process.phase == "checked" for process in runs)
    world = world._replace(
        facts=copy,
        owner=None,
        due=world.now,
        ended=False,
        restored=True,
        runs=runs,
        zombie_sent=world.zombie_sent or under_way,
    )
    for index, process in enumerate(runs):
        if process.phase == "checked":
            world = lost(world, index)
    return world


def check_active(world: World) -> None:
    """Raises Violation where two orders are Active."""
    active = [order.id for order in world.orders if order.status == ACTIVE]
    if len(active) > 1:
        raise Violation("two Active orders", world)


def check(world: World) -> None:
    """Raises Violation where a promise is broken."""
    check_active(world)
    elected = world.facts.elected
    # A run that the restored ledger has forgotten may cancel what it took for a stray: then a person decides.
    forgotten = world.restored and world.zombie_sent
    if elected is not None and not forgotten and world.orders[int(elected) - 1].status == CANCELLED:
        raise Violation("the elected order was cancelled", world)
    if len(world.orders) > 1 and not world.zombie_sent:
        raise Violation("a second order although no stopped process sent anything", world)


# --- searching -----------------------------------------------------------------------------------------


def _promise(world: World) -> int:
    """What `check` asks of a world, and of those that come of it: 0 is the most."""
    return 0 if not world.zombie_sent else 2 if world.restored else 1


class Worlds:
    """The worlds met so far, each known by numbers for its parts: most parts are shared, and hashed once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_value: dict[object, int] = {}
        self._by_identity: dict[int, int] = {}  # of the parts that `_by_value` keeps alive
        self._known: tuple[dict[tuple[object, ...], int], ...] = ({}, {}, {})  # by what is promised, the most first
        self.count = 0

    def add(self, world: World, *, covered: bool) -> tuple[int, bool]:
        """The world's number, and whether it is new; with `covered`, one that promises less than a known one isn't."""
        key, promise = self._key(world), _promise(world)
        for known in self._known[: promise + 1] if covered else self._known[promise : promise + 1]:
            number = known.get(key)
            if number is not None:
                return number, False
        self._known[promise][key] = self.count
        self.count += 1
        assert self.count < self._most, "the search has outgrown its bounds"
        return self.count - 1, True

    def _key(self, world: World) -> tuple[object, ...]:
        number = self._number
        runs = [number(run) for run in world.runs]
        owner = None if world.owner is None else runs.pop(world.owner)
        return (
            world.now,
            owner,
            world.due,
            world.ended,
            number(world.facts),
            number(world.orders),
            number(world.calls),
            *sorted(runs),  # it doesn't matter which is which
        )

    def _number(self, part: object) -> int:
        known = self._by_identity.get(id(part))
        if known is None:
            known = self._by_value.get(part)
        if known is None:
            known = self._by_value[part] = self._by_identity[id(part)] = len(self._by_value)
        return known


class Search:
    """Visits every reachable world. `endings`: whether one of its orders is Active, where nothing more can come."""

    def __init__(self, rules: Rules, check: Callable[[World], None], most: int = 1_000_000) -> None:
        self.rules = rules
        self.check = check
        self.worlds = Worlds(most)
        self.endings: set[bool] = set()

    def visit(self, starts: Iterable[World]) -> list[tuple[World, list[int]]]:
        """Every world that can come of these and wasn't met before, with its successors' numbers. Raises Violation."""
        first = self.worlds.count
        covered = first > 0  # the first graph is walked once more, by `copies`
        queue = [world for world in starts if self.worlds.add(world, covered=covered)[1]]
        followed: list[tuple[World, list[int]]] = []
        for world in queue:  # it grows meanwhile
            self.check(world)
            numbers = []
            for following in successors(self.rules, world):
                number, new = self.worlds.add(following, covered=covered)
                numbers.append(number - first)
                if new:
                    queue.append(following)
            if not numbers:
                self.endings.add(any(order.status == ACTIVE for order in world.orders))
            followed.append((world, numbers))
        return followed


def search(rules: Rules, *, restores: bool = False, check: Callable[[World], None] = check) -> tuple[int, set[bool]]:
    """Visit every reachable world. Returns how many there are, and how they can end. Raises Violation.

    restores: the ledger may be copied, and restored from the copy, once; check: what is asked of each world.
    """
    searching = Search(rules, check)
    followed = searching.visit([World()])
    if restores:
        worlds = [world for world, _ in followed]
        again = [found for number, copy in copies(followed) if (found := restored(worlds[number], copy))]
        # Those that promise more first: of two that are alike else, the other needn't be searched.
        searching.visit(sorted(again, key=lambda world: world.zombie_sent))
    return searching.worlds.count, searching.endings


def copies(followed: list[tuple[World, list[int]]]) -> Iterator[tuple[int, Facts]]:
    """Each world's number with each copy of the ledger that may have been made on a way to it."""
    bits: dict[Facts, int] = {}
    own = [0 if world.ended else 1 << bits.setdefault(taken_over(world.facts), len(bits)) for world, _ in followed]
    made = [0] * len(followed)
    made[0] = own[0]
    changed = [0]
    while changed:
        number = changed.pop()
        for following in followed[number][1]:
            more = made[following] | made[number] | own[following]
            if more != made[following]:
                made[following] = more
                changed.append(following)
    for number, mask in enumerate(made):
        yield from ((number, copy) for copy, bit in bits.items() if mask >> bit & 1)
