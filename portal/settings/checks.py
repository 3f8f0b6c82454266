"""What is wrong with several settings together, or with what they name."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def holds_rsa_key(path: Path) -> bool:
    """Whether a file is the PEM of an RSA private key without a passphrase."""
    try:
        return isinstance(load_pem_private_key(path.read_bytes(), None), RSAPrivateKey)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return False


def loopback(url: str) -> bool:
    """Whether a web address is one of this machine alone."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def two_slips_apart(name: str, other: str) -> bool:
    """Whether two slips of a finger (a letter lost, added, exchanged or swapped) lead from one name to the other; one,
    where the names are too short to be told from another program's.
    """
    allowed = 1 if len(other) < 8 else 2
    if abs(len(name) - len(other)) > allowed or not set(name) & set(other):
        return False
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(name, 1):
        last, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and name[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1] <= allowed


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
