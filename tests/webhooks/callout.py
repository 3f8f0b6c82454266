"""Signed webhook requests as honest senders make them; nothing here uses the portal's own signing code."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

SF_SECRET = "test-salesforce-webhook-secret-0123456789abcdef"
WHMCS_SECRET = "test-whmcs-webhook-secret-0123456789abcdefgh"

_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_numbers = itertools.count(secrets.randbelow(10**9))


def signature(body: bytes, secret: str = SF_SECRET) -> str:
    """The lower-case hex HMAC-SHA256 of the body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def id_18(id_15: str) -> str:
    """A 15-character Salesforce id with its three check characters."""
    return id_15 + "".join(
        _SUFFIX[sum(1 << bit for bit in range(5) if id_15[start + bit].isupper())] for start in (0, 5, 10)
    )


def fresh_id() -> str:
    """An order id that wasn't used before, 18 characters."""
    return id_18(f"801{next(_numbers):012d}")


@dataclass
class Call:
    """One `POST /orders/{id}/fulfill`, right in every respect until a test changes it."""

    order_id: str = field(default_factory=fresh_id)
    timestamp: Any = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    key: str | None = field(default_factory=lambda: f"click-{secrets.token_hex(8)}")
    secret: str = SF_SECRET
    extra: dict[str, Any] = field(default_factory=dict)  # more fields of the body

    @property
    def path(self) -> str:
        """Where it goes."""
        return f"/orders/{self.order_id}/fulfill"

    def body(self) -> bytes:
        """What is signed."""
        told = {"orderId": self.order_id, "timestamp": self.timestamp, "nonce": self.nonce, **self.extra}
        return json.dumps(told, separators=(",", ":")).encode()

    def headers(self, body: bytes | None = None) -> dict[str, str]:
        """The right headers for a body, or for its own."""
        told = {
            "Content-Type": "application/json",
            "X-SF-Signature": signature(self.body() if body is None else body, self.secret),
            "X-SF-Timestamp": str(self.timestamp),
            "X-SF-Nonce": self.nonce,
        }
        return told if self.key is None else {**told, "Idempotency-Key": self.key}


@dataclass
class Event:
    """One `POST /webhooks/whmcs`; with timestamp and nonce when `dated`."""

    event: str = "order.accepted"
    data: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    dated: bool = False
    secret: str = WHMCS_SECRET

    path = "/webhooks/whmcs"

    def __post_init__(self) -> None:
        self.timestamp = str(int(time.time()))
        self.nonce = secrets.token_hex(8)

    def body(self) -> bytes:
        """What is signed."""
        told = {
            "id": self.id,
            "event": self.event,
            "occurredAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "data": self.data,
        }
        if self.dated:
            told |= {"timestamp": self.timestamp, "nonce": self.nonce}
        return json.dumps(told).encode()

    def headers(self, body: bytes | None = None) -> dict[str, str]:
        """The right headers for a body, or for its own."""
        told = {
            "Content-Type": "application/json",
            "X-WHMCS-Signature": signature(self.body() if body is None else body, self.secret),
        }
        return {**told, "X-WHMCS-Timestamp": self.timestamp, "X-WHMCS-Nonce": self.nonce} if self.dated else told
