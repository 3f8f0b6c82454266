"""Makes the other side's own words fit for a log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_MESSAGE_CHARACTERS: Final = 500

_EMAIL = re.compile(r"[^\s@<>\"'(),:;=]+@[^\s@<>\"'(),:;=]+")
_LABELLED = re.compile(
    r"(?i)\b(pass(?:word|wd|phrase)?2?|pwd|secret|(?:(?:access|api|private|remote)[_ -]?)?(?:token|key)|identifier"
    r"|authorization|assertion)\b([\"']?\s*(?:[=:]|\bis\b)\s*(?:bearer\s+)?)(\"[^\"]*\"|'[^']*'|\S+)"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.!~+/=-]{8,}")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The other side's own words, fit for a log: one line, without secrets, e-mail addresses or what looks like a
    password, and of a bounded length."""
    for secret in sorted({secret for secret in secrets if len(secret) > 2}, key=len, reverse=True):
        text = re.sub(re.escape(secret), "[removed]", text, flags=re.IGNORECASE)
    text = _EMAIL.sub("[e-mail]", text)
    text = _BEARER.sub(r"\1[removed]", _LABELLED.sub(r"\1\2[removed]", text))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
