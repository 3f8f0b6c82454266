"""Hostile requests by the class: each class makes as many as asked for, and one well-formed twin that must get in.

A request is the exact bytes on the wire. A class makes them wrong in one way and right in every other, so that what
refuses them is the check in question.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from typing import Any

from tests.webhooks.callout import SF_SECRET, WHMCS_SECRET, Call, Event, fresh_id, signature

Maker = Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Hostile:
    """One class: an endless supply of hostile requests, and how to make a twin that is right."""

    name: str
    requests: Maker
    twin: Callable[[], bytes]
    server: str = "plain"  # which of the harness' servers: plain, or allowlisted
    source: str = "127.0.0.1"  # the address it is sent from
    twin_source: str = "127.0.0.1"
    stall: float = 0.0  # keep the connection open without another byte for so long
    least: int = 20
    primed: bool = False  # the first request is right, and makes those after it wrong: it is the twin

    def some(self, number: int) -> list[bytes]:
        return list(islice(self.requests(), max(number, self.least)))


CLASSES: list[Hostile] = []


def raw(
    path: str,
    headers: dict[str, str] | list[tuple[str, str]],
    body: bytes = b"",
    *,
    method: str = "POST",
    version: str = "HTTP/1.1",
    length: bool = True,
    host: bool = True,
) -> bytes:
    """A request's bytes."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    if host:
        pairs.insert(0, ("Host", "portal.example"))
    if length:
        pairs.append(("Content-Length", str(len(body))))
    head = f"{method} {path} {version}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return head.encode("latin-1") + b"\r\n" + body


def right(call: Call | None = None, **headers: str) -> bytes:
    """A request that must get in."""
    call = call or Call()
    return raw(call.path, {**call.headers(), "Prefer": "respond-async", **headers}, call.body())


def with_headers(call: Call, body: bytes | None = None, drop: tuple[str, ...] = (), **changed: str) -> bytes:
    """A call with headers changed (underscores for hyphens) or dropped; signed over what is sent."""
    sent = call.body() if body is None else body
    headers = {**call.headers(sent), "Prefer": "respond-async"}
    for name in drop:
        headers.pop(name)
    for name, value in changed.items():
        headers[name.replace("_", "-")] = value
    return raw(call.path, headers, sent)


def signed_body(body: bytes, call: Call | None = None) -> bytes:
    """Any body, rightly signed."""
    return with_headers(call or Call(), body)


def hostile(name: str, twin: Callable[[], bytes] = right, **more: Any) -> Callable[[Maker], Maker]:
    """Register a class."""

    def register(maker: Maker) -> Maker:
        CLASSES.append(Hostile(name, maker, twin, **more))
        return maker

    return register


def per_call(bends: list[Callable[[Call], bytes]]) -> Maker:
    """Each bend in turn, on a fresh call each time."""
    return lambda: (bend(Call()) for bend in cycle(bends))


def bent(name: str, bends: list[Callable[[Call], bytes]], **more: Any) -> None:
    """Register a class that is a list of bends."""
    hostile(name, **more)(per_call(bends))


def bodies(name: str, make: list[Callable[[Call], bytes]], **more: Any) -> None:
    """Register a class of rightly signed bodies."""
    bent(name, [lambda call, one=one: signed_body(one(call), call) for one in make], **more)


def told(call: Call, **changed: Any) -> bytes:
    """The call's body with fields changed."""
    return json.dumps({**json.loads(call.body()), **changed}).encode()


# --- signatures --------------------------------------------------------------------------------------------------

bent("no signature", [lambda call: with_headers(call, drop=("X-SF-Signature",))])


