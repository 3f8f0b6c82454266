"""Who may see what: every route of the customers' pages, for its owner, for others, for nobody."""

from __future__ import annotations

import itertools
from urllib.parse import urlsplit

from flask import Flask
from flask.testing import FlaskClient

from portal.customers.visitor import ACCOUNT_COOKIE, ORDER_COOKIE
from portal.web.signing import Links
from tests.customer_routes import ORDER, OWN, PUBLIC, WANTS, _into_whmcs, fixed, is_customers, path_of, rules_of
from tests.customers_in_process import Case, browser, call, new_order, signed_in
from tests.stack import Stack

# --- what each route of one order does for its owner ----------------------------------------------------------


def test_every_route_is_known_here(app: Flask) -> None:
    """A new route of the customers' blueprints has to be put into one of the lists above, with its control."""
    for rule, _ in rules_of(app):
        blueprint = rule.endpoint.split(".")[0] if "." in rule.endpoint else ""
        if is_customers(rule):
            continue
        assert blueprint not in ("sign_in", "checkout", "orders"), f"{rule.endpoint} is in no list of this test"
    endpoints = {rule.endpoint for rule, _ in rules_of(app)}
    assert endpoints >= PUBLIC | OWN | set(ORDER), "a route of these lists is gone"


def test_one_orders_routes_are_its_owners_alone(app: Flask, stack: Stack) -> None:
    """By reference and by both forms of the Salesforce id: strangers get what nobody's order would get."""
    tried = 0
    for rule, method in rules_of(app):
        if rule.endpoint not in ORDER:
            continue
        for form in ("reference", "18", "15"):
            situation = WANTS.get(rule.endpoint, "pending-review")
            case = new_order(app, stack, situation=situation)
            name = {"reference": case.reference, "18": case.sf_order_id, "15": case.sf_order_id[:15]}[form]
            path, nobodys = path_of(rule, name), path_of(rule, "PO-ZZZZ-ZZZZ")
            before = case.row()
            other = new_order(app, stack, customer="grace")
            for who, client in {
                "nobody": browser(app),
                "a made-up cookie": browser(app, **{ACCOUNT_COOKIE: "made-up", f"{ORDER_COOKIE}abcd1234": "made-up"}),
                "another account": signed_in(app, stack, "grace"),
                "another order's link": with_order_link(app, other),
            }.items():
                answer, control = call(client, method, path), call(client, method, nobodys)
                where = f"{who}: {method} {path} → {answer.status}"
                assert case.domain not in answer.text, where
                assert case.sf_order_id not in answer.text, where
                assert (answer.status_code, answer.data) == (control.status_code, control.data), where
                assert fixed(answer) == fixed(control), where
                if who == "another account":
                    assert answer.status_code == 404, where
                elif rule.endpoint == "orders.as_json":
                    assert answer.status_code == 401, where
                    assert answer.is_json, where
                else:
                    assert urlsplit(answer.headers["Location"]).path.endswith("/sign-in"), where
            assert case.row() == before, f"{method} {path} changed a stranger's order"
            granted = call(signed_in(app, stack, "ada"), method, path)
            assert ORDER[rule.endpoint](granted, case), f"the owner: {method} {path} → {granted.status} {granted.text}"
            tried += 1
    assert tried == 3 * len(ORDER)


def with_order_link(app: Flask, case: Case) -> FlaskClient:
    """A browser that opened the link out of an order's e-mail."""
    client = browser(app)
    account = case.row().account_id
    url = Links(case.services.settings).order(reference=case.reference, account_id=account, now=case.services.now())
    answer = call(client, "GET", urlsplit(url).path)
    assert answer.status_code == 303
    assert answer.headers["Location"].endswith(f"/orders/{case.reference}")
    return client


def test_an_orders_link_opens_its_routes_but_not_the_client_area(app: Flask, stack: Stack) -> None:
    for rule, method in rules_of(app):
        if rule.endpoint not in ORDER:
            continue
        situation = WANTS.get(rule.endpoint, "pending-review")
        case = new_order(app, stack, situation=situation)
        answer = call(with_order_link(app, case), method, path_of(rule, case.reference))
        if ORDER[rule.endpoint] is _into_whmcs:
            assert urlsplit(answer.headers["Location"]).path.endswith("/sign-in")
        else:
            assert ORDER[rule.endpoint](answer, case), f"{method} {rule.rule} → {answer.status}"


def test_no_route_at_all_shows_a_stranger_the_order(app: Flask, stack: Stack) -> None:
    """Every route there is, the doors' and operators' too, with every argument set to somebody else's order."""
    case = new_order(app, stack)
    for client, (rule, method), name in itertools.product(
        (browser(app), signed_in(app, stack, "grace")), rules_of(app), (case.reference, case.sf_order_id)
    ):
        if rule.endpoint == "static" or not ("GET" in method or is_customers(rule)):
            continue
        answer = call(client, method, path_of(rule, name))
        assert case.domain not in answer.text, f"{method} {rule.rule}"
        assert answer.status_code < 500 or not is_customers(rule), f"{method} {rule.rule} → {answer.status}"


def test_own_pages_are_for_whoever_is_signed_in(app: Flask, stack: Stack) -> None:
    mine, hers = new_order(app, stack), new_order(app, stack, customer="grace")
    listed = call(signed_in(app, stack, "ada"), "GET", "/orders").text
    assert mine.reference in listed
    assert hers.reference not in listed
    for rule, method in rules_of(app):
        if rule.endpoint in OWN:
            denied = call(browser(app), method, rule.rule)
            assert urlsplit(denied.headers["Location"]).path.endswith("/sign-in"), rule.rule
            granted = call(signed_in(app, stack, "ada"), method, rule.rule)
            assert granted.status_code == 200 or granted.headers["Location"].endswith(("/basket", "/checkout")), (
                rule.rule
            )
