"""`make chaos`: orders stream in while processes are killed and stopped and both other sides fail; then every order
is verified. The last line on stdout is one JSON object; docs/reliability.md says how it works.

    python -m tests.crash.chaos --orders 200 --seed 1 [--seconds S] [--database postgresql] [--keep FOLDER]

What happens to which order is drawn from the seed alone: an order's trouble is a fault scripted in a sandbox for this
order's call, or a call that a sandbox holds until the process that made it was killed or stopped.
"""

from __future__ import annotations

import argparse
import heapq
import http.client
import itertools
import json
import queue
import random
import secrets
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.control import SandboxError
from tests.crash.harness import (
    TTL_SECONDS,
    Broken,
    CrashStack,
    Holder,
    Verdict,
    Wanted,
    children_of,
    judge,
    percentile,
    resume_times,
    runs,
    seed_orders,
    send_signal,
    stop_outside_a_transaction,
    unsettled,
    wait_until_settled,
)
from tests.postgres import Postgres

MAX_REQUEST_SECONDS = 3.0
WORKERS, SLOTS, SWEEPS = 2, 4, 2
ORDERS_A_SECOND = 3.0
SENDERS = 32
QUIET_SECONDS = 240.0
SLOW_SECONDS = 4.5  # resumes that took longer are named

#: What happens to an order, and to which share of all orders; the rest (about a quarter) are left alone.
SHARES = {
    "kill during AddOrder": 0.09,
    "kill": 0.11,
    "stop during AddOrder": 0.02,
    "stop": 0.02,
    "late commit": 0.05,
    "later commit": 0.02,  # later than WHMCS_MAX_REQUEST_SECONDS allows: a second AddOrder is sent
    "half-built": 0.03,
    "half-built for good": 0.01,  # its PHP died: only a person can know
    "AddOrder": 0.12,
    "WHMCS": 0.12,
    "Salesforce": 0.14,
}

#: Ways a call can go wrong in passing, for AddOrder and for any other of WHMCS, and for Salesforce.
PASSING: tuple[dict[str, Any], ...] = (
    {"kind": "error", "status": 500, "body": "Internal Server Error"},
    {"kind": "error", "status": 500, "body": "Internal Server Error", "when": "after"},
    {"kind": "html"},
    {"kind": "html", "status": 200, "when": "after"},
    {"kind": "empty"},
    {"kind": "empty", "when": "after"},
    {"kind": "drop_before"},
    {"kind": "drop_after"},
    {"kind": "drop_after", "reset": True},
    {"kind": "delay", "seconds": 1.0},
)
OF_WHMCS = (*PASSING, {"kind": "RATE_LIMITED"}, {"kind": "hang", "seconds": 5.0})
OF_SALESFORCE = (
    *PASSING,
    {"kind": "UNABLE_TO_LOCK_ROW"},
    {"kind": "REQUEST_LIMIT_EXCEEDED"},
    {"kind": "SERVER_UNAVAILABLE"},
    {"kind": "INVALID_SESSION_ID"},
    {"kind": "UNKNOWN_EXCEPTION"},
)

#: Troubles of the whole house, one in turn after every so many orders (in a long run less often).
HOUSE = ("worker", "sweep", "web", "valkey", "ledger", "flush", "stop sweep")
ORDERS_PER_HOUSE_TROUBLE, ORDERS_PER_HOUSE_TROUBLE_LATER, LONG = 14, 40, 300


