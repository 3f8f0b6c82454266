"""`make attack`: thousands of hostile requests over raw sockets against the running doors, by the class.

Each class has a well-formed twin that must get in, so that a door which refuses everything doesn't pass. All the while
an honest sender goes on, and is timed. Ends with one JSON line; exit 0 only if nothing hostile was accepted, no answer
was a 5xx (gunicorn's own 501 and 505 aside), and every twin and every honest request got in.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.webhooks.hostile import CLASSES, Hostile, right
from tests.webhooks.running import RunningPortal

ALLOWED_5XX = {501, 505}
NONCELESS_TWIN = "WHMCS: stale, contradicting or unreadable"
_HEAD = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
_LENGTH = re.compile(rb"^content-length:\s*([0-9]+)", re.IGNORECASE | re.MULTILINE)


def statuses(stream: bytes) -> list[int]:
    """The final statuses in what a server sent, in their order."""
    found, at = [], 0
    while (match := _HEAD.match(stream, at)) is not None:
        status = int(match[1])
        length = _LENGTH.search(match[2])
        at = match.end() + (int(length[1]) if length else 0)
        if status >= 200:
            found.append(status)
    return found


def exchange(port: int, data: bytes, source: str, stall: float = 0.0) -> list[int]:
    """Send bytes, say that there are no more (or stall), and read until the server ends the connection."""
    received = b""
    try:
        with closing(socket.create_connection(("127.0.0.1", port), 30, source_address=(source, 0))) as sock:
            sock.settimeout(30)
            try:
                sock.sendall(data)
                if not stall:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before it was all sent: the answer is there to be read
            deadline = time.monotonic() + (stall or 30)
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                piece = sock.recv(65536)
                if not piece:
                    break
                received += piece
    except OSError:
        pass
    return statuses(received)


@dataclass
class Honest:
    """A sender who goes on sending well-formed requests."""

    port: int
    served: int = 0
    refused: list[list[int]] = field(default_factory=list)
    slowest: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name="honest", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stopping.is_set():
            started = time.monotonic()
            answers = exchange(self.port, right().replace(b"Prefer: ", b"Connection: close\r\nPrefer: "), "127.0.0.1")
            self.slowest = max(self.slowest, time.monotonic() - started)
            if answers == [202]:
                self.served += 1
            else:
                self.refused.append(answers)
            self.stopping.wait(0.02)

    def stop(self) -> None:
        """Send no more, and wait for the last answer."""
        self.stopping.set()
        self.thread.join(60)


@dataclass
class Outcome:
    """What came of one class."""

    name: str
    requests: int = 0
    accepted: int = 0
    server_errors: int = 0
    twins_in: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = ", ".join(f"{count}× {answer}" for answer, count in self.answers.most_common())
        return f"{self.name:58} {shown}"


def attack(one: Hostile, ports: dict[str, int], number: int) -> Outcome:
    """Send all of one class, after its twin."""
    outcome, port = Outcome(one.name), ports[one.server]
    requests = one.some(number)
    twin, requests = (requests[0], requests[1:]) if one.primed else (one.twin(), requests)
    told = exchange(port, twin, one.twin_source)
    if told and all(status == 202 for status in told):
        outcome.twins_in += len(told)
    else:
        outcome.faults.append(f"{one.name}: its twin was refused: {told}")

    def send(data: bytes) -> list[int]:
        return exchange(port, data, one.source, one.stall)

    with ThreadPoolExecutor(len(requests) if one.stall else 4) as pool:
        for answers in pool.map(send, requests):
            outcome.requests += 1
            outcome.accepted += any(status < 300 for status in answers)
            outcome.server_errors += any(status >= 500 and status not in ALLOWED_5XX for status in answers)
            outcome.answers[" ".join(map(str, answers)) or "none"] += 1
    if outcome.accepted or outcome.server_errors:
        outcome.faults.append(str(outcome))
    return outcome


def run(folder: Path, number: int, only: str = "") -> tuple[dict[str, int], list[str]]:
    """The whole attack; returns the figures and what was wrong."""
    classes = [one for one in CLASSES if only in one.name]
    slow = [one for one in classes if one.stall]
    with (
        RunningPortal(folder / "plain") as plain,
        RunningPortal(
            folder / "allowlisted",
            SF_WEBHOOK_IP_ALLOWLIST="203.0.113.0/24",
            TRUSTED_PROXIES="127.0.0.2",
            WEB_CONCURRENCY="1",
        ) as allowlisted,
        ThreadPoolExecutor(len(slow) or 1) as aside,
    ):
        ports = {"plain": plain.port, "allowlisted": allowlisted.port}
        honest = Honest(plain.port)
        outcomes = []
        try:
            stalling = [aside.submit(attack, one, ports, number) for one in slow]  # while the others go on
            for one in classes:
                if not one.stall:
                    outcomes.append(attack(one, ports, number))
                    print(outcomes[-1], flush=True)
            for each in stalling:
                outcomes.append(each.result())
                print(outcomes[-1], flush=True)
        finally:
            honest.stop()
        # What the ledgers say counts, whatever the answers said. A twin without a nonce is no delivery there.
        deliveries = "SELECT count(*) FROM deliveries WHERE nonce NOT LIKE 'whmcs-event:%'"
        written = sum(each.query(deliveries)[0][0] for each in (plain, allowlisted))
        nonceless = sum(one.name == NONCELESS_TWIN for one in classes)
        expected = sum(outcome.twins_in for outcome in outcomes) - nonceless + honest.served
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    faults += [f"honest request refused: {each}" for each in honest.refused]
    if written != expected:
        faults.append(f"the ledgers hold {written} deliveries where {expected} should be")
    figures = {
        "requests": sum(outcome.requests for outcome in outcomes),
        "classes": len(classes),
        "accepted": sum(outcome.accepted for outcome in outcomes) + max(0, written - expected),
        "serverErrors": sum(outcome.server_errors for outcome in outcomes),
        "goodServed": honest.served,
        "slowestGoodMs": round(honest.slowest * 1000),
    }
    return figures, faults


def main() -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--each", type=int, default=80, help="hostile requests of each class (default 80, at least 20)")
    parser.add_argument("--only", default="", help="only classes with this in their name")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        figures, faults = run(Path(folder), options.each, options.only)
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    print(json.dumps(figures), flush=True)
    return 1 if faults or figures["accepted"] or figures["serverErrors"] or not figures["goodServed"] else 0


if __name__ == "__main__":
    sys.exit(main())
