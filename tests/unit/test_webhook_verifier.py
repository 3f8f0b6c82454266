"""The verifier accepts what is right, and refuses everything else for the right reason without ever raising."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from portal.webhooks.strict import NumberText, parse_timestamp
from portal.webhooks.verifier import (
    FulfillCall,
    Reason,
    Refused,
    Secret,
    Secrets,
    WhmcsEvent,
    sign,
    verify_event,
    verify_fulfill,
)
from tests.webhooks.callout import SF_SECRET, WHMCS_SECRET, Call, Event, signature

SECRETS = Secrets(SF_SECRET)
NOW = 1_769_851_800.0  # 2026-01-31T09:30:00Z
STAMP = "2026-01-31T09:30:00Z"


def judge(
    call: Call,
    *,
    body: bytes | None = None,
    path_id: str | None = None,
    secrets: Secrets = SECRETS,
    now: float = NOW,
    tolerance: float = 300.0,
    **headers: str | None,
) -> FulfillCall | Refused:
    """What the verifier makes of it at a moment (seconds)."""
    raw = call.body() if body is None else body
    told = {name.lower(): value for name, value in call.headers(raw).items()}
    for name, value in headers.items():
        told.pop(name.replace("_", "-"), None)
        if value is not None:
            told[name.replace("_", "-")] = value
    return verify_fulfill(raw, told, path_id or call.order_id, secrets=secrets, now=now, tolerance=tolerance)


def call(**changes: Any) -> Call:
    return replace(Call(timestamp=STAMP), **changes)


def refused(verdict: FulfillCall | WhmcsEvent | Refused) -> tuple[str, bool]:
    assert isinstance(verdict, Refused), verdict
    return verdict.reason.value, verdict.authentic


def test_a_right_request_is_accepted() -> None:
    right = call(extra={"requestedBy": "Ada  \n Lovelace"})
    verdict = judge(right)
    assert verdict == FulfillCall(right.order_id, NOW, right.nonce, right.key or "", "Ada Lovelace", Secret.CURRENT)


def test_both_secrets_verify_during_a_rotation_and_the_verdict_tells_which() -> None:
    rotating = Secrets("the-new-one", SF_SECRET)
    verdict = judge(call(), secrets=rotating)
    assert isinstance(verdict, FulfillCall)
    assert verdict.secret is Secret.PREVIOUS
    verdict = judge(call(secret="the-new-one"), secrets=rotating)
    assert isinstance(verdict, FulfillCall)
    assert verdict.secret is Secret.CURRENT
    assert refused(judge(call(secret="a-third"), secrets=rotating)) == ("invalid_signature", False)


def test_an_empty_secret_opens_nothing() -> None:
    assert refused(judge(call(secret=""), secrets=Secrets("", ""))) == ("invalid_signature", False)


def test_secrets_stay_out_of_reprs() -> None:
    assert SF_SECRET not in repr(Secrets(SF_SECRET, SF_SECRET))


def test_the_signature_is_hmac_sha256_of_the_raw_body() -> None:
    # RFC 4231, test case 2
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert sign(b"what do ya want for nothing?", "Jefe") == expected
    assert sign("ünïcode".encode(), "schlüssel") == signature("ünïcode".encode(), "schlüssel")


@pytest.mark.parametrize(
    "bend",
    [
        str.upper,
        lambda right: right[:-1],
        lambda right: right + "0",
        lambda right: " " + right,
        lambda right: right + "\n",
        lambda right: "sha256=" + right,
        lambda right: right + "," + right,
        lambda right: right.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
        lambda right: "",
        lambda right: "\x00" * 64,
        lambda right: "\xff" * 64,
    ],
)
def test_only_strict_lower_case_hex_is_a_signature(bend: Any) -> None:
    right = call()
    bent = bend(right.headers()["X-SF-Signature"])
    assert refused(judge(right, x_sf_signature=bent)) == ("invalid_signature", False)


def test_no_signature_is_a_forgery() -> None:
    assert refused(judge(call(), x_sf_signature=None)) == ("invalid_signature", False)


@pytest.mark.parametrize(
    "stamp",
    [
        STAMP,
        "2026-01-31T09:30:00.123Z",
        "2026-01-31T10:30:00+01:00",
        "2026-01-31T04:00:00-0530",
        "1769851800",
        "1769851800123",
        1769851800,
        1769851800123,
    ],
)
def test_timestamps_may_be_iso_8601_or_unix(stamp: object) -> None:
    verdict = judge(call(timestamp=stamp))
    assert isinstance(verdict, FulfillCall)
    assert abs(verdict.sent_at - NOW) < 1


@pytest.mark.parametrize(
    "stamp",
    [
        "+1769851800",
        "1_769_851_800",
        "1.7698518e9",
        "1769851800.0",
        "-1",
        " 1769851800",
        "01769851800",
        "0x69",
        "١٧٦٩٨٥١٨٠٠",
        "１７６９８５１８００",
        "2026-01-31T09:30:60Z",
        "2026-01-31T09:30:00",
        "2026-01-31 09:30:00Z",
        "2026-01-31T09:30Z",
        "2026-01-31t09:30:00z",
        "2026-02-30T09:30:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T09:30:00+24:00",
        "2026-01-31T09:30:00.Z",
        "2026-01-31T09:30:00.1234567890Z",
        "2026-W05-6T09:30:00Z",
        "２０２６-01-31T09:30:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "now",
        "999999999999999",
    ],
)
def test_other_timestamps_are_unreadable(stamp: str) -> None:
    assert parse_timestamp(stamp) is None
    assert refused(judge(call(timestamp=stamp), x_sf_timestamp="1769851800")) == ("unreadable_body", True)


@pytest.mark.parametrize(
    "written", ["1.7698518e9", "1769851800.0", "-1769851800", "1e400", "true", "[]", "{}", "1" * 5000]
)
def test_numbers_that_are_no_plain_digits_are_unreadable(written: str) -> None:
    right = call()
    body = right.body().replace(json.dumps(STAMP).encode(), written.encode())
    assert refused(judge(right, body=body)) == ("unreadable_body", True)
    assert parse_timestamp(NumberText(written)) is None


@pytest.mark.parametrize(("off", "fits"), [(-300, True), (-301, False), (300, True), (301, False), (10**9, False)])
def test_the_tolerance_holds_both_ways(off: int, fits: bool) -> None:
    verdict = judge(call(), now=NOW + off)
    assert isinstance(verdict, FulfillCall) if fits else refused(verdict) == ("stale_timestamp", True)


def test_a_clock_that_is_no_number_refuses() -> None:
    assert refused(judge(call(), now=float("nan"))) == ("stale_timestamp", True)


def test_an_old_timestamp_is_told_before_missing_fields() -> None:
    """The guide's second security test sends an old timestamp, no nonce, no key, and an id that is none."""
    body = json.dumps({"orderId": "test-order-id", "timestamp": "2026-01-31T09:20:00.000Z"}).encode()
    headers = {"x-sf-signature": signature(body), "x-sf-timestamp": "2026-01-31T09:20:00.000Z"}
    verdict = verify_fulfill(body, headers, "test-order-id", secrets=SECRETS, now=NOW, tolerance=300)
    assert refused(verdict) == ("stale_timestamp", True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"\xff\xfe",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":"\\ud800"}',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":"\x01"}',
        b'{"a":' + b"[" * 9 + b"]" * 9 + b"}",
        b"[" * 8000 + b"]" * 8000,
        b'{"a":"' + b"x" * 16384 + b'"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\xed\xa0\x80"}',
    ],
)
def test_authentic_bodies_that_are_no_strict_json_object_are_unreadable(body: bytes) -> None:
    assert refused(judge(call(), body=body)) == ("unreadable_body", True)


