"""Switches of the pretend WHMCS: carts that make less than was asked, odd answers, staff, events in the middle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from sandbox.control import SandboxError, WhmcsSandbox
from sandbox.whmcs.leaks import CANARIES, SPELLINGS, spellings

Api = Callable[..., requests.Response]
Client = Callable[..., int]

CART = {"paymentmethod": "stripe", "pid[0]": 1, "billingcycle[0]": "monthly", "qty[0]": 3}
TWO = {**CART, "pid[1]": 3, "billingcycle[1]": "monthly"}


def made(whmcs: WhmcsSandbox, order: Any) -> list[tuple[int, int]]:
    """An order's services: product and quantity."""
    services = whmcs.state("services")["services"]
    return sorted((each["pid"], each["qty"]) for each in services if str(each["orderid"]) == str(order))


def order_of(api: Api, customer: int, **cart: Any) -> dict[str, Any]:
    """AddOrder's answer."""
    return dict(api("AddOrder", clientid=customer, **cart).json())


def test_a_cart_that_makes_less_than_was_asked(api: Api, client: Client, whmcs: WhmcsSandbox) -> None:
    customer = client("less@example.com")
    assert made(whmcs, order_of(api, customer, **TWO)["orderid"]) == [(1, 1), (1, 1), (1, 1), (3, 1)]
    whmcs.fault("ignored_quantities", action="AddOrder")
    answer = order_of(api, customer, **TWO)
    assert (answer["result"], made(whmcs, answer["orderid"])) == ("success", [(1, 1), (3, 1)])
    whmcs.fault("skipped_product", action="AddOrder", client=customer)
    answer = order_of(api, customer, **TWO)
    assert made(whmcs, answer["orderid"]) == [(1, 1), (1, 1), (1, 1)]
    assert api("GetInvoice", invoiceid=answer["invoiceid"]).json()["total"] == "15.00"
    whmcs.fault("skipped_product", action="AddOrder", record="1")
    assert made(whmcs, order_of(api, customer, **TWO)["orderid"]) == [(3, 1)]
    stored = whmcs.orders_of(customer)[-1]
    assert [(each["pid"], each["qty"]) for each in stored["asked"]] == [(1, 3), (3, 1)], "what was asked is kept"
    whmcs.settings(quantities="ignored")
    assert made(whmcs, order_of(api, customer, **CART)["orderid"]) == [(1, 1)]
    whmcs.settings(quantities="multiple")
    whmcs.fault("skipped_product", action="AddOrder")
    assert order_of(api, customer, **CART)["message"] == "No items added to cart so order cannot proceed"


@pytest.mark.parametrize("action", ["GetOrders", "GetPayMethods", "GetClientsProducts", "GetClientsDetails"])
def test_any_words_on_any_read(api: Api, client: Client, whmcs: WhmcsSandbox, action: str) -> None:
    customer = client(f"words-{action}@example.com")
    whmcs.fault("RESULT_ERROR", action=action, message="Le serveur est en maintenance")
    assert api(action, clientid=customer).json() == {"result": "error", "message": "Le serveur est en maintenance"}
    whmcs.fault("WARNING_ONLY", action=action, message="Deprecated")
    answer = api(action, clientid=customer)
    assert (answer.status_code, answer.json()) == (200, {"warning": "Deprecated"})
    assert api(action, clientid=customer).json()["result"] == "success"


def test_a_warning_after_the_effect(api: Api, client: Client, whmcs: WhmcsSandbox) -> None:
    customer = client("warned@example.com")
    whmcs.fault("WARNING_ONLY", action="AddOrder", when="after")
    assert "result" not in order_of(api, customer, **CART)
    assert len(whmcs.orders_of(customer)) == 1


