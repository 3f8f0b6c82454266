"""`make cluster-test`: orders over several hosts while the version before is replaced by this one, hosts, database and
Redis fail, and everything is restarted in turn.

Ends with one JSON line; 0 when nothing was lost, doubled or stuck and no request failed, 77 when this machine can't
have the hosts (the reason is the last line), else 1.

    python -m tests.cluster.run [--orders 160] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.processes import ROOT
from tests.cluster import previous
from tests.cluster.hosts import Hosts, why_not
from tests.cluster.stack import HOSTS, ClusterStack, Database
from tests.crash.harness import Wanted, seed_orders, wait_until_settled
from tests.crash.judge import judge
from tests.postgres import Postgres
from tests.sentinel import SentinelHouse

SENDERS = 4
PATIENCE = 180.0  # seconds for a process to come up again, on a machine that does other things, too
PAUSE_SECONDS = 0.7  # between two orders of one sender: what is tried is failures, not throughput
UNAVAILABLE = 77  # as automake's "skipped"


@dataclass
class Figures:
    """The line at the end."""

    hosts: int = len(HOSTS)
    orders: int = 0
    failovers: int = 0
    killedHosts: int = 0  # noqa: N815  # the line's names
    databaseRestarts: int = 0  # noqa: N815
    rollingRestarts: int = 0  # noqa: N815
    failedRequests: int = 0  # noqa: N815
    duplicates: int = 0
    lost: int = 0
    stuck: int = 0


class Load:
    """Senders of orders, each again with its key until it is accepted. `calm`: nothing but 200 and 202 is expected."""

    def __init__(self, stack: ClusterStack, wanted: list[Wanted]) -> None:
        self.calm = threading.Event()
        self.stopped = threading.Event()
        self.sent = 0
        self.accepted = 0
        self.failed: list[str] = []
        self.answers: Counter[int | str] = Counter()
        self._stack = stack
        self._next = iter(wanted)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(SENDERS)]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Until so many orders more were accepted."""
        with self._lock:
            wanted = self.accepted + count
        deadline = time.monotonic() + PATIENCE
        while self.accepted < wanted:
            assert time.monotonic() < deadline, f"waited {PATIENCE} s for {count} orders to be accepted"
            time.sleep(0.05)

    def join(self) -> None:
        """Until every order was accepted."""
        for thread in self._threads:
            thread.join(600)
            assert not thread.is_alive(), "a sender hangs"

    def _run(self) -> None:
        while True:
            with self._lock:
                each = None if self.stopped.is_set() else next(self._next, None)
                self.sent += each is not None
            if each is None:
                return
            self._send(each)
            time.sleep(PAUSE_SECONDS)

    def _send(self, each: Wanted) -> None:
        for number in itertools.count():
            calm = self.calm.is_set()
            # Every other order waits for its outcome, as the guide's Apex does.
            prefer = "respond-async" if each.number % 2 else None
            try:
                answer = self._stack.fulfill(each.order, key=f"click-{each.number}", prefer=prefer)
                told: int | str = answer.status
                good = told in (200, 202)
                allowed = good or (told == 503 and not calm and int(answer.headers.get("retry-after", 0)) > 0)
            except (OSError, http.client.HTTPException) as error:
                told, good, allowed = type(error).__name__, False, False
            with self._lock:
                self.answers[told] += 1
                self.accepted += good
                if not allowed:
                    self.failed.append(f"{time.strftime('%H:%M:%S')} order {each.number}, try {number}: {told}")
            if good:
                return
            time.sleep(0.3)


