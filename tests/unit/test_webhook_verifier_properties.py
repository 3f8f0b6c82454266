"""Whatever comes in: the verifier never raises, and never accepts what a straightforward reference doesn't."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from portal.webhooks.strict import parse_timestamp
from portal.webhooks.verifier import (
    FulfillCall,
    Refused,
    Secrets,
    WhmcsEvent,
    verify_event,
    verify_fulfill,
)
from tests.webhooks.callout import Call, id_18

NOW = 1_769_851_800.0
TOLERANCE = 300.0
CURRENT, PREVIOUS = "current-secret", "previous-secret"
SECRETS = Secrets(CURRENT, PREVIOUS)
ORDER = id_18("801000000000001")


def signed(body: bytes, secret: str = CURRENT) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def reference_time(value: Any) -> float | None:
    """The plain way to read a timestamp; lets through a little more than the contract."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        value = str(value)
    if not isinstance(value, str) or not value.isascii():
        return None
    if value.isdigit() and len(value) <= 15:
        return int(value) / (1000 if len(value) > 11 else 1)
    try:
        return datetime.datetime.fromisoformat(value).timestamp()
    except ValueError:
        return None


def reference_accepts(body: bytes, headers: Mapping[str, str], path_id: str) -> bool:
    """Accept or not, written down without care for order, reasons or speed."""
    if headers.get("x-sf-signature") not in (signed(body, CURRENT), signed(body, PREVIOUS)):
        return False
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(told, dict) or len(body) > 16384:
        return False
    moment = reference_time(told.get("timestamp"))
    return (
        moment is not None
        and abs(NOW - moment) <= TOLERANCE
        and str(told["timestamp"]) == headers.get("x-sf-timestamp")
        and isinstance(told.get("nonce"), str)
        and 0 < len(told["nonce"]) <= 128
        and told["nonce"] == headers.get("x-sf-nonce")
        and isinstance(told.get("orderId"), str)
        and told["orderId"][:15].lower() == path_id[:15].lower()
        and len(path_id) in (15, 18)
        and 0 < len(headers.get("idempotency-key", "")) <= 255
    )


near_now = st.integers(-400, 400).map(lambda off: int(NOW) + off)
stamps = st.one_of(
    near_now,
    near_now.map(str),
    near_now.map(lambda s: s * 1000 + 7),
    near_now.map(lambda s: datetime.datetime.fromtimestamp(s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
    near_now.map(lambda s: datetime.datetime.fromtimestamp(s, datetime.UTC).isoformat()),
    st.sampled_from(["1e9", "+1769851800", "1_769_851_800", "١٧٦٩٨٥١٨٠٠", "2026-01-31T09:30:60Z", " 1769851800", ""]),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.text(max_size=30),
)
ids = st.sampled_from([ORDER, ORDER[:15], ORDER.lower(), id_18("801000000000002"), "test-order-id", "", "8" * 18])
texts = st.text(max_size=20) | st.sampled_from(["n1", "n 2", "a\x00b", "ä", "x" * 128, "x" * 129])


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, dict[str, str], str]:
    """Requests that are nearly right, and wrong in any mixture of ways."""
    told: dict[str, Any] = {"orderId": draw(ids), "timestamp": draw(stamps), "nonce": draw(texts)}
    for name in draw(st.sets(st.sampled_from(sorted(told)), max_size=1)):
        del told[name]
    told |= draw(st.dictionaries(st.sampled_from(["requestedBy", "x"]), st.text(max_size=5) | st.none(), max_size=2))
    body = json.dumps(told, ensure_ascii=draw(st.booleans())).encode("utf-8", errors="surrogatepass")
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at:]
    headers = {
        "x-sf-signature": signed(body, draw(st.sampled_from([CURRENT, CURRENT, PREVIOUS, "wrong"]))),
        "x-sf-timestamp": str(told.get("timestamp", "1769851800")),
        "x-sf-nonce": str(told.get("nonce", "n1")),
        "idempotency-key": draw(st.sampled_from(["k1", "k 1", "x" * 255, "x" * 256, "ä"])),
    }
    if draw(st.integers(0, 4)) == 0:
        name = draw(st.sampled_from(sorted(headers)))
        if draw(st.booleans()):
            del headers[name]
        else:
            headers[name] = draw(st.text(max_size=70))
    return body, headers, draw(ids)


