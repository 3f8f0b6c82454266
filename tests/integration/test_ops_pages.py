"""/ops answers where an order is, why, and what now: by anything quoted, from sign-in to cause in four requests."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask

from portal.domain.model import State, Step, StepState
from portal.ledger import fulfillments, orders, placements, runs, search
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.ledger.schema import orders as orders_table
from portal.web.signing import Links
from tests.customers import make_order
from tests.customers_in_process import browser
from tests.fulfilling import customer, provisioned
from tests.operators import ACTS, get, operator_browser, post, services_of
from tests.stack import Stack

MOST_BYTES = 40 * 1024


def test_from_the_sign_in_to_a_planted_failures_cause_in_four_requests(ops: Flask, stack: Stack) -> None:
    who, _ = customer(stack, card=False)
    order = stack.order("starter", customer=who)
    assert stack.fulfill(order).status == 409
    services = services_of(ops)
    client = browser(ops)
    link = urlsplit(Links(services.settings).operator(ACTS, now=services.now())).path
    get(client, link)
    requests = 0
    answer = post(client, link, link)  # the sign-in itself
    page = get(client, urlsplit(answer.headers["Location"]).path)
    requests += 1
    if "PAYMENT_METHOD_MISSING" not in page.text or f"/ops/orders/{order}" not in page.text:
        pytest.fail("the newest failure isn't on the first page")
    page = get(client, f"/ops/orders/{order}")
    requests += 1
    assert requests <= 4
    assert "PAYMENT_METHOD_MISSING" in page.text
    assert "The customer has no payment method in WHMCS" in page.text
    assert "AddOrder was never sent." in page.text


def test_an_order_is_found_by_whatever_a_person_quotes(ops: Flask, stack: Stack) -> None:
    who, client_id = customer(stack)
    order = stack.order("starter", customer=who)
    body_key = "key-of-a-click-4711"
    assert stack.fulfill(order, key=body_key).status == 200
    active = provisioned(stack, order)
    row = stack.fulfillment(order)
    assert row is not None
    (known,) = stack.ledger("SELECT * FROM orders WHERE sf_order_id = ?", order)
    client = operator_browser(ops)
    for word in (
        order,
        order[:15],
        known["order_number"],
        known["order_number"].lstrip("0"),
        str(active["id"]),
        f"#{active['id']}",
        f"https://northwind.lightning.force.com/lightning/r/Order/{order}/view",
        f"sfOrderId={order}",
        body_key,
        client_id,
    ):
        answer = post(client, "/ops/find", "/ops", q=word)
        if answer.status_code == 303:
            assert answer.headers["Location"].endswith(f"/ops/orders/{order}"), word
        else:
            assert f"/ops/orders/{order}" in answer.text, word
    made = make_order(ops, stack, email="zoe@find.example")
    for word in ("Zoe@find.example", made.reference, made.reference.lower(), made.domain, f"https://{made.domain}/"):
        answer = post(client, "/ops/find", "/ops", q=word)
        assert answer.headers["Location"].endswith(f"/ops/orders/{made.sf_order_id}"), word
    for word in ("payment_method_missing", "Payment method missing"):
        answer = post(client, "/ops/find", "/ops", q=word)
        assert answer.headers["Location"].endswith("/ops/find?code=PAYMENT_METHOD_MISSING"), word
    assert "No order of that" in post(client, "/ops/find", "/ops", q="nothing\N{SNOWMAN} like this").text


def test_one_order_tells_its_whole_story(ops: Flask, stack: Stack) -> None:
    who, client_id = customer(stack)
    order = stack.order("starter", customer=who)
    assert stack.fulfill(order, extra={"requestedBy": "Rita Reviewer"}, key="the-click").status == 200
    active = provisioned(stack, order)
    page = get(operator_browser(ops), f"/ops/orders/{order}").text
    for step in Step:
        assert f"<strong>{step.value}</strong> ✓ done" in page
    assert "by Rita Reviewer, key <code>the-click</code>" in page
    assert f"WHMCS order {active['id']} is the elected one" in page
    assert "Mapping report" in page
    created = next(row for row in stack.steps(order) if row["name"] == "whmcs_create")
    (call,) = json.loads(created["detail"])["calls"]
    assert call["call"] == "AddOrder"
    assert call["sent"]["clientId"] == client_id
    assert call["answered"]["orderId"] == str(active["id"])
    for word in ("AddOrder", "paymentMethod", "AcceptOrder", "Last_Provisioning_At__c"):
        assert f"{word}</d" in page, word
    assert "It took <strong>Provisioned</strong>" in page
    assert f'href="{services_of(ops).settings.sf_login_url}/{order}"' in page
    assert f"/admin/orders.php?action=view&amp;id={active['id']}" in page
    assert f"userid={client_id}" in page
    seen = get(operator_browser(ops), f"/ops/orders/{order}/customer").text
    assert "What the customer sees" in seen
    assert "<button" not in seen.split("<main")[1].split("</main>")[0]


def test_no_page_is_larger_than_40_kilobytes(ops: Flask, stack: Stack) -> None:
    services = services_of(ops)
    made = make_order(ops, stack)
    with services.ledger.write() as connection:
        now = services.now()
        fulfillments.request_fulfillment(connection, made.sf_order_id, now=now, requested_at=now)
        for attempt in range(1, 30):
            for step in Step:
                number = runs.begin_step(connection, made.sf_order_id, attempt, attempt, step, now=now + attempt)
                rows = [{"item": f"802{n:015d}", "product": "Business Hosting", "pid": "7"} for n in range(40)]
                detail = {"items": rows} if step is Step.MAPPING else {"error": "x" * 255, "code": "WHMCS_UNAVAILABLE"}
                runs.end_step(connection, number, StepState.FAILED, detail, now=now + attempt + 0.2)
        connection.execute(
            fulfillments_table.update()
            .where(fulfillments_table.c.sf_order_id == made.sf_order_id)
            .values(state=State.FAILED, attempt=29, error_code="WHMCS_UNAVAILABLE", error_message="y" * 255)
        )
    client = operator_browser(ops)
    pages = {path: get(client, path) for path in ("/ops", "/ops/find", f"/ops/orders/{made.sf_order_id}")}
    assert {path: len(page.data) for path, page in pages.items() if len(page.data) > MOST_BYTES} == {}
    older = re.search(r'href="([^"]+before=\d+)"', pages[f"/ops/orders/{made.sf_order_id}"].text)
    assert older
    assert "Attempt 25" in get(client, older[1]).text
    with services.ledger.write() as connection:
        row = fulfillments_table.c.sf_order_id == made.sf_order_id
        connection.execute(fulfillments_table.update().where(row).values(state=State.RUNNING))
    follows = re.search(r'id="order" hx-get="([^"]+)"', get(client, older[1]).text)
    assert follows
    assert follows[1] == older[1], "the earlier steps stay where they are when the page follows the order"
    assert "hx-get" in get(client, older[1], **{"HX-Request": "true"}).text


def test_a_lists_pages_miss_nothing_and_repeat_nothing(ops: Flask, stack: Stack) -> None:
    services = services_of(ops)
    made = {make_order(ops, stack).sf_order_id for _ in range(60)}
    with services.ledger.write() as connection:
        for number, sf_order_id in enumerate(sorted(made)):
            fulfillments.request_fulfillment(connection, sf_order_id, now=2e9 + number // 7, requested_at=2e9)
        connection.execute(
            fulfillments_table.update()
            .where(fulfillments_table.c.sf_order_id.in_(made))
            .values(state=State.FAILED, error_code="ORDER_HAS_NO_ITEMS", due_at=3e9)
        )
    client, path, seen = operator_browser(ops), "/ops/find?state=failed&code=ORDER_HAS_NO_ITEMS", []
    for _ in range(4):
        page = get(client, path).text
        seen += re.findall(r'class="found-head"><a href="[^"]*/ops/orders/([A-Za-z0-9]{18})"', page)
        further = re.search(r'href="([^"]+before=[^"]+)"', page)
        if not further:
            break
        path = further[1].replace("&amp;", "&")
    assert len(seen) == len(set(seen))
    assert made <= set(seen)
    with services.ledger.read() as connection:
        assert search.count(connection, search.Filter(code="ORDER_HAS_NO_ITEMS"), most=1000) == len(seen)
    assert get(client, "/ops/find?state=nonsense&before=%00nonsense&age=x").status_code in (200, 404)


def test_an_order_that_salesforce_doesnt_have_is_found_and_explained(ops: Flask, stack: Stack) -> None:
    services, client = services_of(ops), operator_browser(ops)
    now = services.now()
    waits, refused = (f"PO-{secrets.token_hex(4)}".upper() for _ in range(2))
    for reference in (waits, refused):
        order: dict[str, Any] = {
            "reference": reference,
            "checkout_key": reference,
            "account_id": "001000000000001AAA",
            "email": f"{reference}@placed.example".lower(),
            "items": [],
            "currency": "USD",
            "total": "5.00",
        }
        with services.ledger.write() as connection:
            orders.insert_placed_here(connection, **order, now=now - 3600)
            row = orders_table.c.reference == reference  # far off, so that the stack's sweep leaves it alone
            connection.execute(orders_table.update().where(row).values(place_due_at=now + 9000, place_tries=3))
    with services.ledger.write() as connection:
        placements.settle_refused(connection, refused, "FIELD_CUSTOM_VALIDATION_EXCEPTION", now=now)
    page = get(client, "/ops").text.split('id="not-placed"')[1].split("</section>")[0]
    assert page.index(waits) < page.index(refused)
    assert "Salesforce refused it: <code>FIELD_CUSTOM_VALIDATION_EXCEPTION</code>" in page
    for reference, said in (
        (waits, "Salesforce doesn&#39;t have it yet (3 tries so far); it is tried again by itself at"),
        (refused, "Salesforce refuses it: the log has its words."),
    ):
        answer = post(client, "/ops/find", "/ops", q=f"{reference}@placed.example")
        assert answer.headers["Location"].endswith(f"/ops/orders/{reference}")
        assert said in get(client, f"/ops/orders/{reference}").text
    with services.ledger.write() as connection:
        connection.execute(orders_table.delete().where(orders_table.c.reference.in_([waits, refused])))


def test_the_first_page_says_what_is_the_matter(ops: Flask, stack: Stack) -> None:
    page = get(operator_browser(ops), "/ops").text
    for words in (
        "Decisions to take first",
        "Failed last",
        "Waiting longest",
        "Jobs queued",
        "alive",
        "The last 24 hours",
    ):
        assert words in page
    assert "nobody is alive" not in page
    assert page.count('role="img"') == 2
    part = get(operator_browser(ops), "/ops", **{"HX-Request": "true"}).text
    assert part.lstrip().startswith('<div id="now"')
