"""The customer's choice of a language: kept in the browser, and in the ledger for the account that is signed in."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, abort, current_app, g, make_response, redirect, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from portal.customers.visitor import cookie_path, secure, visitor
from portal.ledger import languages as kept
from portal.web import languages
from portal.web.context import services

pages = Blueprint("language", __name__)

_MOST_CHARACTERS: Final = 2000


@pages.post("/language")
def choose() -> Response:
    """Speak `language` from now on; back to `next`, the page the choice was made on."""
    language = request.form.get("language", "")
    if language not in languages.LANGUAGES:
        abort(400)
    account = visitor().account
    if account is not None:
        with services().ledger.write() as connection:
            kept.choose(connection, account.account_id, languages.regional(language), now=services().now())
    response = make_response(redirect(request.script_root + _own_page(request.form.get("next", "")), 303))
    languages.keep(response, language, path=cookie_path(), secure=secure())
    return response


def back_to() -> str:
    """The page that is shown, as `next` takes it: without the prefix the portal lives under."""
    return request.full_path.rstrip("?") if request.method == "GET" else request.path


def _own_page(path: str) -> str:
    """`path` if a page of ours can be asked for there, else the start page's."""
    start = url_for("checkout.catalogue_page").removeprefix(request.script_root) or "/"
    plain = path.isascii() and path.isprintable() and len(path) <= _MOST_CHARACTERS
    if not plain or not path.startswith("/") or path.startswith(("//", "/\\")):
        return start
    try:
        current_app.url_map.bind(request.host).match(path.partition("?")[0], method="GET")
    except (HTTPException, RequestRedirect):  # a form's own address, or none of ours
        return start
    return path


def settle(account_id: str) -> None:
    """Somebody has signed in to the account: what it chose is spoken; else what this browser chose is its choice."""
    with services().ledger.write() as connection:
        found = kept.of_account(connection, account_id)
        if found is not None and found.chosen:
            languages.heard(found.language)
        elif languages.COOKIE in request.cookies:
            kept.choose(connection, account_id, languages.current(), now=services().now())


def remember(response: Response) -> Response:
    """Pages that read no ledger speak the account's language, too: the browser keeps it."""
    account_language = g.get("account_language")
    if account_language and request.cookies.get(languages.COOKIE) != languages.language_of(account_language):
        languages.keep(response, account_language, path=cookie_path(), secure=secure())
    return response
