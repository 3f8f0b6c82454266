"""Signing in to Salesforce: a token by the JWT bearer flow, shared by all calls and renewed when it was refused."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from portal.clients.http import UpstreamClient, is_loopback
from portal.clients.salesforce import errors
from portal.clients.transport import Session
from portal.domain.ids import salesforce_id_18

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_SECONDS: Final = 180  # Salesforce takes at most three to five minutes


@dataclass(frozen=True)
class Token:
    """An access token and where it is good. `repr` shows neither."""

    access_token: str = field(repr=False)
    instance_url: str
    organization_id: str | None = None  # 18 characters


class TokenStore(Protocol):
    """Where the token is kept between calls; one per process by default, one for all of them if the caller has one."""

    def get(self) -> Token | None:
        """The token last set."""

    def set(self, token: Token) -> None:
        """Keep `token` instead of the one before."""

    def lock(self) -> AbstractContextManager[Any]:
        """Held by the one caller that fetches a new token."""


class ProcessTokenStore:
    """The token of this process, shared by its threads."""

    def __init__(self) -> None:
        self._token: Token | None = None
        self._lock = threading.Lock()

    def get(self) -> Token | None:
        """The token, while there is one."""
        return self._token

    def set(self, token: Token) -> None:
        """Keep it for the other threads."""
        self._token = token

    def lock(self) -> AbstractContextManager[Any]:
        """Held by the thread that fetches one."""
        return self._lock


class Authenticator:
    """Fetches and shares the token. Rules: RFC 7523, and Salesforce Help, "OAuth 2.0 JWT Bearer Flow for
    Server-to-Server Integration". Several threads may use it; one of them fetches, the others wait for what it gets.
    """

    def __init__(
        self,
        caller: UpstreamClient,
        *,
        login_url: str,
        audience: str,
        client_id: str,
        username: str,
        private_key: bytes,
        store: TokenStore,
        seconds: float,
    ) -> None:
        """`caller` makes the HTTP calls, each within `seconds`; `private_key`: PEM of an unencrypted RSA key.

        Raises ValueError, naming the setting, when the key is none.
        """
        self._caller = caller
        self._login_url = login_url.rstrip("/")
        self._audience = audience
        self._client_id = client_id
        self._username = username
        self._key = _rsa_key(private_key)
        self._store = store
        self._seconds = seconds

    def token(self, refused: Token | None = None) -> Token:
        """The shared token, or a new one where there is none or it is the one that was `refused`.

        Raises UpstreamError.
        """
        token = self._store.get()
        if token is None or token == refused:
            with self._store.lock():
                token = self._store.get()
                if token is None or token == refused:
                    token = self._fetch()
                    self._store.set(token)
        return token

    def renew(self) -> Token:
        """Fetch a new token, whatever is cached, and share it. Raises UpstreamError."""
        with self._store.lock():
            token = self._fetch()
            self._store.set(token)
        return token

    def hidden(self) -> list[str]:
        """What no error message may repeat: our user, consumer key and token."""
        token = self._store.get()
        return [self._username, self._client_id, *([token.access_token] if token else [])]

    def _fetch(self) -> Token:
        claims = {
            "iss": self._client_id,
            "sub": self._username,
            "aud": self._audience,
            "exp": int(time.time()) + ASSERTION_SECONDS,
        }
        assertion = jwt.encode(claims, self._key, algorithm="RS256")

        def run(session: Session) -> Token:
            response = session.post(
                f"{self._login_url}/services/oauth2/token", data={"grant_type": GRANT, "assertion": assertion}
            )
            return self._read(response)

        return self._caller.exchange("sign_in", self._seconds, run, effect=False)

    def _read(self, response: requests.Response) -> Token:
        answer = _json_object(response)
        if response.status_code == 200 and answer.get("access_token") and answer.get("instance_url"):
            address = str(answer["instance_url"]).rstrip("/")
            parts = urlsplit(address)
            host = parts.hostname or ""
            if host and (parts.scheme == "https" or parts.scheme == "http" and is_loopback(host)):
                return Token(str(answer["access_token"]), address, organization_of(answer.get("id")))
            raise errors.unexpected("the sign-in named an instance_url that is no https address", effect=False)
        code = str(answer.get("error") or "")
        if not code or response.status_code >= 500 or response.status_code == 429:
            raise errors.not_useful(response.status_code, effect=False)
        description = str(answer.get("error_description") or "")
        raise errors.sign_in_refusal(code, description, response.status_code, hidden=self.hidden())


def organization_of(identity: object) -> str | None:
    """The org's id (18 characters) in the sign-in's `id`, https://login.salesforce.com/id/<org>/<user>; else None."""
    parts = urlsplit(str(identity or "")).path.split("/")
    try:
        return salesforce_id_18(parts[2]) if len(parts) > 2 else None
    except ValueError:
        return None


def _json_object(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _rsa_key(pem: bytes) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("SF_PRIVATE_KEY_PATH must name an unencrypted RSA private key in PEM form")
    return key
