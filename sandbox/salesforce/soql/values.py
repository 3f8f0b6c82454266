"""Values in SOQL: how they are written, compared, and matched by LIKE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.salesforce.errors import SfError
from sandbox.salesforce.schema import Field

ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "'": "'", '"': '"', "\\": "\\"}
TEXT_TYPES = {"string", "textarea", "picklist", "email", "phone", "url"}
NUMBER_TYPES = {"currency", "double", "int"}


@dataclass
class Literal:
    """A value in the text: `kind` is text, number, boolean, null, date, datetime."""

    kind: str
    value: Any
    pattern: str = ""


def unescape(raw: str, wildcards: bool = False) -> str:
    """The value of a quoted text; with `wildcards`, escaped % and _ stay escaped for LIKE."""
    result = []
    position = 0
    while position < len(raw):
        letter = raw[position]
        if letter != "\\":
            result.append(letter)
            position += 1
            continue
        following = raw[position + 1]
        if following in "uU":
            digits = raw[position + 2 : position + 6]
            if not re.fullmatch(r"[0-9A-Fa-f]{4}", digits):
                raise SfError("MALFORMED_QUERY", "Invalid string literal. Illegal unicode sequence")
            result.append(chr(int(digits, 16)))
            position += 6
            continue
        if following in "%_":
            result.append(f"\\{following}" if wildcards else following)
        elif following.lower() in ESCAPES:
            result.append(ESCAPES[following.lower()])
        else:
            raise SfError(
                "MALFORMED_QUERY",
                f"Invalid string literal '{raw}'. Illegal character sequence '\\{following}' in string literal.",
            )
        position += 2
    return "".join(result)


def to_utc(text: str) -> str:
    """ISO 8601 with an offset → `2026-11-21T16:38:52.000+0000`; ValueError otherwise."""
    when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if when.tzinfo is None:
        raise ValueError("no offset")
    when = when.astimezone(UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}+0000"


def like(text: str) -> re.Pattern[str]:
    """A LIKE pattern (with escaped wildcards still escaped) as a regular expression."""
    parts = re.split(r"(\\[%_]|[%_])", text)
    table = {"%": ".*", "_": ".", "\\%": "%", "\\_": "_"}
    return re.compile("".join(table.get(part, re.escape(part)) for part in parts), re.IGNORECASE | re.DOTALL)


def comparable(what: Field, value: Any) -> Any:
    """A value in the form in which it is compared: text without regard to case."""
    if value is None:
        return None
    if what.type in TEXT_TYPES:
        return str(value).casefold()
    if what.type in NUMBER_TYPES:
        return float(value)
    return value
