"""Every scripted fault does what its name says, and the journal tells the phases, so that a test can prove a kill."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import requests

from sandbox.control import SandboxError, WhmcsSandbox
from tests.sandbox.conftest import IDENTIFIER, SECRET, Sides

Api = Callable[..., requests.Response]
Client = Callable[..., int]

pytestmark = pytest.mark.usefixtures("sides")


def add_order(api: Api, customer: int, **params: Any) -> requests.Response:
    """AddOrder with two services, on a connection of its own."""
    return api(
        "AddOrder",
        keep=False,
        **{
            "clientid": customer,
            "paymentmethod": "stripe",
            "pid[0]": 1,
            "billingcycle[0]": "monthly",
            "qty[0]": 2,
            **params,
        },
    )


class Sender(threading.Thread):
    """An AddOrder in flight on a raw socket, that a test can abandon."""

    def __init__(self, whmcs: WhmcsSandbox, customer: int):
        super().__init__(daemon=True)
        parts = urlsplit(whmcs.url)
        body = urlencode(
            {
                "identifier": IDENTIFIER,
                "secret": SECRET,
                "action": "AddOrder",
                "clientid": customer,
                "paymentmethod": "stripe",
                "pid[0]": 1,
                "billingcycle[0]": "monthly",
            }
        ).encode()
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)
        self.socket.sendall(
            b"POST /includes/api.php HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" % len(body) + body
        )
        self.answer = b""
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            self.answer = self.socket.recv(65536)

    def vanish(self) -> None:
        """What a SIGKILL of the caller looks like from the other side."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.join(10)


def test_error_bodies(api: Api, whmcs: WhmcsSandbox) -> None:
    whmcs.fault("error", action="GetStats", status=502, body={"a": 1}, headers={"X-Test": "1"}, retry_after=7)
    whmcs.fault("error", action="GetStats", body="<b>text</b>")
    whmcs.fault("html", action="GetStats", status=200)
    whmcs.fault("html", action="GetStats")
    whmcs.fault("empty", action="GetStats")
    whmcs.fault("AUTHENTICATION_FAILED", action="GetStats")
    seen = [api("GetStats") for _ in range(7)]
    assert [answer.status_code for answer in seen] == [502, 500, 200, 503, 200, 403, 200]
    assert seen[0].json() == {"a": 1}
    assert (seen[0].headers["X-Test"], seen[0].headers["Retry-After"]) == ("1", "7")
    assert "Down for Maintenance" in seen[2].text
    assert seen[4].content == b""
    assert seen[5].json()["message"] == "Authentication Failed"
    assert [fault["applied"] for fault in whmcs.faults()] == [1] * 6


def test_errors_of_salesforce(sf: Any, sides: Sides) -> None:
    for kind, status in (
        ("INVALID_SESSION_ID", 401),
        ("REQUEST_LIMIT_EXCEEDED", 403),
        ("UNABLE_TO_LOCK_ROW", 400),
        ("SERVER_UNAVAILABLE", 503),
    ):
        sides.org.fault(kind, action="query", retry_after=3)
        url = f"{sides.org.url}/services/data/v67.0/query?q=SELECT+Id+FROM+Account"
        answer = requests.get(url, headers={"Authorization": sf.headers["Authorization"]}, timeout=30)
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (status, kind)
        assert answer.headers["Retry-After"] == "3"


@pytest.mark.parametrize(("kind", "orders"), [("drop_before", 0), ("drop_after", 1)])
@pytest.mark.parametrize("reset", [False, True])
def test_drop(api: Api, client: Client, whmcs: WhmcsSandbox, kind: str, orders: int, reset: bool) -> None:
    customer = client(f"{kind}-{reset}@example.com")
    whmcs.fault(kind, action="AddOrder", reset=reset)
    with pytest.raises(requests.ConnectionError):
        add_order(api, customer)
    assert len(whmcs.orders_of(customer)) == orders
    entry = whmcs.wait_for(lambda: whmcs.journal(client=str(customer), state="dropped"))[0]
    assert (entry["effect"] is not None) is bool(orders)
    assert (entry["answered"], entry["fault"]["kind"]) == (None, "drop")
    assert entry["gone"] is not None


