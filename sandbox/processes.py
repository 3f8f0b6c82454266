"""One child process of the demo or of a test: started with a log of its own, ended without leftovers.

A child leads its own process group, so that Ctrl-C in a terminal reaches the launcher alone, and is killed by the
kernel when the launcher dies without having ended it (Linux; PR_SET_PDEATHSIG survives the exec).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]

# Runs in the child before what it is to become. Not preexec_fn: that forks with the launcher's threads' locks held.
SHIM = """\
import os, signal, sys
parent, argv = int(sys.argv[1]), sys.argv[2:]
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != parent:
    os._exit(1)
os.execvpe(argv[0], argv, os.environ)
"""


class ProcessFailed(Exception):
    """A child ended or didn't come up; `str()` has the sentence and the child's last lines."""


class Child:
    """One process; `start` may be called again after it ended. Starting must happen in a thread that stays alive."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path = ROOT) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env)
        self.log = log
        self.cwd = cwd
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> Child:
        """Start it; its output is appended to its log file."""
        assert not self.alive, f"{self.name} runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", SHIM, str(os.getpid()), *self.argv],
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        return self

    @property
    def pid(self) -> int:
        """Its process id (also its group's)."""
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself."""
        os.kill(self.pid, number)

    def stop(self, grace: float = 10.0) -> None:
        """SIGTERM, then after `grace` seconds SIGKILL, to what is left of its group."""
        if self.process is None:
            return
        if self.alive:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the whole group, and reap it."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def output(self) -> str:
        """What it wrote since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace")

    def ready_line(self, deadline: float) -> dict[str, Any]:
        """The JSON object with an `url` that a sandbox prints once it listens. Raises ProcessFailed."""

        def look() -> dict[str, Any] | None:
            for line in self.output().splitlines():
                if line.startswith("{") and line.endswith("}"):
                    with contextlib.suppress(ValueError):
                        return dict(json.loads(line))
            return None

        return self.wait_until(look, deadline)

    def wait_until(self, condition: Callable[[], T | None], deadline: float) -> T:
        """Ask until the condition gives something true; `deadline` is time.monotonic(). Raises ProcessFailed."""
        while True:
            result = condition()
            if result:
                return result
            if not self.alive:
                raise ProcessFailed(self.obituary())
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.name} didn't come up in time.{self._tail()}")
            time.sleep(0.02)

    def obituary(self) -> str:
        """That it ended, how, and its last lines."""
        assert self.process is not None
        status = self.process.wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"{self.name} {how}.{self._tail()}"

    def _tail(self, lines: int = 20) -> str:
        last = self.output().rstrip().splitlines()[-lines:]
        return "".join(f"\n  {line}" for line in (f" Its last lines ({self.log}):", *last)) if last else ""


def stop_all(children: Sequence[Child], grace: float = 10.0) -> None:
    """Ask all of them to end, then wait for each; what hasn't ended `grace` seconds later is killed."""
    deadline = time.monotonic() + grace
    for child in children:
        if child.alive:
            child.signal(signal.SIGTERM)
    for child in children:
        if child.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
        child.kill()


def port_or_free(wanted: int) -> int:
    """`wanted` if nobody listens there, else a free port of this machine (0: always a free one)."""
    for port in (*([wanted] if wanted else []), *_below_outgoing(), 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as listener:
            return int(listener.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _below_outgoing() -> list[int]:
    """Some ports below those the kernel gives to outgoing connections, where there is room: one of those connections
    could take a port before its server does.
    """
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except OSError:
        return []
    return random.SystemRandom().sample(range(10_000, lowest), 100) if lowest >= 20_000 else []


def resting_mib(root: int) -> float:
    """Memory of a process and all its descendants: the sum of their proportional set sizes, in MiB (Linux)."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", entry, "stat").read_text(encoding="ascii", errors="replace")
                children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        todo.extend(children.get(pid, ()))
        with contextlib.suppress(OSError):
            for line in Path("/proc", str(pid), "smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024