def say(text: str) -> None:
    """Progress, for people."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# --- the plan -------------------------------------------------------------------------------------------------------


@dataclass
class Planned:
    """One order with how it is asked for and what is to happen to it, all drawn from the seed."""

    wanted: Wanted
    at: float  # seconds after the start
    door: str  # guide | package | signed | signed-async
    again: list[tuple[float, bool]]  # further deliveries: seconds later, whether with the same key
    trouble: str | None
    whmcs: list[dict[str, Any]] = field(default_factory=list)  # faults; "order" and "client" are filled in later
    salesforce: list[dict[str, Any]] = field(default_factory=list)
    signal: str = ""  # for held calls: kill | stop
    then: str = "continue"  # what becomes of the held call
    hold: float = 0.0  # seconds it is held after the kill
    stopped: float = 0.0  # seconds the process is stopped


def make_plan(orders: int, seed: int, seconds: float) -> list[Planned]:
    """The whole run, the same for the same seed."""
    draw = random.Random(seed)
    troubles: list[str | None] = [name for name, share in SHARES.items() for _ in range(max(1, round(share * orders)))]
    troubles = troubles[:orders] + [None] * (orders - len(troubles))
    draw.shuffle(troubles)
    seconds = seconds or orders / ORDERS_A_SECOND
    clients = itertools.count(1001)
    plan: list[Planned] = []
    client, together = 0, 0
    for number, trouble in enumerate(troubles, 1):
        if not together:
            client, together = next(clients), draw.choice((1, 1, 1, 1, 3))
            alone = together == 1
        together -= 1
        items = [
            (draw.choice(("starter", "business", "server", "certificate", "support")), draw.choice((1, 1, 1, 2)))
            for _ in range(draw.choice((1, 1, 2, 3)))
        ]
        again = [(draw.uniform(0.0, 6.0), draw.random() < 0.6) for _ in range(draw.choice((0, 0, 0, 1, 2)))]
        planned = Planned(
            Wanted(number, client, items, alone),
            draw.uniform(0.0, seconds),
            draw.choice(("guide", "package", "signed", "signed-async")),
            again,
            trouble,
        )
        _script(planned, draw)
        plan.append(planned)
    return sorted(plan, key=lambda each: each.at)


def _script(planned: Planned, draw: random.Random) -> None:
    """Turn an order's trouble into faults."""
    trouble = planned.trouble
    add = {"action": "AddOrder", "by": "client" if planned.wanted.alone else "order"}
    if trouble in ("kill during AddOrder", "stop during AddOrder"):
        planned.whmcs.append({**add, "kind": "pause_point", "when": draw.choice(("before", "after")), "seconds": 40})
    elif trouble in ("kill", "stop"):
        side, call = draw.choice(
            (
                ("salesforce", {"action": "query"}),
                ("salesforce", {"action": "update:Order", "contains": "Activating"}),
                ("salesforce", {"action": "update:Order", "contains": "Provisioned"}),
                ("whmcs", {"action": "AcceptOrder"}),
                ("whmcs", {"action": "GetOrders"}),
                ("whmcs", {"action": "AcceptOrder"}),
                *(
                    (
                        ("whmcs", {"action": "GetPayMethods", "by": "client"}),
                        ("whmcs", {"action": "GetClientsProducts", "by": "client"}),
                    )
                    if planned.wanted.alone
                    else ()
                ),
            )
        )
        fault = {**call, "kind": "pause_point", "when": draw.choice(("before", "after")), "seconds": 40}
        getattr(planned, side).append(fault)
    elif trouble == "late commit":
        planned.whmcs.append(
            {
                **add,
                "kind": "late_commit",
                "seconds": round(draw.uniform(0.5, 2.9), 2),
                "close_after": round(draw.uniform(0.0, 0.3), 2),
            }
        )
    elif trouble == "later commit":
        planned.whmcs.append({**add, "kind": "late_commit", "seconds": round(draw.uniform(8.8, 10.5), 2)})
    elif trouble == "half-built":
        planned.whmcs.append({**add, "kind": "half_built", "seconds": round(draw.uniform(0.5, 2.5), 2)})
    elif trouble == "half-built for good":
        planned.whmcs.append({**add, "kind": "half_built", "seconds": 3600})
    elif trouble == "AddOrder":
        planned.whmcs.append({**add, **draw.choice(OF_WHMCS)})
    elif trouble == "WHMCS":
        action = draw.choice(
            (
                "AcceptOrder",
                "GetOrders",
                "AcceptOrder",
                *(("GetPayMethods", "GetClientsProducts", "GetClientsDetails") if planned.wanted.alone else ()),
            )
        )
        by = "client" if action.startswith(("GetC", "GetP")) else "order"
        planned.whmcs.append({"action": action, "by": by, **draw.choice(OF_WHMCS), "count": draw.choice((1, 1, 2))})
    elif trouble == "Salesforce":
        call = draw.choice(
            (
                {"action": "query"},
                {"action": "update:Order", "contains": "Activating"},
                {"action": "update:Order", "contains": "Provisioned"},
            )
        )
        planned.salesforce.append({**call, **draw.choice(OF_SALESFORCE), "count": draw.choice((1, 1, 2))})
    planned.signal = "stop" if trouble and trouble.startswith("stop") else "kill"
    planned.then = draw.choice(("continue", "continue", "drop"))
    planned.hold = draw.choice((0.0, draw.uniform(0.0, 2.5)))
    planned.stopped = draw.uniform(TTL_SECONDS + 0.8, TTL_SECONDS + 3.5)


