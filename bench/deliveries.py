"""Signed deliveries as Salesforce sends them, for ourselves and for the peers: the same bytes but for the path."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import secrets
import time
from typing import Final

from bench import load

_blocks: Final = itertools.count()

#: More than anybody answers in a second: so many requests are prepared for each second.
_MOST_PER_SECOND: Final = 5000
_BLOCK: Final = 1_000_000


def order_id(number: int) -> str:
    """A well-formed id that no other number has; digits only, so the check characters are all A."""
    return f"801{number:012d}AAA"


def delivery(order: str, secret: str, prefer: str, path: str) -> bytes:
    """One request for an order. path: with {order} where its id goes."""
    nonce = secrets.token_hex(16)
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = json.dumps({"orderId": order, "timestamp": timestamp, "nonce": nonce}, separators=(",", ":")).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("X-SF-Signature", hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()),
        ("X-SF-Timestamp", timestamp),
        ("X-SF-Nonce", nonce),
        ("Idempotency-Key", f"click-{secrets.token_hex(8)}"),
        ("Prefer", prefer),
    ]
    return load.http_request("POST", path.format(order=order), headers, body)


def send(
    url: str,
    secret: str,
    *,
    connections: int,
    seconds: float,
    status: int = 202,
    prefer: str = "respond-async",
    path: str = "/orders/{order}/fulfill",
) -> load.Result:
    """Deliveries, each of an order never asked for before, for `seconds` over that many kept connections.

    Raises RuntimeError where an answer isn't `status`.
    """
    block = next(_blocks) * _BLOCK
    requests = load.prepared(
        int(_MOST_PER_SECOND * seconds) + connections,
        lambda number: delivery(order_id(block + number), secret, prefer, path),
    )
    return load.drive(url, requests, connections=connections, seconds=seconds).only(status)