@hostile("signature: one bit flipped", least=512)
def _() -> Iterator[bytes]:
    for position in count():
        call = Call()
        mark = bytearray(call.headers()["X-SF-Signature"].encode())
        mark[position // 8 % 64] ^= 1 << position % 8
        yield with_headers(call, X_SF_Signature=mark.decode("latin-1"))


def _sig(bend: Callable[[str], str]) -> Callable[[Call], bytes]:
    return lambda call: with_headers(call, X_SF_Signature=bend(call.headers()["X-SF-Signature"]))


bent(
    "signature: another spelling",
    [
        _sig(lambda s: s.upper() if s.upper() != s else "A" * 64),
        _sig(lambda s: "sha256=" + s),
        _sig(lambda s: "v1," + s),
        _sig(lambda s: f'"{s}"'),
        _sig(lambda s: f"<{s}>"),
        _sig(lambda s: s[:32] + " " + s[32:]),
        _sig(lambda s: "0x" + s),
        _sig(lambda s: base64.b64encode(bytes.fromhex(s)).decode()),
        _sig(lambda s: s.title() if s.title() != s else "B" * 64),
    ],
)
bent(
    "signature: cut or grown",
    [_sig(lambda s, n=n: s[:n]) for n in (0, 1, 8, 32, 62, 63)]
    + [_sig(lambda s, n=n: s + "0" * n) for n in (1, 2, 64)]
    + [_sig(lambda s: s * 2), _sig(lambda s: s[::-1])],
)
bent(
    "signature: bytes that are no ASCII",
    [_sig(lambda s, c=c: c + s[1:]) for c in "\xb2\xb3\xb9\xe9\xff\x80\xa0"],
)
bent(
    "signature: with another key",
    [
        lambda call, key=key: raw(
            call.path, replace(call, secret=key).headers() | {"Prefer": "respond-async"}, call.body()
        )
        for key in (WHMCS_SECRET, "", " ", SF_SECRET[:-1], SF_SECRET + "\n", SF_SECRET.upper(), "secret", "null")
    ],
)


def _digest(make: Callable[[bytes], str]) -> Callable[[Call], bytes]:
    return lambda call: with_headers(call, X_SF_Signature=make(call.body()))


bent(
    "signature: another algorithm",
    [
        _digest(lambda b: hmac.new(SF_SECRET.encode(), b, "sha1").hexdigest()),
        _digest(lambda b: hmac.new(SF_SECRET.encode(), b, "sha512").hexdigest()),
        _digest(lambda b: hmac.new(SF_SECRET.encode(), b, "md5").hexdigest()),
        _digest(lambda b: hmac.new(SF_SECRET.encode(), b, "sha3_256").hexdigest()),
        _digest(lambda b: hashlib.sha256(b).hexdigest()),
        _digest(lambda b: hashlib.sha256(SF_SECRET.encode() + b).hexdigest()),
        _digest(lambda b: hmac.new(b, SF_SECRET.encode(), "sha256").hexdigest()),
        _digest(lambda b: hmac.new(SF_SECRET.encode(), b"", "sha256").hexdigest()),
        _digest(lambda b: hmac.new(hashlib.sha256(SF_SECRET.encode()).digest(), b, "sha256").hexdigest()),
    ],
)


@hostile("body: one bit flipped after signing", least=100)
def _() -> Iterator[bytes]:
    for position in count():
        call = Call()
        body = bytearray(call.body())
        body[position % len(body)] ^= 1 << position % 7
        yield raw(call.path, {**call.headers(), "Prefer": "respond-async"}, bytes(body))


bent(
    "body: whitespace or escapes changed after signing",
    [
        lambda call, one=one: raw(call.path, call.headers(), one(call.body()))
        for one in (
            lambda b: b + b"\n",
            lambda b: b" " + b,
            lambda b: b.replace(b",", b", "),
            lambda b: b.replace(b'"nonce"', b'"\\u006eonce"'),
            lambda b: json.dumps(json.loads(b), sort_keys=True, indent=1).encode(),
            lambda b: b.replace(b"}", b',"x":1}'),
            lambda b: b"",
        )
    ],
)
bent(
    "signature: two headers",
    [
        lambda call, one=one: raw(
            call.path,
            [*call.headers().items(), ("X-SF-Signature", one or call.headers()["X-SF-Signature"])],
            call.body(),
        )
        for one in ("0" * 64, "", "x")
    ]
    + [
        lambda call: raw(call.path, [("X-SF-Signature", "0" * 64), *call.headers().items()], call.body()),
        lambda call: raw(
            call.path, [("x-sf-signature", call.headers()["X-SF-Signature"]), *call.headers().items()], call.body()
        ),
    ],
)


def _elsewhere(place: str) -> Callable[[Call], bytes]:
    def make(call: Call) -> bytes:
        headers = call.headers()
        mark = headers.pop("X-SF-Signature")
        if place == "query":
            return raw(f"{call.path}?X-SF-Signature={mark}", headers, call.body())
        if place == "trailer":
            chunks = b"%x\r\n%s\r\n0\r\nX-SF-Signature: %s\r\n\r\n" % (len(call.body()), call.body(), mark.encode())
            headers |= {"Transfer-Encoding": "chunked", "Trailer": "X-SF-Signature"}
            return raw(call.path, headers, chunks, length=False)
        if place == "cookie":
            return raw(call.path, {**headers, "Cookie": f"X-SF-Signature={mark}"}, call.body())
        return raw(call.path, {**headers, place: mark}, call.body())

    return make


def chunked(call: Call | None = None, size: int = 50, extension: str = "") -> bytes:
    """A request whose body comes in chunks, well-formed."""
    call = call or Call()
    body = call.body()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    sent = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece) for piece in pieces) + b"0\r\n\r\n"
    headers = {**call.headers(), "Prefer": "respond-async", "Transfer-Encoding": "chunked"}
    return raw(call.path, headers, sent, length=False)


