"""The pretend WHMCS satisfies two clients from npm: whmcs-js, and whmcs with its username and password."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.control import WhmcsSandbox
from tests.sandbox.conftest import IDENTIFIER, SECRET

Drive = Callable[..., dict[str, Any]]
Refusals = Callable[[dict[str, Any]], list[str]]
ADMIN, ADMIN_PASSWORD = "staff", "staff-password-of-the-tests"
MD5 = hashlib.md5(ADMIN_PASSWORD.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def administrator(whmcs: WhmcsSandbox) -> None:
    """An administrator who may sign in beside the API credentials."""
    whmcs.settings(admin_username=ADMIN, admin_password=ADMIN_PASSWORD)


@pytest.mark.parametrize(
    "credentials",
    [
        {"identifier": IDENTIFIER, "secret": SECRET},
        {"username": IDENTIFIER, "password": SECRET},
    ],
    ids=["identifier", "username"],
)
@pytest.mark.parametrize("ids", ["strings", "ints"])
def test_whmcs_js(drive: Drive, refusals: Refusals, whmcs: WhmcsSandbox, credentials: dict[str, str], ids: str) -> None:
    whmcs.settings(ids=ids)
    for each in whmcs.state("clients")["clients"]:
        if each["email"].startswith("whmcs-js-"):
            whmcs.set("clients", each["id"], email=f"gone-{each['id']}@example.com")
    wrong = dict.fromkeys(credentials, "wrong")
    told = drive("whmcs_js.cjs", url=whmcs.api_url, credentials=credentials, wrong=wrong)
    assert len(told) >= 30, told
    assert refusals(told) == ["acceptTwice", "wrongCredentials"], told
    assert told["acceptTwice"]["message"] == "Order ID not found or Status not Pending"
    assert told["wrongCredentials"]["message"] == "Authentication Failed"
    order = told["getOrders"]["orders"]["order"][0]
    assert isinstance(order["id"], str if ids == "strings" else int)
    assert (order["status"], order["lineitems"]["lineitem"][0]["domain"]) == ("Pending", "a.example")
    (service,) = told["getClientsProducts"]["products"]["product"]
    assert (service["status"], str(service["orderid"])) == ("Active", str(told["addOrder"]["orderid"]))
    assert told["getClients"]["clients"]["client"][0]["companyname"] == "Nodes"
    assert told["getInvoices"]["invoices"]["invoice"][0]["status"] == "Paid"
    assert told["getTransactions"]["transactions"]["transaction"][0]["transid"] == "t"
    assert told["getActivityLog"]["activity"]["entry"][0]["description"] == "seen by whmcs-js"
    assert told["getTickets"]["tickets"]["ticket"][0]["subject"] == "Help"
    assert str(told["addOrderAgain"]["orderid"]) not in [str(each["id"]) for each in whmcs.state("orders")["orders"]]


@pytest.mark.parametrize(
    ("username", "password"), [(IDENTIFIER, SECRET), (ADMIN, MD5)], ids=["credentials", "administrator"]
)
def test_whmcs(drive: Drive, refusals: Refusals, whmcs: WhmcsSandbox, username: str, password: str) -> None:
    email = f"whmcs-{username}@example.com"
    told = drive("whmcs.cjs", url=whmcs.api_url, username=username, password=password, email=email)
    assert len(told) >= 20, told
    assert refusals(told) == ["acceptTwice"], told
    assert "Order ID not found or Status not Pending" in told["acceptTwice"]["message"]
    client = told["createCustomer"]["clientid"]
    assert told["getCustomerByEmail"]["client"]["id"] == told["getCustomer"]["client"]["id"] == client
    assert told["getCustomerOrders"]["orders"]["order"][0]["status"] == "Active"
    assert told["getCustomerProducts"]["products"]["product"][0]["domain"] == "old.example"
    assert told["getInvoices"]["invoices"]["invoice"][0]["status"] == "Paid"
    assert told["getTickets"]["tickets"]["ticket"][0]["subject"] == "Help"


def test_an_administrators_password_goes_as_a_digest_only(whmcs: WhmcsSandbox, drive: Drive) -> None:
    told = drive(
        "whmcs_js.cjs",
        url=whmcs.api_url,
        credentials={"identifier": IDENTIFIER, "secret": SECRET},
        wrong={"username": ADMIN, "password": ADMIN_PASSWORD},
    )
    assert told["wrongCredentials"]["message"] == "Authentication Failed"
