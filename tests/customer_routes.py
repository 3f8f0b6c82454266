"""What each route of the customers' pages is for: public, one's own, or one order's, and what its owner gets there."""

from __future__ import annotations

import re
from collections.abc import Callable

from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from portal.domain.model import CustomerStatus
from tests.customers_in_process import Case

#: Routes anybody may open: they show nobody's orders.
PUBLIC = {
    "static",
    "brand_stylesheet",
    "brand_logo",
    "checkout.catalogue_page",
    "checkout.add",
    "checkout.basket_page",
    "checkout.change",
    "checkout.accessibility",
    "language.choose",
    "sign_in.ask",
    "sign_in.send_link",
    "sign_in.sent",
    "sign_in.leave",
    "sign_in.leave_everywhere",
    # Opened by a signed token in the address; what the token opens is tested below.
    "sign_in.open_link",
    "sign_in.use_link",
    "sign_in.open_order_link",
    "sign_in.renew_order_link",
}


#: Routes of whoever is signed in, about their own account.
OWN = {
    "sign_in.account",
    "orders.index",
    "orders.rows",
    "checkout.review",
    "checkout.place_order",
    "checkout.add_payment_method",
    "checkout.payment_method_added",
}


#: Routes of one order, with what its owner gets there.
ORDER: dict[str, Callable[[TestResponse, Case], bool]] = {}


def order_route(endpoint: str) -> Callable[[Callable[[TestResponse, Case], bool]], None]:
    """Register what a route of one order does for its owner."""

    def add(check: Callable[[TestResponse, Case], bool]) -> None:
        ORDER[endpoint] = check

    return add


@order_route("orders.show")
def _show(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and case.domain in answer.text


@order_route("orders.status")
def _status(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and 'id="progress"' in answer.text


@order_route("orders.as_json")
def _json(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and answer.json is not None and answer.json["orderId"] == case.sf_order_id


@order_route("orders.placed")
def _placed(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and case.reference in answer.text


@order_route("orders.ask_withdraw")
def _ask_withdraw(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 200 and "Withdraw order" in answer.text


@order_route("orders.withdraw")
def _withdraw(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 303 and case.row().status is CustomerStatus.CANCELLED


@order_route("orders.again")
def _again(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 303 and answer.headers["Location"].endswith("/basket")


@order_route("orders.resume")
def _resume(answer: TestResponse, case: Case) -> bool:
    return answer.status_code == 303 and case.row().status is CustomerStatus.ACTIVATING


def _into_whmcs(answer: TestResponse, case: Case) -> bool:
    whmcs = case.services.settings.whmcs_client_area_url
    return answer.status_code == 303 and whmcs is not None and answer.headers["Location"].startswith(whmcs)


ORDER |= {"orders.add_payment_method": _into_whmcs, "orders.client_area": _into_whmcs}

#: Routes that only do something for an order that waits for a payment method, or is set up.
WANTS = {
    "orders.resume": "payment-method-missing",
    "orders.add_payment_method": "payment-method-missing",
    "orders.client_area": "provisioned",
}


def rules_of(app: Flask) -> list[tuple[Rule, str]]:
    """Every route with every method that isn't HEAD or OPTIONS."""
    return [
        (rule, method)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def path_of(rule: Rule, name: str) -> str:
    """The route's path for one order."""
    path = rule.rule
    for argument in rule.arguments:
        path = re.sub(rf"<(?:[^<>:]+:)?{argument}>", name, path)
    return path


def is_customers(rule: Rule) -> bool:
    """Whether a route is the customers' at all."""
    return rule.endpoint in PUBLIC | OWN or rule.endpoint in ORDER


def fixed(answer: TestResponse) -> list[tuple[str, str]]:
    """Headers, without what differs from answer to answer: cookies by their signature's time, and the request's id."""
    return sorted((name, value) for name, value in answer.headers if name not in ("Set-Cookie", "X-Request-Id"))
