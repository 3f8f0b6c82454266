"""Signing in to /ops: a fresh link by e-mail, for the addresses of OPS_EMAILS. A customer's link opens nothing here.

As for customers: the answer is the same for every address, opening the link changes nothing, its button does, once.
"""

from __future__ import annotations

import re
from typing import Final

from flask import Blueprint, make_response, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from portal.customers import limits
from portal.ledger import outbox, sessions
from portal.ops.console import access
from portal.web.context import client_key, services
from portal.web.signing import OPERATOR_PATH, Links, OperatorLink

pages = Blueprint("ops_sign_in", __name__)

_EMAIL: Final = re.compile(r"[^@\s<>\"',;:\\()\[\]\x00-\x1f\x7f]{1,64}@[^@\s<>\"',;:\\()\[\]\x00-\x1f\x7f]{1,190}")


@pages.get("/ops/sign-in")
def ask() -> Response | str:
    """The form that asks for an e-mail address."""
    if access.operator() is not None:
        return redirect(url_for("ops_now.show"), 303)
    return render_template("ops/sign_in.html", fault="", email="")


@pages.post("/ops/sign-in")
def send_link() -> Response | tuple[str, int]:
    """Queue a link for the address; the answer is the same for every address."""
    email = request.form.get("email", "").strip().lower()
    if not _EMAIL.fullmatch(email):
        fault = "Enter an e-mail address, like name@example.com"
        return render_template("ops/sign_in.html", fault=fault, email=email[:254]), 400
    here = services()
    asks = here.settings.sign_in_asks_per_hour
    if limits.too_often("ops-sign-in-from", client_key(), most=asks, seconds=3600):
        return render_template("ops/too_often.html"), 429
    if limits.too_often("ops-sign-in", "all", most=here.settings.sign_in_total_per_hour, seconds=3600):
        return render_template("ops/too_often.html"), 429
    mailed = not limits.too_often("ops-sign-in-to", email, most=here.settings.sign_in_mails_per_hour, seconds=3600)
    with here.ledger.write() as connection:
        # For every address a row: whether it is an operator's is found out when the mail is made.
        payload = {"template": "operator_sign_in", "address": email}
        message = outbox.put(connection, outbox.SIGN_IN, "operator-sign-in", payload, now=here.now())
        if not mailed and message is not None:
            outbox.dead(connection, message, error="asked for too often")
    return redirect(url_for("ops_sign_in.sent"), 303)


@pages.get("/ops/sign-in/sent")
def sent() -> str:
    """Where to look now."""
    return render_template("ops/sign_in_sent.html")


@pages.get(f"{OPERATOR_PATH}<token>")
def open_link(token: str) -> str | tuple[str, int]:
    """Show whose link it is and a button. Consumes nothing."""
    link = _usable(token)
    if link is None:
        return render_template("ops/sign_in_over.html"), 410
    return render_template("ops/sign_in_confirm.html", link=link, token_text=token)


@pages.post(f"{OPERATOR_PATH}<token>")
def use_link(token: str) -> Response | tuple[str, int]:
    """The button: sign this browser in, once."""
    link = _usable(token)
    if link is not None:
        with services().ledger.write() as connection:
            if not sessions.use_link(connection, link.id, now=services().now(), expires_at=link.expires_at):
                link = None
    if link is None:
        return render_template("ops/sign_in_over.html"), 410
    response = make_response(redirect(url_for("ops_now.show"), 303))
    access.sign_in(response, link.email)
    return response


@pages.post("/ops/sign-out")
def leave() -> Response:
    """Sign this browser out."""
    response = make_response(redirect(url_for("ops_sign_in.ask"), 303))
    access.sign_out(response)
    session.pop("_flashes", None)
    return response


def _usable(token: str) -> OperatorLink | None:
    link = Links(services().settings).read_operator(token)
    if link is None or link.expires_at <= services().now() or access.named(link.email) is None:
        return None
    with services().ledger.read() as connection:
        return None if sessions.link_used(connection, link.id, now=services().now()) else link
