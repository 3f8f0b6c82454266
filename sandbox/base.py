"""What the sandboxes share: a call's way through journal and faults, and the control API."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.call import Call, Dropped
from sandbox.faults import Faults
from sandbox.store import Document, Journal, Store
from sandbox.wire import Request, Response, Server, json_response

MAINTENANCE = """<!DOCTYPE html>
<html lang="en"><head><title>Down for Maintenance</title></head>
<body><h1>Down for Maintenance</h1>
<p>We are currently performing maintenance and will be back shortly.</p></body></html>
"""


def _with_message(body: Any, message: str | None) -> Any:
    """A preset's body with other words in the place of its own."""
    if message is None:
        return body
    if isinstance(body, list):
        return [_with_message(each, message) for each in body]
    named = next((name for name in ("message", "warning", "error_description") if name in body), "message")
    return {**body, named: message}


class Sandbox:
    """Base of the pretend services: subclasses say what a call is (`describe`) and do it (`handle`)."""

    name = "sandbox"
    presets: dict[str, tuple[int, Any]] = {}
    defaults: dict[str, Any] = {}
    secret_settings: frozenset[str] = frozenset()
    indexes: dict[str, tuple[str, ...]] = {}

    def __init__(self, data: Path, settings: dict[str, Any]):
        self.store = Store(data / f"{self.name}.sqlite3", self.indexes)
        self.journal = Journal(self.store)
        self.faults = Faults(set(self.presets))
        self.stopping = threading.Event()
        self._held: dict[int, Call] = {}
        self._settings_lock = threading.Lock()
        persisted = (self.store.get("_settings", "settings") or {}).get("value", {})
        explicit = {key: value for key, value in settings.items() if value is not None}
        self.settings: dict[str, Any] = {"maintenance": False, **self.defaults, **persisted, **explicit}
        self.server: Server | None = None
        self.started = time.time()

    # -- for subclasses ------------------------------------------------------------------------------------------

    def describe(self, request: Request) -> dict[str, Any]:
        """`action`, `order`, `client`, `params` (redacted) of a call, for journal and faults; must not raise."""
        raise NotImplementedError

    def handle(self, request: Request, call: Call) -> Response:
        """Does the call; changes are committed with `self.store.transaction(call.entry)`."""
        raise NotImplementedError

    def control(self, request: Request, parts: list[str]) -> Response | None:
        """The subclass' own part of the control API; None when it has no such route."""
        return None

    def state(self, args: dict[str, str]) -> dict[str, Any]:
        """Raw state for verification."""
        raise NotImplementedError

    def outcome(self, response: Response) -> Any:
        """What the journal keeps of an answer."""
        return None

    def begin_background(self) -> None:
        """Starts the subclass' threads."""

    # -- the way of a call ---------------------------------------------------------------------------------------

    def serve(self, request: Request) -> bool:
        """Answers one request; True when the connection may be kept."""
        connection = request.connection
        if request.method == "POST" and not self._same_origin(request):
            return connection.send(Response(403, "Cross-origin request refused"), False) and False
        if request.path.startswith("/_sandbox"):
            keep = request.keep_alive
            return connection.send(self._control(request), keep) and keep
        entry = self.journal.begin(
            method=request.method, path=request.path, received=request.received, **self.describe(request)
        )
        fault = None
        if self.faults.all():
            text = f"{request.path}?{request.args()}\n{request.body.decode('utf-8', 'replace')}\n{entry['params']}"
            fault = self.faults.pick(entry, text)
        call = Call(entry, fault, connection, self.journal, self.stopping)
        if fault is not None:
            self.journal.touch(entry, fault={key: fault.get(key) for key in ("id", "kind", "when", "label")})
        try:
            response = self._run(request, call)
        except Dropped as drop:
            connection.close(drop.reset)
            gone_at = entry["gone"] or time.time()
            if fault is not None and fault["kind"] == "late_commit":
                self.journal.touch(entry, gone=gone_at)
            else:
                self.journal.finish(
                    entry, state="dropped", gone=gone_at, inside=time.monotonic() - request.received_mono
                )
            return False
        except Exception as error:
            self.journal.finish(entry, state="dropped", outcome={"sandboxError": repr(error)})
            raise
        gone = call.note_if_gone()
        fields = {
            "status": response.status,
            "outcome": self.outcome(response),
            "inside": time.monotonic() - request.received_mono,
        }
        # In the journal before it is on the wire: whoever has the answer finds the call answered.
        ended = {"state": "gone"} if gone else {"state": "answered", "answered": time.time()}
        self.journal.finish(entry, **fields, **ended)
        sent = not gone and connection.send(response, request.keep_alive, request.method == "HEAD")
        if not sent and not gone:
            self.journal.finish(entry, state="gone", answered=None, gone=time.time())
        return sent and request.keep_alive

    def _run(self, request: Request, call: Call) -> Response:
        if self.settings["maintenance"]:
            return Response(503, MAINTENANCE, headers=[("Retry-After", "5")])
        fault = call.fault
        if fault is None:
            return self.handle(request, call)
        if fault["kind"] == "late_commit":
            threading.Thread(target=self._commit_late, args=(request, call), daemon=True).start()
            call.wait(float(fault.get("close_after", 0)))
            raise Dropped(bool(fault.get("reset")))
        if fault["when"] == "before":
            early = self._apply(fault, request, call)
            if early is not None:
                return early
        response = self.handle(request, call)
        if fault["when"] == "after":
            return self._apply(fault, request, call) or response
        return response

    def _commit_late(self, request: Request, call: Call) -> None:
        """Does what the caller asked long after the connection is gone."""
        assert call.fault is not None
        if self.stopping.wait(max(0.0, float(call.fault["seconds"]))):
            return
        call.connection = None
        response = self.handle(request, call)
        self.journal.finish(
            call.entry,
            state="dropped",
            status=response.status,
            outcome=self.outcome(response),
            gone=call.entry["gone"] or time.time(),
            inside=time.monotonic() - request.received_mono,
        )

    def _apply(self, fault: Document, request: Request, call: Call) -> Response | None:
        """What a fault does at its place: an answer of its own, None to go on, or Dropped."""
        kind = fault["kind"]
        headers = list((fault.get("headers") or {}).items())
        if fault.get("retry_after") is not None:
            headers.append(("Retry-After", str(fault["retry_after"])))
        if kind in self.presets:
            status, body = self.presets[kind]
            return json_response(_with_message(body, fault.get("message")), fault.get("status", status), headers)
        if kind == "error":
            body = fault.get("body", "")
            if isinstance(body, str):
                return Response(fault.get("status", 500), body, headers=headers)
            return json_response(body, fault.get("status", 500), headers)
        if kind == "html":
            return Response(fault.get("status", 503), fault.get("body", MAINTENANCE), headers=headers)
        if kind == "empty":
            return Response(fault.get("status", 200), b"", headers=headers)
        if kind == "drop":
            raise Dropped(bool(fault.get("reset")))
        if kind == "delay":
            call.wait(float(fault["seconds"]))
        elif kind == "hang":
            call.wait(float(fault["seconds"]))
            raise Dropped
        elif kind == "pause_point":
            self._hold(fault, call)
        elif kind == "meanwhile":
            for each in fault.get("does", []):
                self._do(request, each["path"], each.get("body") or {})
        return None

    def _do(self, request: Request, path: str, body: Any) -> None:
        """A route of the control API, POSTed from within. Raises ValueError where it is refused: a script that does
        nothing must not look like one that did."""
        inner = Request("POST", f"/_sandbox/{path}", {}, json.dumps(body).encode(), request.connection)
        response = self._control(inner)
        if response.status >= 400:
            raise ValueError(f"meanwhile {path}: {response.body.decode('utf-8', 'replace')}")

    def _hold(self, fault: Document, call: Call) -> None:
        self._held[call.entry["id"]] = call
        state = call.entry["state"]
        self.journal.touch(call.entry, state="held", held=fault["when"])
        try:
            call.wait(float(fault["seconds"]), until_released=True)
        finally:
            self._held.pop(call.entry["id"], None)
            self.journal.touch(call.entry, state=state)
        if call.release_with == "drop":
            raise Dropped

    @staticmethod
    def _same_origin(request: Request) -> bool:
        """A browser page of another site must not press our buttons."""
        origin = request.headers.get("origin")
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")

    # -- control API ---------------------------------------------------------------------------------------------

    def _control(self, request: Request) -> Response:
        try:
            parts = [part for part in request.path.split("/")[2:] if part]
            response = self._common_control(request, parts)
            if response is None:
                response = self.control(request, parts)
            return response or json_response({"error": "no such control route"}, 404)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return json_response({"error": f"{type(error).__name__}: {error}"}, 400)

    def _common_control(self, request: Request, parts: list[str]) -> Response | None:
        args = request.args()
        match request.method, parts:
            case "GET", []:
                return json_response({"name": self.name, "pid": os.getpid(), "started": self.started})
            case "GET", ["journal"]:
                return json_response(self._read_journal(args))
            case ("DELETE", ["journal"]) | ("POST", ["journal", "rotate"]):
                return json_response({"last": self.journal.rotate()})
            case "GET", ["faults"]:
                return json_response({"faults": self.faults.all()})
            case "POST", ["faults"]:
                wanted = request.json()
                added = [self.faults.add(spec) for spec in (wanted if isinstance(wanted, list) else [wanted])]
                return json_response({"faults": added}, 201)
            case "DELETE", ["faults"]:
                return json_response({"removed": self.faults.remove()})
            case "DELETE", ["faults", fault_id]:
                return json_response({"removed": self.faults.remove(int(fault_id))})
            case "POST", ["release"]:
                return json_response({"released": self._release(request.json())})
            case "GET", ["settings"]:
                return json_response(self.public_settings())
            case "POST", ["settings"]:
                self.change_settings(request.json())
                return json_response(self.public_settings())
            case "GET", ["state"]:
                return json_response(self.state(args))
        return None

    def _read_journal(self, args: dict[str, str]) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            key: args[key] for key in ("action", "order", "client", "direction", "state") if key in args
        }
        wanted.update(
            since=int(args.get("since", 0)),
            limit=int(args.get("limit", 1000)),
            held=args.get("held") == "1",
            faulted=args.get("faulted") == "1",
            newest=args.get("newest") == "1",
        )
        deadline = time.monotonic() + min(60.0, float(args.get("wait", 0)))
        while True:
            entries = self.journal.read(**wanted)
            left = deadline - time.monotonic()
            if entries or left <= 0 or self.stopping.is_set():
                return {"entries": entries, "last": entries[-1]["id"] if entries else wanted["since"]}
            with self.journal.changed:
                self.journal.changed.wait(min(left, 0.25))

    def _release(self, wanted: dict[str, Any]) -> list[int]:
        """Lets held calls go on: `call` (journal id), `fault` (fault id) or all; `then` `continue` or `drop`."""
        released = []
        for call_id, call in list(self._held.items()):
            assert call.fault is not None
            if wanted.get("call") not in (None, call_id) or wanted.get("fault") not in (None, call.fault["id"]):
                continue
            call.release_with = wanted.get("then", "continue")
            call.released.set()
            released.append(call_id)
        return released

    def public_settings(self) -> dict[str, Any]:
        """Settings with secrets shown as set or not."""
        return {
            key: ("set" if value else None) if key in self.secret_settings else value
            for key, value in self.settings.items()
        }

    def change_settings(self, changes: dict[str, Any]) -> None:
        """Changes settings; they outlive a restart, except secrets, which stay in memory."""
        unknown = set(changes) - set(self.settings)
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        with self._settings_lock:
            self.settings.update(changes)
            kept = (self.store.get("_settings", "settings") or {}).get("value", {})
            kept = {**kept, **{key: value for key, value in changes.items() if key not in self.secret_settings}}
            with self.store.transaction() as change:
                change.put("_settings", "settings", {"value": kept})

    def close(self) -> None:
        """Stops everything; held and delayed calls are dropped."""
        self.stopping.set()
        if self.server is not None:
            self.server.stop()
        for call in list(self._held.values()):
            call.released.set()
        self.journal.close()
        self.store.close()