def script_faults(stack: CrashStack, plan: Sequence[Planned]) -> None:
    """Tell the sandboxes."""
    for each in plan:
        for side, faults in ((stack.shop, each.whmcs), (stack.org, each.salesforce)):
            for spec in faults:
                about = dict(spec)
                if about.pop("by", "order") == "client":
                    about["client"] = each.wanted.client
                else:
                    about["order"] = each.wanted.order
                side.fault(about.pop("kind"), label=str(each.wanted.number), **about)


# --- asking for the orders ------------------------------------------------------------------------------------------


class Senders:
    """Presses the buttons and sends the signed deliveries, each in its time, until each order is acknowledged."""

    def __init__(self, stack: CrashStack, plan: Sequence[Planned]) -> None:
        self.stack = stack
        self.answers: Counter[str] = Counter()
        self.surprises: Counter[str] = Counter()  # answers nobody should get
        self._jobs: queue.PriorityQueue[tuple[float, int, Planned, bool, str | None]] = queue.PriorityQueue()
        self._number = itertools.count()
        self._keys: dict[int, str] = {}
        self.left = 0
        self._lock = threading.Lock()
        for each in plan:
            self._keys[each.wanted.number] = f"click-{each.wanted.number}-{secrets.token_hex(4)}"
            self._put(each.at, each, True, None)
            for later, same in each.again:
                key = self._keys[each.wanted.number] if same else f"again-{secrets.token_hex(8)}"
                self._put(each.at + later, each, False, key)

    def _put(self, at: float, planned: Planned, first: bool, key: str | None) -> None:
        self.left += 1
        self._jobs.put((at, next(self._number), planned, first, key))

    def start(self) -> None:
        """Let orders and trouble begin."""
        self._began = time.monotonic()
        for _ in range(SENDERS):
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                at, _, planned, first, key = self._jobs.get_nowait()
            except queue.Empty:
                self.stack.close_thread()
                return
            time.sleep(max(0.0, self._began + at - time.monotonic()))
            try:
                if first and planned.door in ("guide", "package"):
                    self._press(planned)
                else:
                    self._deliver(planned, key or self._keys[planned.wanted.number])
            except Exception as error:
                self.surprises[f"order {planned.wanted.order}: {type(error).__name__}: {error}"] += 1
            finally:
                with self._lock:
                    self.left -= 1

    def _press(self, planned: Planned) -> None:
        """An operator's click; clicked again as long as the portal doesn't know of it."""
        order = planned.wanted.order
        for _ in range(60):
            result = self.stack.org.provision(order, mode=planned.door)
            self._note(order, result["status"], result["body"] or "")
            if result["status"] is not None and result["status"] < 500:
                return
            if self._known(order):
                return
            time.sleep(1.0)
        self.surprises[f"order {order}: never acknowledged"] += 1

    def _known(self, order: str) -> bool:
        with suppress(Exception):
            return self.stack.fulfillment(order) is not None
        return False

    def _deliver(self, planned: Planned, key: str) -> None:
        """One delivery, sent again with its key while the portal can't take it."""
        order = planned.wanted.order
        prefer = "respond-async" if planned.door == "signed-async" else None
        for _ in range(60):
            try:
                answer = self.stack.fulfill(order, key=key, prefer=prefer)
            except (OSError, http.client.HTTPException):
                self.answers["none"] += 1
            else:
                self._note(order, answer.status, answer.text)
                if answer.status < 500:
                    return
            time.sleep(0.5)
        self.surprises[f"order {order}: never acknowledged"] += 1

    def _note(self, order: str, status: int | None, body: str) -> None:
        with self._lock:
            self.answers[str(status or "none")] += 1
        decided = status == 409 and "needs_decision" in body
        if status is not None and status not in (200, 202, 502, 503) and not decided:
            self.surprises[f"order {order}: answered {status} {body[:200]}"] += 1


