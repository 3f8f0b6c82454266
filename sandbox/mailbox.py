"""A mailbox for the demo and the tests: takes every mail over SMTP, shows it on a page and through a small JSON API."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
import threading
import time
from email import message_from_bytes
from email.policy import default as default_policy
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP

from sandbox.base import Sandbox
from sandbox.call import Call
from sandbox.launch import run_until_stopped
from sandbox.pages import esc, page, table
from sandbox.store import Document
from sandbox.wire import Request, Response, Server, json_response

SITE = "Mailbox (sandbox)"
LINKS = {"Look for new mails": "/"}
URL = re.compile(r"https?://[^\s<>\"')\]]+[^\s<>\"')\].,;:!?]")
KEPT = 5000
FAULT_KINDS = {"hang", "reject", "drop_before", "drop_after", "drop_after_250"}


def parts_of(raw: bytes) -> dict[str, Any]:
    """Subject, text, HTML and links of a mail."""
    message = message_from_bytes(raw, policy=default_policy)
    found: dict[str, Any] = {"subject": str(message.get("Subject", "")), "text": None, "html": None}
    for kind in ("plain", "html"):
        body = message.get_body((kind,))
        if body is not None:
            found["text" if kind == "plain" else "html"] = body.get_content()
    found["links"] = list(dict.fromkeys(URL.findall(found["text"] or found["html"] or "")))
    found["headers"] = {name: str(value) for name, value in message.items()}
    return found


class MailFaults:
    """Faults of the SMTP side: `kind`, `count` (default 1, 0 = without end), `to` (text in a recipient), `seconds` of a
    hang, `code` and `message` of a reject."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[dict[str, Any]] = []
        self._last = 0

    def add(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Adds one; ValueError when its kind is unknown."""
        if spec.get("kind") not in FAULT_KINDS:
            raise ValueError(f"unknown kind; known: {', '.join(sorted(FAULT_KINDS))}")
        with self._lock:
            self._last += 1
            fault = {
                "count": 1,
                "to": "",
                "seconds": 3600.0,
                "code": 451,
                "message": "Try again later",
                **spec,
                "id": self._last,
                "applied": 0,
            }
            self._faults.append(fault)
            return dict(fault)

    def all(self) -> list[dict[str, Any]]:
        """All of them."""
        with self._lock:
            return [dict(each) for each in self._faults]

    def clear(self) -> int:
        """Removes all."""
        with self._lock:
            gone = len(self._faults)
            self._faults.clear()
            return gone

    def pick(self, recipients: list[str]) -> dict[str, Any] | None:
        """The fault that hits a mail."""
        with self._lock:
            for fault in self._faults:
                if (not fault["count"] or fault["applied"] < fault["count"]) and (
                    not fault["to"] or any(fault["to"] in each for each in recipients)
                ):
                    fault["applied"] += 1
                    return dict(fault)
        return None


class Mailbox(Sandbox):
    """Stored mails and their page; the SMTP side hands them in with `take`."""

    name = "mailbox"

    def __init__(self, data: Path, settings: dict[str, Any]):
        super().__init__(data, settings)
        self.mail_faults = MailFaults()

    def take(self, envelope_from: str, recipients: list[str], raw: bytes) -> None:
        """Stores one mail."""
        with self.store.transaction() as change:
            number = change.next("message")
            change.put(
                "message",
                f"{number:09d}",
                {
                    "id": number,
                    "from": envelope_from,
                    "to": recipients,
                    "receivedAt": time.time(),
                    "raw": raw.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode(),
                },
            )
            change.delete("message", f"{number - KEPT:09d}")

    def full(self, document: Document) -> dict[str, Any]:
        """A mail with its parts."""
        return {**document, **parts_of(document["raw"].encode())}

    def describe(self, request: Request) -> dict[str, Any]:
        """Only pages are served here."""
        return {"action": "web", "params": None}

    def handle(self, request: Request, call: Call) -> Response:
        """List and single mail."""
        parts = [part for part in request.path.split("/") if part]
        if not parts:
            rows = []
            for each in self.store.all("message")[:-201:-1]:
                when = time.strftime("%H:%M:%S", time.localtime(each["receivedAt"]))
                rows.append(
                    [
                        f'<a href="/mails/{each["id"]}">{esc(self.full(each)["subject"]) or "(no subject)"}</a>',
                        esc(", ".join(each["to"])),
                        esc(each["from"]),
                        when,
                    ]
                )
            body = table(["Subject", "To", "From", "Received"], rows, "No mail yet.")
            return page(SITE, "Mails", body, LINKS)
        if parts[0] == "mails" and len(parts) == 2 and parts[1].isdigit():
            document = self.store.get("message", f"{int(parts[1]):09d}")
            if document is not None:
                return self._mail(self.full(document))
        return page(SITE, "Not found", "<p>There is no such mail.</p>", LINKS, status=404)

    @staticmethod
    def _mail(mail: dict[str, Any]) -> Response:
        def link(match: re.Match[str]) -> str:
            return f'<a href="{esc(match.group())}" rel="noreferrer">{esc(match.group())}</a>'

        pieces, last = [], 0
        for match in URL.finditer(mail["text"] or ""):
            pieces += [esc(mail["text"][last : match.start()]), link(match)]
            last = match.end()
        pieces.append(esc((mail["text"] or "")[last:]))
        body = (
            f"<dl><dt>To</dt><dd>{esc(', '.join(mail['to']))}</dd><dt>From</dt><dd>{esc(mail['from'])}</dd></dl>"
            f"<pre>{''.join(pieces)}</pre>"
        )
        if mail["html"]:
            body += (
                '<h2>As HTML</h2><iframe title="The mail as HTML" sandbox="allow-popups '
                'allow-popups-to-escape-sandbox" style="width:100%;height:30rem;border:1px solid #8884;'
                f'background:#fff" srcdoc="{esc("<base target=_blank>" + mail["html"])}"></iframe>'
            )
        return page(SITE, mail["subject"] or "(no subject)", body, LINKS)

    def state(self, args: dict[str, str]) -> dict[str, Any]:
        """All mails."""
        return {"messages": [self.full(each) for each in self.store.all("message")]}

    def control(self, request: Request, parts: list[str]) -> Response | None:
        """messages (filters to, subject, since, wait) and smtp-faults."""
        match request.method, parts:
            case "GET", ["messages"]:
                return json_response({"messages": self._messages(request.args())})
            case "DELETE", ["messages"]:
                with self.store.transaction() as change:
                    keys = list(self.store.tables.get("message", {}))
                    for key in keys:
                        change.delete("message", key)
                return json_response({"removed": len(keys)})
            case "GET", ["smtp-faults"]:
                return json_response({"faults": self.mail_faults.all()})
            case "POST", ["smtp-faults"]:
                return json_response(self.mail_faults.add(request.json()), 201)
            case "DELETE", ["smtp-faults"]:
                return json_response({"removed": self.mail_faults.clear()})
        return None

    def _messages(self, args: dict[str, str]) -> list[dict[str, Any]]:
        deadline = time.monotonic() + min(60.0, float(args.get("wait", 0)))
        while True:
            found = [
                self.full(each)
                for each in self.store.all("message")
                if each["id"] > int(args.get("since", 0))
                and ("to" not in args or any(args["to"].lower() in to.lower() for to in each["to"]))
            ]
            found = [each for each in found if args.get("subject", "").lower() in each["subject"].lower()]
            if found or time.monotonic() >= deadline or self.stopping.wait(0.05):
                return found


class Handler:
    """aiosmtpd's hooks."""

    def __init__(self, mailbox: Mailbox):
        self._mailbox = mailbox

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        """Takes a mail, or does what a fault says."""
        recipients = [str(each) for each in envelope.rcpt_tos]
        fault = self._mailbox.mail_faults.pick(recipients) or {"kind": None}
        transport = cast(asyncio.Transport, server.transport)
        if fault["kind"] == "reject":
            return f"{fault['code']} {fault['message']}"
        if fault["kind"] == "hang":
            await asyncio.sleep(float(fault["seconds"]))
            return "451 Timed out"
        if fault["kind"] == "drop_before":
            transport.abort()
            return "421 Closing"
        self._mailbox.take(str(envelope.mail_from), recipients, envelope.content)
        if fault["kind"] == "drop_after":
            transport.abort()
        elif fault["kind"] == "drop_after_250":
            asyncio.get_running_loop().call_later(0.05, transport.close)
        return "250 OK"


class SmtpServer:
    """aiosmtpd in a thread of its own."""

    def __init__(self, host: str, port: int, mailbox: Mailbox):
        self._loop = asyncio.new_event_loop()
        handler = Handler(mailbox)
        self._server = self._loop.run_until_complete(
            self._loop.create_server(
                lambda: SMTP(handler, enable_SMTPUTF8=True, decode_data=False, loop=self._loop), host, port
            )
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)


def main() -> None:
    """Run it: `python -m sandbox.mailbox --http-port 0 --smtp-port 0 --data DIR`."""
    parser = argparse.ArgumentParser(description="A mailbox that takes every mail")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--http-port", "--port", type=int, default=0)
    parser.add_argument("--smtp-port", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--die-with-parent", action="store_true")
    arguments = parser.parse_args()
    threading.stack_size(512 * 1024)
    mailbox = Mailbox(arguments.data, {})
    mailbox.server = Server(arguments.host, arguments.http_port, mailbox.serve)
    mailbox.server.start()
    smtp = SmtpServer(arguments.host, arguments.smtp_port, mailbox)
    try:
        run_until_stopped(
            {"url": mailbox.server.url, "smtp": f"smtp://{arguments.host}:{smtp.port}", "pid": os.getpid()},
            arguments.die_with_parent,
        )
    finally:
        with contextlib.suppress(RuntimeError):
            smtp.stop()
        mailbox.close()
        sys.stdout.flush()


if __name__ == "__main__":
    main()
