"""Signing in without a password: an e-mailed link for addresses that are a Contact in Salesforce.

The request only writes a row into the outbox, whoever asks: whether the address is known is found out when the mail is
made (portal.mail.mailer), so neither answer nor timing tells. Opening the link changes nothing, because mail
scanners open links; its button does.
"""

from __future__ import annotations

import logging
import re
import secrets
from urllib.parse import urlsplit

from flask import Blueprint, Response, flash, make_response, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as AnyResponse

from portal.customers import language, limits
from portal.customers.visitor import open_order, sign_in, sign_out, visitor
from portal.ledger import orders, outbox, sessions
from portal.web.context import client_key, services
from portal.web.languages import current, gettext
from portal.web.signing import ORDER_PATH, SIGN_IN_PATH, Links, SignInLink, digest

log = logging.getLogger("portal.sign_in")

pages = Blueprint("sign_in", __name__)

#: Enough to tell a slip from an address; no character that means something in a mail's header.
_PLAIN = r"[^@\s<>\"',;:\\()\[\]\x00-\x1f\x7f]"
_EMAIL = re.compile(rf"{_PLAIN}{{1,64}}@{_PLAIN}+\.{_PLAIN}{{2,}}")


def links() -> Links:
    """Made for each use: reading settings is cheap, and tests change them."""
    return Links(services().settings)


@pages.get("/sign-in")
def ask() -> AnyResponse | str:
    """The form that asks for an e-mail address."""
    if visitor().account is not None:
        return redirect(url_for("orders.index"))
    return render_template("sign_in.html", email="", fault="", why=_why())


@pages.post("/sign-in")
def send_link() -> AnyResponse | tuple[str, int]:
    """Queue a link for the address; the answer is the same for every address."""
    email = request.form.get("email", "").strip()
    if len(email) > 254 or not _EMAIL.fullmatch(email):
        fault = gettext("Enter an e-mail address, like %(example)s", example="name@example.com")
        return render_template("sign_in.html", email=email[:254], fault=fault, why=_why()), 400
    here = services()
    asks = here.settings.sign_in_asks_per_hour
    if limits.too_often("sign-in-from", client_key(), most=asks, seconds=3600):
        return render_template("too_often.html"), 429
    if limits.too_often("sign-in", "all", most=here.settings.sign_in_total_per_hour, seconds=3600):
        log.warning("More sign-in links are asked for than SIGN_IN_TOTAL_PER_HOUR allows")
        return render_template("too_often.html"), 429
    most = here.settings.sign_in_mails_per_hour
    mailed = not limits.too_often("sign-in-to", email.lower(), most=most, seconds=3600)
    with here.ledger.write() as connection:
        # Beyond the limit a row is written too, already settled, so that the time taken tells nothing.
        message = outbox.put(
            connection,
            outbox.SIGN_IN,
            "sign-in",
            {"template": "sign_in", "address": email.lower(), "language": current()},
            now=here.now(),
        )
        if not mailed and message is not None:
            outbox.dead(connection, message, error="asked for too often")
    session["asked_for"] = email
    return redirect(url_for("sign_in.sent"), 303)


@pages.get("/sign-in/sent")
def sent() -> str:
    """Where to look now."""
    return render_template("sign_in_sent.html", email=session.get("asked_for", ""))


@pages.get(f"{SIGN_IN_PATH}<token>")
def open_link(token: str) -> AnyResponse | tuple[str, int]:
    """Show whose link it is and a button. Consumes nothing."""
    link = _usable(token)
    if link is None:
        if _signed_in_by(links().read_sign_in(token)):
            return redirect(url_for("orders.index"), 303)
        return render_template("sign_in_link_over.html"), 410
    return make_response(render_template("sign_in_confirm.html", link=link, token_text=token))


@pages.post(f"{SIGN_IN_PATH}<token>")
def use_link(token: str) -> AnyResponse | tuple[str, int]:
    """The button: sign this browser in, once."""
    link = links().read_sign_in(token)
    now = services().now()
    if link is not None and link.expires_at > now:
        with services().ledger.write() as connection:
            if not sessions.use_link(connection, link.id, now=now, expires_at=link.expires_at, browser=_browser()):
                link = None
    else:
        link = None
    if link is None:
        if _signed_in_by(links().read_sign_in(token)):
            return redirect(url_for("orders.index"), 303)
        return render_template("sign_in_link_over.html"), 410
    flash(gettext("You’re signed in as %(address)s.", address=link.email))
    response = make_response(redirect(session.pop("next", None) or url_for("orders.index"), 303))
    sign_in(response, link)
    language.settle(link.account_id)
    session.pop("asked_for", None)
    return response