class Portal:
    """Takes events; holds each until told to go on."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        portal = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                portal.events.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


@pytest.fixture
def portal(whmcs: WhmcsSandbox) -> Iterator[Portal]:
    running = Portal()
    whmcs.settings(portal_url=running.url)
    yield running
    whmcs.settings(portal_url=None)
    running.close()


def told_of(whmcs: WhmcsSandbox, customer: int) -> list[str]:
    """The events recorded about a client, delivered or not."""
    return [each["event"] for each in whmcs.outbox() if each["data"].get("clientId") == str(customer)]


def test_staff_change_orders_with_and_without_an_event(
    api: Api, client: Client, whmcs: WhmcsSandbox, portal: Portal
) -> None:
    customer = client("staff@example.com")
    first, second, third = (order_of(api, customer, **CART)["orderid"] for _ in range(3))
    whmcs.staff("accept", order=first)
    before = told_of(whmcs, customer)
    assert before == ["service.active"] * 3 + ["order.accepted"]
    since = whmcs.last_entry()
    whmcs.staff("fraud", order=first, event=False)
    whmcs.staff("cancel", order=second, event=False)
    whmcs.staff("status", order=third, status="Awaiting Review", event=False)
    assert [each["status"] for each in whmcs.orders_of(customer)] == ["Fraud", "Cancelled", "Awaiting Review"]
    assert api("GetOrders", id=third).json()["orders"]["order"][0]["status"] == "Awaiting Review"
    whmcs.staff("pending", order=second, event=False)
    whmcs.staff("delete", order=first, event=False)
    assert api("GetOrders", id=first).json()["totalresults"] == 0
    assert made(whmcs, first) == []
    assert told_of(whmcs, customer) == before, "no hook told of it"
    entries = whmcs.journal(since, direction="staff")
    assert [each["action"] for each in entries] == [
        "staff.fraud",
        "staff.cancel",
        "staff.status",
        "staff.pending",
        "staff.delete",
    ]
    assert all(each["effect"] is not None and each["client"] == str(customer) for each in entries)
    whmcs.staff("fraud", order=third)
    assert told_of(whmcs, customer) == [*before, "order.cancelled"]
    with pytest.raises(SandboxError, match="no order 99999"):
        whmcs.staff("cancel", order=99999)
    with pytest.raises(SandboxError, match="unknown action"):
        whmcs.staff("nonsense", order=third)


def test_staff_change_services(api: Api, client: Client, whmcs: WhmcsSandbox, portal: Portal) -> None:
    customer = client("staff-services@example.com")
    answer = order_of(api, customer, **{**CART, "qty[0]": 1})
    whmcs.staff("service", service=answer["serviceids"], status="Terminated", event=False)
    (service,) = api("GetClientsProducts", serviceid=answer["serviceids"]).json()["products"]["product"]
    assert service["status"] == "Terminated"
    assert told_of(whmcs, customer) == []
    whmcs.staff("service", service=answer["serviceids"], status="Suspended")
    assert told_of(whmcs, customer) == ["service.suspended"]


def test_an_event_in_the_middle_of_a_call(api: Api, client: Client, whmcs: WhmcsSandbox, portal: Portal) -> None:
    customer = client("middle@example.com")
    order = order_of(api, customer, **CART)["orderid"]
    event = {"event": "order.cancelled", "data": {"orderId": order, "clientId": customer}, "wait": 20}
    whmcs.meanwhile(
        ("staff", {"action": "cancel", "orderId": order, "event": False}), ("events", event), action="GetOrders"
    )
    since = whmcs.last_entry()
    seen = api("GetOrders", id=order).json()["orders"]["order"][0]
    assert seen["status"] == "Cancelled", "the portal had the event before the answer"
    assert len(portal.events) == 1, "the portal had the event before the answer"
    asked, staff, webhook = sorted(whmcs.journal(since), key=lambda each: each["id"])
    assert [each["action"] for each in (asked, staff, webhook)] == ["GetOrders", "staff.cancel", "webhook"]
    assert asked["received"] <= webhook["received"] <= webhook["answered"] <= asked["answered"]
    assert whmcs.emit("paymethod.added", wait=20, clientId=customer) is True
    whmcs.settings(portal_url=None)
    with pytest.raises(SandboxError, match="events need"):
        whmcs.emit("paymethod.added", clientId=customer)
    whmcs.settings(portal_url=portal.url)


def test_errors_that_carry_credentials(api: Api, client: Client, whmcs: WhmcsSandbox) -> None:
    customer = client("leaks@example.com")
    order = order_of(api, customer, **{**CART, "qty[0]": 1})
    whmcs.settings(leaky_errors=True)
    whmcs.fail_module("Could not create the account")
    said = [api("ModuleCreate", serviceid=order["serviceids"]).json()["message"] for _ in SPELLINGS]
    assert sorted(said) == sorted(spellings("Could not create the account"))
    assert len(set(said)) == len(SPELLINGS) >= 10
    assert all(any(canary in each for canary in CANARIES.values()) or "Basic " in each for each in said)
    whmcs.settings(leaky_errors=False)
    assert api("ModuleCreate", serviceid=order["serviceids"]).json()["message"] == "Could not create the account"
