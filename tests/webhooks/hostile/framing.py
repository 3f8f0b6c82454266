"""Requests that HTTP forbids, or that two servers would read differently."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator
from itertools import count

from tests.webhooks.callout import Call
from tests.webhooks.hostile.making import (
    bent,
    chunked,
    hostile,
    raw,
    right,
    with_headers,
)


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
