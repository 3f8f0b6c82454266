"""Requests whose timestamp, nonce or Idempotency-Key can't be taken."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.webhooks.callout import Call
from tests.webhooks.hostile.making import (
    after_its_twin,
    bent,
    bodies,
    hostile,
    raw,
    right,
    told,
    with_headers,
)

# --- timestamps --------------------------------------------------------------------------------------------------


def _iso(off: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + off))


def _digits(zero: int) -> str:
    """The time in another script's digits."""
    return "".join(chr(zero + int(digit)) for digit in str(int(time.time())))


def _stamped(stamp: Callable[[], Any]) -> Callable[[Call], bytes]:
    return lambda call: right(replace(call, timestamp=stamp()))


def _twin_stamp() -> bytes:
    return right(Call(timestamp=int(time.time() * 1000)))


bent(
    "timestamp: too old",
    [_stamped(lambda off=off: _iso(-off)) for off in (330, 600, 3600, 86400, 10**8, 1.7e9)]
    + [_stamped(lambda: 0), _stamped(lambda: "0"), _stamped(lambda: int(time.time()) - 400)],
    twin=lambda: right(Call(timestamp=_iso(-200))),
)
bent(
    "timestamp: in the future",
    [_stamped(lambda off=off: _iso(off)) for off in (330, 600, 86400, 10**9)]
    + [_stamped(lambda: int(time.time() * 1000) + 400_000), _stamped(lambda: 99999999999)],
    twin=lambda: right(Call(timestamp=_iso(200))),
)
bent(
    "timestamp: unreadable",
    [
        _stamped(stamp)
        for stamp in (
            lambda: f"+{int(time.time())}",
            lambda: f"{int(time.time()):_}",
            lambda: f"{time.time():e}",
            lambda: f"{time.time():.3f}",
            lambda: f"0{int(time.time())}",
            lambda: f" {int(time.time())}",
            lambda: hex(int(time.time())),
            lambda: _iso(0)[:-1],
            lambda: _iso(0).replace("T", " "),
            lambda: _iso(0).lower(),
            lambda: _iso(0)[:-3] + "60Z",
            lambda: _iso(0)[:-1] + "+99:00",
            lambda: time.time(),
            lambda: -int(time.time()),
            lambda: True,
            lambda: [int(time.time())],
            lambda: {"t": int(time.time())},
            lambda: "now",
            lambda: time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        )
    ],
    twin=_twin_stamp,
)
bodies(
    "timestamp: digits of other scripts, written numbers",
    [
        lambda call: told(call, timestamp=_digits(0x660)),
        lambda call: told(call, timestamp=_digits(0xFF10)),
        lambda call: call.body().replace(json.dumps(call.timestamp).encode(), b"%d.0" % time.time()),
        lambda call: call.body().replace(json.dumps(call.timestamp).encode(), b"%de0" % time.time()),
        lambda call: call.body().replace(json.dumps(call.timestamp).encode(), b"9" * 4400),
        lambda call: call.body().replace(json.dumps(call.timestamp).encode(), b"1e999"),
    ],
    twin=_twin_stamp,
)
bent(
    "timestamp: the header says another",
    [
        lambda call: with_headers(call, X_SF_Timestamp=_iso(-1 if call.timestamp != _iso(-1) else -2)),
        lambda call: with_headers(call, X_SF_Timestamp=str(int(time.time()))),
        lambda call: with_headers(call, X_SF_Timestamp=str(call.timestamp)[:-1] + "+00:00"),
        lambda call: with_headers(call, X_SF_Timestamp=f"{call.timestamp},{call.timestamp}"),
        lambda call: with_headers(call, X_SF_Timestamp=""),
        lambda call: with_headers(call, drop=("X-SF-Timestamp",)),
        lambda call: raw(call.path, [*call.headers().items(), ("X-SF-Timestamp", str(call.timestamp))], call.body()),
    ],
)

# --- nonces ------------------------------------------------------------------------------------------------------


@hostile("replay: the very same bytes", primed=True)
def _() -> Iterator[bytes]:
    seen = right(Call(nonce="replayed-" + secrets.token_hex(8)))
    yield from after_its_twin(seen, lambda: seen)


@hostile("replay: the nonce in another request", primed=True)
def _() -> Iterator[bytes]:
    nonce = "reused-" + secrets.token_hex(8)
    yield from after_its_twin(right(Call(nonce=nonce)), lambda: right(Call(nonce=nonce)))


bodies(
    "nonce: unprintable, too long, no text",
    [
        lambda call, nonce=nonce: told(call, nonce=nonce)
        for nonce in ("a\x00b", "\x1b[2J", "ä", "a\nb", "x" * 129, "x" * 4000, " x", "x ", 5, 1.5, True, ["x"], {})
    ],
    twin=lambda: right(Call(nonce=secrets.token_hex(64))),
)
bent(
    "nonce: missing, or the header says another",
    [
        lambda call: with_headers(call, X_SF_Nonce="another"),
        lambda call: with_headers(call, X_SF_Nonce=call.nonce.upper() + "A"),
        lambda call: with_headers(call, drop=("X-SF-Nonce",)),
        lambda call: with_headers(call, X_SF_Nonce=""),
        lambda call: with_headers(call, told(call, nonce="")),
        lambda call: with_headers(call, told(call, nonce=None)),
        lambda call: raw(call.path, [*call.headers().items(), ("X-SF-Nonce", "second")], call.body()),
    ],
    twin=lambda: right(Call(nonce="any printable text: ~ok~ " + secrets.token_hex(8))),
)

# --- Idempotency-Key ---------------------------------------------------------------------------------------------

bent(
    "key: missing or malformed",
    [
        lambda call: with_headers(call, drop=("Idempotency-Key",)),
        lambda call: with_headers(call, Idempotency_Key=""),
        lambda call: with_headers(call, Idempotency_Key="x" * 256),
        lambda call: with_headers(call, Idempotency_Key="two words"),
        lambda call: with_headers(call, Idempotency_Key="k\xe9y"),
        lambda call: with_headers(call, Idempotency_Key="tab\tbed"),
        lambda call: raw(call.path, [*call.headers().items(), ("Idempotency-Key", "second")], call.body()),
        lambda call: with_headers(call, drop=("Idempotency-Key",), Idempotency="x"),
    ],
    twin=lambda: right(Call(key='"' + secrets.token_hex(120) + '"')),
)


@hostile("key: another order's", primed=True)
def _() -> Iterator[bytes]:
    key = "shared-" + secrets.token_hex(8)
    yield from after_its_twin(right(Call(key=key)), lambda: right(Call(key=key)))