# --- killing --------------------------------------------------------------------------------------------------------


class Trouble:
    """Kills, stops, and lets go on. Everything happens in the main thread, which also starts processes anew."""

    def __init__(self, stack: CrashStack, plan: Sequence[Planned], draw: random.Random) -> None:
        self.stack = stack
        self.kills = self.kills_holding = self.sigstops = 0
        self.broken: list[Broken] = []
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
            self._trouble_the_house(next(self._house))
            self._kill_anybody()

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

        if holder is None or not self._strike(holder, planned, during=entry["action"]):
            release("continue")
            return
        self.at(planned.hold, lambda: release(planned.then))

    def _strike(self, holder: Holder, planned: Planned, during: str) -> bool:
        """Kill or stop a process while it surely holds the order: stopped first, then looked at again."""
        if holder.pid in self.stopped or not stop_outside_a_transaction(holder.pid):
            return False
        again = self.stack.holder(holder.sf_order_id)
        if again != holder:
            send_signal(holder.pid, signal.SIGCONT)
            return False
        self.touched.add(holder.pid)
        now = time.time()
        if planned.signal == "stop":
            self.sigstops += 1
            self.stopped.add(holder.pid)
            self.broken.append(Broken(holder.sf_order_id, holder.fence, now, f"stop in {during}"))
            self.at(planned.stopped, lambda: self._go_on(holder.pid))
            return True
        send_signal(holder.pid, signal.SIGKILL)
        self.kills += 1
        self.kills_holding += 1
        self.broken.append(Broken(holder.sf_order_id, holder.fence, now, f"kill in {during}"))
        return True

    def _go_on(self, pid: int) -> None:
        send_signal(pid, signal.SIGCONT)
        self.stopped.discard(pid)

    # --- anybody, anywhere ---

    def _kill_anybody(self) -> None:
        """Kill a process that holds some order, wherever it is with it."""
        holders = [each for each in self.stack.holders() if each.pid not in self.stopped]
        if not holders:
            return
        holder = self._draw.choice(holders)
        planned = Planned(Wanted(0, 0, []), 0.0, "", [], None, signal="kill")
        self._strike(holder, planned, during="passing")

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
        self.broken += [Broken(each.sf_order_id, each.fence, now, "supervisor") for each in holding]
        self.at(0.7, lambda: self._start_again(name, slots))

    def _start_again(self, name: str, slots: set[int]) -> None:
        left = [pid for pid in slots if runs(pid) and pid not in self.stopped]
        if left:
            self.outlived += left
            say(f"children outlived their supervisor: {left}")
        child = self.stack.child(name)
        child.kill()
        child.start()

    def _kill_child(self, name: str) -> None:
        child = self.stack.child(name)
        self.touched.add(child.pid)
        child.kill()
        self.kills += 1
        self.at(0.7, child.start)

    def _flush(self) -> None:
        import redis

        with suppress(redis.RedisError), closing(redis.Redis(unix_socket_path=str(self.stack.valkey_socket))) as valkey:
            valkey.flushall()

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


