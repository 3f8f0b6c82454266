"""Decides whether the bytes of a webhook come from somebody who knows the secret, and what they say.

Pure and total: no input, clock, network or storage of its own, and no exception for any bytes or headers. Everything
that isn't plainly right is refused, and every refusal tells a forgery from an authentic but unusable request, because
an operator has to look in different places for the two. The contract is in docs/webhooks.md.

Moments are seconds since 1970.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NoReturn

from portal.domain.ids import salesforce_id_18
from portal.webhooks.strict import NotStrict, NumberText, parse_timestamp, read_json_object

MAX_NONCE: Final = 128
MAX_KEY: Final = 255
MAX_EVENT_ID: Final = 128
MAX_REQUESTED_BY: Final = 120

_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_VISIBLE = re.compile(r"[\x21-\x7e]+", re.ASCII)
_PRINTABLE = re.compile(r"[\x20-\x7e]+", re.ASCII)
_EVENT_NAME = re.compile(r"[a-z][a-z0-9_.]{0,62}", re.ASCII)


class Reason(StrEnum):
    """Why a request was refused: the `code` of the problem it is answered with."""

    INVALID_SIGNATURE = "invalid_signature"
    UNREADABLE_BODY = "unreadable_body"
    STALE_TIMESTAMP = "stale_timestamp"
    MISSING_FIELDS = "missing_fields"
    FIELD_MISMATCH = "field_mismatch"
    INVALID_ORDER_ID = "invalid_order_id"
    MISSING_IDEMPOTENCY_KEY = "missing_idempotency_key"


class Secret(StrEnum):
    """Which of the two secrets a signature matched."""

    CURRENT = "current"
    PREVIOUS = "previous"


@dataclass(frozen=True)
class Secrets:
    """The secret that signs now and, during a rotation, the one before it. Never in a repr."""

    current: str = field(repr=False)
    previous: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Refused:
    """Not accepted. `detail` is fit for the sender; it holds nothing of the secret or the expected signature."""

    reason: Reason
    detail: str
    authentic: bool  # the signature was right: a sender's mistake, not a forgery


@dataclass(frozen=True)
class FulfillCall:
    """Salesforce asks for an order to be fulfilled."""

    sf_order_id: str  # 18 characters
    sent_at: float  # the signed timestamp, seconds since 1970
    nonce: str
    idempotency_key: str
    requested_by: str | None
    secret: Secret


@dataclass(frozen=True)
class WhmcsEvent:
    """WHMCS tells of something that happened there."""

    id: str
    event: str
    occurred_at: float
    nonce: str | None
    data: Mapping[str, str]  # scalars only, as text
    secret: Secret


class _Unusable(Exception):
    """Carries a refusal out of the steps below; never leaves this module."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def verify_fulfill(
    body: bytes,
    headers: Mapping[str, str],
    path_id: str,
    *,
    secrets: Secrets,
    now: float,
    tolerance: float,
) -> FulfillCall | Refused:
    """Judge a `POST /orders/{sfOrderId}/fulfill`.

    body: as received; headers: names in lower case; path_id: from the URL; now: seconds since 1970; tolerance: seconds.
    The checks follow each other as in docs/webhooks.md; whether key and nonce are free is for the ledger to say.
    """
    secret = matching_secret(body, headers.get("x-sf-signature"), secrets)
    if secret is None:
        return _forged("X-SF-Signature")
    try:
        message = read_json_object(body)
        sent_at = _fresh(message.get("timestamp"), headers.get("x-sf-timestamp"), now=now, tolerance=tolerance)
        _all_there(
            message,
            headers,
            fields=("orderId", "timestamp", "nonce"),
            header_names=("X-SF-Timestamp", "X-SF-Nonce"),
        )
        nonce = _nonce(message["nonce"])
        sf_order_id = _same_order(message["orderId"], path_id)
        _same_text("timestamp", message["timestamp"], "X-SF-Timestamp", headers["x-sf-timestamp"])
        _same_text("nonce", nonce, "X-SF-Nonce", headers["x-sf-nonce"])
        key = headers.get("idempotency-key", "")
        if len(key) > MAX_KEY or not _VISIBLE.fullmatch(key):
            _refuse(
                Reason.MISSING_IDEMPOTENCY_KEY,
                f"Send an Idempotency-Key header of 1 to {MAX_KEY} visible ASCII characters, one per click.",
            )
        assert sent_at is not None  # _all_there saw the timestamp
        return FulfillCall(sf_order_id, sent_at, nonce, key, _requested_by(message.get("requestedBy")), secret)
    except NotStrict as error:
        return Refused(Reason.UNREADABLE_BODY, str(error), authentic=True)
    except _Unusable as unusable:
        return Refused(unusable.reason, unusable.detail, authentic=True)


