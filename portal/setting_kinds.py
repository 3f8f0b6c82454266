"""The kinds of settings: how one variable's text becomes a value. Each raises ValueError with what it wants instead."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography.x509 import load_pem_x509_certificate

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def text(raw: str) -> str:
    """Any text."""
    return raw


def url(*schemes: str) -> Callable[[str], str]:
    """An address of one of these schemes."""

    def parse(raw: str) -> str:
        parts = urlsplit(raw)
        if parts.scheme not in schemes or not (parts.netloc or parts.path):
            raise ValueError(f"must be an address that starts with {' or '.join(s + '://' for s in schemes)}")
        return raw

    return parse


def web_url(raw: str) -> str:
    """An http(s) address, without the slash at its end."""
    value = url("http", "https")(raw).rstrip("/")
    parts = urlsplit(value)
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("must be a plain http:// or https:// address without user, query or fragment")
    return value


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


#: What says when alerts are told, and so is of no use without anybody they are told to.
_WHEN_TOLD: Final = (
    "ALERT_FAILURE_RATE",
    "ALERT_WINDOW_SECONDS",
    "ALERT_MINIMUM_ATTEMPTS",
    "ALERT_AFTER_SECONDS",
    "ALERT_STUCK_SECONDS",
    "ALERT_CERTIFICATE_DAYS",
)


def half_alerting(environ: Mapping[str, str], *, told: bool, mail: bool) -> list[str]:
    """A sentence for each thing set of the alerts that would never be told, or couldn't be.

    told: whether there is anybody to tell; mail: whether mails can be sent.
    """
    faults = []
    if environ.get("ALERT_EMAILS") and not mail:
        faults.append("ALERT_EMAILS is set although SMTP_URL isn't: no alert could be sent")
    secret = environ.get("SECURITY_ALERT_SECRET") or environ.get("SECURITY_ALERT_SECRET_FILE")
    if secret and not (environ.get("SECURITY_ALERT_WEBHOOK") or environ.get("SECURITY_ALERT_WEBHOOK_FILE")):
        faults.append("SECURITY_ALERT_SECRET is set although SECURITY_ALERT_WEBHOOK isn't: it signs nothing")
    if not told:
        faults += [
            f"{name} is set, but nobody would be told: set SECURITY_ALERT_WEBHOOK or ALERT_EMAILS as well"
            for name in _WHEN_TOLD
            if environ.get(name)
        ]
    return faults


def installed(module: str) -> bool:
    """Whether a module can be imported here; imports nothing but its parents."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
