"""Text that comes from outside, read without a fault: a header or parameter may hold anything.

The standard library's readers raise ValueError for some of it (`urlsplit("http://[")`), and PostgreSQL takes no NUL and
no lone surrogate in a text. Each reader here gives None for what it can't read, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from flask import abort, request

#: Host and port of RFC 3986's authority, without user: a name or IPv4 address, or an IPv6 address in brackets.
_HOST: Final = re.compile(r"([A-Za-z0-9._~%-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?", re.ASCII)
_ORIGIN: Final = re.compile(r"https?://([^/?#@\\\s]{1,300})", re.ASCII)
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def host_and_port(text: str) -> tuple[str, int | None] | None:
    """What a Host header names: the host in lower case without brackets, and the port if one is named; else None."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    port = int(match[2]) if match[2] else None
    return None if port is not None and port > 65_535 else (match[1].strip("[]").lower(), port)


def host_of_origin(text: str) -> str | None:
    """Host and port of an Origin header (RFC 6454: `https://host:port`) as they stand there; None for all else."""
    match = _ORIGIN.fullmatch(text)
    return None if match is None else match[1]


def storable(texts: Iterable[str]) -> bool:
    """Whether every database takes these texts: no NUL, no lone surrogate."""
    return not any(_UNSTORABLE.search(text) for text in texts)


def refuse_unstorable() -> None:
    """Refuse a request that no database takes: by its address or query (404), or by a form field (400)."""
    args = request.args
    asked = [*(request.view_args or {}).values(), *args, *(value for values in args.listvalues() for value in values)]
    if not storable(map(str, asked)):
        abort(404)
    if request.method == "POST":
        form = request.form
        if not storable([*form, *(value for values in form.listvalues() for value in values)]):
            abort(400, "A field holds characters that no text has.")