def test_late_commit(api: Api, client: Client, whmcs: WhmcsSandbox) -> None:
    customer = client("late@example.com")
    whmcs.fault("late_commit", action="AddOrder", seconds=0.6, close_after=0.1)
    with pytest.raises(requests.ConnectionError):
        add_order(api, customer)
    assert whmcs.orders_of(customer) == []
    whmcs.wait_for(lambda: whmcs.orders_of(customer))
    entry = whmcs.wait_for(lambda: whmcs.journal(client=str(customer), state="dropped"))[0]
    assert entry["received"] + 0.1 <= entry["gone"] < entry["effect"]
    assert entry["effect"] - entry["received"] >= 0.6
    assert entry["outcome"]["result"] == "success"


def test_half_built(api: Api, client: Client, whmcs: WhmcsSandbox) -> None:
    customer = client("half@example.com")
    whmcs.fault("half_built", action="AddOrder", seconds=0.8)
    result: list[requests.Response] = []
    thread = threading.Thread(target=lambda: result.append(add_order(api, customer)))
    thread.start()
    whmcs.wait_for(lambda: whmcs.orders_of(customer))
    seen = api("GetOrders", userid=customer).json()["orders"]["order"][0]
    assert (seen["lineitems"], seen["invoiceid"]) == ({"lineitem": []}, "0")
    thread.join(30)
    whole = api("GetOrders", userid=customer).json()["orders"]["order"][0]
    assert len(whole["lineitems"]["lineitem"]) == 2
    assert whole["invoiceid"] == result[0].json()["invoiceid"] != "0"


def test_delay_and_hang(api: Api, client: Client, whmcs: WhmcsSandbox) -> None:
    customer = client("slow@example.com")
    whmcs.fault("delay", action="AddOrder", seconds=0.3)
    whmcs.fault("delay", action="AddOrder", seconds=0.3, when="after")
    for _ in range(2):
        since = whmcs.last_entry()
        assert add_order(api, customer).json()["result"] == "success"
        entry = whmcs.journal(since, action="AddOrder")[0]
        assert entry["inside"] >= 0.3
        assert whmcs.seconds_inside(since, action="AddOrder") == entry["inside"]
    assert entry["answered"] - entry["effect"] >= 0.3
    whmcs.fault("hang", action="AddOrder", seconds=0.2)
    with pytest.raises(requests.ConnectionError):
        add_order(api, customer)
    assert len(whmcs.orders_of(customer)) == 2


@pytest.mark.parametrize(("when", "orders"), [("before", 0), ("after", 1)])
def test_pause_point(api: Api, client: Client, whmcs: WhmcsSandbox, when: str, orders: int) -> None:
    customer = client(f"pause-{when}@example.com")
    whmcs.fault("pause_point", action="AddOrder", when=when)
    sender = Sender(whmcs, customer)
    entry = whmcs.wait_until_held(client=str(customer))
    assert (entry["held"], entry["effect"] is not None) == (when, bool(orders))
    assert len(whmcs.orders_of(customer)) == orders
    assert whmcs.release(entry["id"]) == [entry["id"]]
    sender.join(30)
    assert b'"result":"success"' in sender.answer
    assert len(whmcs.orders_of(customer)) == 1
    sender.vanish()
    assert whmcs.journal(client=str(customer), state="answered")[-1]["id"] == entry["id"]


@pytest.mark.parametrize(
    ("when", "then", "orders"),
    [("before", "continue", 1), ("before", "drop", 0), ("after", "continue", 1), ("after", "drop", 1)],
)
def test_a_caller_killed_while_held(
    api: Api, client: Client, whmcs: WhmcsSandbox, when: str, then: str, orders: int
) -> None:
    customer = client(f"killed-{when}-{then}@example.com")
    fault = whmcs.fault("pause_point", action="AddOrder", when=when)
    sender = Sender(whmcs, customer)
    entry = whmcs.wait_until_held(client=str(customer))
    sender.vanish()
    whmcs.wait_for(lambda: whmcs.journal(client=str(customer), held=True)[0]["gone"])
    whmcs.release(fault=fault, then=then)
    done = whmcs.wait_for(
        lambda: [
            each for each in whmcs.journal(entry["id"] - 1, action="AddOrder") if each["state"] in ("gone", "dropped")
        ]
    )[0]
    assert len(whmcs.orders_of(customer)) == orders
    assert done["answered"] is None
    # The proof a crash test needs: the caller left before (or after) the effect.
    if orders:
        assert (done["gone"] < done["effect"]) is (when == "before")


