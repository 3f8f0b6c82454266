"""The kinds of settings: how one variable's text becomes a value. Each raises ValueError with what it wants instead."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificate


@dataclass(frozen=True)
class Operator:
    """Somebody who may use /ops: `address` in lower case, compared whole; may_act False: only looks."""

    address: str
    may_act: bool


IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def text(raw: str) -> str:
    """Any text."""
    return raw


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def parse(raw: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", raw) or not low <= int(raw) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(raw)

    return parse


def decimal(low: float, high: float) -> Callable[[str], float]:
    """A number from `low` to `high`, with six decimal places at most."""

    def parse(raw: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", raw) or not low <= float(raw) <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(raw)

    return parse


def choice(*words: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(raw: str) -> str:
        if raw not in words:
            raise ValueError(f"must be one of: {', '.join(words)}")
        return raw

    return parse


def boolean(raw: str) -> bool:
    """1 or 0, or the words for it."""
    if raw.lower() in ("1", "true", "yes", "on"):
        return True
    if raw.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be 1 or 0")


def words(raw: str) -> tuple[str, ...]:
    """Texts separated by commas; spaces around them don't count."""
    return tuple(word.strip() for word in raw.split(",") if word.strip())


def networks(raw: str) -> tuple[IpNetwork, ...]:
    """IP addresses and CIDR blocks separated by commas."""
    networks = []
    for word in words(raw):
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ValueError(f"has {word!r}, which is no IP address or CIDR block ({error})") from None
    return tuple(networks)


def emails(raw: str) -> tuple[str, ...]:
    """E-mail addresses separated by commas."""
    addresses = words(raw)
    for address in addresses:
        email(address)
    return addresses


def email(raw: str) -> str:
    """One e-mail address: whether it exists only a mail can tell."""
    if not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", raw):
        raise ValueError(f"has {raw!r}, which is no e-mail address")
    return raw


def operators(raw: str) -> tuple[Operator, ...]:
    """`name@host` (acts) and `name@host:read` (only looks), separated by commas; nobody twice."""
    found: dict[str, Operator] = {}
    for word in words(raw):
        address, colon, role = word.partition(":")
        if colon and role != "read":
            raise ValueError(f"has {word!r}: after the address only `:read` may stand")
        operator = Operator(email(address).lower(), may_act=not colon)
        if operator.address in found:
            raise ValueError(f"names {operator.address} twice: say once whether they act or only look")
        found[operator.address] = operator
    return tuple(found.values())


def schedule(raw: str) -> tuple[float, ...]:
    """Seconds separated by commas, at least one."""
    pauses = words(raw)
    if not pauses or not all(re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", pause) for pause in pauses):
        raise ValueError("must be seconds separated by commas, such as 5,30,120")
    return tuple(float(pause) for pause in pauses)


def rate(raw: str) -> str:
    """A rate as flask-limiter writes it."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour|day)", raw):
        raise ValueError("must be a rate such as 600/minute (per second, minute, hour or day)")
    return raw


def colour(raw: str) -> str:
    """A colour as #rrggbb."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", raw):
        raise ValueError("must be a colour such as #0b5fff")
    return raw


def readable_file(raw: str) -> Path:
    """The path of a file that can be read."""
    path = Path(raw)
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"names a file that can't be read ({error.strerror}): {raw}") from None
    return path


#: What browsers show, by the end of a file's name.
IMAGES = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
MOST_IMAGE_BYTES = 256 * 1024


def image_file(raw: str) -> Path:
    """The path of an image that can be read."""
    path = readable_file(raw)
    if path.suffix.lower() not in IMAGES:
        raise ValueError(f"must name an SVG, PNG, WebP or JPEG file: {raw}")
    if path.stat().st_size > MOST_IMAGE_BYTES:
        raise ValueError(f"names a file of more than {MOST_IMAGE_BYTES // 1024} KB: {raw}")
    return path


def path(raw: str) -> Path:
    """A path, whether there is something or not."""
    return Path(raw)


def certificate_file(raw: str) -> Path:
    """A PEM file that holds a certificate."""
    path = readable_file(raw)
    try:
        load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise ValueError(f"must name a file with a certificate in PEM form, which this isn't: {path}") from None
    return path
