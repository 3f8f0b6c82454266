"""Reads JSON and timestamps so strictly that no two readers could understand them differently.

Pure, and raises nothing but NotStrict. What is allowed is in docs/webhooks.md.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

MAX_BODY_BYTES: Final = 16 * 1024
MAX_DEPTH: Final = 8

_UNIX = re.compile(r"0|[1-9][0-9]{0,13}", re.ASCII)
_ISO_8601 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:Z|([+-])([0-9]{2}):?([0-9]{2}))",
    re.ASCII,
)
#: Unix timestamps from here on are milliseconds: as seconds it would be the year 5138, as milliseconds it is 1973.
_FIRST_MILLISECOND: Final = 100_000_000_000


class NotStrict(ValueError):
    """The bytes aren't what may be sent; `str()` says why, fit for the sender."""


class NumberText(str):
    """A JSON number, kept as it was written: timestamps are compared as text, and no digits are lost."""


def parse_timestamp(value: object) -> float | None:
    """Seconds since 1970 of an ISO 8601 text or Unix seconds/milliseconds (number or text); None for all else.

    Only ASCII digits count; no sign, exponent, underscore, leading zero, second 60 or missing zone.
    """
    if not isinstance(value, str):
        return None
    if _UNIX.fullmatch(value):
        number = int(value)
        return number / 1000 if number >= _FIRST_MILLISECOND else float(number)
    if isinstance(value, NumberText):
        return None
    match = _ISO_8601.fullmatch(value)
    if match is None:
        return None
    *numbers, fraction, sign_text, hours, minutes = match.groups()
    if hours is not None and (int(hours) > 23 or int(minutes) > 59):
        return None
    try:
        moment = datetime(*(int(number) for number in numbers), tzinfo=UTC)  # type: ignore[misc,arg-type]
        if hours is not None:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            moment = moment - offset if sign_text == "+" else moment + offset
    except (ValueError, OverflowError):
        return None
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


def read_json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in these bytes, numbers as NumberText.

    Raises NotStrict for what JSON libraries let through or differ about: a BOM, anything but UTF-8, NaN, duplicate
    names, lone surrogates, nesting deeper than MAX_DEPTH, a top that is no object, more than MAX_BODY_BYTES.
    """
    if len(body) > MAX_BODY_BYTES:
        raise NotStrict(f"The body is longer than {MAX_BODY_BYTES} bytes.")
    try:
        text = body.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        raise NotStrict("The body isn't UTF-8.") from None
    if text.startswith("\ufeff"):
        raise NotStrict("The body starts with a byte order mark.")
    if _depth(text) > MAX_DEPTH:
        raise NotStrict(f"The body is nested more than {MAX_DEPTH} deep.")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_int=NumberText,
            parse_float=NumberText,
            parse_constant=_no_constant,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):  # JSONDecodeError and UnicodeEncodeError are ValueErrors
        raise NotStrict("The body isn't strict JSON (no NaN, no duplicate names, no lone surrogates).") from None
    if not isinstance(value, dict):
        raise NotStrict("The body must be a JSON object.")
    return value


def _depth(text: str) -> int:
    deepest = depth = 0
    in_string = escaped = False
    for letter in text:
        if in_string:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == '"':
                in_string = False
        elif letter == '"':
            in_string = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate name")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