def test_what_stands_in_strings_is_no_nesting() -> None:
    assert isinstance(judge(call(extra={"note": '[[[[[[[[[[{{{{{{{{{{"\\'})), FulfillCall)


@pytest.mark.parametrize("name", ["orderId", "timestamp", "nonce"])
def test_each_field_must_be_there(name: str) -> None:
    right = call()
    for value in ("absent", None, ""):
        told = json.loads(right.body())
        if value == "absent":
            del told[name]
        else:
            told[name] = value
        assert refused(judge(right, body=json.dumps(told).encode())) == ("missing_fields", True)


@pytest.mark.parametrize("header", ["x_sf_timestamp", "x_sf_nonce"])
def test_each_header_must_be_there(header: str) -> None:
    assert refused(judge(call(), **{header: None})) == ("missing_fields", True)


@pytest.mark.parametrize("header", ["x_sf_timestamp", "x_sf_nonce"])
def test_each_header_must_say_what_the_body_says(header: str) -> None:
    assert refused(judge(call(), **{header: "1769851801"})) == ("field_mismatch", True)


def test_ids_are_compared_as_18_characters() -> None:
    right = call()
    assert isinstance(judge(right, path_id=right.order_id[:15]), FulfillCall)
    short = replace(right, order_id=right.order_id[:15])
    verdict = judge(short, path_id=right.order_id)
    assert isinstance(verdict, FulfillCall)
    assert verdict.sf_order_id == right.order_id
    assert refused(judge(right, path_id=Call().order_id)) == ("field_mismatch", True)


