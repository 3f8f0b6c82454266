"""`make chaos`: orders stream in while processes are killed and stopped and both other sides fail; then every order
is verified. The last line on stdout is one JSON object; docs/reliability.md says how it works.

    python -m tests.crash.chaos --orders 200 --seed 1 [--seconds S] [--database postgresql] [--keep FOLDER]

What happens to which order is drawn from the seed alone: an order's trouble is a fault scripted in a sandbox for this
order's call, or a call that a sandbox holds until the process that made it was killed or stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.crash.harness import (
    CrashStack,
    seed_orders,
)
from tests.crash.plan import (
    MAX_REQUEST_SECONDS,
    QUIET_SECONDS,
    SLOTS,
    SLOW_SECONDS,
    SWEEPS,
    WORKERS,
    Planned,
    make_plan,
    say,
    script_faults,
)
from tests.crash.senders import Senders
from tests.crash.trouble import Trouble
from tests.crash.verdict import Broken, Verdict, judge, percentile, resume_times, unsettled, wait_until_settled
from tests.postgres import Postgres


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
