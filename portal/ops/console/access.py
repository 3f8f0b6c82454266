"""Who may use /ops: the addresses of OPS_EMAILS, each with a session of its own that no customer's cookie opens.

Whoever is removed from the setting, or made read-only, is so at their next request: each one is held against it.
"""

from __future__ import annotations

import secrets
from typing import Final

from flask import Blueprint, Response, current_app, g, make_response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from portal.ledger import events, operator_sessions
from portal.settings.kinds import Operator
from portal.web.context import public_path, services
from portal.web.problems import Problem, wants_json
from portal.web.signing import digest

COOKIE: Final = "portal_operator"
#: A working day; a customer's session lasts a week.
SESSION_SECONDS: Final = 8 * 3600


def operator() -> Operator | None:
    """Who is signed in; one ledger query at most for each request."""
    if "operator" not in g:
        g.operator = _read_cookie()
    found: Operator | None = g.operator
    return found


def named(email: str) -> Operator | None:
    """The operator of this address, compared whole; None for everybody else's."""
    return next((each for each in services().settings.ops_emails if each.address == email), None)


def guard(blueprint: Blueprint) -> None:
    """Nobody gets past without a session; nobody who only looks gets past a POST that isn't a search."""
    blueprint.before_request(_require_operator)


def may_look_by_post(view: object) -> None:
    """Mark a view whose POST changes nothing: it searches for what must not stand in an address."""
    view.changes_nothing = True  # type: ignore[attr-defined]


def _require_operator() -> AnyResponse | None:
    who = operator()
    if who is None:
        return to_sign_in()
    if request.method in ("GET", "HEAD", "OPTIONS") or who.may_act:
        return None
    view = current_app.view_functions.get(request.endpoint or "")
    if getattr(view, "changes_nothing", False):
        return None
    raise Problem(403, "read_only", "You may look, not act", "Your address stands in OPS_EMAILS with `:read`.")


def to_sign_in() -> AnyResponse:
    """Send the browser to the operators' sign-in page; htmx loads it as a whole page; programs get a 401."""
    target = url_for("ops_sign_in.ask")
    if request.headers.get("HX-Request") or wants_json():
        response = make_response("", 401)
        response.headers["HX-Redirect"] = target
        return response
    return redirect(target, 303)


def sign_in(response: Response, email: str) -> None:
    """Sign this browser in for SESSION_SECONDS; its earlier session ends."""
    secret = secrets.token_urlsafe(32)
    previous = request.cookies.get(COOKIE)
    now = services().now()
    with services().ledger.write() as connection:
        if previous:
            operator_sessions.end(connection, digest("operator", previous))
        operator_sessions.insert(
            connection, digest("operator", secret), email, now=now, expires_at=now + SESSION_SECONDS
        )
        events.record(connection, "operator_signed_in", now=now, actor=email[:120])
    response.set_cookie(
        COOKIE, secret, max_age=SESSION_SECONDS, path=_path(), secure=_secure(), httponly=True, samesite="Lax"
    )


def sign_out(response: Response) -> None:
    """Sign this browser out."""
    secret = request.cookies.get(COOKIE)
    if secret:
        with services().ledger.write() as connection:
            operator_sessions.end(connection, digest("operator", secret))
    response.delete_cookie(COOKIE, path=_path(), secure=_secure(), httponly=True, samesite="Lax")


def _read_cookie() -> Operator | None:
    secret = request.cookies.get(COOKIE)
    if not secret:
        return None
    with services().ledger.read() as connection:
        email = operator_sessions.email_of(connection, digest("operator", secret), now=services().now())
    return None if email is None else named(email)


def _path() -> str:
    return public_path("/ops")


def _secure() -> bool:
    return services().settings.portal_base_url.startswith("https://")
