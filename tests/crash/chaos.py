"""`make chaos`: orders stream in while processes are killed, both other sides fail, people change things and the ledger
is restored; then every order is verified. The last line on stdout is one JSON object; docs/reliability.md says how it
works.

    python -m tests.crash.chaos --orders 200 --seed 1 [--seconds S] [--database postgresql] [--keep FOLDER]

What happens to which order is drawn from the seed alone (plan.py).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.crash import figures
from tests.crash.chaos_stack import MAX_REQUEST_SECONDS, ChaosStack
from tests.crash.harness import Broken, percentile, unsettled, wait_until_settled
from tests.crash.judge import Plan, judge
from tests.crash.people import People
from tests.crash.plan import make_plan, seed_plan
from tests.crash.restores import Restores
from tests.crash.senders import Senders
from tests.crash.trouble import Trouble, say
from tests.postgres import Postgres

QUIET_SECONDS = 300.0
SLOW_SECONDS = 4.5  # resumes that took longer are named


class Run:
    """One whole run."""

    def __init__(self, stack: ChaosStack, orders: int, seed: int, seconds: float) -> None:
        self.stack = stack
        self.plan = make_plan(orders, seed, seconds)
        self.others = seed_plan(stack, self.plan)
        self.senders = Senders(stack, self.plan)
        self.people = People(stack, self.plan, self.senders)
        self.trouble = Trouble(stack, self.plan, random.Random(seed + 1), self.people.meanwhile)
        self.restores = Restores(stack, self.plan, self.senders, self.trouble, self.people)

    @property
    def orders(self) -> list[str]:
        """All that the ledger is to know of in the end."""
        return [order for each in self.plan if (order := each.wanted.order) not in self.restores.forgotten]

    def go(self) -> bool:
        """All of it; prints the JSON line and returns whether all was well."""
        self.senders.start()
        self._while(lambda: bool(self.senders.left), 3600.0)
        # Calls that are still held, and orders that are still waiting to meet their trouble.
        self._while(self._restless, 60.0)
        self.people.end_refusals()
        self.trouble.calm()
        self._while(lambda: self.people.busy or bool(self.senders.left), 120.0)  # a lost click is found in a minute
        say("quiet: waiting until everything is settled")
        left = wait_until_settled(self.stack, self.orders, QUIET_SECONDS)
        for line in left[:20]:
            say(f"not settled: {line}")
        return self._report() and not left

    def _while(self, condition: Callable[[], bool], seconds: float) -> None:
        """Let happen what is due, as long as the condition holds."""
        deadline = time.monotonic() + seconds
        said = time.monotonic()
        while condition() and time.monotonic() < deadline:
            sent = self.senders.asked_for
            self.trouble.turn(sent)
            self.people.turn(self.senders.seconds)
            self.restores.turn(sent)
            if time.monotonic() - said > 5:
                said = time.monotonic()
                say(
                    f"{sent} of {len(self.plan)} asked for, {self.trouble.kills} kills, {self.trouble.sigstops} stops, "
                    f"{len(unsettled(self.stack, []))} things under way, answers {dict(self.senders.answers)}"
                )
            time.sleep(0.04)

    def _restless(self) -> bool:
        words = ("queued", "running", "waiting")
        return (
            self.people.busy
            or self.restores.left
            or any(word in line for line in unsettled(self.stack, self.orders) for word in words)
        )

    def _report(self) -> bool:
        stack, trouble = self.stack, self.trouble
        decisions = {each.wanted.order: each.decision for each in self.plan if each.decision}
        verdict = judge(
            stack,
            [each.wanted for each in self.plan],
            Plan(decisions, frozenset(self.restores.forgotten), self.others),
        )
        verdict.inconsistent += [f"{text} ({times} times)" for text, times in self.senders.surprises.items()]
        verdict.inconsistent += [f"process {pid} outlived its supervisor" for pid in trouble.outlived]
        false = figures.false_takeovers(stack, trouble.touched)
        self.restores.measure()
        kills = _resumed(self.restores.resumed)
        for line in [*verdict.lines(), *(f"false takeover: {each}" for each in false)]:
            say(line)
        rest = {
            "orders": len(self.plan),
            "kills": trouble.kills,
            "killsWhileHolding": trouble.kills_holding,
            "killsDuringAddOrder": figures.during_add_order(stack, trouble.all_broken),
            "sigstops": trouble.sigstops,
            "restores": self.restores.done,
            "faults": figures.faults(stack),
            "lateCommits": figures.late_commits(stack),
            "refusedWriteBacks": figures.refused_write_backs(stack),
            "changedMeanwhile": figures.changed_meanwhile(stack),
            "incompleteAnswers": figures.incomplete_answers(stack),
            "maxRequestSeconds": MAX_REQUEST_SECONDS,
            "falseTakeovers": len(false),
            "resumeP50": _rounded(percentile(kills, 0.5)),
            "resumeP95": _rounded(percentile(kills, 0.95)),
        }
        print(json.dumps(figures.line(verdict, rest)), flush=True)
        return verdict.good


def _resumed(resumed: Mapping[Broken, float | None]) -> list[float]:
    """How soon orders of killed processes were resumed, in seconds; says it of stopped ones, too."""
    by_kind: dict[str, list[float]] = {}
    for each, took in resumed.items():
        if took is None:
            say(f"no call after {each}")
            continue
        if took > SLOW_SECONDS:
            say(f"resumed slowly, after {took:.1f} s: {each}")
        by_kind.setdefault(each.how.split()[0], []).append(took)
    for kind, values in sorted(by_kind.items()):
        say(
            f"resumed after {kind}: {len(values)} times, p50 {percentile(values, 0.5):.2f} s, "
            f"p95 {percentile(values, 0.95):.2f} s, longest {max(values):.2f} s"
        )
    return [took for kind in ("kill", "supervisor") for took in by_kind.get(kind, [])]


def run(orders: int, seed: int, seconds: float, folder: Path, database_url: str | None) -> bool:
    """Start everything, and go; returns whether all was well."""
    with ChaosStack(folder, database_url=database_url) as stack:
        stack.start()
        say(f"{orders} orders, seed {seed}, logs in {stack.logs}")
        return Run(stack, orders, seed, seconds).go()


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
