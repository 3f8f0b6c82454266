"""A customer's orders: one order's page, its fragment for polling, its JSON, and what can be done about it.

Whoever may not see an order gets the answer of one that doesn't exist. Nothing here asks Salesforce or WHMCS to show an
order: pages are made of the ledger alone. The two buttons that lead into WHMCS do ask it.
"""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import redis
from flask import (
    Blueprint,
    abort,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.wrappers import Response

from portal.customers import client_area, limits
from portal.customers.checkout import refill, usual_times
from portal.customers.order_reader import Asked, OrderReader
from portal.customers.progress import Progress, tell
from portal.customers.sign_in import to_sign_in
from portal.customers.visitor import come, has_cookies, session_ids, visitor
from portal.customers.waiters import NoPlace, Waiters
from portal.domain.model import CustomerStatus, UpstreamError
from portal.ledger import decisions, orders, withdrawals
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.orders import Order
from portal.web.batch import together
from portal.web.context import part, services
from portal.web.formatting import review_time
from portal.web.languages import ENGLISH, current, gettext, ngettext, speaking
from portal.web.problems import Problem

log = logging.getLogger("portal.customers")

pages = Blueprint("orders", __name__)

#: By its bytes, a poll: polls that come together may be answered together (portal.web.batch).
_POLL: Final = re.compile(rb"GET (?:/[^ ?]*)?/orders/[A-Za-z0-9_-]{1,40}/status[ ?]")
POLL_SECONDS: Final = 5
_MOST_NAME: Final = 100  # characters of a customer's name


@dataclass(frozen=True)
class Shown:
    """An order the visitor may see, with what is told about it."""

    order: Order
    fulfillment: Fulfillment | None
    progress: Progress


def comes_with_others(sent: bytes) -> bool:
    """Whether a whole request is a poll, which is run together with others."""
    return _POLL.match(sent) is not None


class NotSignedIn(Exception):
    """Nobody is signed in who could be asked whether they may see this."""


def shown(reference: str) -> Shown:
    """The order of that reference or Salesforce id (15 or 18 characters), for this visitor.

    Raises NotSignedIn, and 404 both for an order that doesn't exist and for somebody else's.
    """
    if not has_cookies():
        raise NotSignedIn
    found = together(part(OrderReader).read, Asked(reference, session_ids()))
    come(found.visitor)
    order = found.order
    if order is None:
        if found.visitor.account is None:
            raise NotSignedIn
        abort(404)
    with speaking(current()):  # found out once for all that is told
        progress = tell(
            order,
            found.fulfillment,
            found.done_at,
            now=services().now(),
            lead_time_seconds=found.lead_time,
            review_time=review_time(services().settings.brand_review_time),
        )
    return Shown(order, found.fulfillment, progress)


@pages.errorhandler(NotSignedIn)
def _ask_who(_: NotSignedIn) -> Response:
    if request.endpoint == "orders.as_json":
        return Problem(
            401,
            "not_signed_in",
            "Not signed in",
            "Sign in, or open the link out of the order's e-mail.",
            {"WWW-Authenticate": 'Cookie realm="order portal", form-action="/sign-in", cookie-name=portal_session'},
        ).response()
    reference = (request.view_args or {}).get("reference")
    if request.method == "POST" and reference is not None:  # a button: its page is what one comes back to
        return to_sign_in(url_for("orders.show", reference=reference))
    return to_sign_in()


# --- one order ----------------------------------------------------------------------------------------------


@pages.get("/orders/<reference>")
def show(reference: str) -> str:
    """The order's page."""
    return _page(shown(reference))


def _page(what: Shown, problem: str = "") -> str:
    return render_template(
        "order.html",
        order=what.order,
        fulfillment=what.fulfillment,
        progress=what.progress,
        problem=problem,
        poll_seconds=POLL_SECONDS,
        may_leave_contract=_may_leave_contract(what),
    )


@pages.get("/orders/<reference>/status")
def status(reference: str) -> Response | str:
    """The part of the page that changes; 204 while it says what the poll's `v` already knows."""
    what = shown(reference)
    if request.args.get("v") == what.progress.version:
        return Response(status=204)
    return render_template(
        "_progress.html",
        order=what.order,
        fulfillment=what.fulfillment,
        progress=what.progress,
        poll_seconds=POLL_SECONDS,
        may_leave_contract=_may_leave_contract(what),
    )


@pages.get("/api/orders/<sf_order_id>")
def as_json(sf_order_id: str) -> Response:
    """The same as JSON: the customer's stages, never inner steps; programs read it, so it is always English."""
    with speaking(ENGLISH):
        what = shown(sf_order_id)
    document: dict[str, Any] = {
        "orderId": what.order.sf_order_id,
        "reference": what.order.reference,
        "status": what.order.status.value,
        "message": what.progress.headline,
        "stages": [{"name": each.name, "state": each.state, "at": _iso(each.at)} for each in what.progress.stages],
        "final": what.progress.final,
        "createdAt": _iso(what.order.created_at),
        "updatedAt": _iso(what.progress.updated_at),
    }
    return jsonify(document)


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pages.get("/orders/<reference>/placed")
def placed(reference: str) -> str:
    """The confirmation."""
    what = shown(reference)
    return render_template("placed.html", order=what.order, progress=what.progress, usual=usual_times())


@pages.get("/orders/<reference>/withdraw")
def ask_withdraw(reference: str) -> Response | str:
    """Ask before an order is withdrawn."""
    what = shown(reference)
    if not what.progress.can_withdraw and not _may_leave_contract(what):
        return redirect(url_for("orders.show", reference=reference), 303)
    return render_template(
        "withdraw.html",
        order=what.order,
        in_review=what.progress.can_withdraw,
        email=what.order.email or _own_address(),
    )


@pages.post("/orders/<reference>/withdraw")
def withdraw(reference: str) -> Response:
    """Withdraw an order: one in review is cancelled; with WITHDRAWAL, of any other the contract is withdrawn from."""
    what = shown(reference)
    name = " ".join(request.form.get("name", "").split())[:_MOST_NAME]
    if not what.progress.can_withdraw and _may_leave_contract(what) and "contract" in request.form:
        return _leave_contract(what, name)
    email = what.order.email or _own_address()
    with services().ledger.write() as connection:
        done = orders.withdraw(connection, what.order.reference, email=email, name=name, now=services().now())
    if done:
        log.info("Order withdrawn by its customer", extra={"reference": what.order.reference})
    elif what.order.status is not CustomerStatus.CANCELLED:
        flash(
            gettext("Your order can’t be withdrawn any more: our team has already checked it and we’re setting it up.")
        )
    return redirect(url_for("orders.show", reference=reference), 303)


def _may_leave_contract(what: Shown) -> bool:
    """Directive 2011/83/EU, Art. 11a: the function is there throughout the withdrawal period, whose end the merchant
    knows. Nothing is withdrawn from twice, or from an order that came to nothing."""
    return (
        services().settings.withdrawal
        and what.order.status in (CustomerStatus.ACTIVATING, CustomerStatus.PROVISIONED, CustomerStatus.FAILED)
        and what.order.placing == orders.PLACED
        and what.order.withdrawal_asked_at is None
    )


def _leave_contract(what: Shown, name: str) -> Response:
    here = services()
    merchant, email = here.settings.brand_support_email, what.order.email or _own_address()
    with here.ledger.write() as connection:
        done = withdrawals.ask_withdrawal(
            connection, what.order.reference, merchant=merchant, email=email, name=name, now=here.now()
        )
    if done:
        log.info("A customer withdrew from the contract of an order", extra={"reference": what.order.reference})
        flash(gettext("We have received your withdrawal. A receipt is on its way to %(address)s.", address=email))
    return redirect(url_for("orders.show", reference=what.order.reference), 303)


def _own_address() -> str:
    account = visitor().account
    return account.email if account is not None else ""


@pages.post("/orders/<reference>/again")
def again(reference: str) -> Response:
    """Put what was ordered into the basket once more, as far as it is still offered."""
    what = shown(reference)
    left_out = refill(session, what.order.items)
    if left_out:
        flash(
            ngettext(
                "%(num)s product of that order couldn’t be put into your basket.",
                "%(num)s products of that order couldn’t be put into your basket.",
                left_out,
            )
        )
    return redirect(url_for("checkout.basket_page"), 303)


# --- the ways into WHMCS and back ---------------------------------------------------------------------------


@pages.post("/orders/<reference>/payment-method")
def add_payment_method(reference: str) -> Response:
    """Into the client area's payment methods, signed in there already."""
    return _into_client_area(reference, client_area.PAYMENT_METHODS)


@pages.post("/orders/<reference>/client-area", endpoint="client_area")
def manage_services(reference: str) -> Response:
    """Into the client area, signed in there already."""
    return _into_client_area(reference, "clientarea:services")


def _into_client_area(reference: str, destination: str) -> Response:
    what = shown(reference)
    account = visitor().account
    if account is None or account.account_id != what.order.account_id:
        # An order's link may have been forwarded: it opens that order, never the whole client area.
        return to_sign_in(url_for("orders.show", reference=reference))
    client_id = what.fulfillment.client_id if what.fulfillment else None
    target = services().settings.whmcs_client_area_url
    if client_id is not None:
        target = client_area.way_in(client_id, destination, who=what.order.reference)
    if target is None:
        flash(gettext("We can’t open your account just now. Please try again in a few minutes."))
        target = url_for("orders.show", reference=reference)
    return redirect(target, 303)


@pages.post("/orders/<reference>/resume")
def resume(reference: str) -> Response:
    """ "I've added it": ask WHMCS, and go on with the order where it stopped."""
    what = shown(reference)
    here = services()
    back = redirect(url_for("orders.show", reference=reference), 303)
    if not what.progress.needs_payment_method or what.fulfillment is None or what.fulfillment.client_id is None:
        return back
    if _pressed_too_often(what.order):
        flash(gettext("Please wait a minute, then try again."))
        return back
    try:
        with part(Waiters).place():
            found = here.whmcs.pay_methods(what.fulfillment.client_id)
    except (UpstreamError, NoPlace) as error:
        log.warning("WHMCS couldn't be asked", extra={"reference": what.order.reference, "error": str(error)})
        flash(gettext("We couldn’t check your account just now. Please try again in a minute."))
        return back
    if not found:
        flash(
            gettext(
                "We can’t see a payment method on your account yet. If you’ve just added one, try again in a minute."
            )
        )
        return back
    with here.ledger.write() as connection:
        resumed = decisions.resume(
            connection,
            what.fulfillment.sf_order_id,
            now=here.now(),
            actor="customer",
            why="the customer added a payment method",
        )
    if resumed:
        with contextlib.suppress(redis.RedisError):  # the sweep sends a job as well
            here.jobs.send(what.fulfillment.sf_order_id, front=True)
        log.info("Order resumed by its customer", extra={"sfOrderId": what.fulfillment.sf_order_id})
    return back


def _pressed_too_often(order: Order) -> bool:
    """These buttons call WHMCS: ten times a minute for one order is plenty."""
    return limits.too_often("whmcs-button", order.reference, most=10, seconds=60)