# --- the figures ----------------------------------------------------------------------------------------------------


def false_takeovers(stack: CrashStack, touched: set[int]) -> list[str]:
    """Takeovers of processes we neither killed nor stopped: they lost their orders for nothing."""
    found = []
    for line in stack.log_lines([*stack.sweep_names, *stack.worker_names]):
        if line.get("message") == "A worker's heartbeats stopped: its orders are taken over":
            if line["pid"] not in touched:
                found.append(f"{line['worker_id']} at {line['time']}")
        elif line.get("message") == "Worker process ended" and line.get("exitCode") and line["pid"] not in touched:
            found.append(f"{line['kind']} {line['pid']} ended by itself with {line['exitCode']} at {line['time']}")
    return found


def during_add_order(stack: CrashStack, broken: Sequence[Broken]) -> int:
    """How many of the kills hit a process whose AddOrder was in WHMCS at that moment, by the journal."""
    entries = stack.shop.journal(action="AddOrder", direction="in")
    return sum(
        any(
            entry["mark"] == each.order
            and entry["received"] <= each.at
            and entry["answered"] is None
            and entry["gone"] is not None
            and entry["gone"] >= each.at
            for entry in entries
        )
        for each in broken
        if not each.how.startswith("stop")
    )


def late_commits(stack: CrashStack) -> int:
    """AddOrders that took effect after whoever sent them had gone, by the journal."""
    return sum(
        entry["effect"] is not None and entry["gone"] is not None and entry["effect"] > entry["gone"]
        for entry in stack.shop.journal(action="AddOrder", direction="in")
    )


def run(orders: int, seed: int, seconds: float, folder: Path, database_url: str | None) -> bool:
    """One whole run; prints the JSON line and returns whether all was well."""
    plan = make_plan(orders, seed, seconds)
    settings = {
        "FULFILLMENT_SLOTS": str(SLOTS),
        "WHMCS_MAX_REQUEST_SECONDS": str(MAX_REQUEST_SECONDS),
        "FULFILLMENT_WAIT_SECONDS": "10",
    }
    stack = CrashStack(folder, workers=WORKERS, sweeps=SWEEPS, settings=settings, database_url=database_url)
    with stack:
        stack.start()
        wanted = [each.wanted for each in plan]
        seed_orders(stack, wanted)
        script_faults(stack, plan)
        say(f"{orders} orders, seed {seed}, logs in {stack.logs}")
        senders = Senders(stack, plan)
        trouble = Trouble(stack, plan, random.Random(seed + 1))
        began = time.monotonic()
        senders.start()
        said = began
        while senders.left:
            sent = sum(each.at <= time.monotonic() - began for each in plan)
            trouble.turn(sent)
            if time.monotonic() - said > 5:
                said = time.monotonic()
                say(
                    f"{sent} of {orders} asked for, {trouble.kills} kills, {trouble.sigstops} stops, "
                    f"{len(unsettled(stack, [])):d} things under way, answers {dict(senders.answers)}"
                )
            time.sleep(0.04)
        # Calls that are still held, and orders that are still waiting to meet their trouble.
        _until_quiet(stack, trouble, [each.order for each in wanted])
        trouble.calm()
        say("quiet: waiting until everything is settled")
        left = wait_until_settled(stack, [each.order for each in wanted], QUIET_SECONDS)
        for line in left[:20]:
            say(f"not settled: {line}")
        return _report(stack, plan, senders, trouble, left)


def _until_quiet(stack: CrashStack, trouble: Trouble, orders: Sequence[str]) -> None:
    """Let what was scripted happen to the last orders too, for a bounded time."""
    deadline = time.monotonic() + 45
    while time.monotonic() < deadline:
        trouble.turn(0)
        if not any("queued" in each or "running" in each or "waiting" in each for each in unsettled(stack, orders)):
            return
        time.sleep(0.05)


