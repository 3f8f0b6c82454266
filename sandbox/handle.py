"""A handle on one running sandbox, whichever it is: its process, and the part of the control API that all have."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlencode, urlsplit

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 10.0
Json = dict[str, Any]
T = TypeVar("T")


class SandboxError(RuntimeError):
    """The control API refused, or the process did not start."""


class Process:
    """One sandbox: a process we started, or a server somebody else runs (`attach`)."""

    module: ClassVar[str]

    def __init__(
        self,
        url: str,
        process: subprocess.Popen[bytes] | None = None,
        command: list[str] | None = None,
        environment: dict[str, str] | None = None,
        log: Path | None = None,
    ):
        self.url = url
        self.process = process
        self._command = command or []
        self._environment = environment
        self._log = log

    # -- the process

    @classmethod
    def start(
        cls,
        data: Path | str,
        *arguments: str,
        environment: dict[str, str] | None = None,
        port: int = 0,
        log: Path | None = None,
    ) -> Self:
        """Starts `python -m <module>` over a data directory and waits for its ready line; `log` takes its stderr.

        `arguments` go to the command line, `environment` is added to ours (secrets only there).
        """
        command = [
            sys.executable,
            "-m",
            cls.module,
            "--port",
            str(port),
            "--data",
            str(data),
            "--die-with-parent",
            *arguments,
        ]
        self = cls("", None, command, {**os.environ, **(environment or {})}, log)
        self._run(command)
        return self

    @classmethod
    def attach(cls, url: str) -> Self:
        """A handle on a server that runs already."""
        return cls(url.rstrip("/"))

    def _run(self, command: list[str]) -> None:
        with contextlib.ExitStack() as stack:
            stderr = None if self._log is None else stack.enter_context(self._log.open("ab"))
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self._reaped()
            raise SandboxError(f"{self.module} did not start (status {self.process.wait(START_SECONDS)})")
        self._ready(json.loads(line))

    def _ready(self, line: Json) -> None:
        self.url = str(line["url"])

    @property
    def alive(self) -> bool:
        """True while a process we started runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that doesn't help."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reaped()

    def kill(self) -> None:
        """SIGKILL, as in a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._reaped()

    def suspend(self) -> None:
        """SIGSTOP: connections are accepted by the kernel, nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Ends the process (if it still runs) and starts it over the same data on the same port."""
        self.stop()
        command = list(self._command)
        command[command.index("--port") + 1] = str(urlsplit(self.url).port)
        self._run(command)

    def _reaped(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- control API

    def call(self, method: str, path: str, body: Any = None, timeout: float = 90.0, **query: Any) -> Any:
        """One call under /_sandbox/; SandboxError with the server's words when it refuses."""
        parts = urlsplit(self.url)
        target = f"/_sandbox/{path}"
        wanted = {key: value for key, value in query.items() if value is not None}
        if wanted:
            target += "?" + urlencode(wanted)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, target, body=data, headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise SandboxError(f"{method} {target}: {response.status} {text.decode('utf-8', 'replace')}")
        return json.loads(text)

    def journal(
        self,
        since: int = 0,
        *,
        action: str | None = None,
        order: str | None = None,
        client: str | None = None,
        direction: str | None = None,
        state: str | None = None,
        held: bool = False,
        faulted: bool = False,
        limit: int = 100_000,
        wait: float = 0.0,
    ) -> list[Json]:
        """Journal entries with an id above `since`, oldest first (see `sandbox.store.Journal` for their shape);
        `wait` seconds for the first one that fits."""
        found: list[Json] = self.call(
            "GET",
            "journal",
            since=since,
            action=action,
            order=order,
            client=client,
            direction=direction,
            state=state,
            held=1 if held else None,
            faulted=1 if faulted else None,
            limit=limit,
            wait=wait or None,
        )["entries"]
        return found

    def last_entry(self) -> int:
        """The id of the newest journal entry: a place to read on from."""
        return int(self.call("GET", "journal", newest=1, limit=1)["last"])

    def rotate_journal(self) -> int:
        """Forgets finished entries; answers the last id given out."""
        return int(self.call("POST", "journal/rotate")["last"])

    def seconds_inside(self, since: int = 0, **filters: Any) -> float:
        """Seconds that calls from outside spent in here."""
        return float(sum(each["inside"] or 0.0 for each in self.journal(since, direction="in", **filters)))

    def fault(self, kind: str, **spec: Any) -> int:
        """Adds a scripted fault (see sandbox/faults.py); answers its id."""
        return int(self.call("POST", "faults", {"kind": kind, **spec})["faults"][0]["id"])

    def meanwhile(self, *does: tuple[str, Json], **spec: Any) -> int:
        """Something that happens in the middle of a matching call: routes of the control API, each with its body
        (`("staff", {…})`), POSTed in order. Answers the fault's id."""
        return self.fault("meanwhile", does=[{"path": path, "body": body} for path, body in does], **spec)

    def faults(self) -> list[Json]:
        """The faults in force with their `matched` and `applied` counts."""
        found: list[Json] = self.call("GET", "faults")["faults"]
        return found

    def clear_faults(self, fault_id: int | None = None) -> None:
        """Removes one fault or all (calls already held stay held: `release`)."""
        self.call("DELETE", "faults" if fault_id is None else f"faults/{fault_id}")

    def wait_until_held(self, since: int = 0, timeout: float = 30.0, **filters: Any) -> Json:
        """Waits until a call is held at a pause_point; answers its journal entry."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = self.journal(since, held=True, wait=min(10.0, max(0.1, deadline - time.monotonic())), **filters)
            if found:
                return found[0]
        raise SandboxError("no call was held")

    def release(self, call: int | None = None, *, fault: int | None = None, then: str = "continue") -> list[int]:
        """Lets held calls go on (`then="drop"` closes their connections); answers their journal ids."""
        found: list[int] = self.call("POST", "release", {"call": call, "fault": fault, "then": then})["released"]
        return found

    def settings(self, **changes: Any) -> Json:
        """Changes settings and answers all of them (secrets as "set" or None)."""
        found: Json = self.call("POST", "settings", changes) if changes else self.call("GET", "settings")
        return found

    def maintenance(self, on: bool = True) -> None:
        """Everything answers 503 with an HTML page, or no longer."""
        self.settings(maintenance=on)

    def seed(self, **wanted: Any) -> Json:
        """Creates and changes records without the checks a caller meets."""
        found: Json = self.call("POST", "seed", wanted)
        return found

    def state(self, *objects: str) -> Json:
        """Raw state: all objects or those named."""
        found: Json = self.call("GET", "state", objects=",".join(objects) or None)
        return found

    def wait_for(self, condition: Callable[[], T], timeout: float = 30.0) -> T:
        """Calls `condition` until it answers something true; SandboxError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                raise SandboxError(f"waited {timeout} s in vain")
            time.sleep(0.02)