bent(
    "signature: where it doesn't belong",
    [
        _elsewhere(place)
        for place in (
            "X_SF_Signature",
            "X-SF_Signature",
            "X-WHMCS-Signature",
            "Authorization",
            "Signature",
            "X-Signature",
            "X-Hub-Signature-256",
            "HTTP_X_SF_SIGNATURE",
            "query",
            "trailer",
            "cookie",
        )
    ],
    twin=chunked,
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
    yield from _after_its_twin(seen, lambda: seen)


@hostile("replay: the nonce in another request", primed=True)
def _() -> Iterator[bytes]:
    nonce = "reused-" + secrets.token_hex(8)
    yield from _after_its_twin(right(Call(nonce=nonce)), lambda: right(Call(nonce=nonce)))


def _after_its_twin(first: bytes, make: Callable[[], bytes]) -> Iterator[bytes]:
    yield first
    while True:
        yield make()


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
    yield from _after_its_twin(right(Call(key=key)), lambda: right(Call(key=key)))


# --- ids ---------------------------------------------------------------------------------------------------------

bent(
    "id: another one in the address",
    [
        lambda call: raw(f"/orders/{fresh_id()}/fulfill", call.headers(), call.body()),
        lambda call: raw(f"/orders/{fresh_id()[:15]}/fulfill", call.headers(), call.body()),
        lambda call: with_headers(call, told(call, orderId=fresh_id())),
    ],
    twin=lambda: (lambda call: raw(f"/orders/{call.order_id[:15]}/fulfill", call.headers(), call.body()))(Call()),
)
bent(
    "id: no Salesforce id",
    [
        lambda call, bad=bad: raw(
            f"/orders/{bad}/fulfill", call.headers(told(call, orderId=bad)), told(call, orderId=bad)
        )
        for bad in (
            "test-order-id",
            "1",
            "801",
            "8" * 16,
            "8" * 19,
            "8" * 400,
            "..",
            "%2e%2e",
            "%00",
            "801%20000000000001",
            "801000000000001AAB",
            "801'OR'1'='1AAA",
            "%27%3b--",
            "{{7*7}}",
            "%0d%0aX:1",
            "%ff%fe",
            "801000000000001%c3%a9",
        )
    ],
)
bodies(
    "fields: of the wrong type, or missing",
    [
        lambda call, name=name, value=value: told(call, **{name: value})
        for name in ("orderId", "timestamp", "nonce")
        for value in (None, "", [], {}, False, 0.5)
    ],
    twin=lambda: right(Call(extra={"requestedBy": "Grace", "more": [1, {"two": None}]})),
)

# --- JSON --------------------------------------------------------------------------------------------------------

bodies(
    "JSON: a BOM or another encoding",
    [
        lambda call: b"\xef\xbb\xbf" + call.body(),
        lambda call: call.body().decode().encode("utf-16"),
        lambda call: call.body().decode().encode("utf-16-le"),
        lambda call: call.body().decode().encode("utf-16-be"),
        lambda call: call.body().decode().encode("utf-32"),
        lambda call: call.body().decode().encode("utf-7").replace(b"{", b"+AHs-"),
        lambda call: call.body().decode().encode("cp037"),
    ],
    twin=lambda: right(Call(extra={"requestedBy": "Ünïcödé \U0001f44d"})),
)
bodies(
    "JSON: bytes that are no UTF-8, lone surrogates",
    [
        lambda call, bad=bad: call.body()[:-1] + b',"x":"' + bad + b'"}'
        for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe9", b"\\ud800", b"\\udc00\\ud800")
    ],
)
bodies(
    "JSON: NaN, Infinity, numbers that are none",
    [
        lambda call, bad=bad: call.body()[:-1] + b',"x":' + bad + b"}"
        for bad in (b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b".5", b"1.", b"0x1", b"1_0", b"nan", b"--1")
    ],
    twin=lambda: right(Call(extra={"x": 10**4000, "y": 1.5e300})),
)
bodies(
    "JSON: names twice",
    [
        lambda call: call.body()[:-1] + b',"nonce":"' + call.nonce.encode() + b'"}',
        lambda call: b'{"orderId":"%s",' % fresh_id().encode() + call.body()[1:],
        lambda call: call.body()[:-1] + b',"order\\u0049d":"%s"}' % call.order_id.encode(),
        lambda call: call.body()[:-1] + b',"x":{"a":1,"a":1}}',
        lambda call: call.body()[:-1] + b',"x":[{"a":1,"a":2}]}',
    ],
)
bodies(
    "JSON: absurdly nested",
    [
        lambda call, deep=deep: call.body()[:-1] + b',"x":' + deep + b"}"
        for deep in (
            b"[" * 9 + b"]" * 9,
            b"[" * 990 + b"]" * 990,
            b"[" * 7900 + b"]" * 7900,
            b"[" * 15000,
            b'{"a":' * 1500 + b"1" + b"}" * 1500,
        )
    ],
    twin=lambda: right(Call(extra={"x": [[[[[[1]]]]]]})),
)
bodies(
    "JSON: broken",
    [
        lambda call: call.body()[:-1],
        lambda call: call.body()[1:],
        lambda call: call.body() + b"}",
        lambda call: call.body() * 2,
        lambda call: call.body().replace(b'"', b"'"),
        lambda call: call.body()[:-1] + b",}",
        lambda call: call.body().replace(b":", b"="),
        lambda call: b"/**/" + call.body(),
        lambda call: call.body() + b"\x00",
        lambda call: call.body()[:-1] + b',"x":"\x01"}',
        lambda call: b"orderId=%s&nonce=%s" % (call.order_id.encode(), call.nonce.encode()),
        lambda call: b"<order/>",
    ],
)
bodies(
    "JSON: no object at the top",
    [
        lambda call, one=one: one
        for one in (b"", b"null", b"true", b"1", b'"x"', b"[]", b"[{}]", b" ", b"{}", b'{"data":{}}')
    ]
    + [lambda call: b"[" + call.body() + b"]", lambda call: json.dumps(call.body().decode()).encode()],
)
bodies(
    "body: too large",
    [lambda call, size=size: call.body() + b" " * size for size in (16_384, 16_385, 20_000, 65_536, 70_000, 200_000)],
    twin=lambda: (lambda call: signed_body(call.body().ljust(16_384), call))(Call()),
)

# --- HTTP's framing ----------------------------------------------------------------------------------------------


def framed(call: Call, head: list[tuple[str, str]], sent: bytes | None = None) -> bytes:
    """A rightly signed call with framing of one's own."""
    return raw(call.path, [*call.headers().items(), *head], call.body() if sent is None else sent, length=False)


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


bent(
    "smuggling: length and chunks together",
    [
        lambda call: framed(call, [("Content-Length", str(len(call.body()))), ("Transfer-Encoding", "chunked")]),
        lambda call: framed(
            call, [("Transfer-Encoding", "chunked"), ("Content-Length", str(len(call.body())))], _chunk(call.body())
        ),
        lambda call: framed(
            call, [("Content-Length", "4"), ("Transfer-Encoding", "chunked")], _chunk(call.body()) + right()
        ),
        lambda call: framed(call, [("Content-Length", str(len(call.body()))), ("Transfer-Encoding", "identity")]),
        lambda call: framed(
            call,
            [("Content-Length", str(len(_chunk(call.body())))), ("Transfer-Encoding", " chunked")],
            _chunk(call.body()),
        ),
    ],
    twin=chunked,
)
bent(
    "smuggling: spellings of chunked",
    [
        lambda call, coding=coding: framed(call, [("Transfer-Encoding", coding)], _chunk(call.body()))
        for coding in (
            "xchunked",
            "chunked, chunked",
            "identity, chunked",
            "chunked, identity",
            "gzip, chunked",
            "chunked;q=1",
            '"chunked"',
            "\x0bchunked",
            "chunked\x0b",
            "chunke\xe4",
            "cow",
            "",
            "chunked,",
            ",chunked",
            "deflate",
            "chunked\xa0",
            "[chunked]",
        )
    ]
    + [
        lambda call: framed(
            call, [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity")], _chunk(call.body())
        ),
        lambda call: framed(call, [("Transfer-Encoding ", "chunked")], _chunk(call.body())),
        lambda call: framed(call, [("Transfer_Encoding", "chunked")], _chunk(call.body())),
        lambda call: framed(call, [("X: y\rTransfer-Encoding", "chunked")], _chunk(call.body())),
    ],
    twin=chunked,
)
bent(
    "smuggling: lengths that are none, or two",
    [
        lambda call, bend=bend: framed(call, [("Content-Length", bend(len(call.body())))])
        for bend in (
            lambda n: f"+{n}",
            lambda n: f"-{n}",
            lambda n: f"0x{n:x}",
            lambda n: f"{n},{n}",
            lambda n: f"{n} {n}",
            lambda n: f"{n}.0",
            lambda n: f"{n}\xb2",
            lambda n: "",
            lambda n: f"{n};",
            lambda n: f'"{n}"',
            lambda n: f"{n}_0",
            lambda n: "9" * 30,
            lambda n: "\xb2",
        )
    ]
    + [
        lambda call, one=one: framed(
            call, [("Content-Length", str(len(call.body()))), ("Content-Length", one(len(call.body())))]
        )
        for one in (lambda n: str(n), lambda n: "0", lambda n: str(n + 5), lambda n: str(n - 1))
    ],
)


def _bad_chunks(make: Callable[[bytes], bytes]) -> Callable[[Call], bytes]:
    return lambda call: framed(call, [("Transfer-Encoding", "chunked")], make(call.body()))


bent(
    "smuggling: chunks that are none",
    [
        _bad_chunks(make)
        for make in (
            lambda b: b"%x\n%s\n0\n\n" % (len(b), b),
            lambda b: b"%x\r\n%s0\r\n\r\n" % (len(b), b),
            lambda b: b"%x\r\n%s\r\n" % (len(b), b),
            lambda b: b"%x\r\n%s\r\n0\r\n" % (len(b), b),
            lambda b: b"+%x\r\n%s\r\n0\r\n\r\n" % (len(b), b),
            lambda b: b"-1\r\n%s\r\n0\r\n\r\n" % b,
            lambda b: b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(b), b),
            lambda b: b"%x \x00\r\n%s\r\n0\r\n\r\n" % (len(b), b),
            lambda b: b"%x;a\rb\r\n%s\r\n0\r\n\r\n" % (len(b), b),
            lambda b: b"%x;\x00=1\r\n%s\r\n0\r\n\r\n" % (len(b), b),
            lambda b: b"g\r\n%s\r\n0\r\n\r\n" % b,
            lambda b: b"\r\n%s\r\n0\r\n\r\n" % b,
            lambda b: b"%x\r\n%s\r\n0\r\n\r\n" % (len(b) - 1, b),
            lambda b: b"%x\r\n%s\r\n0\r\n\r\n" % (len(b) + 1, b),
            lambda b: b"ffffffffffffffff\r\n%s\r\n0\r\n\r\n" % b,
            lambda b: b"%x\r\n%s\r\n0\r\nContent-Length: 5\r\n\r\n" % (len(b), b),
            lambda b: b"%x\r\n%s\r\n0\r\nbad trailer\r\n\r\n" % (len(b), b),
            lambda b: b"%x\r\n%s\r\n0\r\nHost: x\r\n\r\n" % (len(b), b),
            lambda b: (b"1;" + b"x" * 9000 + b"\r\n") + b,
        )
    ],
    twin=lambda: chunked(size=7, extension=';note="fine"'),
)


@hostile("smuggling: a forged request behind a forged one", twin=lambda: right() + right())
def _() -> Iterator[bytes]:
    for number in count():
        outer, inner = Call(), Call()
        forged = with_headers(inner, X_SF_Signature="0" * 64)
        body = outer.body() + forged
        yield (
            with_headers(outer, X_SF_Signature="f" * 64) + forged
            if number % 3 == 0
            else raw(outer.path, outer.headers(), body)  # the body is longer than what was signed
            if number % 3 == 1
            else raw(outer.path, {**outer.headers(), "Content-Length": "0"}, outer.body(), length=False) + forged
        )


bent(
    "smuggling: line endings of one's own",
    [
        lambda call: right(call).replace(b"\r\n", b"\n", 1),
        lambda call: right(call).replace(b"\r\n\r\n", b"\n\n", 1),
        lambda call: right(call).split(b"\r\n\r\n")[0].replace(b"\r\n", b"\n") + b"\n\n" + call.body(),
        lambda call: right(call).split(b"\r\n\r\n")[0].replace(b"\r\n", b"\r") + b"\r\r" + call.body(),
        lambda call: right(call).replace(b"Prefer", b"\rPrefer", 1),
        lambda call: right(call).replace(b"\r\nPrefer", b"\r\r\nPrefer", 1),
        lambda call: b"\r\n\r\n" + right(call),
        lambda call: b"\n" + right(call),
        lambda call: right(call).replace(b"\r\n", b"\r\n\x00", 1),
    ],
    twin=lambda: b"\r\n" + right(),
)
bent(
    "headers: folded",
    [
        lambda call: right(call).replace(b"X-SF-Nonce: ", b"X-SF-Nonce:\r\n ", 1),
        lambda call: right(call).replace(b"X-SF-Signature: ", b"X-SF-Signature:\r\n\t", 1),
        lambda call: right(call).replace(b"Prefer: respond-async", b"Prefer: respond-async\r\n , wait=1", 1),
        lambda call: right(call).replace(b"\r\n", b"\r\n X-First: folded\r\n", 1),
    ],
)
bent(
    "headers: names and values HTTP forbids",
    [
        lambda call, line=line: right(call).replace(b"Prefer: respond-async", line, 1)
        for line in (
            b"Prefer : respond-async",
            b" Prefer: x",
            b"Pre fer: x",
            b"Pre\x00fer: x",
            b"Prefer\xff: x",
            b": x",
            b"Prefer",
            b"Prefer: a\x00b",
            b"Prefer: a\x01b",
            b"Prefer: a\x7fb",
            b"Prefer: a\rb",
            b"Pre(fer): x",
            b'Pre"fer: x',
            b"Pre/fer: x",
            b"Prefer@: x",
            b"{Prefer}: x",
        )
    ],
)
bent(
    "headers: no Host, two, or none that could be",
    [
        lambda call: raw(call.path, call.headers(), call.body(), host=False),
        lambda call: raw(call.path, [*call.headers().items(), ("Host", "other.example")], call.body()),
        lambda call: right(call).replace(b"portal.example", b"portal.example, other.example", 1),
        lambda call: right(call).replace(b"portal.example", b"user@portal.example", 1),
        lambda call: right(call).replace(b"portal.example", b"portal.example/x", 1),
        lambda call: right(call).replace(b"portal.example", b"portal example", 1),
        lambda call: right(call).replace(b"portal.example", b"\xff", 1),
        lambda call: right(call).replace(b"portal.example", b"<script>", 1),
    ],
    twin=lambda: right().replace(b"portal.example", b"[2001:db8::1]:8000", 1),
)
bent(
    "headers: too many, too long",
    [
        lambda call: raw(call.path, [*call.headers().items(), *((f"X-{n}", "x") for n in range(100))], call.body()),
        lambda call: raw(call.path, [*call.headers().items(), *((f"X-{n}", "x") for n in range(1500))], call.body()),
        lambda call: right(call, **{"X-Long": "x" * 8200}),
        lambda call: right(call, **{"X-Long": "x" * 40_000}),
        lambda call: right(call, **{"X" * 9000: "x"}),
        lambda call: raw(call.path + "?" + "x" * 5000, call.headers(), call.body()),
        lambda call: raw("/" + "x" * 40_000, call.headers(), call.body()),
    ],
    twin=lambda: right(Call(), **{"X-Long": "x" * 8000}),
)
bent(
    "request lines that are none",
    [
        lambda call, line=line: line(call.path).encode("latin-1") + right(call)[right(call).index(b"\r\n") :]
        for line in (
            lambda p: f"post {p} HTTP/1.1",
            lambda p: f"POST  {p} HTTP/1.1",
            lambda p: f"POST {p}  HTTP/1.1",
            lambda p: f"POST {p}",
            lambda p: f"POST {p} HTTP/0.9",
            lambda p: f"POST {p} HTTP/2.0",
            lambda p: f"POST {p} HTTP/3",
            lambda p: f"POST {p} HTTP/1.1 x",
            lambda p: f"POST {p} http/1.1",
            lambda p: f" POST {p} HTTP/1.1",
            lambda p: f"POST\t{p}\tHTTP/1.1",
            lambda p: f"POST {p} HTTP/1.10",
            lambda p: f"PO\x00ST {p} HTTP/1.1",
            lambda p: f"POST {p}\x00 HTTP/1.1",
            lambda p: f"POST {p}\xe9 HTTP/1.1",
            lambda p: f"POST {p}#part HTTP/1.1",
            lambda p: "POST * HTTP/1.1",
            lambda p: "POST portal.example:80 HTTP/1.1",
            lambda p: " HTTP/1.1",
            lambda p: f"P{'O' * 30}ST {p} HTTP/1.1",
            lambda p: f"POST {p} HTTPS/1.1",
        )
    ],
    twin=lambda: (lambda call: right(call).replace(b"POST /", b"POST http://portal.example/", 1))(Call()),
)
bent(
    "methods that the door hasn't",
    [
        lambda call, method=method: raw(call.path, call.headers(), call.body(), method=method)
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "POSTX", "QUERY")
    ]
    + [
        lambda call, name=name: raw(call.path, {**call.headers(), name: "POST"}, call.body(), method="GET")
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    ],
)
bent(
    "addresses that aren't the door's",
    [
        lambda call, path=path: raw(path.format(call.order_id), call.headers(), call.body())
        for path in (
            "/orders/{}/provision",
            "/orders/{}/fulfill/",
            "/orders/{}/fulfill/x",
            "/orders//{}/fulfill",
            "/orders/{}",
            "/orders/{}/FULFILL",
            "/Orders/{}/fulfill",
            "/orders/x/../{}/fulfill",
            "/orders/{};x=1/fulfill",
            "/orders/{}/fulfill;x",
            "/orders/{}/%66ulfill%00",
            "/api/orders/{}/fulfill",
            "/orders/{}/fulfill%20",
            "/webhooks/whmcs",
            "/orders\\{}\\fulfill",
        )
    ],
    twin=lambda: (lambda call: raw(call.path + "?from=salesforce", call.headers(), call.body()))(Call()),
)
bent(
    "bodies in another coding",
    [
        lambda call: raw(call.path, {**call.headers(), "Content-Encoding": "gzip"}, call.body()),
        lambda call: raw(call.path, {**call.headers(), "Content-Encoding": "gzip"}, gzip.compress(call.body())),
        lambda call: (lambda packed: raw(call.path, {**call.headers(packed), "Content-Encoding": "gzip"}, packed))(
            gzip.compress(call.body())
        ),
        lambda call: (lambda packed: raw(call.path, call.headers(packed), packed))(gzip.compress(call.body())),
        lambda call: raw(call.path, {**call.headers(), "Content-Encoding": "br, gzip"}, call.body()),
    ],
    twin=lambda: right(Call(), **{"Content-Encoding": "identity"}),
)
bent(
    "expectations that can't be met",
    [
        lambda call, what=what: raw(call.path, {**call.headers(), "Expect": what}, call.body())
        for what in ("200-ok", "100-continue, x", "x" * 500, "\xff", "0")
    ],
    twin=lambda: right(Call(), Expect="100-continue"),
)
bent(
    "bodies shorter than they say",
    [
        lambda call: right(call)[:-1],
        lambda call: right(call)[:-50],
        lambda call: right(call).split(b"\r\n\r\n")[0] + b"\r\n\r\n",
        lambda call: framed(call, [("Content-Length", str(len(call.body()) + 1))]),
        lambda call: framed(call, [("Content-Length", "16000")]),
        lambda call: framed(call, [("Content-Length", "100000000")]),
        lambda call: chunked(call)[:-2],
        lambda call: chunked(call)[:-30],
    ],
    twin=chunked,
)


