"""Development's own Valkey dies: the sweep starts it again, and a worker can be stopped while it is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from sandbox.processes import ROOT


@contextmanager
def process(environ: dict[str, str], module: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, env=environ, stdout=output, stderr=output)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't come about in time"
        time.sleep(0.05)


def valkey_pid(socket: Path) -> int | None:
    """The server's process, where one answers."""
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=2)
    try:
        return int(client.info("server")["process_id"])
    except redis.RedisError:
        return None
    finally:
        client.close()


def workers_listening(socket: Path, count: int) -> bool:
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=2)
    try:
        return int(client.scard("rq:workers")) >= count
    except redis.RedisError:
        return False
    finally:
        client.close()


@pytest.fixture
def var_dir() -> Iterator[Path]:
    """A folder near the root: a socket's path may have 108 characters."""
    with tempfile.TemporaryDirectory(prefix="portal-") as folder:
        yield Path(folder)
        left = valkey_pid(Path(folder) / "valkey" / "valkey.sock")  # its starter was killed
        if left is not None:
            os.kill(left, signal.SIGTERM)
            wait_for(lambda: valkey_pid(Path(folder) / "valkey" / "valkey.sock") is None)


def test_a_sweep_that_cant_start_it_goes_on_trying(var_dir: Path, tmp_path: Path, lonely: dict[str, str]) -> None:
    environ = {**lonely, "PORTAL_VAR_DIR": str(var_dir)}
    subprocess.run([sys.executable, "-m", "flask", "db", "upgrade"], cwd=ROOT, env=environ, check=True, timeout=120)
    socket, lock, log = var_dir / "valkey" / "valkey.sock", var_dir / "valkey" / "start.lock", tmp_path / "sweep.log"
    with process(environ, "jobs.sweep", log) as sweep:
        wait_for(lambda: "Sweep started" in log.read_text())
        lock.unlink()
        lock.mkdir()  # as a disk that is full, or a folder that was taken away
        first = valkey_pid(socket)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: log.read_text().count("Couldn't start the embedded Valkey again") >= 2)
        assert sweep.poll() is None
        lock.rmdir()
        wait_for(lambda: valkey_pid(socket) not in (None, first))


def test_it_comes_back_and_a_worker_stops_without_it(var_dir: Path, tmp_path: Path, lonely: dict[str, str]) -> None:
    environ = {**lonely, "PORTAL_VAR_DIR": str(var_dir), "FULFILLMENT_SLOTS": "2"}
    subprocess.run([sys.executable, "-m", "flask", "db", "upgrade"], cwd=ROOT, env=environ, check=True, timeout=120)
    socket = var_dir / "valkey" / "valkey.sock"
    with process(environ, "jobs.sweep", tmp_path / "sweep.log") as sweep:
        wait_for(lambda: valkey_pid(socket))
        with process(environ, "jobs.worker", tmp_path / "worker.log") as worker:
            wait_for(lambda: workers_listening(socket, 2))
            first = valkey_pid(socket)
            assert first is not None
            os.kill(first, signal.SIGKILL)
            wait_for(lambda: valkey_pid(socket) not in (None, first))

            sweep.terminate()  # the one who brings it back, and whose end stops what it started
            sweep.wait(60)
            wait_for(lambda: valkey_pid(socket) is None)
            worker.terminate()
            assert worker.wait(60) == 0