def verify_event(
    body: bytes,
    headers: Mapping[str, str],
    *,
    secrets: Secrets,
    now: float,
    tolerance: float,
) -> WhmcsEvent | Refused:
    """Judge a `POST /webhooks/whmcs`: arguments as verify_fulfill's, checks as in docs/webhooks.md.

    Timestamp and nonce are optional, but what is sent must hold.
    """
    secret = matching_secret(body, headers.get("x-whmcs-signature"), secrets)
    if secret is None:
        return _forged("X-WHMCS-Signature")
    try:
        message = read_json_object(body)
        _fresh(message.get("timestamp"), headers.get("x-whmcs-timestamp"), now=now, tolerance=tolerance)
        _all_there(message, headers, fields=("id", "event", "occurredAt", "data"), header_names=())
        for name, header in (("timestamp", "X-WHMCS-Timestamp"), ("nonce", "X-WHMCS-Nonce")):
            if (message.get(name) is None) != (header.lower() not in headers):
                _refuse(Reason.FIELD_MISMATCH, f"Send {name} both in the body and as {header}, or in neither.")
            if message.get(name) is not None:
                _same_text(name, message[name], header, headers[header.lower()])
        nonce = None if message.get("nonce") is None else _nonce(message["nonce"])
        event_id, event, data = message["id"], message["event"], message["data"]
        if not isinstance(event_id, str) or len(event_id) > MAX_EVENT_ID or not _VISIBLE.fullmatch(event_id):
            _refuse(Reason.UNREADABLE_BODY, f"id must be 1 to {MAX_EVENT_ID} visible ASCII characters.")
        if not isinstance(event, str) or isinstance(event, NumberText) or not _EVENT_NAME.fullmatch(event):
            _refuse(Reason.UNREADABLE_BODY, "event must be a name such as order.accepted.")
        if not isinstance(data, dict):
            _refuse(Reason.UNREADABLE_BODY, "data must be an object.")
        occurred_at = parse_timestamp(message["occurredAt"])
        if occurred_at is None:
            _refuse(Reason.UNREADABLE_BODY, "occurredAt must be ISO 8601 or a Unix timestamp.")
        texts = {name: value for name, value in data.items() if isinstance(value, str)}
        return WhmcsEvent(str(event_id), event, occurred_at, nonce, texts, secret)
    except NotStrict as error:
        return Refused(Reason.UNREADABLE_BODY, str(error), authentic=True)
    except _Unusable as unusable:
        return Refused(unusable.reason, unusable.detail, authentic=True)


def sign(body: bytes, secret: str) -> str:
    """Lower-case hex HMAC-SHA256 of the body, keyed with the secret's UTF-8 bytes as they stand (docs/webhooks.md)."""
    return hmac.new(_key_bytes(secret), body, hashlib.sha256).hexdigest()


