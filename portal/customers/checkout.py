"""From the catalogue to a placed order: products, basket, review, and the one press that places it."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from portal.customers import limits
from portal.customers.basket import Basket, LineFault
from portal.customers.catalogue import Catalogue, CatalogueCache, CatalogueUnavailable
from portal.customers.client_area import PAYMENT_METHODS, PaymentMethods, way_in
from portal.customers.lead_time import LeadTime
from portal.customers.placing import place_soon
from portal.customers.progress import duration
from portal.customers.sign_in import to_sign_in
from portal.customers.visitor import visitor
from portal.customers.waiters import NoPlace, Waiters
from portal.ledger import languages, orders
from portal.ledger.orders import Item, Order
from portal.web.context import part, services
from portal.web.languages import current, gettext
from portal.web.signing import digest

log = logging.getLogger("portal.checkout")

pages = Blueprint("checkout", __name__)

#: How long the checkout waits for Salesforce before it shows the order's page anyway.
PLACING_WAIT_SECONDS: Final = 2.0

#: Open orders of an account that are looked through for a domain ordered twice.
MOST_OPEN: Final = 200

#: No 0/O, 1/I/L, U: a reference is read out over the phone.
_LETTERS: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


@pages.get("/")
def catalogue_page() -> str | tuple[str, int]:
    """Everything on offer, each with its own small form."""
    return _catalogue()


def _catalogue(fault: LineFault | None = None, entry_id: str = "") -> str | tuple[str, int]:
    catalogue = _current_catalogue()
    page = render_template(
        "catalogue.html",
        catalogue=catalogue,
        basket=Basket(session, catalogue),
        fault=fault,
        fault_entry=entry_id,
        entered=request.form,
    )
    return (page, 400) if fault else page


@pages.post("/basket/add")
def add() -> Response | str | tuple[str, int]:
    """Put one product into the basket."""
    catalogue = _current_catalogue()
    form = request.form
    entry_id = form.get("entry", "")
    try:
        Basket(session, catalogue).add(
            entry_id, form.get("quantity", "1"), form.get("domain", ""), form.get("hostname", "")
        )
    except LineFault as fault:
        return _catalogue(fault, entry_id)
    return redirect(url_for("checkout.basket_page"), 303)


@pages.get("/accessibility")
def accessibility() -> str:
    """The merchant's accessibility statement (Directive (EU) 2019/882); 404 where ACCESSIBILITY_NOTE is empty."""
    if not services().settings.accessibility_note:
        abort(404)
    return render_template("accessibility.html")


@pages.get("/basket")
def basket_page() -> str | tuple[str, int]:
    """What is in the basket."""
    return _basket()


def _basket(fault: LineFault | None = None, index: int = -1) -> str | tuple[str, int]:
    basket = Basket(session, _current_catalogue())
    gone = basket.gone
    if gone and not fault:  # said once: nobody could take out what no page shows
        basket.forget_gone()
    page = render_template(
        "basket.html",
        basket=basket,
        gone=gone,
        fault=fault,
        fault_index=index,
        entered=request.form.get("quantity", ""),
    )
    return (page, 400) if fault else page


@pages.post("/basket/change")
def change() -> Response | str | tuple[str, int]:
    """Another quantity for one line, or the line taken out (the button named `remove`)."""
    catalogue = _current_catalogue()
    text = request.form.get("line", "")
    index = int(text) if re.fullmatch(r"[0-9]{1,3}", text) else -1
    basket = Basket(session, catalogue)
    if "remove" in request.form:
        basket.remove(index)
    else:
        try:
            basket.change(index, request.form.get("quantity", ""))
        except LineFault as fault:
            return _basket(fault, index)
    return redirect(url_for("checkout.basket_page"), 303)


@pages.get("/checkout")
def review() -> Response | str | tuple[str, int]:
    """The last look before the order is placed."""
    return _review(changed=False)


def _review(*, changed: bool, unanswered: bool = False) -> Response | str | tuple[str, int]:
    account = visitor().account
    if account is None:
        return to_sign_in()
    catalogue = _current_catalogue()
    basket = Basket(session, catalogue)
    placed = _placed_already(basket.key, account.account_id) if basket else None
    if placed is not None:  # its answer was lost on the way to this browser
        basket.empty()
        return redirect(url_for("orders.placed", reference=placed.reference), 303)
    if not basket:
        return redirect(url_for("checkout.basket_page"), 303)
    if basket.gone:  # said here, once: what is agreed to next is what is left
        basket.forget_gone()
        changed = True
    return render_template(
        "review.html",
        basket=basket,
        changed=changed,
        unpaid=part(PaymentMethods).missing_client(account) is not None,
        usual=usual_times(),
        twice=_ordered_elsewhere(basket, account.account_id),
        unanswered=unanswered,
    )


def _ordered_elsewhere(basket: Basket, account_id: str) -> list[tuple[str, Order]]:
    """Domains and hostnames of the basket that an open order of the account has, too, with that order."""
    names = {name for item in basket.items if (name := item["domain"] or item["hostname"])}
    if not names:
        return []
    with services().ledger.read() as connection:
        known = orders.open_of_account(connection, account_id, limit=MOST_OPEN)
    found: dict[str, Order] = {}
    for order in known:
        for item in order.items:
            name = item["domain"] or item["hostname"]
            if name in names:
                found.setdefault(name, order)
    return sorted(found.items())


