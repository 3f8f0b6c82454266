"""The demo's launcher: one at a time on its data, ports that fit, and no process left behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import ROOT
from sandbox.seeds import call
from sandbox.stack import USUAL_PORTS

PARTS = {"portal", "salesforce", "whmcs", "mailbox"}


class Demo:
    """`python -m sandbox.demo --headless` over a folder."""

    def __init__(self, var: Path, *arguments: str) -> None:
        self.errors = var.with_name(f"{var.name}.stderr")
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox.demo", "--headless", "--var", str(var), *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def ready(self) -> dict[str, Any]:
        """Its addresses, once it is up."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        return dict(json.loads(line))

    def descendants(self) -> set[tuple[int, str]]:
        """Everything it started, as (pid, start time): a pid alone may come again."""
        children: dict[int, list[tuple[int, str]]] = {}
        for pid, parent, began in processes():
            children.setdefault(parent, []).append((pid, began))
        found: set[tuple[int, str]] = set()
        todo = [self.process.pid]
        while todo:
            for child in children.get(todo.pop(), ()):
                found.add(child)
                todo.append(child[0])
        return found

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(60)
        self.close()
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def processes() -> Iterator[tuple[int, int, str]]:
    """(pid, parent, start time) of every process that isn't a zombie."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] != "Z":
                yield int(entry), int(fields[1]), fields[19]


def until_gone(wanted: set[tuple[int, str]], seconds: float = 20) -> set[tuple[int, str]]:
    """What is left of some processes after a while."""
    deadline = time.monotonic() + seconds
    while True:
        left = wanted & {(pid, began) for pid, _, began in processes()}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    with ExitStack() as stack:

        def begin(*arguments: str) -> Demo:
            demo = Demo(tmp_path / "var", *arguments)
            stack.callback(demo.close)
            return demo

        yield begin


def orders_in(url: str) -> list[str]:
    return [row["Id"] for row in call("GET", url, "state?objects=Order")["Order"]]


def test_a_second_start_on_the_same_data_says_so_and_ends(start: Callable[..., Demo], tmp_path: Path) -> None:
    first = start()
    urls = first.ready()
    second = start()
    assert second.process.wait(60) == 1
    said = second.errors.read_text()
    assert said.count("\n") == 1
    assert urls["portal"] in said
    assert "already runs" in said
    third = start("--reset")
    assert third.process.wait(60) == 1, "RESET=1 doesn't pull the data from under a running demo"
    assert orders_in(urls["salesforce"]) == []
    assert first.end() == 0


def test_ctrl_c_ends_it_without_leftovers_and_its_secrets_are_nobody_elses_to_read(
    start: Callable[..., Demo], tmp_path: Path
) -> None:
    demo = start()
    urls = demo.ready()
    started = demo.descendants()
    assert len(started) >= 9, "Valkey, three sandboxes, two web servers and their master, worker, sweep"
    files = [*(tmp_path / "var" / "demo" / "secrets").iterdir(), tmp_path / "var" / "demo" / "env"]
    assert len(files) > 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}

    assert demo.end(signal.SIGINT) == 0
    assert not until_gone(started, seconds=0)
    for part in PARTS:
        with socket.socket() as probe:
            port = int(urls[part].rpartition(":")[2])
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    logs = "".join(path.read_text(errors="replace") for path in (tmp_path / "var" / "log").iterdir())
    secrets = [path.read_text().strip() for path in files if path.name not in ("env", "sf-public.pem")]
    assert not [secret for secret in secrets if secret in logs]


def test_taken_ports_are_left_to_who_has_them(start: Callable[..., Demo]) -> None:
    with ExitStack() as taken:
        for port in USUAL_PORTS.values():
            # Where somebody else has it already, that does as well.
            with suppress(OSError):
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
        demo = start()
        urls = demo.ready()
        assert not {int(urls[part].rpartition(":")[2]) for part in PARTS} & set(USUAL_PORTS.values())
        started = demo.descendants()
        assert demo.end(signal.SIGTERM) == 0
        assert not until_gone(started, seconds=0)


def test_a_signal_while_it_starts_leaves_nothing_either(start: Callable[..., Demo]) -> None:
    demo = start()
    deadline = time.monotonic() + 30
    while len(demo.descendants()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    started = demo.descendants()
    assert demo.end() == 0
    assert not until_gone(started)


def test_killed_it_takes_everything_with_it(start: Callable[..., Demo]) -> None:
    demo = start()
    demo.ready()
    started = demo.descendants()
    assert demo.end(signal.SIGKILL) == -signal.SIGKILL
    assert not until_gone(started)


def test_a_part_that_fails_ends_it_with_its_last_lines(start: Callable[..., Demo], tmp_path: Path) -> None:
    demo = start()
    demo.ready()
    started = demo.descendants()
    parents = {pid: parent for pid, parent, _ in processes()}
    [web] = [pid for pid, _ in started if "gunicorn" in command_of(pid) and parents[pid] == demo.process.pid]
    os.kill(web, signal.SIGKILL)
    assert demo.process.wait(60) == 1
    said = demo.errors.read_text()
    assert "web was killed by SIGKILL" in said
    assert str(tmp_path / "var" / "log" / "web.log") in said
    assert "Listening at" in said
    assert not until_gone(started)


def command_of(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def test_the_next_start_finds_its_data_and_addresses_and_reset_forgets_them(
    start: Callable[..., Demo], tmp_path: Path
) -> None:
    first = start()
    urls = first.ready()
    account = call("GET", urls["salesforce"], "state?objects=Account")["Account"][0]["Id"]
    order = call(
        "POST",
        urls["salesforce"],
        "seed",
        {
            "records": [
                {"type": "Order", "AccountId": account, "Status": "Pending Review", "EffectiveDate": "2026-01-31"}
            ]
        },
    )["ids"]
    assert first.end() == 0

    again = start()
    assert {part: again_url for part, again_url in again.ready().items() if part in PARTS} == {
        part: urls[part] for part in PARTS
    }
    assert orders_in(urls["salesforce"]) == order
    assert len(call("GET", urls["salesforce"], "state?objects=Account")["Account"]) == 4, "seeded once"
    assert again.end() == 0

    with socket.create_server(("127.0.0.1", int(urls["whmcs"].rpartition(":")[2]))):
        elsewhere = start()
        moved = elsewhere.ready()
        assert moved["whmcs"] != urls["whmcs"], "somebody else listens there now"
        assert orders_in(moved["salesforce"]) == order
        assert elsewhere.end() == 0

    afresh = start("--reset")
    assert orders_in(afresh.ready()["salesforce"]) == []
    assert afresh.end() == 0
