"""/ops is for the addresses of OPS_EMAILS alone: by a fresh link, once, for a while, and only as long as they stand
there."""

from __future__ import annotations

import itertools
from dataclasses import replace
from urllib.parse import urlsplit

from flask import Flask

from portal.ledger import installation
from portal.mail.mailer import Mailer
from portal.settings.kinds import Operator
from portal.web.signing import OPERATOR_SECONDS, Links
from tests.customer_routes import path_of, rules_of
from tests.customers import last_mail, link_in, mails_to
from tests.customers_in_process import browser, call, signed_in
from tests.operators import ACTS, LOOKS, get, operator_browser, post, services_of
from tests.stack import Stack


def ops_rules(app: Flask) -> list[tuple[str, str]]:
    return [
        (path_of(rule, "1"), method)
        for rule, method in rules_of(app)
        if rule.rule.startswith("/ops") and not rule.endpoint.startswith("ops_sign_in.") and not rule.alias
    ]


def test_an_operator_signs_in_by_the_link_in_their_mail_once(ops: Flask, stack: Stack) -> None:
    since = last_mail(stack)
    client = browser(ops)
    answer = post(client, "/ops/sign-in", "/ops/sign-in", email=f" {ACTS.upper()} ")
    assert answer.headers["Location"].endswith("/ops/sign-in/sent")
    # The stack's own relay doesn't know this operator; what it would send is made here.
    Mailer(services_of(ops)).send({"template": "operator_sign_in", "address": ACTS})
    (mail,) = mails_to(stack, ACTS, subject="operations", wait=30, since=since)
    link = urlsplit(link_in(mail, "/ops/sign-in/link/")).path
    assert ACTS in get(client, link).text
    assert get(client, link).status_code == 200  # opening it uses nothing up: mail scanners open links
    answer = post(client, link, link)
    assert urlsplit(answer.headers["Location"]).path == "/ops"
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    page = get(client, "/ops")
    assert page.status_code == 200
    assert f"Signed in as {ACTS}" in page.text
    assert get(browser(ops), link).status_code == 410
    post(client, "/ops/sign-out", "/ops")
    assert get(client, "/ops").status_code == 303


def test_nobody_else_gets_a_mail_nor_learns_who_does(ops: Flask, stack: Stack) -> None:
    answers = []
    for email in (ACTS, "ada@lovelace.example", f"x{ACTS}", f"{ACTS}.evil.example", "olga@ops.example:read"):
        client = browser(ops)
        answers.append(post(client, "/ops/sign-in", "/ops/sign-in", email=email))
    assert [each.status_code for each in answers] == [303, 303, 303, 303, 400]
    assert len({each.headers["Location"] for each in answers[:4]}) == 1
    mailer = Mailer(services_of(ops))
    assert mailer._operator_payload(f"x{ACTS}") is None
    assert mailer._operator_payload(ACTS) is not None


def test_a_link_ages_and_no_customers_link_or_session_opens_operations(ops: Flask, stack: Stack) -> None:
    services = services_of(ops)
    links = Links(services.settings)
    old = links.operator(ACTS, now=services.now() - OPERATOR_SECONDS - 1)
    gone = links.operator("gone@ops.example", now=services.now())
    customers = links.sign_in(email=ACTS, contact_id=None, account_id=stack.ids["account:ada"], now=services.now())
    token = urlsplit(customers).path.rpartition("/")[2]
    for path in (urlsplit(old).path, urlsplit(gone).path, f"/ops/sign-in/link/{token}", "/ops/sign-in/link/x"):
        assert get(browser(ops), path).status_code == 410
    operators = urlsplit(links.operator(ACTS, now=services.now())).path.rpartition("/")[2]
    assert get(browser(ops), f"/sign-in/link/{operators}").status_code == 410
    assert get(signed_in(ops, stack, "ada"), "/ops").status_code == 303


def test_every_route_asks_for_a_sign_in(ops: Flask, stack: Stack) -> None:
    rules = ops_rules(ops)
    assert len(rules) > 10
    for client, (path, method) in itertools.product((browser(ops), signed_in(ops, stack, "ada")), rules):
        answer = call(client, method, path)
        assert answer.status_code == 303, f"{method} {path}"
        assert urlsplit(answer.headers["Location"]).path == "/ops/sign-in", f"{method} {path}"


def test_who_only_looks_sees_no_button_and_is_refused(ops: Flask, stack: Stack) -> None:
    order = stack.order("starter")
    stack.fulfill(order)
    client = operator_browser(ops, LOOKS)
    for path in ("/ops", "/ops/find?state=failed", f"/ops/orders/{order}"):
        page = get(client, path)
        assert page.status_code == 200
        buttons = {line.split(">")[1].split("<")[0] for line in page.text.split("<button")[1:]}
        assert buttons <= {"Find", "Filter", "Sign out"}, path
    for path, method in ops_rules(ops):
        if method == "POST" and path != "/ops/find":
            answer = post(client, path, "/ops", why="because")
            assert answer.status_code == 403, path
            assert "You may look, not act" in answer.text
    assert post(client, "/ops/find", "/ops", q=order).status_code == 303


def test_whoever_is_removed_is_out_at_once(ops: Flask, stack: Stack) -> None:
    services = services_of(ops)
    client = operator_browser(ops, ACTS)
    assert get(client, "/ops").status_code == 200
    before = services.settings
    try:
        services.settings = replace(before, ops_emails=(Operator(ACTS, False),))
        assert post(client, "/ops/pause", "/ops", why="x").status_code == 403
        services.settings = replace(before, ops_emails=())
        assert get(client, "/ops").status_code == 303
    finally:
        services.settings = before


def test_a_form_without_token_or_from_elsewhere_is_refused(ops: Flask) -> None:
    client = operator_browser(ops)
    assert call(client, "POST", "/ops/pause", token=False).status_code == 400
    answer = call(client, "POST", "/ops/pause", Origin="https://evil.example")
    assert answer.status_code == 400
    with services_of(ops).ledger.read() as connection:
        assert installation.paused(connection) is None
