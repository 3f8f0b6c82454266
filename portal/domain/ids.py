"""The ids of both sides: Salesforce's 15 and 18 characters, and the reference that a WHMCS order bears of ours."""

from __future__ import annotations

import contextlib
import re

_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def salesforce_id_18(text: str) -> str:
    """The 18-character form of a 15- or 18-character Salesforce id.

    The suffix has one character for each five of the id, whose bits say which are upper-case; an 18-character id
    is repaired where its case was lost. Raises ValueError for anything else.
    """
    if len(text) not in (15, 18) or not text.isascii() or not text.isalnum():
        raise ValueError("not a Salesforce id: 15 or 18 letters and digits")
    body = text[:15]
    if len(text) == 18:
        body = _with_case(body, text[15:].upper())
    suffix = "".join(
        _SUFFIX[sum(1 << bit for bit, letter in enumerate(chunk) if letter.isupper())]
        for chunk in (body[0:5], body[5:10], body[10:15])
    )
    if len(text) == 18 and suffix != text[15:].upper():
        raise ValueError("not a Salesforce id: its last three characters don't fit the others")
    return body + suffix


def _with_case(body: str, suffix: str) -> str:
    if any(letter not in _SUFFIX for letter in suffix):
        raise ValueError("not a Salesforce id: its last three characters don't fit the others")
    letters = []
    for index, letter in enumerate(body):
        upper = _SUFFIX.index(suffix[index // 5]) >> (index % 5) & 1
        letters.append(letter.upper() if upper else letter.lower())
    return "".join(letters)


def whmcs_id(text: str) -> str:
    """A WHMCS id as it is kept: "012" is "12". What is no number stays as it is, without the space around it."""
    text = text.strip()
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else text


def other_reference(text: str, sf_order_id: str) -> str | None:
    """Another Salesforce order's reference in `text` (a WHMCS order's notes, a custom field); None: there is none."""
    for token in text.split():
        match = re.fullmatch(r"sfOrderId=(\S+)", token)
        if match and match.group(1) != sf_order_id:
            return match.group(1)
    return None


def references_in(text: str) -> list[str]:
    """The Salesforce orders (18 characters) whose reference stands in `text`; what is no id is left out."""
    found = []
    for token in text.split():
        match = re.fullmatch(r"sfOrderId=(\S+)", token)
        with contextlib.suppress(ValueError):
            if match and salesforce_id_18(match.group(1)) == match.group(1):
                found.append(match.group(1))
    return found


def external_reference(sf_order_id: str) -> str:
    """The token kept in the WHMCS order's notes (and custom field): `sfOrderId=<18 characters>`."""
    return f"sfOrderId={sf_order_id}"


def bears_reference(text: str, sf_order_id: str) -> bool:
    """Whether `text` holds the mark of this order as a whitespace-separated token of its own."""
    return external_reference(sf_order_id) in text.split()