def test_matching(api: Api, client: Client, whmcs: WhmcsSandbox) -> None:
    first, second = client("match-1@example.com"), client("match-2@example.com")
    whmcs.fault("empty", action="get*", client=second, nth=2, count=2)
    seen = [api("GetOrders", userid=customer).content == b"" for customer in (first, second, second, second, second)]
    assert seen == [False, False, True, True, False]
    whmcs.clear_faults()
    whmcs.fault("empty", contains="sfOrderId=801000000000009AAA", count=0)
    assert add_order(api, first, notes="sfOrderId=801000000000009AAA").content == b""
    assert add_order(api, first, notes="sfOrderId=801000000000008AAA").json()["result"] == "success"
    whmcs.clear_faults()
    order = add_order(api, first, notes="sfOrderId=801000000000009AAA").json()["orderid"]
    whmcs.fault("empty", action="AcceptOrder", order="801000000000009AAA")
    assert api("AcceptOrder", orderid=order).content == b"", "the mark names the order whatever the action"


def test_probability_follows_the_seed_and_not_the_timing(api: Api, whmcs: WhmcsSandbox) -> None:
    def draw(orders: list[int], seed: int) -> dict[int, bool]:
        whmcs.clear_faults()
        whmcs.fault("empty", action="AcceptOrder", probability=0.5, seed=seed, count=0)
        return {order: api("AcceptOrder", orderid=order).content == b"" for order in orders}

    numbers = list(range(900_000, 900_040))
    assert draw(numbers, 1) == draw(numbers[::-1], 1)
    assert draw(numbers, 1) != draw(numbers, 2)
    assert 8 < sum(draw(numbers, 3).values()) < 32


def test_what_is_no_fault_is_refused(whmcs: WhmcsSandbox) -> None:
    with pytest.raises(SandboxError, match="unknown kind"):
        whmcs.fault("nonsense")
    with pytest.raises(SandboxError, match="unknown fields: acton"):
        whmcs.fault("empty", acton="AddOrder")
    with pytest.raises(SandboxError, match="unknown settings"):
        whmcs.settings(nonsense=1)
    with pytest.raises(SandboxError, match="404"):
        whmcs.call("GET", "nonsense")


def test_maintenance(api: Api, whmcs: WhmcsSandbox) -> None:
    whmcs.maintenance()
    answer = api("GetStats")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.text.startswith("<!DOCTYPE")
    assert requests.get(f"{whmcs.url}/", timeout=30).status_code == 503
    whmcs.maintenance(False)
    assert api("GetStats").json()["result"] == "success"


def test_other_sites_cannot_press_buttons(whmcs: WhmcsSandbox) -> None:
    answer = requests.post(
        f"{whmcs.url}/_sandbox/journal/rotate", headers={"Origin": "https://evil.example"}, timeout=30
    )
    assert answer.status_code == 403
    own = requests.post(f"{whmcs.url}/clients/1/paymethods", headers={"Origin": whmcs.url}, timeout=30)
    assert own.status_code == 200


def test_keep_alive_and_concurrency(whmcs: WhmcsSandbox, client: Client) -> None:
    customer = client("many@example.com")
    parts = urlsplit(whmcs.url)
    body = urlencode(
        {
            "identifier": IDENTIFIER,
            "secret": SECRET,
            "action": "AddOrder",
            "clientid": customer,
            "paymentmethod": "stripe",
            "pid[0]": 1,
            "billingcycle[0]": "monthly",
        }
    )
    problems: list[BaseException] = []

    def send(count: int) -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        try:
            for _ in range(count):
                connection.request(
                    "POST", "/includes/api.php", body, {"Content-Type": "application/x-www-form-urlencoded"}
                )
                assert b"success" in connection.getresponse().read()
        except BaseException as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(10,)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    found = whmcs.orders_of(customer)
    assert len(found) == len({each["id"] for each in found}) == 400
    newest = whmcs.journal(action="AddOrder", client=str(customer))
    assert len(newest) == 400
    assert all(each["state"] == "answered" for each in newest)
    assert time.time() > newest[-1]["answered"] >= newest[-1]["effect"] >= newest[-1]["received"]
