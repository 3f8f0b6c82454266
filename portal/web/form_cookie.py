"""The signed cookie of forms and basket, which never grows beyond what browsers keep.

They drop a cookie of more than 4,096 bytes without a word, and with it the token that every form needs. What may be
forgotten goes first; the token stays. The basket bounds itself (portal.customers.basket), so that it isn't touched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, Final

from flask import Flask
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask.wrappers import Request, Response
from itsdangerous import URLSafeTimedSerializer
from werkzeug.http import dump_cookie

log = logging.getLogger("portal.web")

#: A whole Set-Cookie header; RFC 6265, 6.1 counts name, value and attributes.
MOST_BYTES: Final = 4093
#: In the order in which they are forgotten: where to go after signing in, the address on "Check your e-mail", messages.
FORGETTABLE: Final = ("next", "asked_for", "_flashes", "basket")


class FormSession(SessionMixin):
    """What the cookie says, read when it is first asked for: the polls of an order's page never do."""

    def __init__(self, read: Callable[[], SessionMixin | None]) -> None:
        self._read = read
        self.modified = False

    @cached_property
    def _content(self) -> dict[str, Any]:
        """A basket that another version left in a shape unknown here is forgotten."""
        content = dict(self._read() or {})
        if not _basket_is_whole(content.get("basket", [])):
            del content["basket"]
            self.modified = True
        return content

    def __getitem__(self, name: str) -> Any:
        return self._content[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._content[name] = value
        self.modified = True

    def __delitem__(self, name: str) -> None:
        del self._content[name]
        self.modified = True

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


class FormCookie(SecureCookieSessionInterface):
    """Flask's own, made to fit."""

    def __init__(self) -> None:
        self._signer: tuple[object, URLSafeTimedSerializer | None] = (None, None)

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        """Flask's own, made once for each secret key instead of once or twice a request."""
        keys = (app.secret_key, app.config["SECRET_KEY_FALLBACKS"])
        if self._signer[0] != keys:
            self._signer = (keys, super().get_signing_serializer(app))
        return self._signer[1]

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Leave out what doesn't fit, then save as Flask does."""
        if not session.accessed and not session.modified:  # and so wasn't read, either
            return
        for name in FORGETTABLE:
            if not session.modified or self.size(app, session) <= MOST_BYTES:
                break
            if session.pop(name, None) is not None:
                log.warning("The form cookie was full", extra={"leftOut": name})
        super().save_session(app, session, response)

    def size(self, app: Flask, session: SessionMixin) -> int:
        """Bytes of the cookie with its attributes."""
        signer = self.get_signing_serializer(app)
        assert signer is not None, "the application has a SECRET_KEY"
        return len(
            dump_cookie(
                self.get_cookie_name(app),
                str(signer.dumps(dict(session))),
                expires=self.get_expiration_time(app, session),
                path=self.get_cookie_path(app),
                domain=self.get_cookie_domain(app),
                secure=self.get_cookie_secure(app),
                httponly=self.get_cookie_httponly(app),
                samesite=self.get_cookie_samesite(app),
                max_size=0,
            )
        )

    def open_session(self, app: Flask, request: Request) -> FormSession:  # type: ignore[override]  # Flask's is a dict
        """Flask's own, but nothing is read yet."""
        return FormSession(partial(super().open_session, app, request))


def _basket_is_whole(rows: object) -> bool:
    return isinstance(rows, list) and all(
        isinstance(row, list | tuple) and len(row) == 4 and isinstance(row[0], str) and isinstance(row[1], int)
        for row in rows
    )