@hostile("no HTTP at all")
def _() -> Iterator[bytes]:
    dice = random.Random(4)
    for number in count():
        yield [
            lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
            lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(500),
            lambda: dice.randbytes(200) + b"\r\n\r\n",
            lambda: b"\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a\x21\x11\x00\x0c" + dice.randbytes(12) + right(),
            lambda: b"PROXY TCP4 13.108.0.1 127.0.0.1 1 80\r\n" + right(),
            lambda: b"*1\r\n$8\r\nFLUSHALL\r\n",
            lambda: b"\x00" * 300,
            lambda: b"EHLO portal.example\r\n\r\n",
            lambda: b"GET\r\n\r\n",
        ][number % 9]()


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

    yield from _after_its_twin(again(), again)


# --- slow senders ------------------------------------------------------------------------------------------------

SLOW_SECONDS = 14.0  # longer than the server waits for a whole request

hostile("slow: silent", stall=SLOW_SECONDS)(lambda: (b"" for _ in count()))
hostile("slow: stops in the middle of a header", stall=SLOW_SECONDS)(lambda: (right()[: 20 + n % 200] for n in count()))
hostile("slow: stops in the middle of the body", stall=SLOW_SECONDS)(lambda: (right()[: -1 - n % 80] for n in count()))
hostile("slow: stops in the middle of a chunk", stall=SLOW_SECONDS, twin=chunked)(
    lambda: (chunked()[: -6 - n % 60] for n in count())
)
