"""The portal that is measured: the demo's processes with its defaults, over a folder of the measurement's own.

`own_portal` is this checkout's. `earlier_portal` is that of an earlier commit: checked out into a temporary folder, and
started by that commit's own tests/stack.py in a process of its own, which prints where it is and ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.harness import PeerMissing
from sandbox.processes import ROOT
from tests.stack import Stack

#: The limits are on, and have room for what is sent here.
ROOM: Final = {
    "WEBHOOK_RATE_LIMIT": "10000000/minute",
    "WEBHOOK_GLOBAL_LIMIT": "10000000/minute",
    "SF_WEBHOOK_IP_ALLOWLIST": "127.0.0.0/8",
}

_RUNNER: Final = """\
import json, sys
from pathlib import Path
from tests.stack import Stack
stack = Stack(Path(sys.argv[1]), settings=json.loads(sys.argv[2]))
with stack:
    for name in ("sweep", "worker"):
        stack.child(name).stop()
    print(json.dumps({"url": stack.urls["portal"], "secret": stack.secret("sf_webhook_secret")}), flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Address:
    """Where a portal is, and what Salesforce signs with there."""

    url: str
    secret: str


@contextlib.contextmanager
def own_portal(settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """This checkout's portal; worker and sweep are stopped, so that only the web server is measured."""
    with (
        tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder,
        Stack(Path(folder), settings={**ROOM, **(settings or {})}) as stack,
    ):
        stop_workers(stack)
        yield stack


def stop_workers(stack: Stack) -> None:
    """End worker and sweep, the sweep first: it would send jobs."""
    for name in ("sweep", "worker"):
        stack.child(name).stop()


@contextlib.contextmanager
def earlier_portal(commit: str) -> Iterator[Address]:
    """An earlier commit's portal, without worker and sweep. Raises PeerMissing where git doesn't have the commit."""
    with tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder:
        checkout = Path(folder) / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        added = subprocess.run([*git, "add", "--detach", str(checkout), commit], capture_output=True, text=True)
        if added.returncode:
            raise PeerMissing(f"commit {commit} can't be checked out: {added.stderr.strip().splitlines()[-1]}")
        try:
            with _running(checkout, Path(folder) / "data") as address:
                yield address
        finally:
            subprocess.run([*git, "remove", "--force", str(checkout)], capture_output=True, check=False)


@contextlib.contextmanager
def _running(checkout: Path, data: Path) -> Iterator[Address]:
    process = subprocess.Popen(
        [sys.executable, "-c", _RUNNER, str(data), json.dumps(ROOM)],
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise PeerMissing(f"the portal of {checkout} didn't start")
        yield Address(**json.loads(line))
    finally:
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
        process.stdout.close()
