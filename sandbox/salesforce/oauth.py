"""The token endpoint: JWT bearer flow with a real signature check.

RS256 is verified by hand (RFC 8017, 8.2.2) because importing a cryptography package costs more memory than the rest of
the sandbox.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
AUDIENCES = ("https://login.salesforce.com", "https://test.salesforce.com")
MAX_LIFETIME = 300
CLOCK_SKEW = 15
#: Salesforce's own CLI writes `exp` in milliseconds, a date far beyond this one in seconds, and is let in.
MILLISECONDS = 100_000_000_000
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class TokenError(Exception):
    """What the token endpoint refuses: `error` and `error_description`."""

    def __init__(self, error: str, description: str):
        super().__init__(description)
        self.body = {"error": error, "error_description": description}


def _der(data: bytes, start: int) -> tuple[int, int, int]:
    """The tag, content start and end of the DER element at `start`."""
    tag, length, begin = data[start], data[start + 1], start + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(data[begin : begin + count], "big")
        begin += count
    return tag, begin, begin + length


def _children(data: bytes, start: int) -> list[int]:
    """Where the elements inside the one at `start` begin."""
    _, position, end = _der(data, start)
    found = []
    while position < end:
        found.append(position)
        position = _der(data, position)[2]
    return found


def load_public_key(path: Path) -> tuple[int, int]:
    """(modulus, exponent) of an RSA public key or certificate in PEM."""
    text = path.read_text(encoding="ascii")
    label = "CERTIFICATE" if "BEGIN CERTIFICATE" in text else "PUBLIC KEY"
    body = text.split(f"-----BEGIN {label}-----")[1].split(f"-----END {label}-----")[0]
    data = base64.b64decode("".join(body.split()))
    start = 0
    if label == "CERTIFICATE":
        parts = _children(data, _children(data, 0)[0])
        start = parts[6 if data[parts[0]] == 0xA0 else 5]
    _, begin, end = _der(data, _children(data, start)[1])
    key = data[begin + 1 : end]
    modulus, exponent = (int.from_bytes(key[slice(*_der(key, place)[1:])], "big") for place in _children(key, 0))
    return modulus, exponent


def _decode(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def verify(assertion: str, key: tuple[int, int]) -> dict[str, Any] | None:
    """The claims of a correctly signed RS256 token, else None."""
    try:
        head, claims, signature = assertion.split(".")
        if json.loads(_decode(head)).get("alg") != "RS256":
            return None
        modulus, exponent = key
        size = (modulus.bit_length() + 7) // 8
        raw = _decode(signature)
        if len(raw) != size:
            return None
        found = pow(int.from_bytes(raw, "big"), exponent, modulus).to_bytes(size, "big")
        digest = hashlib.sha256(f"{head}.{claims}".encode()).digest()
        expected = b"\0\1" + b"\xff" * (size - 54) + b"\0" + SHA256_PREFIX + digest
        result = json.loads(_decode(claims))
        return result if hmac.compare_digest(found, expected) and isinstance(result, dict) else None
    except (ValueError, AttributeError, OverflowError):
        return None


def check(form: dict[str, str], settings: dict[str, Any]) -> str:
    """The username a token may be given to; TokenError as the real endpoint answers."""
    if form.get("grant_type") != GRANT:
        raise TokenError("unsupported_grant_type", "grant type not supported")
    if not settings["public_key"]:
        raise TokenError("invalid_client_id", "client identifier invalid")
    claims = verify(form.get("assertion", ""), load_public_key(Path(settings["public_key"])))
    if claims is None:
        raise TokenError("invalid_grant", "invalid assertion")
    if claims.get("iss") != settings["client_id"]:
        raise TokenError("invalid_client_id", "client identifier invalid")
    if settings["app_blocked"]:
        raise TokenError("invalid_app_access", "user is not admin approved to access this app")
    audience = claims.get("aud")
    allowed = [*AUDIENCES, *([settings["audience"]] if settings["audience"] else [])]
    if not isinstance(audience, str) or audience.rstrip("/") not in [each.rstrip("/") for each in allowed]:
        raise TokenError("invalid_grant", "audience is invalid")
    expires, present = claims.get("exp"), time.time()
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise TokenError("invalid_grant", "invalid assertion")
    if present + MAX_LIFETIME + CLOCK_SKEW < expires < MILLISECONDS:
        raise TokenError("invalid_grant", "invalid assertion")
    if expires <= present:
        raise TokenError("invalid_grant", "expired authorization code")
    if claims.get("sub") != settings["username"] or not settings["user_approved"]:
        raise TokenError("invalid_grant", "user hasn't approved this consumer")
    return str(claims["sub"])
