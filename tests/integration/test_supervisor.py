"""The worker's supervisor survives what happens to its children, and ends when it is told to."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import ROOT
from tests.integration.test_own_valkey import valkey_pid, var_dir, wait_for

__all__ = ["var_dir"]  # a fixture

#: `python -m jobs.worker` in a process where something is broken.
PROGRAM = """
import os, sys, threading, time
from jobs import worker
from portal.ledger import queueing
{fault}
sys.exit(worker.main())
"""

FAILING_FORK = """
real, failures = os.fork, [{failures}]
def fork():
    if failures and failures[0]:
        failures[0] -= 1
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return real()
os.fork = fork
"""

FAILING_TAKEOVER = """
real = queueing.take_over
failures = [1]
def take_over(*args, **kwargs):
    if failures[0]:
        failures[0] -= 1
        raise RuntimeError("unheard of")
    return real(*args, **kwargs)
queueing.take_over = take_over
"""

#: What a child begins with fails, until somebody has mended it.
FAILING_CHILD = """
from pathlib import Path
from portal.errors import PortalError
real = worker.slots.run_slots
def run_slots(*args):
    if not Path({mended!r}).exists():
        raise {error}
    real(*args)
worker.slots.run_slots = run_slots
"""

#: Somebody else in the process waits for a child, as a library might: SIGUSR1 has a thread of its own do it.
WAITED_FOR_ELSEWHERE = """
import signal
wanted = threading.Event()
def steal():
    wanted.wait()
    pid = next(iter(worker_supervisor[0]._children))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    print("stolen", flush=True)
worker_supervisor = []
class Supervisor(worker.Supervisor):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        worker_supervisor.append(self)
    def _fork(self, role):  # threads and forks: begin it after the children
        super()._fork(role)
        if role.name == "relay" and not wanted.is_set():
            threading.Thread(target=steal, daemon=True).start()
            signal.signal(signal.SIGUSR1, lambda *_: wanted.set())
worker.Supervisor = Supervisor
# Only the thread may get it: the supervisor looks at its children one by one, and not at any child.
worker._ended_child = lambda: (0, 0)
"""


@pytest.fixture
def environ(var_dir: Path, lonely: dict[str, str]) -> dict[str, str]:  # noqa: F811
    """A development portal's settings, its ledger migrated."""
    settings = {
        **lonely,
        "PORTAL_VAR_DIR": str(var_dir),
        "FULFILLMENT_SLOTS": "2",
        "WHMCS_MAX_REQUEST_SECONDS": "0.5",
    }
    subprocess.run([sys.executable, "-m", "flask", "db", "upgrade"], cwd=ROOT, env=settings, check=True, timeout=120)
    return settings


@contextmanager
def supervisor(environ: dict[str, str], log: Path, fault: str = "") -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(fault=fault)], cwd=ROOT, env=environ, stdout=output, stderr=output
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def pids(environ: dict[str, str], *, dead: bool = False) -> set[int]:
    """The worker processes that the ledger knows."""
    with closing(sqlite3.connect(Path(environ["PORTAL_VAR_DIR"]) / "ledger.sqlite3", timeout=30)) as ledger:
        return {row[0] for row in ledger.execute("SELECT pid FROM workers WHERE dead = ?", (dead,))}


