"""What the sandboxes send to the portal: the button's signed callouts and WHMCS' signed events, to a small receiver."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
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
    """A portal that answers what it is told to; `statuses` (perhaps with headers) are used up one by one, then 200."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.statuses: list[int | tuple[int, dict[str, str]]] = []
        self.answers: dict[str, int] = {}
        self.hold = threading.Event()
        self.hold.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.deliveries.append(Delivery(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                receiver.hold.wait(60)
                order = self.path.split("/")[-2]
                told = receiver.statuses.pop(0) if receiver.statuses else receiver.answers.get(order, 200)
                status, headers = told if isinstance(told, tuple) else (told, {})
                answer = json.dumps({"said": status, "title": f"Title {status}"}).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
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
    sides.org.settings(minute_seconds=0.01)
    yield running
    sides.org.settings(portal_url=None)
    sides.whmcs.settings(portal_url=None)
    running.close()


def test_the_guides_callout(receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    key = new_order()
    org.settings(org_utc_offset_minutes=120)
    result = org.provision(key, mode="guide")
    (sent,) = receiver.deliveries
    assert sent.path == f"/prefix/orders/{key}/fulfill"
    body = sent.json()
    assert list(body) == ["orderId", "timestamp", "nonce"]
    assert sent.body == json.dumps(body, separators=(",", ":")).encode()
    assert body["orderId"] == key
    assert re.fullmatch(r"[0-9a-f]{16}", body["nonce"])
    local = datetime.fromisoformat(body["timestamp"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < local <= timedelta(minutes=120), "local time labelled Z"
    signature = hmac.new(WEBHOOK_SECRET.encode(), sent.body, hashlib.sha256).hexdigest()
    assert sent.headers["x-sf-signature"] == signature
    assert (sent.headers["x-sf-timestamp"], sent.headers["x-sf-nonce"]) == (body["timestamp"], body["nonce"])
    assert re.fullmatch(rf"provision_{key}_\d{{13}}", sent.headers["idempotency-key"])
    assert sent.headers["content-type"] == "application/json"
    assert (result["status"], json.loads(result["body"])) == (200, {"said": 200, "title": "Title 200"})
    assert org.order(key)["Provisioning_Status__c"] == "Provisioned"


def test_what_the_apex_does_with_answers(
    receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    key = new_order()
    org.settings(callout_mode="guide")
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
    assert refused["status"] is None
    assert "refused" in org.order(key)["Provisioning_Error_Message__c"]
    actions = [entry["action"] for entry in org.journal(order=key) if entry["direction"] != "in"]
    assert actions == ["callout", "apex.update"] * 5


def test_callouts_to_order(receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    key = new_order()
    org.provision(
        key,
        mode="guide",
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
    assert sent.path.endswith(f"/orders/{key[:15]}/fulfill")
    assert sent.json()["requestedBy"] == "me"
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
    org.settings(org_utc_offset_minutes=120)
    result = org.provision(key)
    (sent,) = receiver.deliveries
    body = sent.json()
    assert list(body) == ["orderId", "timestamp", "nonce", "requestedBy"]
    assert sent.body == json.dumps(body, separators=(",", ":")).encode()
    assert body["requestedBy"] == "operator@northwind.example"
    assert re.fullmatch(r"[0-9a-f]{32}", body["nonce"])
    assert abs(datetime.fromisoformat(body["timestamp"]) - datetime.now(UTC)) < timedelta(seconds=20), "GMT"
    assert sent.headers["x-sf-signature"] == hmac.new(WEBHOOK_SECRET.encode(), sent.body, hashlib.sha256).hexdigest()
    assert re.fullmatch(rf"provision_{key}_[0-9a-f]{{32}}", sent.headers["idempotency-key"])
    assert "prefer" not in sent.headers
    assert (result["status"], result["mode"]) == (200, "package")
    assert org.order(key)["Provisioning_Status__c"] == "Requested", "the outcome is the portal's to write"
    actions = [entry["action"] for entry in org.journal(order=key) if entry["direction"] != "in"]
    assert actions == ["apex.update", "callout"], "Requested comes first"


def test_what_may_be_otherwise_later_is_tried_again(
    receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    key = new_order()
    receiver.statuses = [408, 425, 429, 503, 500, 202]
    assert org.provision(key)["status"] == 202
    assert [each["attempt"] for each in org.callouts(key)] == [1, 2, 3, 4, 5, 6]
    assert len({each.headers["idempotency-key"] for each in receiver.deliveries}) == 1, "one click, one key"
    assert len({each.json()["nonce"] for each in receiver.deliveries}) == 6, "a fresh nonce each time"
    receiver.hold.clear()
    assert org.provision(key, timeout=0.1, attempts=2)["error"] == "Read timed out"
    receiver.hold.set()
    assert org.provision(key, portal_url="http://127.0.0.1:9", attempts=2)["attempt"] == 2
    assert org.order(key)["Provisioning_Status__c"] == "Requested", "for the portal's sweep to find"


def test_pauses_grow_and_honour_retry_after(
    receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    key = new_order()
    org.settings(retry_minutes=[10, 20])
    receiver.statuses = [503, (503, {"Retry-After": "1"}), 200]
    org.provision(key)
    first, second, third = [each["received"] for each in org.journal(order=key, action="callout")]
    assert second - first >= 0.1
    assert third - second >= 1.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422])
def test_definite_refusals_end_the_click(
    receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str], status: int
) -> None:
    key = new_order()
    receiver.statuses = [status]
    assert org.provision(key)["status"] == status
    assert len(receiver.deliveries) == 1
    found = org.order(key)
    assert found["Provisioning_Status__c"] == "Failed"
    assert found["Provisioning_Error_Message__c"] == f"HTTP {status}: Title {status}"


def test_what_the_portal_wrote_stays(receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    key = new_order()
    receiver.hold.clear()
    receiver.statuses = [422]
    org.provision_in_background(key)
    org.wait_for(lambda: receiver.deliveries)
    org.set("Order", key, Provisioning_Status__c="Failed", Provisioning_Error_Message__c="The portal's words")
    receiver.hold.set()
    org.wait_for(lambda: org.callouts(key)[-1]["status"])
    assert org.provision(new_order())["status"] == 200, "the click before is through"
    assert org.order(key)["Provisioning_Error_Message__c"] == "The portal's words"
    for status in ("Activating", "Provisioned"):
        org.set("Order", key, Provisioning_Status__c=status)
        assert org.provision(key)["status"] == 200
        assert org.order(key)["Provisioning_Status__c"] == status


def test_a_click_that_never_leaves(receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    first, second, third = new_order(), new_order(), new_order()
    assert org.provision(first, lost=True)["lost"] is True
    org.settings(lost_clicks=1)
    assert org.provision(second)["lost"] is True
    assert org.provision(third)["status"] == 200
    assert [each["Provisioning_Status__c"] for each in map(org.order, (first, second, third))] == ["Requested"] * 3
    assert [each.json()["orderId"] for each in receiver.deliveries] == [third]


def test_a_click_that_the_org_refuses(
    receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    key = new_order()
    org.settings(picklists={"Order.Provisioning_Status__c": ["Provisioned", "Failed"]})
    assert "bad value for restricted picklist field: Requested" in org.provision(key)["dmlError"]
    org.settings(picklists={}, lock_wait_seconds=0.05)
    org.lock(key)
    assert org.provision(key)["dmlError"].startswith("UNABLE_TO_LOCK_ROW")
    org.unlock()
    org.settings(failing_triggers={"Order": True})
    assert "Apex CPU time limit exceeded" in org.provision(key)["dmlError"]
    assert receiver.deliveries == []
    org.settings(failing_triggers={}, refused_writes={"Order": "INSUFFICIENT_ACCESS_OR_READONLY"})
    assert org.provision(key)["status"] == 200, "the API user's rights are nothing to Apex"


def test_many_orders_at_once(receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    keys = [new_order() for _ in range(8)]
    receiver.answers = {keys[3]: 409}
    receiver.statuses = [503]
    since = org.last_entry()
    results = org.provision_many(keys)
    assert [each["orderId"] for each in results] == keys
    assert [each["status"] for each in results] == [409 if each == keys[3] else 200 for each in keys]
    assert {each.headers["prefer"] for each in receiver.deliveries} == {"respond-async"}
    assert len(receiver.deliveries) == 9
    assert len({each.headers["idempotency-key"] for each in receiver.deliveries}) == 8
    order = [each["action"] for each in org.journal(since) if each["direction"] != "in"]
    assert order[:9] == ["apex.update"] * 8 + ["callout"], "all are marked before the first call"
    assert org.order(keys[3])["Provisioning_Status__c"] == "Failed"


def test_the_list_has_the_button_for_many(
    receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    keys = [new_order(), new_order()]
    listed = requests.get(f"{org.url}/", timeout=30).text
    assert all(f'type="checkbox" name="order" value="{key}"' in listed for key in keys)
    answer = requests.post(f"{org.url}/provision", data={"order": keys}, headers={"Origin": org.url}, timeout=30)
    assert answer.status_code == 200
    assert answer.url == f"{org.url}/"
    org.wait_for(lambda: len(receiver.deliveries) == 2)
    assert {each.json()["orderId"] for each in receiver.deliveries} == set(keys)
    assert requests.post(f"{org.url}/provision", data={}, timeout=30).status_code == 200


def test_the_button_comes_back_at_once(
    receiver: Receiver, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    key = new_order()
    org.settings(callout_mode="guide")
    receiver.hold.clear()
    page = requests.post(f"{org.url}/orders/{key}/provision", headers={"Origin": org.url}, timeout=30)
    assert page.status_code == 200
    assert page.url.endswith(f"/orders/{key}")
    org.wait_for(lambda: receiver.deliveries)
    waiting = requests.get(f"{org.url}/orders/{key}", timeout=30).text
    assert "waiting for the portal" in waiting
    assert 'http-equiv="refresh"' in waiting
    receiver.hold.set()
    org.wait_for(lambda: org.order(key)["Provisioning_Status__c"] == "Provisioned")
    done = requests.get(f"{org.url}/orders/{key}", timeout=30).text
    assert "HTTP 200" in done
    assert "&quot;said&quot;: 200" in done
    assert 'http-equiv="refresh"' not in done


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
    assert password
    assert password not in str(receiver.deliveries) + str(whmcs.journal())
