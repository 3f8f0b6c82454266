"""Requests whose signature is missing, wrong, or made with something else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

from tests.webhooks.callout import SF_SECRET, WHMCS_SECRET, Call
from tests.webhooks.hostile.making import (
    bent,
    chunked,
    hostile,
    raw,
    with_headers,
)

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