@pages.post("/checkout/payment-method")
def add_payment_method() -> Response:
    """Into the client area's payment methods, signed in there already; the basket waits here."""
    account = visitor().account
    if account is None:
        return to_sign_in(url_for("checkout.review"))
    client_id = part(PaymentMethods).missing_client(account)
    if client_id is None:  # there is one by now
        return redirect(url_for("checkout.review"), 303)
    target = way_in(client_id, PAYMENT_METHODS, who=account.account_id)
    if target is None:
        flash(gettext("We can’t open your account just now. Please try again in a few minutes."))
    return redirect(target or url_for("checkout.review"), 303)


@pages.post("/checkout/payment-method/added")
def payment_method_added() -> Response:
    """Back from there: look again."""
    account = visitor().account
    if account is None:
        return to_sign_in(url_for("checkout.review"))
    if not limits.too_often("whmcs-button", account.account_id, most=10, seconds=60):
        part(PaymentMethods).forget(account.account_id)
        if part(PaymentMethods).missing_client(account):
            flash(
                gettext(
                    "We can’t see a payment method on your account yet. "
                    "If you’ve just added one, try again in a minute."
                )
            )
    return redirect(url_for("checkout.review"), 303)


@pages.post("/checkout")
def place_order() -> Response | str | tuple[str, int]:
    """Place the order: in the ledger first, so that it exists whatever happens next; once for each basket."""
    account = visitor().account
    if account is None:
        return to_sign_in(url_for("checkout.review"))
    key = request.form.get("key", "")
    placed = _placed_already(key, account.account_id)
    if placed is None:
        catalogue = _current_catalogue()
        basket = Basket(session, catalogue)
        if not basket or key != basket.key or request.form.get("reviewed") != basket.fingerprint or basket.gone:
            return _review(changed=True)
        if "again" not in request.form and _ordered_elsewhere(basket, account.account_id):
            return _review(changed=False, unanswered=True)
        placed = _insert(basket, key)
    # Only the basket that was placed is emptied: a form sent again later mustn't take the next one.
    if session.get("basket_key") == key:
        session.pop("basket", None)
        session.pop("basket_key", None)
    if placed.place_tries == 0:
        try:
            with part(Waiters).place():
                place_soon(services(), placed.reference, PLACING_WAIT_SECONDS)
        except NoPlace:
            place_soon(services(), placed.reference, 0.0)
    return redirect(url_for("orders.placed", reference=placed.reference), 303)


def _insert(basket: Basket, key: str) -> Order:
    account = visitor().account
    assert account is not None
    here = services()
    now = here.now()
    reference = new_reference()
    checkout_key = _checkout_key(key, account.account_id)
    try:
        with here.ledger.write() as connection:
            orders.insert_placed_here(
                connection,
                reference=reference,
                checkout_key=checkout_key,
                account_id=account.account_id,
                email=account.email,
                items=basket.items,
                currency=basket.currency,
                total=str(basket.total),
                now=now,
            )
            order = orders.get(connection, reference)
            assert order is not None
            languages.note(connection, account.account_id, current(), now=now)
            orders.put_mail(connection, order, "received", now=now)
    except orders.AlreadyPlaced:  # the same form, a moment earlier
        earlier = _placed_already(key, account.account_id)
        if earlier is None:
            raise
        return earlier
    log.info("Order received", extra={"reference": reference, "accountId": account.account_id})
    return order


def new_reference() -> str:
    """A new order's name, such as `PO-7K3M-9QTX`: no Salesforce id looks like it, and it can be read out."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return f"PO-{letters[:4]}-{letters[4:]}"


def _placed_already(key: str, account_id: str) -> Order | None:
    if not key:
        return None
    with services().ledger.read() as connection:
        return orders.by_checkout_key(connection, _checkout_key(key, account_id))


def _checkout_key(key: str, account_id: str) -> str:
    """Another account's key is another key."""
    return digest(f"checkout:{account_id}", key)


@dataclass(frozen=True)
class UsualTimes:
    """How long recent orders took, measured, in words; "" where too few are known."""

    review: str
    set_up: str


def usual_times() -> UsualTimes:
    """What the calendar of what happens next says beside the merchant's own words."""
    with services().ledger.read() as connection:
        review, set_up = part(LeadTime).review(connection), part(LeadTime).seconds(connection)
    return UsualTimes(*("" if seconds is None else duration(seconds) for seconds in (review, set_up)))


def refill(store: MutableMapping[str, Any], items: Sequence[Item]) -> int:
    """Put an order's lines into the basket as far as they are still offered; how many couldn't be.

    A product is found by its pricebook entry, else, for an order that was placed elsewhere, by its name.
    """
    catalogue = _current_catalogue()
    basket, left_out = Basket(store, catalogue), 0
    for item in items:
        product = catalogue.product(item["entryId"] or "") or next(
            (each for each in catalogue.products if each.name == item["name"]), None
        )
        entry = product.entry_id if product is not None else ""
        try:
            basket.add(entry, str(item["quantity"]), item["domain"] or "", item["hostname"] or "")
        except LineFault:
            left_out += 1
    return left_out


def _current_catalogue() -> Catalogue:
    """What this visitor may order: one order has one currency. Raises CatalogueUnavailable, which `_away` answers."""
    account = visitor().account
    preferred = services().settings.brand_currency
    return part(CatalogueCache).current().priced_in(account.currency if account else None, preferred=preferred)


@pages.app_errorhandler(CatalogueUnavailable)  # whichever page of ours wants it: an order that is ordered again, too
def _away(error: CatalogueUnavailable) -> tuple[str, int, dict[str, str]]:
    seconds = 5 if error.soon else 60
    return render_template("catalogue_away.html", soon=error.soon), 503, {"Retry-After": str(seconds)}