@settings(max_examples=800)
@given(requests())
def test_accepted_means_the_reference_accepts_it_too(request: tuple[bytes, dict[str, str], str]) -> None:
    body, headers, path_id = request
    verdict = verify_fulfill(body, headers, path_id, secrets=SECRETS, now=NOW, tolerance=TOLERANCE)
    if isinstance(verdict, FulfillCall):
        assert reference_accepts(body, headers, path_id)
        assert re.fullmatch(r"[!-~]{1,255}", verdict.idempotency_key)
        assert re.fullmatch(r"[ -~]{1,128}", verdict.nonce)
        assert verdict.sf_order_id == ORDER or verdict.sf_order_id == id_18("801000000000002")
    else:
        assert isinstance(verdict, Refused)
        right = headers.get("x-sf-signature") in (signed(body, CURRENT), signed(body, PREVIOUS))
        assert verdict.authentic == right == (verdict.reason != "invalid_signature")


@settings(max_examples=500)
@given(
    st.binary(max_size=300),
    st.dictionaries(st.sampled_from(["x-sf-signature", "x-sf-timestamp", "x-sf-nonce", "idempotency-key"]), st.text()),
    st.text(max_size=30),
    st.floats(),
    st.floats(),
    st.booleans(),
)
def test_no_input_raises(
    body: bytes, headers: dict[str, str], path_id: str, moment: float, tolerance: float, sign: bool
) -> None:
    if sign:
        headers["x-sf-signature"] = headers["x-whmcs-signature"] = signed(body)
    fulfill = verify_fulfill(body, headers, path_id, secrets=SECRETS, now=moment, tolerance=tolerance)
    assert isinstance(fulfill, FulfillCall | Refused)
    event = verify_event(body, headers, secrets=SECRETS, now=moment, tolerance=tolerance)
    assert isinstance(event, WhmcsEvent | Refused)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


EVENT_FIELDS = st.sampled_from(["id", "event", "occurredAt", "data", "timestamp", "nonce", "orderId"])


@settings(max_examples=500)
@given(st.dictionaries(EVENT_FIELDS, json_values))
def test_no_signed_json_raises(told: dict[str, Any]) -> None:
    body = json.dumps(told).encode()
    headers = {"x-sf-signature": signed(body), "x-whmcs-signature": signed(body), "x-sf-timestamp": "5"}
    assert isinstance(verify_fulfill(body, headers, ORDER, secrets=SECRETS, now=NOW, tolerance=TOLERANCE), Refused)
    assert isinstance(verify_event(body, headers, secrets=SECRETS, now=NOW, tolerance=TOLERANCE), WhmcsEvent | Refused)


@settings(max_examples=500)
@given(st.text(max_size=35) | st.from_regex(r"[0-9+\-_.TZ:e ]{0,30}", fullmatch=True))
def test_timestamps_that_are_read_are_read_as_the_reference_reads_them(text: str) -> None:
    moment = parse_timestamp(text)
    if moment is not None:
        expected = reference_time(text)
        assert expected is not None
        assert abs(expected - moment) < 0.001 * max(1.0, abs(moment) * 1e-9)


def test_the_way_it_should_be_is_accepted() -> None:
    """The control: without it the properties above would hold for a verifier that refuses everything."""
    for secret in (CURRENT, PREVIOUS):
        call = Call(order_id=ORDER, timestamp="2026-01-31T09:30:00Z", secret=secret)
        headers = {name.lower(): value for name, value in call.headers().items()}
        assert reference_accepts(call.body(), headers, ORDER)
        verdict = verify_fulfill(call.body(), headers, ORDER, secrets=SECRETS, now=NOW, tolerance=TOLERANCE)
        assert isinstance(verdict, FulfillCall)
