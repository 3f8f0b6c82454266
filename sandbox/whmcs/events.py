"""The webhooks a hook file in WHMCS would send: written to an outbox with the change, delivered by a thread."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import secrets
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from sandbox.store import Journal, Store, Transaction

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0
ATTEMPTS = 50
SENT_KEPT = 1000


def stamp() -> str:
    """The present as ISO 8601 in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Events:
    """Outbox and its courier; without a portal address and a secret events are not even recorded."""

    def __init__(self, store: Store, journal: Journal, settings: dict[str, Any], stopping: threading.Event):
        self._store = store
        self._journal = journal
        self._settings = settings
        self._stopping = stopping
        self._wake = threading.Event()
        self._muted = False

    @contextlib.contextmanager
    def muted(self, quiet: bool) -> Iterator[None]:
        """While `quiet`, nothing is recorded: a change that no hook tells of. Only inside a transaction, which keeps
        everybody else's changes out."""
        self._muted = quiet
        try:
            yield
        finally:
            self._muted = False

    def told(self, event: str, data: dict[str, Any], seconds: float) -> bool:
        """Records an event out of turn and waits so long for its delivery. Answers whether it was delivered; raises
        ValueError where events go nowhere."""
        if not self.enabled:
            raise ValueError("events need the settings portal_url, webhook_secret and webhooks")
        with self._store.transaction() as change:
            key = self.emit(change, event, **data)
        deadline = time.monotonic() + seconds
        while (delivered := self._store.get("_sent", str(key)) is not None) is False and time.monotonic() < deadline:
            if self._stopping.wait(0.01):
                break
        return delivered

    @property
    def enabled(self) -> bool:
        """True when there is somebody to tell."""
        return bool(self._settings["portal_url"] and self._settings["webhook_secret"] and self._settings["webhooks"])

    def emit(self, change: Transaction, event: str, **data: Any) -> int | None:
        """Records an event in the transaction of the change it tells of; ids in `data` are texts. Answers its number,
        None when nothing was recorded."""
        if not self.enabled or self._muted:
            return None
        number = change.next("event")
        change.put(
            "_outbox",
            str(number),
            {
                "id": f"evt_{secrets.token_hex(12)}",
                "event": event,
                "occurredAt": stamp(),
                "data": {key: str(value) for key, value in data.items() if value is not None},
                "attempts": 0,
                "due": 0.0,
                "delivered": False,
                "status": None,
            },
        )
        self._wake.set()
        return number

    def start(self) -> None:
        """Starts the courier."""
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            nearest = 1.0
            for key, document in list(self._store.tables.get("_outbox", {}).items()):
                if self._stopping.is_set():
                    return
                if document["attempts"] >= ATTEMPTS or not self.enabled:
                    continue
                wait = document["due"] - time.time()
                if wait > 0:
                    nearest = min(nearest, wait)
                    continue
                self._deliver(key, document)
            self._wake.wait(nearest)

    def _deliver(self, key: str, document: dict[str, Any]) -> None:
        body, headers = self.signed(document)
        status: int | None = None
        base = urlsplit(self._settings["portal_url"])
        path = f"{base.path.rstrip('/')}/webhooks/whmcs"
        entry = self._journal.begin(
            direction="out",
            method="POST",
            path=path,
            action="webhook",
            params={"event": document["event"], "id": document["id"], **document["data"]},
            client=document["data"].get("clientId"),
        )
        connection: http.client.HTTPConnection | None = None
        error: str | None = None
        try:
            kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
            connection = kind(base.hostname or "", base.port, timeout=10)
            connection.request("POST", path, body=body, headers=headers)
            response = connection.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException) as problem:
            error = str(problem) or type(problem).__name__
        finally:
            if connection is not None:
                connection.close()
        if self._stopping.is_set():
            return
        delivered = status is not None and 200 <= status < 300
        attempts = document["attempts"] + 1
        pause = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** (attempts - 1))
        with self._store.transaction() as change:
            changed = {
                **document,
                "attempts": attempts,
                "due": time.time() + pause,
                "delivered": delivered,
                "status": status,
            }
            if delivered:
                change.delete("_outbox", key)
                change.put("_sent", key, changed)
                change.delete("_sent", str(int(key) - SENT_KEPT))
            else:
                change.put("_outbox", key, changed)
        self._journal.finish(
            entry,
            state="answered" if status else "gone",
            status=status,
            outcome=error,
            answered=time.time(),
            inside=0.0,
        )

    def signed(self, document: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
        """Body and headers of one delivery; each has a nonce of its own, the event's id stays."""
        timestamp, nonce = stamp(), secrets.token_hex(16)
        body = json.dumps(
            {
                "id": document["id"],
                "event": document["event"],
                "occurredAt": document["occurredAt"],
                "data": document["data"],
                "timestamp": timestamp,
                "nonce": nonce,
            },
            separators=(",", ":"),
        ).encode()
        signature = hmac.new(str(self._settings["webhook_secret"]).encode(), body, hashlib.sha256).hexdigest()
        return body, {
            "Content-Type": "application/json",
            "X-WHMCS-Signature": signature,
            "X-WHMCS-Timestamp": timestamp,
            "X-WHMCS-Nonce": nonce,
        }