class Trouble:
    """What happens to the cluster, one thing after the other, each while orders come in."""

    def __init__(self, stack: ClusterStack, database: Database, redis: SentinelHouse, figures: Figures) -> None:
        self.stack, self.database, self.redis, self.figures = stack, database, redis, figures

    def upgrade(self, load: Load) -> None:
        """From the version that runs to this one: the ledger first, then one process after the other."""
        self._say(self.upgrade)
        load.calm.set()
        load.wait_for(10)  # the version before serves
        self.stack.product = ROOT
        said = self.stack.run("upgrade", ["flask", "db", "upgrade", "--before-restart"])
        assert "Migrated the ledger to" in said, said
        load.wait_for(10)  # on this version's ledger
        self._roll()
        load.calm.clear()
        self.stack.run("upgrade", ["flask", "db", "upgrade"])

    def all(self, load: Load, only: Sequence[str] = (), rolls: int = 2) -> None:
        """All of it, or `only` some, by their names here."""
        every = (
            self._cut_off,
            self._kill_workers,
            self._kill_web,
            self._fail_over,
            self._restart,
            self._freeze,
            self._use_up,
        )
        for do in [each for each in every if not only or each.__name__.strip("_") in only]:
            self._say(do)
            do()
            self.settle()
        self._say(self._roll)
        load.calm.set()
        time.sleep(1)
        for _ in range(rolls):
            self._roll()
        load.calm.clear()

    def settle(self) -> None:
        """Until both web servers accept orders again."""
        self.stack.wait_for(lambda: all(map(self.stack.answers, ("web", "web2"))), "both web servers", PATIENCE)
        time.sleep(2)

    def _say(self, do: Callable[..., None]) -> None:
        print(f"{time.strftime('%H:%M:%S')} {do.__name__.strip('_')}", file=sys.stderr, flush=True)

    def _cut_off(self) -> None:
        self.stack.hosts.cut("worker", off=True)
        time.sleep(8)
        self.stack.hosts.cut("worker", off=False)

    def _kill_host(self, *names: str) -> None:
        for name in names:
            self.stack.kill(name)
        self.figures.killedHosts += 1
        time.sleep(4)
        for name in names:
            self.stack.child(name).start()

    def _kill_workers(self) -> None:
        self._kill_host("worker2", "sweep2")

    def _kill_web(self) -> None:
        self._kill_host("web2")

    def _fail_over(self) -> None:
        self.redis.part_replica()
        time.sleep(0.5)
        old = self.redis.kill_master()
        self.redis.wait_for(lambda: self.redis.master() != old, "another master", 30)
        self.figures.failovers += 1

    def _restart(self) -> None:
        self.database.stop()
        time.sleep(2)
        self.database.start()
        self.figures.databaseRestarts += 1

    def _freeze(self) -> None:
        self.database.freeze(6)

    def _use_up(self) -> None:
        self.database.use_up(5)

    def _roll(self) -> None:
        """One process after the other, as docs/deployment/upgrade.md has it."""
        for name in ("web", "web2"):
            self._replace(name)
            self.stack.wait_for(lambda name=name: self.stack.answers(name), f"{name} to accept orders", PATIENCE)  # type: ignore[misc]
        for name in ("worker", "worker2", "sweep", "sweep2"):
            self._replace(name)
        self.figures.rollingRestarts += 1

    def _replace(self, name: str) -> None:
        child = self.stack.child(name)
        child.stop(60)
        child.cwd = self.stack.product
        child.start()


def run(orders: int, folder: Path, only: Sequence[str], rolls: int) -> tuple[Figures, list[str]]:
    """The whole run; the figures, and what was wrong in words."""
    figures = Figures()
    with ExitStack() as things:
        hosts = things.enter_context(Hosts(*HOSTS))
        server = things.enter_context(Postgres())
        database = Database(server, hosts, "data")
        things.callback(database.stop)
        database.start()
        places = [(hosts.addresses[name], hosts.on(name)) for name in ("data", "data2", "data", "data2", "edge")]
        redis = things.enter_context(SentinelHouse(folder / "valkey", hosts=places))
        stack = ClusterStack(folder / "stack", hosts, database, redis)
        things.callback(stack.stop)
        older, why = previous.find()
        if older:
            stack.product = previous.unpack(older, folder / "previous")
            print(f"begins with the version of {older[:10]}", file=sys.stderr, flush=True)
        else:
            print(f"no version before this one is replaced: {why}", file=sys.stderr, flush=True)
        stack.start()
        wanted = [Wanted(number, 7000 + number, [("starter", 1)]) for number in range(1, orders + 1)]
        seed_orders(stack, wanted)
        load = Load(stack, wanted)
        load.start()
        trouble = Trouble(stack, database, redis, figures)
        if older:
            trouble.upgrade(load)
        trouble.all(load, only, rolls)
        load.stopped.set()
        load.join()
        wanted = wanted[: load.sent]
        print(f"answers: {dict(load.answers)}", file=sys.stderr, flush=True)
        left = wait_until_settled(stack, [each.order for each in wanted], 180)
        verdict = judge(stack, wanted)
    figures.orders = len(wanted)
    figures.failedRequests = len(load.failed)
    figures.duplicates, figures.lost = len(verdict.duplicates), len(verdict.lost)
    figures.stuck = len(verdict.stuck) + len(left) + len(verdict.needs_decision)
    return figures, [*load.failed, *left, *verdict.lines()]


def main() -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(description="Orders over several hosts while they fail.")
    parser.add_argument("--orders", type=int, default=900, help="at most; it ends with the last trouble")
    parser.add_argument("--keep", type=Path, help="a folder for logs and data that is kept")
    parser.add_argument("--only", nargs="*", default=(), help="some troubles: cut_off, kill_web, fail_over …")
    parser.add_argument("--rolls", type=int, default=2, help="rolling restarts")
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"cluster-test is skipped: {reason}")
        return UNAVAILABLE
    with ExitStack() as things:
        folder = arguments.keep or Path(things.enter_context(tempfile.TemporaryDirectory(prefix="portal-cluster-")))
        figures, wrong = run(arguments.orders, folder, arguments.only, arguments.rolls)
    for line in wrong[:50]:
        print(line, file=sys.stderr, flush=True)
    print(json.dumps(asdict(figures)), flush=True)
    return 1 if figures.failedRequests or figures.duplicates or figures.lost or figures.stuck else 0


if __name__ == "__main__":
    sys.exit(main())
