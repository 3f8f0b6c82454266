"""The "Provision in WHMCS" button: the communication guide's callout, byte for byte, and what its Apex does after.

`guide` is the guide's `OrderProvisioningService`: 200 writes Provisioned, anything else Failed. `package` behaves like
a Queueable: marks the order Requested, keeps one Idempotency-Key across retries, leaves the outcome to the portal.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sandbox.salesforce.records import Records, now
from sandbox.store import Document, Journal

TIMEOUT_SECONDS = 30.0


class Callouts:
    """Sends callouts and keeps the last ones."""

    def __init__(self, records: Records, journal: Journal, settings: dict[str, Any]):
        self._records = records
        self._journal = journal
        self._settings = settings

    def payload(self, order_id: str, options: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
        """Body and headers of one callout."""
        local = datetime.now(UTC) + timedelta(minutes=int(self._settings["org_utc_offset_minutes"]))
        stamp = options.get("timestamp") or local.strftime("%Y-%m-%dT%H:%M:%SZ")
        nonce = options.get("nonce") or secrets.token_hex(16)[:16]
        body = json.dumps(
            {"orderId": order_id, "timestamp": stamp, "nonce": nonce, **(options.get("fields") or {})},
            separators=(",", ":"),
            ensure_ascii=False,
        ).encode()
        secret = (options.get("secret") or self._settings["webhook_secret"] or "").encode()
        headers = {
            "Content-Type": "application/json",
            "X-SF-Signature": hmac.new(secret, body, hashlib.sha256).hexdigest(),
            "X-SF-Timestamp": stamp,
            "X-SF-Nonce": nonce,
            "Idempotency-Key": options.get("key") or f"provision_{order_id}_{int(time.time() * 1000)}",
            **(options.get("headers") or {}),
        }
        return body, headers

    def provision(self, order_id: str, options: dict[str, Any] | None = None) -> Document:
        """Presses the button and waits for what comes of it; answers the callout's record."""
        options = dict(options or {})
        mode = options.get("mode") or self._settings["callout_mode"]
        if mode == "package":
            options.setdefault("key", f"provision_{order_id}_{secrets.token_hex(8)}")
            self._update(order_id, {"Provisioning_Status__c": "Requested"})
        attempts = int(options.get("attempts", 3 if mode == "package" else 1))
        for attempt in range(1, attempts + 1):
            result = self._send(order_id, options, mode)
            if mode == "guide" or (result["status"] is not None and result["status"] < 500) or attempt == attempts:
                break
            options.pop("nonce", None)
            options.pop("timestamp", None)
        if options.get("write_back", True):
            self._write_back(order_id, result, mode)
        return result

    def _write_back(self, order_id: str, result: Document, mode: str) -> None:
        status, error = result["status"], result["error"]
        if mode == "package":
            order = self._records.record("Order", order_id) or {}
            if order.get("Provisioning_Status__c") == "Requested" and status is not None and 400 <= status < 500:
                self._update(
                    order_id, {"Provisioning_Status__c": "Failed", "Provisioning_Error_Message__c": f"HTTP {status}"}
                )
        elif error is not None:
            self._update(order_id, {"Provisioning_Status__c": "Failed", "Provisioning_Error_Message__c": error[:255]})
        elif status == 200:
            self._update(order_id, {"Provisioning_Status__c": "Provisioned"})
        else:
            self._update(
                order_id, {"Provisioning_Status__c": "Failed", "Provisioning_Error_Message__c": f"HTTP {status}"}
            )

    def _update(self, order_id: str, fields: dict[str, Any]) -> None:
        entry = self._journal.begin(
            direction="apex",
            method="DML",
            path=f"/Order/{order_id}",
            action="apex.update",
            order=order_id,
            params=fields,
        )
        with self._records.store.transaction(entry) as change:
            record = change.get("Order", order_id)
            if record is not None:
                self._records.write(change, "Order", record, fields)
        self._journal.finish(entry, state="answered", answered=time.time(), inside=0.0)

    def _send(self, order_id: str, options: dict[str, Any], mode: str) -> Document:
        body, headers = self.payload(order_id, options)
        base = urlsplit(options.get("portal_url") or self._settings["portal_url"] or "")
        path = f"{base.path.rstrip('/')}/orders/{options.get('path_id') or order_id}/fulfill"
        result: Document = {
            "orderId": order_id,
            "mode": mode,
            "key": headers["Idempotency-Key"],
            "nonce": headers["X-SF-Nonce"],
            "timestamp": headers["X-SF-Timestamp"],
            "sentAt": now(),
            "status": None,
            "body": None,
            "error": None,
            "seconds": None,
            "responseHeaders": {},
        }
        with self._records.store.transaction() as change:
            number = str(change.next("callout"))
            result["id"] = int(number)
            change.put("_callout", number, result)
            change.delete("_callout", str(int(number) - 500))
        entry = self._journal.begin(
            direction="out",
            method="POST",
            path=path,
            action="callout",
            order=order_id,
            params={"key": result["key"], "nonce": result["nonce"], "mode": mode},
        )
        start = time.monotonic()
        connection: http.client.HTTPConnection | None = None
        try:
            if not base.hostname:
                raise OSError("The portal's address isn't set (Named Credential Portal_BFF)")
            kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
            connection = kind(base.hostname, base.port, timeout=float(options.get("timeout", TIMEOUT_SECONDS)))
            connection.request("POST", path, body=body, headers=headers)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            result = {
                **result,
                "status": response.status,
                "body": text[:4000],
                "responseHeaders": dict(response.getheaders()),
            }
        except TimeoutError:
            result = {**result, "error": "Read timed out"}
        except (OSError, http.client.HTTPException) as error:
            result = {**result, "error": str(error) or type(error).__name__}
        finally:
            if connection is not None:
                connection.close()
        result = {**result, "seconds": round(time.monotonic() - start, 3)}
        with self._records.store.transaction() as change:
            change.put("_callout", str(result["id"]), result)
        self._journal.finish(
            entry,
            state="answered" if result["status"] else "gone",
            answered=time.time(),
            status=result["status"],
            outcome=result["error"] or (result["body"] or "")[:500],
            inside=0.0,
        )
        return result
