"""Requests whose ids or JSON can't be taken."""

from __future__ import annotations

import json

from tests.webhooks.callout import Call, fresh_id
from tests.webhooks.hostile.making import (
    bent,
    bodies,
    raw,
    right,
    signed_body,
    told,
    with_headers,
)

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
