"""How classes of hostile requests are made: as many requests as asked for, and one well-formed twin that must get in.

A request is the exact bytes on the wire. A class makes them wrong in one way and right in every other, so that what
refuses them is the check in question.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from tests.webhooks.callout import Call

Maker = Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Hostile:
    """One class: an endless supply of hostile requests, and how to make a twin that is right."""

    name: str
    requests: Maker
    twin: Callable[[], bytes]
    server: str = "plain"  # which of the harness' servers: plain, or allowlisted
    source: str = "127.0.0.1"  # the address it is sent from
    twin_source: str = "127.0.0.1"
    stall: float = 0.0  # keep the connection open without another byte for so long
    least: int = 20
    primed: bool = False  # the first request is right, and makes those after it wrong: it is the twin

    def some(self, number: int) -> list[bytes]:
        """So many of them, or the class's least."""
        return list(islice(self.requests(), max(number, self.least)))


CLASSES: list[Hostile] = []


def raw(
    path: str,
    headers: dict[str, str] | list[tuple[str, str]],
    body: bytes = b"",
    *,
    method: str = "POST",
    version: str = "HTTP/1.1",
    length: bool = True,
    host: bool = True,
) -> bytes:
    """A request's bytes."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    if host:
        pairs.insert(0, ("Host", "portal.example"))
    if length:
        pairs.append(("Content-Length", str(len(body))))
    head = f"{method} {path} {version}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return head.encode("latin-1") + b"\r\n" + body


def right(call: Call | None = None, **headers: str) -> bytes:
    """A request that must get in."""
    call = call or Call()
    return raw(call.path, {**call.headers(), "Prefer": "respond-async", **headers}, call.body())


def with_headers(call: Call, body: bytes | None = None, drop: tuple[str, ...] = (), **changed: str) -> bytes:
    """A call with headers changed (underscores for hyphens) or dropped; signed over what is sent."""
    sent = call.body() if body is None else body
    headers = {**call.headers(sent), "Prefer": "respond-async"}
    for name in drop:
        headers.pop(name)
    for name, value in changed.items():
        headers[name.replace("_", "-")] = value
    return raw(call.path, headers, sent)


def signed_body(body: bytes, call: Call | None = None) -> bytes:
    """Any body, rightly signed."""
    return with_headers(call or Call(), body)


def hostile(name: str, twin: Callable[[], bytes] = right, **more: Any) -> Callable[[Maker], Maker]:
    """Register a class."""

    def register(maker: Maker) -> Maker:
        CLASSES.append(Hostile(name, maker, twin, **more))
        return maker

    return register


def per_call(bends: Sequence[Callable[[Call], bytes]]) -> Maker:
    """Each bend in turn, on a fresh call each time."""
    return lambda: (bend(Call()) for bend in cycle(bends))


def bent(name: str, bends: Sequence[Callable[[Call], bytes]], **more: Any) -> None:
    """Register a class that is a list of bends."""
    hostile(name, **more)(per_call(bends))


def bodies(name: str, make: Sequence[Callable[[Call], bytes]], **more: Any) -> None:
    """Register a class of rightly signed bodies."""
    bent(name, [lambda call, one=one: signed_body(one(call), call) for one in make], **more)


def told(call: Call, **changed: Any) -> bytes:
    """The call's body with fields changed."""
    return json.dumps({**json.loads(call.body()), **changed}).encode()


def chunked(call: Call | None = None, size: int = 50, extension: str = "") -> bytes:
    """A request whose body comes in chunks, well-formed."""
    call = call or Call()
    body = call.body()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    sent = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece) for piece in pieces) + b"0\r\n\r\n"
    headers = {**call.headers(), "Prefer": "respond-async", "Transfer-Encoding": "chunked"}
    return raw(call.path, headers, sent, length=False)


def after_its_twin(first: bytes, make: Callable[[], bytes]) -> Iterator[bytes]:
    """A twin that must get in, and then what it has made wrong."""
    yield first
    while True:
        yield make()
