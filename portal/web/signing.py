"""The signed links the portal mails out: to sign in (once, 15 minutes; into /ops 10), and to
see one order (30 days).

itsdangerous signs them with SECRET_KEY under a salt for each purpose, so that neither passes for the other or for a
session. A sign-in link's e-mail address is sealed, because addresses of links end up in logs and histories.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from itsdangerous import BadData, URLSafeSerializer

from portal.settings import Settings

SIGN_IN_SECONDS: Final = 15 * 60
OPERATOR_SECONDS: Final = 10 * 60
ORDER_SECONDS: Final = 30 * 24 * 3600

#: Paths below PORTAL_BASE_URL; the routes are made of the same constants.
SIGN_IN_PATH: Final = "/sign-in/link/"
OPERATOR_PATH: Final = "/ops/sign-in/link/"
ORDER_PATH: Final = "/o/"


@dataclass(frozen=True)
class SignInLink:
    """What a sign-in link says. `id` is what is remembered once it is used; `expires_at` in seconds since 1970."""

    id: str
    email: str
    contact_id: str | None
    account_id: str
    expires_at: float
    currency: str | None = None  # the account's, where Salesforce has several
    client_id: str | None = None  # the account's in WHMCS, where Salesforce knows it


@dataclass(frozen=True)
class OperatorLink:
    """What an operator's sign-in link says, as SignInLink does."""

    id: str
    email: str
    expires_at: float


@dataclass(frozen=True)
class OrderLink:
    """What an order link says."""

    reference: str
    account_id: str
    expires_at: float


class Links:
    """Makes and reads links."""

    def __init__(self, settings: Settings) -> None:
        keys = signing_keys(settings)
        self._base_url = settings.portal_base_url
        self._sign_in = _serializer(keys, "portal.sign-in-link")
        self._operator = _serializer(keys, "portal.operator-link")
        self._order = _serializer(keys, "portal.order-link")
        self._seal = MultiFernet([Fernet(_sealing_key(key)) for key in reversed(keys)])

    def sign_in(
        self,
        *,
        email: str,
        contact_id: str | None,
        account_id: str,
        now: float,
        currency: str | None = None,
        client_id: str | None = None,
    ) -> str:
        """The whole address of a new sign-in link, good for SIGN_IN_SECONDS from `now` (seconds since 1970)."""
        sealed = self._seal.encrypt(email.encode()).decode()
        content = [secrets.token_urlsafe(12), contact_id, account_id, sealed, int(now) + SIGN_IN_SECONDS]
        content += [currency, client_id]
        token = self._sign_in.dumps(content)
        return f"{self._base_url}{SIGN_IN_PATH}{_text(token)}"

    def read_sign_in(self, token: str) -> SignInLink | None:
        """What a sign-in link says, expired or not; None for one we didn't sign."""
        try:
            nonce, contact_id, account_id, sealed, expires_at, *rest = self._sign_in.loads(token)
            email = self._seal.decrypt(sealed).decode()
        except (BadData, InvalidToken, ValueError, TypeError):
            return None
        return SignInLink(digest("link", nonce), email, contact_id, account_id, float(expires_at), *rest[:2])

    def operator(self, email: str, *, now: float) -> str:
        """The whole address of a new link into /ops, good for OPERATOR_SECONDS from `now` (seconds since 1970)."""
        sealed = self._seal.encrypt(email.encode()).decode()
        token = self._operator.dumps([secrets.token_urlsafe(12), sealed, int(now) + OPERATOR_SECONDS])
        return f"{self._base_url}{OPERATOR_PATH}{_text(token)}"

    def read_operator(self, token: str) -> OperatorLink | None:
        """What an operator's link says, expired or not; None for one we didn't sign."""
        try:
            nonce, sealed, expires_at = self._operator.loads(token)
            email = self._seal.decrypt(sealed).decode()
        except (BadData, InvalidToken, ValueError, TypeError):
            return None
        return OperatorLink(digest("operator-link", nonce), email, float(expires_at))

    def order(self, *, reference: str, account_id: str, now: float) -> str:
        """The whole address of an order link, good for ORDER_SECONDS from `now` (seconds since 1970)."""
        token = self._order.dumps([reference, account_id, int(now) + ORDER_SECONDS])
        return f"{self._base_url}{ORDER_PATH}{_text(token)}"

    def read_order(self, token: str) -> OrderLink | None:
        """What an order link says, expired or not; None for one we didn't sign."""
        try:
            reference, account_id, expires_at = self._order.loads(token)
        except (BadData, ValueError, TypeError):
            return None
        return OrderLink(reference, account_id, float(expires_at))


def digest(purpose: str, secret: str) -> str:
    """What the ledger keeps of a secret: SHA-256 in hex (64 characters), another one for each purpose."""
    return hashlib.sha256(f"{purpose}:{secret}".encode()).hexdigest()


def signing_keys(settings: Settings) -> list[str]:
    """SECRET_KEY_PREVIOUS and SECRET_KEY, the one that signs last; development has one of its own."""
    current = settings.secret_key or _development_key(settings.portal_var_dir / "secret_key")
    return [key for key in (settings.secret_key_previous, current) if key]


def _development_key(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    # Whole or not at all: of processes that start together, one's key stands for all.
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()
    return path.read_text(encoding="ascii")


def _serializer(keys: Sequence[str], salt: str) -> URLSafeSerializer:
    return URLSafeSerializer(list(keys), salt=salt, signer_kwargs={"digest_method": hashlib.sha256})


def _sealing_key(key: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(b"portal.sign-in-link.seal:" + key.encode()).digest())


def _text(token: str | bytes) -> str:
    return token.decode("ascii") if isinstance(token, bytes) else token
