"""`make demo`: the whole order portal on this machine, with a pretend Salesforce, WHMCS and mailbox.

Ends with Ctrl-C or SIGTERM and leaves no process behind; a part that fails ends the rest, with its last lines.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from sandbox.processes import ROOT, ProcessFailed
from sandbox.seeds import CUSTOMERS
from sandbox.stack import OPERATOR, USUAL_PORTS, Stack


class AlreadyRunning(Exception):
    """Another demo uses this data directory; `str()` says which."""


@contextlib.contextmanager
def sole_use(folder: Path) -> Iterator[Path]:
    """Hold the data directory's lock; gives the lock's file, in which the holder may say where it runs."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.lock"
    with path.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            where = lock.read().strip() or "starting just now"
            raise AlreadyRunning(
                f"A demo already runs on the data in {folder} ({where}): end it first, or use it."
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        try:
            yield path
        finally:
            lock.truncate(0)


def forget(folder: Path) -> None:
    """Remove what earlier demos kept."""
    for name in ("demo", "log"):
        shutil.rmtree(folder / name, ignore_errors=True)


def banner(stack: Stack, logs: Path) -> str:
    """What a person reads once everything is up."""
    urls = stack.urls
    shown = os.path.relpath(logs)
    return f"""
The order portal is up. The other sides are pretend ones, on this machine only.

  Portal      {urls["portal"]:<24}what your customers see
  Salesforce  {urls["salesforce"]:<24}the orders, and the operator's "Provision in WHMCS" button
  WHMCS       {urls["whmcs"]:<24}orders and services, as they come into being
  Mailbox     {urls["mailbox"]:<24}every e-mail the portal sends

Next: open {urls["portal"]}, sign in as {CUSTOMERS["ada"].email}, and click the link that lands in the mailbox.
Order something, then press the button in Salesforce and watch the order's page. Each customer is a story of its own:

{personas()}

What operators see is at {urls["portal"]}/ops: sign in as {OPERATOR}, the link lands in the mailbox, too.

Logs are in {shown}/. Ctrl-C ends it; `make demo` finds its data again, `make demo RESET=1` starts afresh.
"""


#: What becomes of each customer's first order.
STORIES = {
    "ada": "has a card in WHMCS: everything works",
    "grace": "has no payment method: the order waits for one, and goes on",
    "alan": "is a WHMCS client that Salesforce doesn't know yet: found by e-mail",
    "mary": "is no WHMCS client at all: an operator has to map one",
}


def personas() -> str:
    """The four customers of the seeds, a line each."""
    return "\n".join(f"  {each.email:<24}{each.first} {STORIES[name]}" for name, each in CUSTOMERS.items())


def main() -> int:
    """Start, tell, wait, end. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--reset", action="store_true", help="forget what earlier demos kept")
    parser.add_argument("--headless", action="store_true", help="print one JSON line of addresses instead of the words")
    parser.add_argument("--var", type=Path, default=ROOT / "var", help="where the data is kept (default: var/)")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: _interrupt(stop))
    try:
        with sole_use(arguments.var) as lock:
            return run(arguments, stop, lock)
    except AlreadyRunning as error:
        print(error, file=sys.stderr)
        return 1
    except Interrupted:
        return 0


class Interrupted(BaseException):
    """A signal asked for the end while the demo was starting."""


def _interrupt(stop: threading.Event) -> None:
    if not stop.is_set():
        stop.set()
        raise Interrupted


def run(arguments: argparse.Namespace, stop: threading.Event, lock: Path) -> int:
    """With the lock held: everything up, until a signal or a failure."""
    if arguments.reset:
        forget(arguments.var)
    logs = arguments.var / "log"
    stack = Stack(arguments.var / "demo", ports=USUAL_PORTS, logs=logs)
    status = 0
    try:
        if not arguments.headless:
            print("Starting …", flush=True)
        stack.start()
        lock.write_text(f"process {os.getpid()}, {stack.urls['portal']}", encoding="utf-8")
        if arguments.headless:
            print(json.dumps({**stack.urls, "pid": os.getpid(), "var": str(stack.var)}), flush=True)
        else:
            print(banner(stack, logs), flush=True)
        while (ended := stack.failed()) is None:
            stop.wait(0.25)
        raise ProcessFailed(ended.obituary())
    except Interrupted:
        if not arguments.headless:
            print("\nEnding …", flush=True)
    except ProcessFailed as error:
        print(f"The demo ended: {error}", file=sys.stderr, flush=True)
        status = 1
    finally:
        stop.set()  # a second signal doesn't cut the clearing up short
        stack.stop()
    return status


if __name__ == "__main__":
    sys.exit(main())