@pytest.mark.parametrize("bad", ["test-order-id", "801", "8015g00000Abc’X", "801000000000001AAB", "8" * 19])
def test_other_ids_are_refused(bad: str) -> None:
    assert refused(judge(call(order_id=bad))) == ("invalid_order_id", True)
    assert refused(judge(call(), path_id=bad)) == ("invalid_order_id", True)


def test_an_id_must_be_text() -> None:
    right = call()
    body = right.body().replace(json.dumps(right.order_id).encode(), b"801000000000001")
    assert refused(judge(right, body=body)) == ("invalid_order_id", True)


@pytest.mark.parametrize("nonce", ["a\x00b", "ä", "a\tb", "x" * 129, " a", "a ", 5])
def test_nonces_must_be_printable_ascii(nonce: Any) -> None:
    assert refused(judge(call(nonce=nonce), x_sf_nonce="x")) == ("unreadable_body", True)


@pytest.mark.parametrize("key", [None, "", "x" * 256, "a b", "ä", "a\x7f"])
def test_the_idempotency_key_must_be_visible_ascii(key: str | None) -> None:
    assert refused(judge(call(), idempotency_key=key)) == ("missing_idempotency_key", True)
    assert isinstance(judge(call(), idempotency_key="x" * 255), FulfillCall)


@pytest.mark.parametrize(
    ("told", "kept"),
    [(None, None), (5, None), ([], None), ("", None), ("\n", None), ("x" * 500, "x" * 120), ("a\u202eb\x00c", "a b c")],
)
def test_requested_by_is_one_bounded_line_or_nothing(told: Any, kept: str | None) -> None:
    verdict = judge(call(extra={"requestedBy": told}))
    assert isinstance(verdict, FulfillCall)
    assert verdict.requested_by == kept


# --- WHMCS' door ---------------------------------------------------------------------------------------------


def judge_event(event: Event, body: bytes | None = None, **headers: str | None) -> WhmcsEvent | Refused:
    raw = event.body() if body is None else body
    told = {name.lower(): value for name, value in event.headers(raw).items()}
    for name, value in headers.items():
        told.pop(name.replace("_", "-"), None)
        if value is not None:
            told[name.replace("_", "-")] = value
    return verify_event(raw, told, secrets=Secrets(WHMCS_SECRET), now=time.time(), tolerance=300)


def changed(original: Event, /, **fields: Any) -> bytes:
    return json.dumps({**json.loads(original.body()), **fields}).encode()


def test_events_are_accepted_with_and_without_timestamp_and_nonce() -> None:
    for dated in (False, True):
        event = Event(data={"orderId": 7, "name": "x", "nested": {}, "flag": True}, dated=dated)
        verdict = judge_event(event)
        assert isinstance(verdict, WhmcsEvent)
        assert (verdict.id, verdict.event, dict(verdict.data)) == (event.id, event.event, {"orderId": "7", "name": "x"})
        assert verdict.nonce == (event.nonce if dated else None)


def test_what_an_event_sends_must_hold() -> None:
    plain, dated = Event(), Event(dated=True)
    cases: list[tuple[WhmcsEvent | Refused, Reason]] = [
        (judge_event(plain, x_whmcs_signature=None), Reason.INVALID_SIGNATURE),
        (judge_event(Event(secret=SF_SECRET)), Reason.INVALID_SIGNATURE),
        (judge_event(dated, x_whmcs_nonce=None), Reason.FIELD_MISMATCH),
        (judge_event(dated, x_whmcs_timestamp=None), Reason.FIELD_MISMATCH),
        (judge_event(dated, x_whmcs_nonce="other"), Reason.FIELD_MISMATCH),
        (judge_event(plain, x_whmcs_nonce="only-here"), Reason.FIELD_MISMATCH),
        (judge_event(plain, x_whmcs_timestamp="5"), Reason.STALE_TIMESTAMP),
        (judge_event(dated, changed(dated, timestamp="1000000000")), Reason.STALE_TIMESTAMP),
        (judge_event(plain, changed(plain, id=None)), Reason.MISSING_FIELDS),
        (judge_event(plain, changed(plain, id="a b")), Reason.UNREADABLE_BODY),
        (judge_event(plain, changed(plain, id="x" * 129)), Reason.UNREADABLE_BODY),
        (judge_event(plain, changed(plain, event="Order Accepted")), Reason.UNREADABLE_BODY),
        (judge_event(plain, changed(plain, event=5)), Reason.UNREADABLE_BODY),
        (judge_event(plain, changed(plain, data=[])), Reason.UNREADABLE_BODY),
        (judge_event(plain, changed(plain, occurredAt="yesterday")), Reason.UNREADABLE_BODY),
    ]
    for verdict, reason in cases:
        assert isinstance(verdict, Refused)
        assert verdict.reason is reason
