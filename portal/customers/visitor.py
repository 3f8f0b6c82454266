"""Who is looking: the browser's cookies turned into what it may see.

A cookie holds a random secret, the ledger its digest. Signing in opens an account; an order link out of an e-mail opens
that one order, in a cookie of its own, so that it neither ends nor widens a sign-in.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from flask import Response, current_app, g, request
from sqlalchemy.engine import Connection

from portal.ledger import sessions
from portal.ledger.orders import Order
from portal.ledger.sessions import Session
from portal.web.context import services
from portal.web.languages import heard
from portal.web.signing import SignInLink, digest

ACCOUNT_COOKIE: Final = "portal_session"
ORDER_COOKIE: Final = "portal_order_"
ACCOUNT_SECONDS: Final = 7 * 24 * 3600
ORDER_SECONDS: Final = 24 * 3600

_MOST_ORDER_COOKIES: Final = 10


@dataclass(frozen=True)
class Visitor:
    """What this browser may see: an account, single orders, or nothing."""

    account: Session | None
    single_orders: tuple[Session, ...] = ()

    @property
    def sees_any(self) -> bool:
        """Whether there may be an order that is theirs."""
        return self.account is not None or bool(self.single_orders)

    def may_see(self, order: Order) -> bool:
        """Whether this order is theirs."""
        if self.account is not None and self.account.account_id == order.account_id:
            return True
        return any(
            each.order_reference == order.reference and each.account_id == order.account_id
            for each in self.single_orders
        )


def visitor() -> Visitor:
    """The visitor of this request; one ledger query at most, none without a cookie of ours."""
    if "visitor" not in g:
        if not has_cookies():
            g.visitor = Visitor(None)
        else:
            with services().ledger.read() as connection:
                come(visitor_of(connection, session_ids(), now=services().now()))
    found: Visitor = g.visitor
    return found


def come(found: Visitor) -> None:
    """This is the visitor of this request: it is spoken to in its language."""
    g.visitor = found
    if found.account is not None:
        heard(found.account.language)


def has_cookies() -> bool:
    """Whether this request has a cookie of ours: else nobody is signed in, and the ledger needn't be asked."""
    return any(name == ACCOUNT_COOKIE or name.startswith(ORDER_COOKIE) for name in request.cookies)


def session_ids() -> dict[str, bool]:
    """This request's session ids, and whether each is an account's."""
    wanted: dict[str, bool] = {}
    secret = request.cookies.get(ACCOUNT_COOKIE)
    if secret:
        wanted[digest("session", secret)] = True
    names = [name for name in request.cookies if name.startswith(ORDER_COOKIE)]
    for name in names[-_MOST_ORDER_COOKIES:]:
        wanted[digest("session", request.cookies[name])] = False
    return wanted


def visitor_of(connection: Connection, wanted: Mapping[str, bool], *, now: float) -> Visitor:
    """Who has these `session_ids` (now: seconds since 1970)."""
    return visitor_with(sessions.find(connection, wanted, now=now), wanted) if wanted else Visitor(None)


def visitor_with(found: Collection[Session], wanted: Mapping[str, bool]) -> Visitor:
    """Who has these `session_ids`, of which those were found."""
    account = next((each for each in found if wanted[each.id] and each.order_reference is None), None)
    singles = tuple(each for each in found if not wanted[each.id] and each.order_reference is not None)
    return Visitor(account, singles)


def sign_in(response: Response, link: SignInLink) -> Session:
    """Sign this browser in to an account for ACCOUNT_SECONDS; its earlier session ends."""
    previous = request.cookies.get(ACCOUNT_COOKIE)
    session, secret = _new_session(link.email, link.contact_id, link.account_id, None, ACCOUNT_SECONDS)
    session = replace(session, currency=link.currency, client_id=link.client_id)
    with services().ledger.write() as connection:
        if previous:
            sessions.end(connection, digest("session", previous))
        sessions.insert(connection, session)
    _set_cookie(response, ACCOUNT_COOKIE, secret, ACCOUNT_SECONDS)
    g.visitor = Visitor(session)
    return session


def open_order(response: Response, order: Order) -> None:
    """Let this browser see one order for ORDER_SECONDS, by a cookie of its own."""
    session, secret = _new_session(order.email or "", None, order.account_id, order.reference, ORDER_SECONDS)
    with services().ledger.write() as connection:
        sessions.insert(connection, session)
    name = ORDER_COOKIE + digest("order", order.reference)[:8]
    _forget_oldest(response, name)
    _set_cookie(response, name, secret, ORDER_SECONDS)


def _forget_oldest(response: Response, new: str) -> None:
    """Make room: servers refuse a Cookie header of more than 8 KB. Browsers send the oldest first (RFC 6265, 5.4)."""
    others = [name for name in request.cookies if name.startswith(ORDER_COOKIE) and name != new]
    for name in others[: max(0, len(others) - _MOST_ORDER_COOKIES + 1)]:
        response.delete_cookie(name, path=cookie_path(), secure=secure(), httponly=True, samesite="Lax")


def sign_out(response: Response, *, everywhere: bool = False) -> None:
    """Sign this browser out, with the single orders it may see; or every browser of the same address."""
    here = visitor()
    with services().ledger.write() as connection:
        if everywhere and here.account is not None:
            sessions.end_everywhere(connection, here.account.email)
        for each in (here.account, *here.single_orders):
            if each is not None:
                sessions.end(connection, each.id)
    for name in request.cookies:
        if name == ACCOUNT_COOKIE or name.startswith(ORDER_COOKIE):
            response.delete_cookie(name, path=cookie_path(), secure=secure(), httponly=True, samesite="Lax")
    g.visitor = Visitor(None)


def cookie_path() -> str:
    """The path prefix the portal lives under."""
    return urlsplit(services().settings.portal_base_url).path or "/"


def secure() -> bool:
    """Whether customers reach us over https, so that cookies must never go over http."""
    return bool(current_app.config["SESSION_COOKIE_SECURE"])


def _new_session(
    email: str,
    contact_id: str | None,
    account_id: str,
    order_reference: str | None,
    seconds: int,
) -> tuple[Session, str]:
    secret = secrets.token_urlsafe(32)
    now = services().now()
    session = Session(digest("session", secret), email, contact_id, account_id, order_reference, now, now + seconds)
    return session, secret


def _set_cookie(response: Response, name: str, secret: str, seconds: int) -> None:
    response.set_cookie(
        name, secret, max_age=seconds, path=cookie_path(), secure=secure(), httponly=True, samesite="Lax"
    )