def matching_secret(body: bytes, signature: str | None, secrets: Secrets) -> Secret | None:
    """Which secret made this signature; None for a forgery. Takes the same time whichever it is."""
    wellformed = signature is not None and _SIGNATURE.fullmatch(signature) is not None
    given = signature.encode("ascii") if signature is not None and wellformed else b"-" * 64
    current = hmac.compare_digest(sign(body, secrets.current).encode("ascii"), given)
    previous = secrets.previous is not None and hmac.compare_digest(sign(body, secrets.previous).encode("ascii"), given)
    if current and secrets.current:
        return Secret.CURRENT
    if previous and secrets.previous:
        return Secret.PREVIOUS
    return None


# --- the steps; each raises _Unusable ------------------------------------------------------------------------


def _forged(header: str) -> Refused:
    return Refused(
        Reason.INVALID_SIGNATURE,
        f"{header} must be the lower-case hex HMAC-SHA256 of the raw body, keyed with the shared secret.",
        authentic=False,
    )


def _refuse(reason: Reason, detail: str) -> NoReturn:
    raise _Unusable(reason, detail)


def _fresh(signed: object, header: str | None, *, now: float, tolerance: float) -> float | None:
    """The moment the request says it was sent, if it says one: the signed one, else the header's."""
    sent = header if signed is None or signed == "" else signed
    if sent is None or sent == "":
        return None
    moment = parse_timestamp(sent)
    if moment is None:
        _refuse(
            Reason.UNREADABLE_BODY,
            "timestamp must be ISO 8601 with a zone (2026-01-31T09:30:00Z) or Unix seconds or milliseconds.",
        )
    # written so that a NaN clock or tolerance refuses as well
    if not -tolerance <= now - moment <= tolerance:
        off = "old" if now > moment else "far in the future"
        _refuse(Reason.STALE_TIMESTAMP, f"The timestamp is too {off}: compare the clocks, and send UTC.")
    return moment


def _all_there(
    message: Mapping[str, Any], headers: Mapping[str, str], *, fields: tuple[str, ...], header_names: tuple[str, ...]
) -> None:
    missing = [name for name in fields if message.get(name) is None or message.get(name) == ""]
    missing += [name for name in header_names if not headers.get(name.lower())]
    if missing:
        _refuse(Reason.MISSING_FIELDS, f"Missing: {', '.join(missing)}.")


def _nonce(value: object) -> str:
    if (
        not isinstance(value, str)
        or isinstance(value, NumberText)
        or len(value) > MAX_NONCE
        or not _PRINTABLE.fullmatch(value)
        or value != value.strip(" ")  # a header can't carry outer spaces
    ):
        _refuse(Reason.UNREADABLE_BODY, f"nonce must be a text of 1 to {MAX_NONCE} printable ASCII characters.")
    return value


def _same_order(signed: object, path_id: str) -> str:
    ids = []
    asked = [("orderId", signed), ("The order id in the address", path_id)]
    for name, value in asked[:1] if signed == path_id else asked:
        try:
            if not isinstance(value, str) or isinstance(value, NumberText):
                raise ValueError
            ids.append(salesforce_id_18(value))
        except ValueError:
            _refuse(Reason.INVALID_ORDER_ID, f"{name} is no Salesforce id of 15 or 18 characters.")
    if ids[0] != ids[-1]:
        _refuse(Reason.FIELD_MISMATCH, "orderId isn't the order in the address.")
    return ids[0]


def _same_text(name: str, signed: object, header: str, value: str) -> None:
    if not isinstance(signed, str) or str(signed) != value:
        _refuse(Reason.FIELD_MISMATCH, f"{name} in the body and {header} must be the same text.")


def _requested_by(value: object) -> str | None:
    """Who clicked, for people to read: one line, bounded; anything but text is as good as nothing."""
    if not isinstance(value, str) or isinstance(value, NumberText):
        return None
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())
    return line[:MAX_REQUESTED_BY].strip() or None


def _key_bytes(secret: str) -> bytes:
    return secret.encode("utf-8", errors="surrogateescape")