def test_a_failing_fork_is_tried_again(environ: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with supervisor(environ, log, FAILING_FORK.format(failures=5)) as worker:
        wait_for(lambda: len(pids(environ)) == 3)
        assert "Worker process couldn't be started" in log.read_text()
        worker.terminate()
        assert worker.wait(30) == 0


def test_a_worker_that_can_start_nobody_ends_when_it_is_told_to(environ: dict[str, str], tmp_path: Path) -> None:
    log, socket = tmp_path / "worker.log", Path(environ["PORTAL_VAR_DIR"]) / "valkey" / "valkey.sock"
    with supervisor(environ, log, FAILING_FORK.format(failures=10**9)) as worker:
        wait_for(lambda: "Worker process couldn't be started" in log.read_text())
        valkey = valkey_pid(socket)
        assert valkey is not None
        os.kill(valkey, signal.SIGKILL)  # its only child: nobody is left to be waited for
        tries = log.read_text().count("Worker process couldn't be started")
        wait_for(lambda: log.read_text().count("Worker process couldn't be started") > tries + 1)
        worker.terminate()
        assert worker.wait(30) == 0
    assert pids(environ) == set()


@pytest.mark.parametrize(
    ("error", "said"),
    [("PortalError('no room')", "Worker process can't go on"), ("KeyError('id')", "Worker process failed")],
)
def test_a_child_that_fails_says_why_and_is_started_again_ever_more_slowly(
    environ: dict[str, str], tmp_path: Path, error: str, said: str
) -> None:
    log, mended = tmp_path / "worker.log", tmp_path / "mended"

    def lines(message: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line[-1] == "}"]
        return [line for line in found if line["message"] == message]

    with supervisor(environ, log, FAILING_CHILD.format(mended=str(mended), error=error)) as worker:
        wait_for(lambda: len(lines("Worker process ended")) >= 5)
        assert {line["kind"] for line in lines(said)} == {"slots"}
        ended = lines("Worker process ended")
        assert {(line["kind"], line["exitCode"]) for line in ended} == {("slots", 1)}
        mended.touch()
        wait_for(lambda: len(pids(environ)) == 3)
        worker.terminate()
        assert worker.wait(30) == 0


def test_a_child_that_is_no_worker_may_end(environ: dict[str, str], tmp_path: Path) -> None:
    """Development's own Valkey is one, where no sweep has started it."""
    log, socket = tmp_path / "worker.log", Path(environ["PORTAL_VAR_DIR"]) / "valkey" / "valkey.sock"
    with supervisor(environ, log) as worker:
        wait_for(lambda: len(pids(environ)) == 3)
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
        valkey = valkey_pid(socket)
        assert valkey is not None
        assert str(valkey) in children.read_text().split()
        os.kill(valkey, signal.SIGKILL)
        wait_for(lambda: str(valkey) not in children.read_text().split())  # it has been waited for
        worker.terminate()
        assert worker.wait(30) == 0
    assert pids(environ, dead=True) != set()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody kills it later either")
def test_a_child_whose_supervisor_died_before_it_could_ask_to_die_with_it_ends() -> None:
    program = "import os; from jobs.worker import die_with_parent; die_with_parent({}); os._exit(0)"
    for parent, code in (("-1", 1), ("os.getppid()", 0)):
        assert subprocess.run([sys.executable, "-c", program.format(parent)], cwd=ROOT, timeout=60).returncode == code


def test_an_unexpected_error_in_a_takeover_ends_nobody(environ: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with supervisor(environ, log, FAILING_TAKEOVER) as worker:
        wait_for(lambda: len(pids(environ)) == 3)
        first = min(pids(environ))
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(pids(environ)) == 4)  # the dead one isn't marked, and has a successor
        assert "its missed heartbeats will tell the sweep" in log.read_text()
        second = max(pids(environ))
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: pids(environ, dead=True) == {second})
        assert worker.poll() is None


def test_a_child_that_somebody_else_waited_for_is_replaced(environ: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with supervisor(environ, log, WAITED_FOR_ELSEWHERE) as worker:
        wait_for(lambda: len(pids(environ)) == 3)
        before = pids(environ)
        worker.send_signal(signal.SIGUSR1)
        wait_for(lambda: "stolen" in log.read_text())
        wait_for(lambda: len(pids(environ, dead=True)) == 1 and len(pids(environ)) == 3)
        assert pids(environ, dead=True) < before
        worker.terminate()
        assert worker.wait(30) == 0


def test_a_stop_ends_a_worker_whose_database_hangs(environ: dict[str, str], tmp_path: Path) -> None:
    """Somebody stopped in the middle of a transaction: whoever writes waits for ever, the supervisor too."""
    log = tmp_path / "worker.log"
    with supervisor(environ, log) as worker:
        wait_for(lambda: len(pids(environ)) == 3)
        children = pids(environ)
        with (Path(environ["PORTAL_VAR_DIR"]) / "ledger.sqlite3.lock").open("r+") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            began = time.monotonic()
            worker.terminate()
            worker.wait(60)
            assert time.monotonic() - began < 0.5 + 20 + 5 + 15  # WHMCS_MAX_REQUEST_SECONDS, what the docs add, slack
            for pid in children:
                wait_for(lambda pid=pid: not _runs(pid), 5)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