def _usable(token: str) -> SignInLink | None:
    """The link of a token, unless its time is over or it was used."""
    link = links().read_sign_in(token)
    if link is None or link.expires_at <= services().now():
        return None
    with services().ledger.read() as connection:
        used = sessions.link_used(connection, link.id, now=services().now(), browser=_browser())
    return None if used else link


def _browser() -> str | None:
    """What tells this browser from others: a digest of the form token in its signed cookie, which a sign-out ends."""
    token = session.get("csrf_token")
    return digest("browser", str(token)) if token else None


def _signed_in_by(link: SignInLink | None) -> bool:
    """Whether this browser is signed in as whom the link signs in."""
    account = visitor().account
    return (
        link is not None
        and account is not None
        and (account.email, account.account_id) == (link.email, link.account_id)
    )


def _why() -> str:
    """Why a visitor who wanted something else is asked to sign in."""
    wanted = str(session.get("next", ""))
    if not wanted:
        return ""
    if urlsplit(wanted).path == url_for("checkout.review"):
        return gettext("Sign in to place your order. Your basket stays as it is.")
    return gettext("Sign in to see that page: it’s only for the customer it belongs to. Then you’re taken back to it.")


@pages.get("/account")
def account() -> AnyResponse | str:
    """Who is signed in, and the ways out."""
    if visitor().account is None:
        return to_sign_in()
    return render_template("account.html")


@pages.post("/sign-out")
def leave() -> Response:
    """Sign this browser out."""
    response = make_response(redirect(url_for("checkout.catalogue_page"), 303))
    sign_out(response)
    session.clear()
    flash(gettext("You’re signed out."))
    return response


@pages.post("/sign-out/everywhere")
def leave_everywhere() -> Response:
    """Sign every browser of this address out."""
    response = make_response(redirect(url_for("checkout.catalogue_page"), 303))
    sign_out(response, everywhere=True)
    session.clear()
    flash(gettext("You’re signed out everywhere."))
    return response


@pages.get(f"{ORDER_PATH}<token>")
def open_order_link(token: str) -> AnyResponse | tuple[str, int]:
    """A link out of an e-mail: exchanged for a cookie, so that the address bar shows the order's own address."""
    link = links().read_order(token)
    if link is None:
        return render_template("order_link_over.html", token_text=None), 404
    if link.expires_at <= services().now():
        return render_template("order_link_over.html", token_text=token), 410
    with services().ledger.read() as connection:
        order = orders.get(connection, link.reference)
    if order is None or order.account_id != link.account_id:
        return render_template("order_link_over.html", token_text=None), 404
    response = make_response(redirect(url_for("orders.show", reference=order.reference), 303))
    if not visitor().may_see(order):
        open_order(response, order)
    return response


@pages.post(f"{ORDER_PATH}<token>")
def renew_order_link(token: str) -> AnyResponse | tuple[str, int]:
    """Mail a new link to the address the order's mails have always gone to."""
    link = links().read_order(token)
    if link is None:
        return render_template("order_link_over.html", token_text=None), 404
    here = services()
    if limits.too_often("order-link", link.reference, most=3, seconds=3600):
        return render_template("too_often.html"), 429
    with here.ledger.write() as connection:
        order = orders.get(connection, link.reference)
        if order is not None and order.account_id == link.account_id and order.email:
            outbox.put(
                connection,
                "mail",
                order.reference,
                {
                    "to": order.email,
                    "template": "order_link",
                    "context": {"reference": order.reference},
                    "account_id": order.account_id,
                    "message_id": f"{order.reference}.link.{secrets.token_hex(4)}".lower(),
                },
                now=here.now(),
            )
    return make_response(render_template("order_link_sent.html"))


def to_sign_in(back_to: str | None = None) -> AnyResponse:
    """Send the visitor to the sign-in page, and afterwards back here or to `back_to`, an address of our own.

    htmx is told to load it as a whole page.
    """
    target = url_for("sign_in.ask")
    if request.headers.get("HX-Request"):
        response = make_response("", 401)
        response.headers["HX-Redirect"] = target
        return response
    if back_to is None and request.method == "GET":
        back_to = request.script_root + request.full_path.rstrip("?")
    if back_to is not None:
        session["next"] = back_to
    return redirect(target, 303)
