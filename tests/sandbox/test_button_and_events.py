"""What the sandboxes send to the portal: the guide's signed callout and WHMCS' signed events, to a small receiver."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
import requests

from sandbox.control import SalesforceSandbox, WhmcsSandbox
from tests.sandbox.conftest import WEBHOOK_SECRET, WHMCS_WEBHOOK_SECRET, Sides

Api = Callable[..., requests.Response]


class Delivery(NamedTuple):
    """One request as the portal would see it."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Receiver:
    """A portal that answers what it is told to; `statuses` are used up one by one, then 200."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.statuses: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.deliveries.append(Delivery(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                receiver.hold.wait(60)
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                answer = json.dumps({"said": status}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


@pytest.fixture
def receiver(sides: Sides) -> Iterator[Receiver]:
    running = Receiver()
    sides.org.settings(portal_url=f"{running.url}/prefix")
    yield running
    sides.org.settings(portal_url=None)
    sides.whmcs.settings(portal_url=None)
    running.close()


def test_the_guides_callout(receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    key = new_order()
    result = org.provision(key)
    (sent,) = receiver.deliveries
    assert sent.path == f"/prefix/orders/{key}/fulfill"
    body = sent.json()
    assert list(body) == ["orderId", "timestamp", "nonce"]
    assert sent.body == json.dumps(body, separators=(",", ":")).encode()
    assert body["orderId"] == key and re.fullmatch(r"[0-9a-f]{16}", body["nonce"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timestamp"])
    signature = hmac.new(WEBHOOK_SECRET.encode(), sent.body, hashlib.sha256).hexdigest()
    assert sent.headers["x-sf-signature"] == signature
    assert (sent.headers["x-sf-timestamp"], sent.headers["x-sf-nonce"]) == (body["timestamp"], body["nonce"])
    assert re.fullmatch(rf"provision_{key}_\d{{13}}", sent.headers["idempotency-key"])
    assert sent.headers["content-type"] == "application/json"
    assert (result["status"], json.loads(result["body"])) == (200, {"said": 200})
    assert org.order(key)["Provisioning_Status__c"] == "Provisioned"


def test_what_the_apex_does_with_answers(
    receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    key = new_order()
    for status in (202, 409, 500):
        receiver.statuses = [status]
        org.provision(key)
        found = org.order(key)
        assert (found["Provisioning_Status__c"], found["Provisioning_Error_Message__c"]) == ("Failed", f"HTTP {status}")
    receiver.hold.clear()
    assert org.provision(key, timeout=0.2)["error"] == "Read timed out"
    receiver.hold.set()
    assert org.order(key)["Provisioning_Error_Message__c"] == "Read timed out"
    refused = org.provision(key, portal_url="http://127.0.0.1:9")
    assert refused["status"] is None and "refused" in org.order(key)["Provisioning_Error_Message__c"]
    actions = [entry["action"] for entry in org.journal(order=key) if entry["direction"] != "in"]
    assert actions == ["callout", "apex.update"] * 5


def test_callouts_to_order(receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    key = new_order()
    org.provision(
        key,
        key="k",
        nonce="n",
        timestamp="t",
        headers={"Prefer": "respond-async"},
        secret="other",
        fields={"requestedBy": "me"},
        path_id=key[:15],
        write_back=False,
    )
    sent = receiver.deliveries[0]
    assert sent.path.endswith(f"/orders/{key[:15]}/fulfill") and sent.json()["requestedBy"] == "me"
    assert [sent.headers[name] for name in ("idempotency-key", "x-sf-nonce", "x-sf-timestamp", "prefer")] == [
        "k",
        "n",
        "t",
        "respond-async",
    ]
    assert sent.headers["x-sf-signature"] == hmac.new(b"other", sent.body, hashlib.sha256).hexdigest()
    assert org.order(key)["Provisioning_Status__c"] is None


def test_the_packages_callout(receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    key = new_order()
    receiver.statuses = [503, 502, 202]
    assert org.provision(key, mode="package")["status"] == 202
    assert len({each.headers["idempotency-key"] for each in receiver.deliveries}) == 1
    assert len({each.json()["nonce"] for each in receiver.deliveries}) == 3
    assert org.order(key)["Provisioning_Status__c"] == "Requested", "the outcome is the portal's to write"
    receiver.statuses = [422]
    org.provision(key, mode="package")
    assert org.order(key)["Provisioning_Status__c"] == "Failed"


def test_the_button_comes_back_at_once(
    receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    key = new_order()
    receiver.hold.clear()
    page = requests.post(f"{org.url}/orders/{key}/provision", headers={"Origin": org.url}, timeout=30)
    assert page.status_code == 200 and page.url.endswith(f"/orders/{key}")
    org.wait_for(lambda: receiver.deliveries)
    waiting = requests.get(f"{org.url}/orders/{key}", timeout=30).text
    assert "waiting for the portal" in waiting and 'http-equiv="refresh"' in waiting
    receiver.hold.set()
    org.wait_for(lambda: org.order(key)["Provisioning_Status__c"] == "Provisioned")
    done = requests.get(f"{org.url}/orders/{key}", timeout=30).text
    assert "HTTP 200" in done and "&quot;said&quot;: 200" in done and 'http-equiv="refresh"' not in done


def test_events_of_whmcs(receiver: Receiver, whmcs: WhmcsSandbox, api: Api, client: Callable[..., int]) -> None:
    customer = client("events@example.com")
    whmcs.settings(portal_url=receiver.url)
    made = api(
        "AddOrder", **{"clientid": customer, "paymentmethod": "stripe", "pid[0]": 1, "billingcycle[0]": "monthly"}
    ).json()
    order, service = made["orderid"], made["serviceids"]
    whmcs.fail_module("no space left", serviceid=int(service), count=1)
    receiver.statuses = [500]
    api("AcceptOrder", orderid=order)
    api("ModuleCreate", serviceid=service)
    api("ModuleSuspend", serviceid=service)
    api("ModuleTerminate", serviceid=service)
    api("AddPayMethod", clientid=customer, card_number="4111111111111111")
    api("FraudOrder", orderid=order)
    expected = [
        "service.failed",
        "order.accepted",
        "service.active",
        "service.suspended",
        "service.terminated",
        "paymethod.added",
        "order.cancelled",
    ]
    whmcs.wait_for(
        lambda: (
            len(
                [each for each in whmcs.outbox() if each["delivered"] and each["data"].get("clientId") == str(customer)]
            )
            == len(expected)
        )
    )
    events: dict[str, dict[str, Any]] = {}
    for sent in receiver.deliveries:
        body = sent.json()
        assert sent.path == "/webhooks/whmcs"
        assert (
            sent.headers["x-whmcs-signature"]
            == hmac.new(WHMCS_WEBHOOK_SECRET.encode(), sent.body, hashlib.sha256).hexdigest()
        )
        assert (sent.headers["x-whmcs-timestamp"], sent.headers["x-whmcs-nonce"]) == (body["timestamp"], body["nonce"])
        events[body["event"]] = body
    assert sorted(events) == sorted(expected)
    assert events["service.active"]["data"] == {
        "serviceId": service,
        "orderId": order,
        "clientId": str(customer),
        "productId": "1",
        "status": "Active",
    }
    assert events["service.failed"]["data"]["message"] == "no space left"
    assert events["order.cancelled"]["data"] == {"orderId": order, "clientId": str(customer), "status": "Fraud"}
    ids = [sent.json()["id"] for sent in receiver.deliveries]
    assert len(ids) == len(set(ids)) + 1, "the event refused once came again under its id"
    nonces = [sent.json()["nonce"] for sent in receiver.deliveries]
    assert len(nonces) == len(set(nonces)), "each delivery has a nonce of its own"
    password = next(each["password"] for each in whmcs.state("services")["services"] if str(each["id"]) == service)
    assert password and password not in str(receiver.deliveries) + str(whmcs.journal())
