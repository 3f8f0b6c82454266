"""Salesforce record ids: 15 characters that mean case, 18 that don't need to."""

from __future__ import annotations

import re

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
PATTERN = re.compile(r"[0-9A-Za-z]{15}(?:[A-Za-z0-5]{3})?\Z")


def suffix(fifteen: str) -> str:
    """The three characters that tell which of the 15 are upper-case."""
    return "".join(
        SUFFIX[sum(1 << bit for bit, letter in enumerate(fifteen[start : start + 5]) if "A" <= letter <= "Z")]
        for start in (0, 5, 10)
    )


def to_18(text: object) -> str | None:
    """The 18-character form of a 15- or 18-character id; None when it is neither.

    An 18-character id whose letters were changed in case is repaired from its suffix, as the real org does.
    """
    if not isinstance(text, str) or not PATTERN.match(text):
        return None
    if len(text) == 15:
        return text + suffix(text)
    letters = []
    for chunk, mark in enumerate(text[15:].upper()):
        bits = SUFFIX.index(mark) if mark in SUFFIX else 0
        for bit, letter in enumerate(text[chunk * 5 : chunk * 5 + 5]):
            letters.append(letter.upper() if bits >> bit & 1 else letter.lower())
    fifteen = "".join(letters)
    return fifteen + suffix(fifteen)


def make(prefix: str, number: int) -> str:
    """The 18-character id of the `number`-th record of the object with that key prefix."""
    digits = ""
    # Spread by a factor prime to 62**6, so that neighbours differ in more than their last letter, as in a busy org.
    rest = number * 7_919 % 62**6
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = ALPHABET[digit] + digits
    fifteen = f"{prefix}Ws0000{digits}"
    return fifteen + suffix(fifteen)
