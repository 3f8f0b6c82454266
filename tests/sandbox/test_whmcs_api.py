"""The pretend WHMCS keeps the real one's traps (developer documentation and reports from live installs)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import requests

from sandbox.control import WhmcsSandbox
from sandbox.whmcs import php
from tests.sandbox.conftest import IDENTIFIER, SECRET

Api = Callable[..., requests.Response]


def order(api: Api, customer: int, **params: Any) -> dict[str, Any]:
    """AddOrder with one monthly hosting unless told otherwise."""
    return dict(
        api(
            "AddOrder",
            **{"clientid": customer, "paymentmethod": "stripe", "pid[0]": 1, "billingcycle[0]": "monthly", **params},
        ).json()
    )


def test_arrays_in_both_spellings(api: Api, client: Callable[..., int], whmcs: WhmcsSandbox) -> None:
    customer = client("arrays@example.com")
    first = order(api, customer, **{"pid[]": ["1", "3"], "pid[0]": "1", "billingcycle[]": ["monthly", "monthly"]})
    assert first["result"] == "success"
    scalar = api("AddOrder", clientid=customer, paymentmethod="stripe", pid=1).json()
    assert scalar == {"result": "error", "message": "Expecting parameter 'pid' to be an array"}


def test_refusals_of_addorder(api: Api, client: Callable[..., int]) -> None:
    customer, closed = client("refused@example.com"), client("closed@example.com")
    assert api("CloseClient", clientid=closed).json()["result"] == "success"
    said = [
        order(api, 999_999)["message"],
        order(api, closed)["message"],
        order(api, customer, paymentmethod="cash")["message"],
        order(api, customer, **{"pid[0]": 999})["message"],
        order(api, customer, **{"billingcycle[0]": "one-time"})["message"],
        order(api, customer, **{"billingcycle[0]": "Monthly"})["message"],
        order(api, customer, **{"billingcycle[0]": "annually"})["message"],
    ]
    assert said == [
        "Client ID Not Found",
        "Unable to add order when client status is Closed",
        "Invalid Payment Method. Valid options include stripe,mailin,banktransfer,paypal",
        "No items added to cart so order cannot proceed",
        *["Invalid billing cycle"] * 3,
    ]


def test_quantities(api: Api, client: Callable[..., int], whmcs: WhmcsSandbox) -> None:
    customer = client("quantities@example.com")
    assert len(order(api, customer, **{"qty[0]": 3})["serviceids"].split(",")) == 3
    whmcs.settings(quantities="scalable", legacy_productids=True)
    answer = order(api, customer, **{"qty[0]": 3, "priceoverride[0]": "2.50"})
    assert "serviceids" not in answer
    assert "," not in answer["productids"]
    service = api("GetClientsProducts", serviceid=answer["productids"]).json()["products"]["product"][0]
    assert (service["qty"], service["recurringamount"]) == ("3", "7.50")


def test_custom_fields_belong_to_one_product(api: Api, client: Callable[..., int], whmcs: WhmcsSandbox) -> None:
    customer = client("fields@example.com")
    listed = api("GetProducts", pid="1,4").json()["products"]["product"]
    field = listed[0]["customfields"]["customfield"][0]
    assert field["name"] == "sfOrderId"
    assert listed[1]["customfields"]["customfield"] == []
    assert listed[0]["pricing"]["USD"]["annually"] == "-1.00"
    mark = "sfOrderId=801é"
    packed = base64.b64encode(
        f'a:2:{{i:{field["id"]};s:{len(mark.encode())}:"{mark}";i:999;s:1:"x";}}'.encode()
    ).decode()
    made = order(api, customer, **{"customfields[0]": packed})
    service = api("GetClientsProducts", serviceid=made["serviceids"]).json()["products"]["product"][0]
    assert [each["value"] for each in service["customfields"]["customfield"]] == [mark]
    broken = base64.b64encode(f'a:1:{{i:{field["id"]};s:{len(mark)}:"{mark}";}}'.encode()).decode()
    made = order(api, customer, **{"customfields[0]": broken})
    service = api("GetClientsProducts", serviceid=made["serviceids"]).json()["products"]["product"][0]
    assert [each["value"] for each in service["customfields"]["customfield"]] == [""]


@pytest.mark.parametrize("stored", [True, False])
def test_notes_by_switch(api: Api, client: Callable[..., int], whmcs: WhmcsSandbox, stored: bool) -> None:
    customer = client(f"notes-{stored}@example.com")
    whmcs.settings(notes="stored" if stored else "dropped")
    made = order(api, customer, notes="sfOrderId=801000000000001AAA")
    found = api("GetOrders", id=made["orderid"]).json()["orders"]["order"][0]["notes"]
    assert found == ("sfOrderId=801000000000001AAA" if stored else "")
    api("AcceptOrder", orderid=made["orderid"])
    calls = [call["action"] for call in whmcs.journal(order="801000000000001AAA")[-3:]]
    assert calls == ["AddOrder", "GetOrders", "AcceptOrder"], "the journal knows the mark either way"


def test_php_truthiness(api: Api, client: Callable[..., int]) -> None:
    customer = client("truth@example.com")
    assert order(api, customer, noinvoice="false")["invoiceid"] == "0"
    assert order(api, customer, noinvoice="0")["invoiceid"] != "0"


def test_empty_lists_by_switch(api: Api, client: Callable[..., int], whmcs: WhmcsSandbox) -> None:
    customer = client("empty@example.com")
    assert api("GetOrders", userid=customer).json()["orders"] == {"order": []}
    whmcs.settings(empty_lists="string")
    answer = api("GetOrders", userid=customer).json()
    assert (answer["orders"], answer["totalresults"], answer["numreturned"]) == ("", 0, 0)


def test_pay_methods(api: Api, client: Callable[..., int]) -> None:
    customer = client("cards@example.com")
    assert api("GetPayMethods", clientid=customer).json()["paymethods"] == []
    api("AddPayMethod", clientid=customer, type="CreditCard", card_number="4111111111111111", card_expiry="1229")
    (card,) = api("GetPayMethods", clientid=customer).json()["paymethods"]
    assert card["card_last_four"] == "1111"
    assert card["remote_token"]


def test_clients(api: Api, client: Callable[..., int]) -> None:
    customer = client("details@example.com", companyname="Details Ltd")
    details = api("GetClientsDetails", email="DETAILS@example.com").json()
    assert details["client"]["id"] == details["id"] == str(customer)
    assert api("GetClientsDetails", clientid=999_999).json()["message"] == "Client Not Found"
    assert api("UpdateClient", clientid=customer, city="Elsewhere").json()["result"] == "success"
    assert api("GetClients", search="details").json()["clients"]["client"][0]["companyname"] == "Details Ltd"
    no_password = api("AddClient", skipvalidation="1", email="nopw@example.com").json()
    assert no_password["message"] == "The Password field is required."


@pytest.mark.parametrize("status", ["Active", "Pending"])
def test_module_failure(api: Api, client: Callable[..., int], whmcs: WhmcsSandbox, status: str) -> None:
    customer = client(f"module-{status}@example.com")
    made = order(api, customer)
    whmcs.settings(module_failure_order_status=status)
    whmcs.fail_module("SSH: connection refused", serviceid=int(made["serviceids"]), count=1)
    assert api("AcceptOrder", orderid=made["orderid"]).json() == {
        "result": "error",
        "message": "SSH: connection refused",
    }
    assert api("GetOrders", id=made["orderid"]).json()["orders"]["order"][0]["status"] == status
    service = api("GetClientsProducts", serviceid=made["serviceids"]).json()["products"]["product"][0]
    assert (service["status"], service["username"]) == ("Pending", "")
    assert api("ModuleCreate", serviceid=made["serviceids"]).json() == {"result": "success"}
    service = api("GetClientsProducts", serviceid=made["serviceids"]).json()["products"]["product"][0]
    assert service["status"] == "Active"
    assert len(service["password"]) > 8


def test_cancel_takes_services_and_unpaid_invoice_along(
    api: Api, client: Callable[..., int], whmcs: WhmcsSandbox
) -> None:
    customer = client("cancelled@example.com")
    first = order(api, customer)
    api("CancelOrder", orderid=first["orderid"])
    assert api("GetInvoice", invoiceid=first["invoiceid"]).json()["status"] == "Cancelled"
    whmcs.settings(cancel_services=False, cancel_invoice=False)
    second = order(api, customer)
    api("FraudOrder", orderid=second["orderid"])
    assert api("GetInvoice", invoiceid=second["invoiceid"]).json()["status"] == "Unpaid"
    states = {
        each["id"]: each["status"]
        for each in api("GetClientsProducts", clientid=customer).json()["products"]["product"]
    }
    assert states == {first["serviceids"]: "Cancelled", second["serviceids"]: "Pending"}


def test_suspend_and_terminate(api: Api, client: Callable[..., int]) -> None:
    customer = client("suspend@example.com")
    made = order(api, customer)
    api("AcceptOrder", orderid=made["orderid"])
    seen = []
    for action in ("ModuleSuspend", "ModuleUnsuspend", "ModuleTerminate"):
        api(action, serviceid=made["serviceids"])
        seen.append(api("GetClientsProducts", serviceid=made["serviceids"]).json()["products"]["product"][0]["status"])
    assert seen == ["Suspended", "Active", "Terminated"]


def test_lists_and_logs(api: Api, client: Callable[..., int], whmcs: WhmcsSandbox) -> None:
    customer = client("lists@example.com")
    order(api, customer)
    assert api("GetInvoices", userid=customer).json()["invoices"]["invoice"][0]["total"] == "5.00"
    assert {"stripe", "mailin"} <= {
        each["module"] for each in api("GetPaymentMethods").json()["paymentmethods"]["paymentmethod"]
    }
    whmcs.settings(custom_statuses=["In Review"])
    assert "In Review" in [each["title"] for each in api("GetOrderStatuses").json()["statuses"]["status"]]
    assert api("GetCurrencies").json()["currencies"]["currency"][0]["code"] == "USD"
    api("LogActivity", description="seen by the tests", clientid=customer)
    assert whmcs.state("activity")["activity"][-1]["description"] == "seen by the tests"
    assert api("WhmcsDetails").json()["whmcs"]["version"].startswith("8.")


def test_credentials_only_in_the_body(whmcs: WhmcsSandbox) -> None:
    form = {"identifier": IDENTIFIER, "secret": SECRET, "action": "GetStats"}
    in_address = requests.post(whmcs.api_url, params=form, timeout=30)
    assert (in_address.status_code, in_address.json()["message"]) == (403, "Invalid or missing credentials")
    whmcs.settings(access_key="key")
    refused = requests.post(whmcs.api_url, data=form, timeout=30)
    assert (refused.status_code, refused.json()["message"]) == (403, "Invalid IP 127.0.0.1")
    assert requests.post(whmcs.api_url, data={**form, "accesskey": "key"}, timeout=30).status_code == 200
    whmcs.settings(access_key=None)
    assert SECRET not in str(whmcs.journal(action="GetStats")), "secrets stay out of the journal"


def test_php_names() -> None:
    assert php.parse_form(b"pid[]=1&pid[]=2&a[x][y]=3&b=1&b=2&c.d=4&bad[=5") == {
        "pid": {"0": "1", "1": "2"},
        "a": {"x": {"y": "3"}},
        "b": "2",
        "c_d": "4",
        "bad_": "5",
    }


@pytest.mark.parametrize(
    ("packed", "value"),
    [
        (b'a:1:{i:101;s:1:"7";}', {101: "7"}),
        (b'a:2:{i:1;b:1;s:1:"k";N;}', {1: True, "k": None}),
        (b"a:1:{i:1;a:1:{i:0;d:1.5;}}", {1: {0: 1.5}}),
        ('s:2:"é";'.encode(), "é"),
        (b"i:-5;", -5),
    ],
)
def test_unserialize(packed: bytes, value: object) -> None:
    assert php.unserialize(packed) == value


@pytest.mark.parametrize(
    "packed", [b"", b"x", b'a:1:{i:1;s:2:"7";}', b'a:2:{i:1;s:1:"7";}', b"i:1;i:2;", b"s:x:", b"i:;"]
)
def test_unserialize_refuses(packed: bytes) -> None:
    with pytest.raises(php.Unserializable):
        php.unserialize(packed)
