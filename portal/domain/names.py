"""Domain and host names: as people write them, and as they are sent to the other sides (IDNA 2008, RFC 5891)."""

from __future__ import annotations

import re
from typing import Final

import idna

_LABEL: Final = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_HOSTNAME: Final = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*(?!\d+$){_LABEL}")


def to_ascii(text: str) -> str | None:
    """A host name as it is sent: lower case, other scripts as xn--…; None for what is none.

    Mapped as UTS 46 does without its transition: `faß.de` isn't `fass.de`, and joiners stay where a script needs them.
    """
    name = text.strip().rstrip(".").lower()
    if not name or len(name) > 253:
        return None
    if not name.isascii() or "xn--" in name:
        try:
            name = idna.encode(name, uts46=True, std3_rules=True, transitional=False).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    return name if _HOSTNAME.fullmatch(name) else None


def to_shown(name: str | None) -> str:
    """A host name as people write it: `xn--fa-hia.de` is "faß.de"; what can't be read so stays as it is."""
    if not name or "xn--" not in name:
        return name or ""
    try:
        return str(idna.decode(name))
    except (idna.IDNAError, UnicodeError):
        return name
