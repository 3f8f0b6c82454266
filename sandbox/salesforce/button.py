""" "Provision in WHMCS", pressed for one order or for many: what the Salesforce package does then, or the guide's Apex.

The package marks the order Requested, then a queued job (Queueable) calls the portal: 200 and 202 are accepted and the
outcome is the portal's to write; 408, 425, 429, 5xx and no answer are tried again later, under the same Idempotency-Key
and with a fresh nonce, not before Retry-After; anything else is definite and fails an order that is still Requested.
The guide's Apex calls once and writes Provisioned on 200, Failed on anything else.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from typing import Any

from sandbox.salesforce.callout import Callouts
from sandbox.salesforce.errors import SfError
from sandbox.salesforce.locks import RowLocked
from sandbox.salesforce.records import Records
from sandbox.store import Document, Journal

#: Queueable's delay is 10 minutes at most, whatever Retry-After asks for.
LONGEST_DELAY_MINUTES = 10
#: What the portal wrote and a click doesn't take back: the order is under way, or done.
LEFT_ALONE = ("Activating", "Provisioned")
#: Many orders in one transaction don't wait for each other's outcome: 120 s are all it has for callouts.
BULK_HEADERS = {"Prefer": "respond-async"}


class Button:
    """Presses the button for an operator.

    Settings: `callout_mode` (`package`, `guide`), `operator` (who is named as `requestedBy`), `retry_minutes` (pauses
    before the second, third, … attempt), `minute_seconds` (how long a minute of them lasts here), `bulk_jobs` (queued
    jobs that run at once), `lost_clicks` (so many of the next clicks set Requested and never leave).
    """

    def __init__(
        self,
        records: Records,
        journal: Journal,
        settings: dict[str, Any],
        callouts: Callouts,
        stopping: threading.Event,
    ):
        self._records = records
        self._journal = journal
        self._settings = settings
        self._callouts = callouts
        self._stopping = stopping
        self._lock = threading.Lock()

    def press(self, order_id: str, options: dict[str, Any] | None = None) -> Document:
        """Presses it for one order and waits for what comes of it; answers the last callout's record, with `lost`
        where none left and `dmlError` where the org refused to mark the order.

        Options: `mode`, `key`, `nonce`, `timestamp`, `secret`, `headers`, `fields` (of the body), `portal_url`,
        `path_id`, `timeout`, `attempts`, `write_back`, `lost`.
        """
        options = dict(options or {})
        if (options.get("mode") or self._settings["callout_mode"]) == "guide":
            return self._press_guide(order_id, options)
        refusal = self._request(order_id)
        return refusal or self._run(order_id, self._click(order_id, options))

    def press_for_all(self, order_ids: list[str], options: dict[str, Any] | None = None) -> list[Document]:
        """Selects orders in the list and presses it for all: one update marks them, each has a click's key of its own,
        and queued jobs call the portal. Answers one record each, in the same order, once all are through."""
        options = dict(options or {})
        if (options.get("mode") or self._settings["callout_mode"]) == "guide":
            return [self._press_guide(each, options) for each in order_ids]
        options["headers"] = {**BULK_HEADERS, **(options.get("headers") or {})}
        slots = threading.BoundedSemaphore(max(1, int(self._settings["bulk_jobs"])))
        results: dict[str, Document] = {}

        def run(order_id: str, click: dict[str, Any]) -> None:
            results[order_id] = self._run(order_id, click, slots)

        jobs = []
        for each in dict.fromkeys(order_ids):
            refusal = self._request(each)
            if refusal is None:
                jobs.append(threading.Thread(target=run, args=(each, self._click(each, options)), daemon=True))
            else:
                results[each] = refusal
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        return [results[each] for each in order_ids]

    # -- the package

    def _click(self, order_id: str, options: dict[str, Any]) -> dict[str, Any]:
        """The options with what belongs to the click: its key, and whether it gets lost."""
        with self._lock:
            lost = bool(options.get("lost")) or int(self._settings["lost_clicks"]) > 0
            if lost and "lost" not in options:
                self._settings["lost_clicks"] -= 1
        return {"key": f"provision_{order_id}_{secrets.token_hex(16)}", **options, "lost": lost}

    def _request(self, order_id: str) -> Document | None:
        """Marks an order Requested, unless the portal is at work on it. Answers what the org refused, or None."""
        order = self._records.record("Order", order_id) or {}
        if order.get("Provisioning_Status__c") in LEFT_ALONE:
            return None
        refused = self._update(order_id, {"Provisioning_Status__c": "Requested"})
        if refused is None:
            return None
        return {
            "orderId": order_id,
            "mode": "package",
            "status": None,
            "body": None,
            "error": None,
            "dmlError": refused,
        }

    def _run(self, order_id: str, options: dict[str, Any], slots: threading.BoundedSemaphore | None = None) -> Document:
        if options["lost"]:
            unsent = {"status": None, "body": None, "error": None}
            return {"orderId": order_id, "mode": "package", "key": options["key"], "lost": True, **unsent}
        pauses = list(self._settings["retry_minutes"])
        attempts = int(options.get("attempts", len(pauses) + 1))
        for attempt in range(1, attempts + 1):
            with slots or threading.Lock():
                result = self._callouts.send(order_id, options, "package", attempt)
            if attempt == attempts or not _passing(result["status"]):
                break
            pause = float(pauses[min(attempt, len(pauses)) - 1]) if pauses else 0.0
            if self._stopping.wait(max(pause * float(self._settings["minute_seconds"]), _retry_after(result))):
                break
            options = {name: value for name, value in options.items() if name not in ("nonce", "timestamp")}
        if options.get("write_back", True) and _definite(result["status"]):
            self._fail(order_id, result)
        return result

    def _fail(self, order_id: str, result: Document) -> None:
        """FOR UPDATE, and only while nobody else has written an outcome."""
        order = self._records.record("Order", order_id) or {}
        if order.get("Provisioning_Status__c") == "Requested":
            message = f"HTTP {result['status']}: {_title(result['body'])}"[:255]
            self._update(order_id, {"Provisioning_Status__c": "Failed", "Provisioning_Error_Message__c": message})

    # -- the guide

    def _press_guide(self, order_id: str, options: dict[str, Any]) -> Document:
        result = self._callouts.send(order_id, options, "guide")
        if options.get("write_back", True):
            if result["status"] == 200:
                self._update(order_id, {"Provisioning_Status__c": "Provisioned"})
            else:
                message = f"HTTP {result['status']}" if result["error"] is None else result["error"][:255]
                self._update(order_id, {"Provisioning_Status__c": "Failed", "Provisioning_Error_Message__c": message})
        return result

    # -- what both write

    def _update(self, order_id: str, fields: dict[str, Any]) -> str | None:
        """The org's own change of an order, waiting for the row as the API does. Answers what was refused, or None."""
        entry = self._journal.begin(
            direction="apex",
            method="DML",
            path=f"/Order/{order_id}",
            action="apex.update",
            order=order_id,
            params=fields,
        )
        refused: str | None = None
        deadline = time.monotonic() + float(self._settings["lock_wait_seconds"])
        while True:
            try:
                with self._records.store.transaction(entry) as change:
                    change.patient = time.monotonic() < deadline
                    record = change.get("Order", order_id)
                    if record is not None:
                        self._records.update_as_apex(change, "Order", record, fields)
                break
            except RowLocked as held:
                self._records.locks.wait(held.key, deadline - time.monotonic())
            except SfError as error:
                refused = f"{error.code}: {error.message}"
                break
        self._journal.finish(entry, state="answered", answered=time.time(), inside=0.0, outcome=refused)
        return refused


def _passing(status: int | None) -> bool:
    """Whether an answer (or none) may be another one later."""
    return status is None or status in (408, 425, 429) or status >= 500


def _definite(status: int | None) -> bool:
    return not _passing(status) and status not in (200, 202)


def _retry_after(result: Document) -> float:
    """Seconds that the portal asked to wait."""
    wanted = {name.lower(): value for name, value in result["responseHeaders"].items()}.get("retry-after", "0")
    return min(float(wanted) if wanted.isdigit() else 0.0, LONGEST_DELAY_MINUTES * 60.0)


def _title(body: str | None) -> str:
    """The portal's words for a refusal (RFC 9457), as far as there are any."""
    try:
        found = json.loads(body or "")
        return str(found["title"])
    except (ValueError, KeyError, TypeError):
        return "refused"
