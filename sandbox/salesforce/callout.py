"""One signed request to the portal, as the guide's Apex or the package sends it, and the record of what came back.

`guide` is the communication guide's `OrderProvisioningService`, byte for byte: local time labelled Z, a nonce of 16
digits, a key with the clock in it. `package` is the Salesforce package: the canonical body with `requestedBy`, GMT, 32
digits, the key of the click.
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
KEPT = 500


class Callouts:
    """Sends callouts and keeps the last ones."""

    def __init__(self, records: Records, journal: Journal, settings: dict[str, Any]):
        self._records = records
        self._journal = journal
        self._settings = settings

    def payload(self, order_id: str, options: dict[str, Any], mode: str) -> tuple[bytes, dict[str, str]]:
        """Body and headers of one callout; `options` may set each part of it."""
        guide = mode == "guide"
        offset = timedelta(minutes=int(self._settings["org_utc_offset_minutes"]) if guide else 0)
        stamp = options.get("timestamp") or (datetime.now(UTC) + offset).strftime("%Y-%m-%dT%H:%M:%SZ")
        nonce = options.get("nonce") or secrets.token_hex(16)[: 16 if guide else 32]
        told = {"orderId": order_id, "timestamp": stamp, "nonce": nonce}
        if not guide:
            told["requestedBy"] = self._settings["operator"]
        body = json.dumps({**told, **(options.get("fields") or {})}, separators=(",", ":"), ensure_ascii=False).encode()
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

    def send(self, order_id: str, options: dict[str, Any], mode: str, attempt: int = 1) -> Document:
        """Sends one and waits for the answer; answers its record. Never raises for what the other side does."""
        body, headers = self.payload(order_id, options, mode)
        base = urlsplit(options.get("portal_url") or self._settings["portal_url"] or "")
        path = f"{base.path.rstrip('/')}/orders/{options.get('path_id') or order_id}/fulfill"
        result: Document = {
            "orderId": order_id,
            "mode": mode,
            "attempt": attempt,
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
            change.delete("_callout", str(int(number) - KEPT))
        entry = self._journal.begin(
            direction="out",
            method="POST",
            path=path,
            action="callout",
            order=order_id,
            params={"key": result["key"], "nonce": result["nonce"], "mode": mode, "attempt": attempt},
        )
        start = time.monotonic()
        timeout = float(options.get("timeout", TIMEOUT_SECONDS))
        result = {**result, **_post(base.scheme, base.hostname, base.port, path, body, headers, timeout)}
        result["seconds"] = round(time.monotonic() - start, 3)
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


def _post(
    scheme: str, host: str | None, port: int | None, path: str, body: bytes, headers: dict[str, str], timeout: float
) -> Document:
    """`status`, `body` and `responseHeaders` of the answer, or `error` in Apex' words."""
    if not host:
        return {"error": "The portal's address isn't set (Named Credential Portal_BFF)"}
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=timeout)
    try:
        connection.request("POST", path, body=body, headers=headers)
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
        return {"status": response.status, "body": text[:4000], "responseHeaders": dict(response.getheaders())}
    except TimeoutError:
        return {"error": "Read timed out"}
    except (OSError, http.client.HTTPException) as error:
        return {"error": str(error) or type(error).__name__}
    finally:
        connection.close()
