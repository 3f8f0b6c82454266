"""What the sandboxes share: a call's way through journal and faults, the control API, the process around it."""

from __future__ import annotations

import argparse
import html
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.faults import Faults
from sandbox.store import Document, Journal, Store
from sandbox.wire import Connection, Request, Response, Server, json_response

MAINTENANCE = """<!DOCTYPE html>
<html lang="en"><head><title>Down for Maintenance</title></head>
<body><h1>Down for Maintenance</h1>
<p>We are currently performing maintenance and will be back shortly.</p></body></html>
"""


class Dropped(Exception):
    """The connection is to be closed without an answer."""

    def __init__(self, reset: bool = False):
        super().__init__()
        self.reset = reset


class Call:
    """One call on its way: its journal entry, its fault, and the connection it came over."""

    def __init__(
        self,
        entry: Document,
        fault: Document | None,
        connection: Connection | None,
        journal: Journal,
        stopping: threading.Event,
    ):
        self.entry = entry
        self.fault = fault
        self.connection = connection
        self._journal = journal
        self._stopping = stopping
        self.released = threading.Event()
        self.release_with = "continue"

    def note_if_gone(self) -> bool:
        """Writes into the journal when the caller has left; True when it has."""
        if self.entry["gone"] is not None:
            return True
        if self.connection is not None and self.connection.peer_gone():
            self._journal.touch(self.entry, gone=time.time())
            return True
        return False

    def wait(self, seconds: float, until_released: bool = False) -> None:
        """Waits, watching whether the caller hangs up meanwhile (the wait goes on, as PHP would)."""
        deadline = time.monotonic() + seconds
        while not self._stopping.is_set():
            left = deadline - time.monotonic()
            if left <= 0 or (until_released and self.released.is_set()):
                return
            self.note_if_gone()
            # A short step, so that the journal's `gone` is close to the moment the caller left.
            self.released.wait(min(left, 0.02)) if until_released else self._stopping.wait(min(left, 0.02))
        raise Dropped


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
            early = self._apply(fault, call)
            if early is not None:
                return early
        response = self.handle(request, call)
        if fault["when"] == "after":
            return self._apply(fault, call) or response
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

    def _apply(self, fault: Document, call: Call) -> Response | None:
        """What a fault does at its place: an answer of its own, None to go on, or Dropped."""
        kind = fault["kind"]
        headers = list((fault.get("headers") or {}).items())
        if fault.get("retry_after") is not None:
            headers.append(("Retry-After", str(fault["retry_after"])))
        if kind in self.presets:
            status, body = self.presets[kind]
            return json_response(body, fault.get("status", status), headers)
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
        return None

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


# -- the process ---------------------------------------------------------------------------------------------------


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


# -- pages ---------------------------------------------------------------------------------------------------------

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#0b5cad}
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1rem}
header{border-bottom:2px solid var(--accent);margin-bottom:1rem}header a{margin-right:1rem}
h1{font-size:1.4rem;margin:.5rem 0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{font-weight:600}dd{margin:0}
form{display:inline-block;margin:.2rem .4rem .2rem 0}
button{font:inherit;padding:.4rem .9rem;border:1px solid var(--accent);border-radius:.3rem;background:transparent;
color:inherit;cursor:pointer;min-height:2.5rem}button.main{background:var(--accent);color:#fff}
.badge{border:1px solid var(--line);border-radius:1rem;padding:.05rem .6rem;white-space:nowrap;background:var(--soft)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--soft);padding:.6rem;margin:0}
@media (max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}
"""


def esc(value: Any) -> str:
    """HTML-escaped text; None becomes nothing."""
    return "" if value is None else html.escape(str(value))


def table(headings: list[str], rows: list[list[str]], empty: str = "Nothing yet.") -> str:
    """A table; cells are HTML already."""
    if not rows:
        return f"<p>{esc(empty)}</p>"
    head = "".join(f'<th scope="col">{esc(heading)}</th>' for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def page(
    site: str, title: str, body: str, links: dict[str, str], refresh: int | None = None, status: int = 200
) -> Response:
    """A whole page without outside resources; `links` maps text to address; `refresh` reloads it."""
    navigation = "".join(f'<a href="{esc(href)}">{esc(text)}</a>' for text, href in links.items())
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    text = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{esc(title)} – {esc(site)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{again}<style>{STYLE}</style></head>'
        f"<body><header><p>{esc(site)}</p><nav>{navigation}</nav></header><main><h1>{esc(title)}</h1>{body}</main>"
        "</body></html>"
    )
    return Response(
        status,
        text,
        headers=[
            (
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ],
    )


def button(action: str, text: str, main: bool = False, **fields: Any) -> str:
    """A form with one button that posts."""
    hidden = "".join(f'<input type="hidden" name="{esc(name)}" value="{esc(value)}">' for name, value in fields.items())
    css = ' class="main"' if main else ""
    return f'<form method="post" action="{esc(action)}">{hidden}<button{css}>{esc(text)}</button></form>'


def badge(text: Any) -> str:
    """A status word."""
    return f'<span class="badge">{esc(text)}</span>' if text else ""
