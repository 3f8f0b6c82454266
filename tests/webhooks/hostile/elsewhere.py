"""Requests from addresses that mayn't, to WHMCS' receiver, and from senders too slow."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any

from tests.webhooks.callout import SF_SECRET, WHMCS_SECRET, Call, Event, signature
from tests.webhooks.hostile.making import (
    Maker,
    after_its_twin,
    bent,
    chunked,
    hostile,
    raw,
    right,
)

# --- addresses ---------------------------------------------------------------------------------------------------
# The allowlisted server lets 203.0.113.0/24 in, and trusts 127.0.0.2 as a proxy.

FORWARDING = (
    {"X-Forwarded-For": "203.0.113.5"},
    {"X-Forwarded-For": "203.0.113.5, 203.0.113.6"},
    {"Forwarded": "for=203.0.113.5"},
    {"Forwarded": 'for="203.0.113.5";proto=https'},
    {"X-Real-IP": "203.0.113.5"},
    {"X-Client-IP": "203.0.113.5"},
    {"True-Client-IP": "203.0.113.5"},
    {"CF-Connecting-IP": "203.0.113.5"},
    {"X_Forwarded_For": "203.0.113.5"},
    {"X-Forwarded-For": "127.0.0.2, 203.0.113.5"},
    {"X-Forwarded-Host": "203.0.113.5"},
    {"REMOTE-ADDR": "203.0.113.5"},
    {"Via": "1.1 203.0.113.5"},
)


def _through_the_proxy() -> bytes:
    return right(Call(), **{"X-Forwarded-For": "198.51.100.1, 203.0.113.5"})


bent(
    "addresses: claimed without a proxy",
    [lambda call, claim=claim: right(call, **claim) for claim in FORWARDING],
    twin=_through_the_proxy,
    server="allowlisted",
    twin_source="127.0.0.2",
)
bent(
    "addresses: claimed through the proxy",
    [
        lambda call, claim=claim: right(call, **claim)
        for claim in (
            {"X-Forwarded-For": "203.0.113.5, 198.51.100.1"},
            {"X-Forwarded-For": "203.0.113.5, 198.51.100.1, 127.0.0.2"},
            {"X-Forwarded-For": "203.0.113.5, unknown"},
            {"X-Forwarded-For": "203.0.113.5,"},
            {"X-Forwarded-For": "198.51.100.1", "Forwarded": "for=203.0.113.5"},
            {"X-Forwarded-For": "203.0.113.5", "Forwarded": "for=198.51.100.1"},
            {"Forwarded": "for=203.0.113.5, for=198.51.100.1"},
            {"Forwarded": 'for="203.0.113.5, for=198.51.100.1'},
            {"Forwarded": "by=203.0.113.5"},
            {"X-Forwarded-For": "203.0.113.5 198.51.100.1"},
            {"X-Forwarded-For": "203.0.113.005"},
            {"X-Real-IP": "203.0.113.5"},
        )
    ],
    twin=_through_the_proxy,
    server="allowlisted",
    source="127.0.0.2",
    twin_source="127.0.0.2",
)

# --- WHMCS' door -------------------------------------------------------------------------------------------------


def event_bytes(event: Event, body: bytes | None = None, **changed: str) -> bytes:
    """An event, signed over what is sent."""
    sent = event.body() if body is None else body
    headers = event.headers(sent)
    for name, value in changed.items():
        headers[name.replace("_", "-")] = value
    return raw(event.path, headers, sent)


def _event() -> Event:
    return Event(data={"orderId": "1", "clientId": "2"}, dated=True)


def _right_event() -> bytes:
    return event_bytes(_event())


def _events(bends: list[Callable[[Event], bytes]]) -> Maker:
    return lambda: (bend(_event()) for bend in cycle(bends))


def _event_told(event: Event, /, **changed: Any) -> bytes:
    return json.dumps({**json.loads(event.body()), **changed}).encode()


hostile("WHMCS: forged", twin=_right_event)(
    _events(
        [
            lambda event: event_bytes(event, X_WHMCS_Signature="0" * 64),
            lambda event: event_bytes(event, X_WHMCS_Signature=""),
            lambda event: event_bytes(event, X_WHMCS_Signature=signature(event.body(), SF_SECRET)),
            lambda event: event_bytes(event, X_WHMCS_Signature=event.headers()["X-WHMCS-Signature"].upper() + "0"),
            lambda event: raw(event.path, {"X-SF-Signature": signature(event.body(), WHMCS_SECRET)}, event.body()),
            lambda event: raw(event.path, event.headers(), event.body() + b" "),
        ]
    )
)
hostile("WHMCS: stale, contradicting or unreadable", twin=lambda: event_bytes(Event(data={"orderId": "1"})))(
    _events(
        [
            lambda event: event_bytes(event, X_WHMCS_Timestamp="1000000000"),
            lambda event: event_bytes(event, X_WHMCS_Nonce="another"),
            lambda event: event_bytes(event, _event_told(event, timestamp="1000000000")),
            lambda event: event_bytes(event, _event_told(event, nonce=None)),
            lambda event: event_bytes(event, _event_told(event, nonce="a\x00")),
            lambda event: event_bytes(event, _event_told(event, id="")),
            lambda event: event_bytes(event, _event_told(event, id=["x"])),
            lambda event: event_bytes(event, _event_told(event, event="DROP TABLE")),
            lambda event: event_bytes(event, _event_told(event, data="x")),
            lambda event: event_bytes(event, _event_told(event, occurredAt="soon")),
            lambda event: event_bytes(event, b"{" + event.body()),
            lambda event: event_bytes(event, event.body()[:-1] + b',"id":"twice"}'),
        ]
    )
)


@hostile("WHMCS: a nonce again", primed=True)
def _() -> Iterator[bytes]:
    nonce = secrets.token_hex(8)

    def again() -> bytes:
        event = _event()
        event.nonce = nonce
        return event_bytes(event)

    yield from after_its_twin(again(), again)


# --- slow senders ------------------------------------------------------------------------------------------------

SLOW_SECONDS = 14.0  # longer than the server waits for a whole request

hostile("slow: silent", stall=SLOW_SECONDS)(lambda: (b"" for _ in count()))
hostile("slow: stops in the middle of a header", stall=SLOW_SECONDS)(lambda: (right()[: 20 + n % 200] for n in count()))
hostile("slow: stops in the middle of the body", stall=SLOW_SECONDS)(lambda: (right()[: -1 - n % 80] for n in count()))
hostile("slow: stops in the middle of a chunk", stall=SLOW_SECONDS, twin=chunked)(
    lambda: (chunked()[: -6 - n % 60] for n in count())
)
