"""Starts the worker's peers over a portal's sandboxes: bare RQ, and DBOS."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis

from bench.harness import PeerMissing
from bench.peers import bare, servers
from sandbox.processes import ROOT, Child
from tests.crash.harness import CrashStack


class Bare:
    """RQ's SimpleWorker, `processes` of them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue = bare.queue(redis)

    def fulfill(self, orders: list[str], patience: float = 120.0) -> float:
        """Enqueue them and wait until all are done; returns the seconds. Raises RuntimeError when they don't end."""
        begun = time.monotonic()
        for order in orders:
            self._queue.enqueue_call("bench.peers.bare.fulfill", args=(order,), result_ttl=0, timeout=-1)
        for _ in orders:
            if self._redis.blpop([bare.DONE], timeout=int(patience)) is None:
                raise RuntimeError("the bare RQ worker doesn't get done")
        return time.monotonic() - begun


@contextlib.contextmanager
def bare_rq(stack: CrashStack, processes: int) -> Iterator[Bare]:
    """RQ with a Valkey of its own, as durable as the demo's."""
    with servers.valkey() as url, tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder:
        children = [
            Child(
                f"bare{number}",
                [sys.executable, "-m", "bench.peers.bare"],
                {**stack.environ, "BENCH_REDIS_URL": url},
                Path(folder) / f"bare{number}.log",
            ).start()
            for number in range(processes)
        ]
        try:
            yield Bare(Redis.from_url(url))
        finally:
            for child in children:
                child.stop()


class Dbos:
    """DBOS' workflows in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def fulfill(self, orders: list[str]) -> float:
        """Have them done; returns the seconds. Raises RuntimeError where the process ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begun = time.monotonic()
        self._process.stdin.write("".join(f"{order}\n" for order in orders))
        self._process.stdin.flush()
        for _ in orders:
            if not self._process.stdout.readline():
                raise RuntimeError("DBOS has ended")
        return time.monotonic() - begun


@contextlib.contextmanager
def dbos(stack: CrashStack) -> Iterator[Dbos]:
    """DBOS on an SQLite database of its own. Raises PeerMissing."""
    if importlib.util.find_spec("dbos") is None:
        raise PeerMissing("DBOS (pip install dbos)")
    with tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder:
        environ = {**stack.environ, "BENCH_DATABASE_URL": f"sqlite:///{folder}/dbos.sqlite"}
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.peers.dbos_orders"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise PeerMissing("DBOS doesn't start")
            yield Dbos(process)
        finally:
            process.kill()
            process.wait()