def _report(
    stack: CrashStack, plan: Sequence[Planned], senders: Senders, trouble: Trouble, left: Sequence[str]
) -> bool:
    undecidable = frozenset(each.wanted.order for each in plan if each.trouble == "half-built for good")
    verdict = judge(stack, [each.wanted for each in plan], undecidable=undecidable)
    verdict.inconsistent += [f"{text} ({times} times)" for text, times in senders.surprises.items()]
    verdict.inconsistent += [f"process {pid} outlived its supervisor" for pid in trouble.outlived]
    false = false_takeovers(stack, trouble.touched)
    resumed = resume_times(stack, trouble.broken, [each.wanted for each in plan])
    by_kind: dict[str, list[float]] = {}
    for each, took in resumed.items():
        if took is not None:
            if took > SLOW_SECONDS:
                say(f"resumed slowly, after {took:.1f} s: {each}")
            by_kind.setdefault(
                "stop" if each.how.startswith("stop") else "supervisor" if each.how == "supervisor" else "kill", []
            ).append(took)
        else:
            say(f"no call after {each}")
    for kind, values in sorted(by_kind.items()):
        say(
            f"resumed after {kind}: {len(values)} times, p50 {percentile(values, 0.5):.2f} s, "
            f"p95 {percentile(values, 0.95):.2f} s, longest {max(values):.2f} s"
        )
    kills = [took for kind in ("kill", "supervisor") for took in by_kind.get(kind, [])]
    for line in [*verdict.lines(), *(f"false takeover: {each}" for each in false)]:
        say(line)
    faults = sum(
        entry["fault"]["kind"] != "pause_point"
        for side in (stack.shop, stack.org)
        for entry in side.journal(faulted=True)
    )
    figures = _figures(
        verdict,
        {
            "orders": len(plan),
            "kills": trouble.kills,
            "killsWhileHolding": trouble.kills_holding,
            "killsDuringAddOrder": during_add_order(stack, trouble.broken),
            "sigstops": trouble.sigstops,
            "faults": faults,
            "lateCommits": late_commits(stack),
            "maxRequestSeconds": MAX_REQUEST_SECONDS,
            "falseTakeovers": len(false),
            "resumeP50": _rounded(percentile(kills, 0.5)),
            "resumeP95": _rounded(percentile(kills, 0.95)),
        },
    )
    print(json.dumps(figures), flush=True)
    return verdict.good and not left


def _figures(verdict: Verdict, rest: dict[str, Any]) -> dict[str, Any]:
    names = (
        "orders",
        "kills",
        "killsWhileHolding",
        "killsDuringAddOrder",
        "sigstops",
        "faults",
        "lateCommits",
        "maxRequestSeconds",
        "exactlyOnce",
        "duplicates",
        "lost",
        "stuck",
        "needsDecision",
        "strays",
        "inconsistent",
        "falseTakeovers",
        "resumeP50",
        "resumeP95",
    )
    counts = {
        "exactlyOnce": verdict.exactly_once,
        "duplicates": len(verdict.duplicates),
        "lost": len(verdict.lost),
        "stuck": len(verdict.stuck),
        "needsDecision": len(verdict.needs_decision),
        "strays": len(verdict.strays),
        "inconsistent": len(verdict.inconsistent),
    }
    return {name: (counts | rest)[name] for name in names}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit status 0: no duplicate, nothing lost, stuck, stray or inconsistent."""
    parser = argparse.ArgumentParser(description="Orders while processes are killed and faults fire.")
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="how long orders stream in; 0: by their number")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--keep", type=Path, help="keep data and logs in this folder")
    wished = parser.parse_args(arguments)
    with ExitStack() as things:
        folder = wished.keep
        if folder is None:
            folder = Path(things.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        url = things.enter_context(Postgres()).database() if wished.database == "postgresql" else None
        return 0 if run(wished.orders, wished.seed, wished.seconds, folder, url) else 1


if __name__ == "__main__":
    sys.exit(main())
