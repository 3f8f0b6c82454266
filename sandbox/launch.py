"""The process around a sandbox: its arguments and secrets, its ready line, its end."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from sandbox.base import Sandbox
from sandbox.wire import Server


def base_parser(description: str) -> argparse.ArgumentParser:
    """Arguments every sandbox takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="directory for the state")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the process that started this ends")
    return parser


def secret_from_env(*names: str) -> str | None:
    """The first of the variables that is set, or the content of the file its NAME_FILE names (one trailing newline
    dropped). Callers name the sandbox's own variable first, then the product's: both sides share the secret."""
    for name in names:
        if os.environ.get(name):
            return os.environ[name]
        path = os.environ.get(f"{name}_FILE")
        if path:
            return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    return None


def run_until_stopped(ready: dict[str, Any], die_with_parent: bool) -> None:
    """Prints the ready line, then waits for SIGTERM, SIGINT or (when asked) the parent's end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    parent = os.getppid()
    print(json.dumps(ready), flush=True)
    # Polled rather than PR_SET_PDEATHSIG: that one fires when the starting *thread* ends, which a launcher that
    # starts its processes side by side would trip over.
    while not stop.wait(0.5):
        if die_with_parent and os.getppid() != parent:
            print("parent is gone, ending", file=sys.stderr)
            return


def run_sandbox(sandbox: Sandbox, arguments: argparse.Namespace) -> None:
    """Serves a sandbox until it is told to stop."""
    threading.stack_size(512 * 1024)
    sandbox.server = Server(arguments.host, arguments.port, sandbox.serve)
    sandbox.server.start()
    sandbox.begin_background()
    try:
        run_until_stopped({"url": sandbox.server.url, "pid": os.getpid()}, arguments.die_with_parent)
    finally:
        sandbox.close()
