"""What chaos kills, stops and breaks: processes that hold orders, and the house around them."""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any

from sandbox.control import SandboxError
from tests.crash.chaos_stack import ChaosStack
from tests.crash.harness import (
    TTL_SECONDS,
    Broken,
    Holder,
    Wanted,
    children_of,
    runs,
    send_signal,
    stop_outside_a_transaction,
)
from tests.crash.plan import Planned

#: Troubles of the whole house, one in turn after every so many orders (in a long run less often).
HOUSE = (
    "worker",
    "slow names",
    "sweep",
    "silent valkey",
    "web",
    "valkey",
    "refuse calls",
    "ledger",
    "flush",
    "stop sweep",
)
ORDERS_PER_HOUSE_TROUBLE, ORDERS_PER_HOUSE_TROUBLE_LATER, LONG = 14, 40, 300

SLOW_NAME_SECONDS, SLOW_NAMES_FOR = 4.0, 8.0  # longer than a call may take to leave after its intent
SILENT_VALKEY_SECONDS = 7.0
REFUSED_SECONDS = 60.0

#: What Salesforce refuses a whole call with while the integration user's rights are gone.
CALLS_REFUSED = [{"errorCode": "INSUFFICIENT_ACCESS", "message": "insufficient access rights on cross-reference id"}]


