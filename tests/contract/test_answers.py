"""What the portal answers, as the shipped Apex reads it: accepted, refused, or to be sent again."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from integrations.salesforce.checks.platform import Org, Response, package_class
from integrations.salesforce.checks.runtime import Runtime
from tests.contract.record import CLASSES
from tests.fulfilling import customer
from tests.stack import Stack, http

pytestmark = [
    pytest.mark.example,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl isn't installed: nothing here can be signed"),
]
SENDING = (*CLASSES, "OrderProvisioningCallout", "OrderProvisioningAnswer")


def org_before(stack: Stack, secret: str | None = None) -> Org:
    """An org whose callouts reach this stack's portal."""
    org = Org(secret or stack.secret("sf_webhook_secret"))

    def callout(request: Any) -> Response:
        url, headers, body = org.on_the_wire(request, stack.urls["portal"])
        answer = http("POST", url, body, headers)
        return Response(answer.status, answer.text, answer.headers)

    org.send = callout
    return org


def runtime_before(stack: Stack, secret: str | None = None) -> Runtime:
    return org_before(stack, secret).runtime(*map(package_class, SENDING))


def attempt(runtime: Runtime, order: str, key: str) -> dict[str, Any]:
    """One attempt of the package's job: the answer as the Apex reads it."""
    fields = dict(runtime.call("OrderProvisioningCallout", "send", order, key, "Ada Lovelace").fields)
    return {**fields, "kind": fields["kind"].name}


def read(status: int, body: str, retry_after: str | None = None, *, now: datetime | None = None) -> dict[str, Any]:
    runtime = Org("", now=now).runtime(*map(package_class, SENDING))
    fields = dict(runtime.call("OrderProvisioningAnswer", "read", status, body, retry_after).fields)
    return {**fields, "kind": fields["kind"].name}


# --- the running portal's answers ------------------------------------------------------------------------------


def test_a_click_is_accepted_at_once_and_its_retry_hears_the_outcome(stack: Stack) -> None:
    order, runtime = stack.order("starter"), runtime_before(stack)
    key = f"provision_{order}_{'1a' * 16}"
    assert attempt(runtime, order, key)["kind"] == "ACCEPTED"
    assert stack.finished(order)["state"] == "provisioned"
    again = attempt(runtime, order, key)
    assert (again["kind"], again["message"]) == ("ACCEPTED", "Provisioned")


def test_a_failure_is_refused_under_the_code_that_the_portal_writes(stack: Stack) -> None:
    order, runtime = stack.order("starter", customer=customer(stack, card=False)[0]), runtime_before(stack)
    key = f"provision_{order}_{'2b' * 16}"
    assert attempt(runtime, order, key)["kind"] == "ACCEPTED"
    row = stack.finished(order)
    refused = attempt(runtime, order, key)
    assert (refused["kind"], refused["code"]) == ("REFUSED", row["error_code"]) == ("REFUSED", "PAYMENT_METHOD_MISSING")
    assert refused["message"] == f"HTTP 409 Payment method missing: {row['error_message']}"

    empty = stack.order()
    key = f"provision_{empty}_{'3c' * 16}"
    attempt(runtime, empty, key)
    stack.finished(empty)
    assert attempt(runtime, empty, key)["code"] == "ORDER_HAS_NO_ITEMS"


def test_an_order_the_portal_cannot_see_is_refused(stack: Stack) -> None:
    order, runtime = f"801{int(time.time()):012d}AAA", runtime_before(stack)
    key = f"provision_{order}_{'4d' * 16}"
    attempt(runtime, order, key)
    stack.finished(order)
    assert attempt(runtime, order, key)["code"] == "ORDER_NOT_FOUND"


def test_a_wrong_secret_is_refused_in_words(stack: Stack) -> None:
    runtime = runtime_before(stack, secret="not-the-portals-0123456789abcdef0123456789")
    refused = attempt(runtime, stack.order("starter"), "a-key")
    assert (refused["kind"], refused["code"]) == ("REFUSED", "INVALID_SIGNATURE")
    assert refused["message"].startswith("HTTP 401 Invalid signature: X-SF-Signature must be")


def test_the_endpoints_old_name_is_refused(stack: Stack) -> None:
    answer = http("POST", f"{stack.urls['portal']}/orders/{stack.order('starter')}/provision", b"{}")
    refused = read(answer.status, answer.text)
    assert (refused["kind"], refused["code"]) == ("REFUSED", "ENDPOINT_RENAMED")


# --- the whole table of statuses ---------------------------------------------------------------------------------


def test_every_status_means_what_the_table_says() -> None:
    problem = '{"title":"Title","detail":"Detail","code":"some_code","status":"as text"}'
    for status in range(100, 600):
        if status in (200, 202):
            expected = "ACCEPTED"
        elif status in (408, 425, 429) or status >= 500:
            expected = "UNAVAILABLE"
        else:
            expected = "REFUSED"
        answer = read(status, problem)
        assert answer["kind"] == expected, status
        if expected != "ACCEPTED":
            assert (answer["code"], answer["message"]) == ("SOME_CODE", f"HTTP {status} Title: Detail")


@pytest.mark.parametrize("body", ["", "<html>hello</html>", "[]", '"text"', "null", "{}", '{"ok":true}'])
@pytest.mark.parametrize("status", [200, 202, 302, 400, 404])
def test_what_is_not_the_portals_is_said_to_be_so(status: int, body: str) -> None:
    answer = read(status, body)
    assert answer["kind"] == "REFUSED"
    assert "not from the portal" in answer["message"]


@pytest.mark.parametrize("body", ["", "<html>502 Bad Gateway</html>"])
def test_a_proxys_5xx_is_tried_again(body: str) -> None:
    assert read(502, body)["kind"] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        (" 7 ", 7),
        ("999999999999", 3600),
        ("-5", 0),
        ("soon", 0),
        ("Sat, 31 Jan 2026 09:35:00 GMT", 300),
        ("Sat, 31 Jan 2026 09:00:00 GMT", 0),
        ("Thu, 31 Dec 2099 00:00:00 GMT", 3600),
    ],
)
def test_retry_after(header: str | None, seconds: int) -> None:
    now = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    assert read(503, "", header, now=now)["retryafterseconds"] == seconds


@pytest.mark.parametrize(
    ("message", "kind", "code"),
    [
        ("Read timed out", "UNAVAILABLE", "PORTAL_UNREACHABLE"),
        ("Exceeded maximum time allotted for callout (120000 ms)", "UNAVAILABLE", "PORTAL_UNREACHABLE"),
        ("We couldn't access the credential(s). You might not have …", "REFUSED", "CALLOUT_NOT_ALLOWED"),
        ("Unauthorized endpoint, please check Setup->Security->Remote site settings", "REFUSED", "CALLOUT_NOT_ALLOWED"),
    ],
)
def test_a_callout_without_an_answer(message: str, kind: str, code: str) -> None:
    runtime = Org("").runtime(*map(package_class, SENDING))
    fields = runtime.call("OrderProvisioningAnswer", "ofFailure", message).fields
    assert (fields["kind"].name, fields["code"]) == (kind, code)
    assert message in fields["message"]