def say(text: str) -> None:
    """Progress, for people."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Trouble:
    """Kills, stops, and lets go on. Everything happens in the main thread, which also starts processes anew."""

    def __init__(
        self,
        stack: ChaosStack,
        plan: Sequence[Planned],
        draw: random.Random,
        meanwhile: Callable[[Planned, dict[str, Any]], bool],
    ) -> None:
        """`meanwhile`: what people do while a call is held; says whether there was something for them to do."""
        self.stack = stack
        self._meanwhile = meanwhile
        self.kills = self.kills_holding = self.sigstops = 0
        self.broken: list[Broken] = []  # whose resuming is still to be measured
        self.all_broken: list[Broken] = []
        self.touched: set[int] = set()  # process ids that were killed or stopped
        self.stopped: set[int] = set()
        self.outlived: list[int] = []  # slots that ran on without their supervisor
        self._planned = {str(each.wanted.number): each for each in plan}
        self._draw = draw
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._number = itertools.count()
        self._seen: set[tuple[str, int]] = set()
        self._house = itertools.cycle(HOUSE)
        self._house_done = 0
        self._lockers: list[threading.Thread] = []

    def at(self, seconds: float, do: Callable[[], object]) -> None:
        """Do this so many seconds from now."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._number), do))

    def turn(self, sent: int) -> None:
        """Everything that is due. `sent`: orders asked for so far."""
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        for side in (self.stack.shop, self.stack.org):
            for entry in side.journal(held=True):
                self._held(side, entry)
        every = ORDERS_PER_HOUSE_TROUBLE if len(self._planned) <= LONG else ORDERS_PER_HOUSE_TROUBLE_LATER
        if sent // every > self._house_done:
            self._house_done += 1
            what = next(self._house)
            self._trouble_the_house(what)
            # As long as nobody can write to the ledger nobody can take over: that would measure the lock.
            self._kill_anybody(how="locked" if what == "ledger" else "kill in passing")

    # --- held calls ---

    def _held(self, side: Any, entry: dict[str, Any]) -> None:
        if (side.url, entry["id"]) in self._seen:
            return
        self._seen.add((side.url, entry["id"]))
        planned = self._planned[entry["fault"]["label"]]
        holder = self.stack.holder(planned.wanted.order)
        call = entry["id"]

        def release(then: str) -> None:
            with suppress(SandboxError):
                side.release(call, then=then)

        if self._meanwhile(planned, entry):
            release(planned.then)
            return
        if holder is None or not self._strike(holder, planned, how=f"{planned.signal} in {entry['action']}"):
            release("continue")
            return
        self.at(planned.hold, lambda: release(planned.then))

    def _strike(self, holder: Holder, planned: Planned, *, how: str) -> bool:
        """Kill or stop a process while it surely holds the order: stopped first, then looked at again."""
        if holder.pid in self.stopped or not stop_outside_a_transaction(holder.pid):
            return False
        again = self.stack.holder(holder.sf_order_id)
        if again != holder:
            send_signal(holder.pid, signal.SIGCONT)
            return False
        held = [each for each in self.stack.holders() if each.pid == holder.pid]  # its other slots have orders, too
        self.touched.add(holder.pid)
        now = time.time()
        if planned.signal == "stop":
            self.sigstops += 1
            self.stopped.add(holder.pid)
            self._note(held, now, how)
            self.at(planned.stopped, lambda: self._go_on(holder.pid))
            return True
        send_signal(holder.pid, signal.SIGKILL)
        self.kills += 1
        self.kills_holding += 1
        self._note(held, now, how)
        return True

    def _note(self, holders: Sequence[Holder], at: float, how: str) -> None:
        """Note whose run was broken, and how. `at`: seconds since 1970."""
        broken = [Broken(each.sf_order_id, each.fence, at, how) for each in holders]
        self.broken += broken
        self.all_broken += broken

    def _go_on(self, pid: int) -> None:
        send_signal(pid, signal.SIGCONT)
        self.stopped.discard(pid)

    # --- anybody, anywhere ---

    def _kill_anybody(self, *, how: str) -> None:
        """Kill a process that holds some order, wherever it is with it."""
        holders = [each for each in self.stack.holders() if each.pid not in self.stopped]
        if not holders:
            return
        holder = self._draw.choice(holders)
        planned = Planned(Wanted(0, 0, []), 0.0, "", [], None, signal="kill")
        self._strike(holder, planned, how=how)

    def _trouble_the_house(self, what: str) -> None:
        say(f"trouble: {what}")
        if what == "worker":
            self._kill_supervisor(self._draw.choice(self.stack.worker_names))
        elif what == "sweep":
            self._kill_child(self._draw.choice(self.stack.sweep_names))
        elif what in ("web", "valkey"):
            self._kill_child(what)
        elif what == "flush":
            self._flush()
        elif what == "ledger":
            self._lock_ledger(TTL_SECONDS + 1.5)
        elif what == "silent valkey":
            self._silence("valkey", SILENT_VALKEY_SECONDS)
        elif what == "slow names":
            self._slow_names()
        elif what == "refuse calls":
            self._refuse_calls()
        else:
            child = self.stack.child(self._draw.choice(self.stack.sweep_names))
            if child.alive and child.pid not in self.stopped and stop_outside_a_transaction(child.pid):
                self.sigstops += 1
                self.touched.add(child.pid)
                self.stopped.add(child.pid)
                self.at(TTL_SECONDS + 2, lambda: self._go_on(child.pid))

    def _kill_supervisor(self, name: str) -> None:
        child = self.stack.child(name)
        slots = set(children_of(child.pid))
        child.signal(signal.SIGSTOP)  # so that none of the holders is replaced while we look
        holding = [each for each in self.stack.holders() if each.pid in slots]
        now = time.time()
        send_signal(child.pid, signal.SIGKILL)  # alone: its children must die with it by themselves
        self.touched |= slots | {child.pid}
        self.kills += 1
        self.kills_holding += bool(holding)
        self._note(holding, now, "supervisor")
        self.at(0.7, lambda: self._start_again(name, slots))

    def _start_again(self, name: str, slots: set[int]) -> None:
        left = [pid for pid in slots if runs(pid) and pid not in self.stopped]
        if left:
            self.outlived += left
            say(f"children outlived their supervisor: {left}")
        child = self.stack.child(name)
        if child.alive:
            return  # a restore has started it meanwhile
        child.kill()
        child.start()

    def _kill_child(self, name: str) -> None:
        child = self.stack.child(name)
        self.touched.add(child.pid)
        child.kill()
        self.kills += 1
        self.at(0.7, lambda: self._start_child(name))

    def _start_child(self, name: str) -> None:
        child = self.stack.child(name)
        if not child.alive:  # a restore may have started it meanwhile
            child.start()

    def _flush(self) -> None:
        import redis

        with suppress(redis.RedisError), closing(redis.Redis(unix_socket_path=str(self.stack.valkey_socket))) as valkey:
            valkey.flushall()

    def _silence(self, name: str, seconds: float) -> None:
        """Stopped, not closed: whoever asks it gets no answer, and no error."""
        child = self.stack.child(name)
        if child.alive:
            child.signal(signal.SIGSTOP)
            self.at(seconds, lambda: send_signal(child.pid, signal.SIGCONT))

    def _slow_names(self) -> None:
        """The workers' name server takes long over WHMCS' name."""
        self.stack.slow_names(SLOW_NAME_SECONDS)
        self.at(SLOW_NAMES_FOR, lambda: self.stack.slow_names(0.0))

    def _refuse_calls(self) -> None:
        """For a minute the integration user may change nothing in Salesforce, whatever it asks for."""
        for action in ("update:Order", "collections.update"):
            fault = self.stack.org.fault("error", action=action, status=403, body=CALLS_REFUSED, count=0)
            self.at(REFUSED_SECONDS, partial(self.stack.org.clear_faults, fault))

    def restored(self) -> None:
        """Every process of the portal was ended and started again: nobody is stopped any more."""
        self.stopped.clear()

    def _lock_ledger(self, seconds: float) -> None:
        """Hold the database's write lock: no heartbeat gets through, and nobody may be taken over for that."""
        thread = threading.Thread(target=self._hold_lock, args=(seconds,))
        thread.start()
        self._lockers.append(thread)

    def _hold_lock(self, seconds: float) -> None:
        if self.stack.database_url is None:
            with closing(sqlite3.connect(self.stack.ledger_path, timeout=30, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                connection.execute("ROLLBACK")
            return
        import psycopg

        with psycopg.connect(self.stack.database_url) as connection:
            connection.execute("LOCK TABLE workers, fulfillments IN EXCLUSIVE MODE")
            time.sleep(seconds)

    def calm(self) -> None:
        """The end of all trouble: no faults, nobody stopped, everybody running."""
        deadline = time.monotonic() + 60
        while self._later and time.monotonic() < deadline:
            self.turn(0)
            time.sleep(0.03)
        for thread in self._lockers:
            thread.join()
        for side in (self.stack.shop, self.stack.org):
            side.clear_faults()
            side.release()
        for pid in list(self.stopped):
            self._go_on(pid)
        for name, child in self.stack.children.items():
            if not child.alive:
                say(f"{name} wasn't running: {child.obituary()[:300]}")
                child.start()
