"""The pretend WHMCS satisfies whmcs-api-client, generated from an OpenAPI description: `action` in the address, and
answers read into typed models (tests/sandbox/test_whmcspy.py has the other client from PyPI)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from whmcs_client import ApiClient, Configuration, DefaultApi
from whmcs_client.exceptions import ForbiddenException

from sandbox.control import WhmcsSandbox
from tests.sandbox.conftest import IDENTIFIER, SECRET

Call = Callable[..., Any]


@pytest.fixture
def called() -> set[str]:
    """The operations that a test has called."""
    return set()


@pytest.fixture
def call(whmcs: WhmcsSandbox, called: set[str]) -> Iterator[Call]:
    """Calls an operation with API credentials as username and password."""
    with ApiClient(Configuration(host=whmcs.api_url.removesuffix("/api.php"))) as client:
        api = DefaultApi(client)

        def run(operation: str, **parameters: Any) -> Any:
            called.add(operation)
            act = getattr(api, operation)
            return act(**{"username": IDENTIFIER, "password": SECRET, **parameters})

        yield run
        client.rest_client.pool_manager.clear()


def test_whmcs_api_client(call: Call, whmcs: WhmcsSandbox, called: set[str]) -> None:
    email = "typed@example.com"
    person = {"firstname": "Typed", "lastname": "Client", "email": email, "address1": "1 Road", "city": "Town"}
    rest = {"state": "TX", "postcode": "12345", "country": "US", "phonenumber": "1", "password2": "pw"}
    customer = int(call("add_client", **person, **rest).clientid)
    assert call("update_client", clientid=customer, companyname="Types").result == "success"
    (found,) = call("get_clients", search=email).clients.client
    assert (found.id, found.companyname) == (customer, "Types")
    assert call("get_clients_details", clientid=customer).client.email == email

    pid, cycles, domains = [1, 3], ["monthly", "monthly"], ["a.example", "b.example"]
    made = call("add_order", clientid=customer, paymentmethod="stripe", pid=pid, billingcycle=cycles, domain=domains)
    assert made.result == "success"
    assert made.invoiceid
    orders = call("get_orders", userid=customer)
    assert (orders.totalresults, orders.numreturned) == (1, 1)
    (order,) = orders.orders["order"]
    assert (str(order["id"]), order["status"]) == (made.orderid, "Pending")
    products = call("get_clients_products", clientid=customer).products["product"]
    assert [each["domain"] for each in products] == domains
    (invoice,) = call("get_invoices", userid=customer).invoices["invoice"]
    assert str(invoice["id"]) == made.invoiceid
    assert call("get_transactions", clientid=customer).transactions.transaction == []
    assert call("cancel_order", orderid=int(made.orderid)).result == "success"
    assert call("delete_order", orderid=int(made.orderid)).result == "success"
    assert call("get_orders", userid=customer).totalresults == 0

    assert "stripe" in [each.module for each in call("get_payment_methods").paymentmethods.paymentmethod]
    assert call("get_currencies").currencies.currency[0].code == "USD"
    assert call("get_products", pid="1").result == "success"
    assert "example" in call("get_tld_pricing").pricing
    assert call("get_clients_domains", clientid=customer).clientid is not None
    with pytest.raises(ForbiddenException, match="Authentication Failed"):
        call("get_orders", username="somebody", password="wrong")
    assert len(called) >= 16
    assert whmcs.journal(action="AddOrder", client=str(customer)), "the journal has the action of the address"


def test_credentials_do_not_count_in_the_address(call: Call, whmcs: WhmcsSandbox) -> None:
    address = f"{whmcs.api_url}?action=GetStats&identifier={IDENTIFIER}&secret={SECRET}"
    assert requests.post(address, timeout=30).json()["message"] == "Invalid or missing credentials"
    form = {"identifier": IDENTIFIER, "secret": SECRET}
    assert requests.post(f"{whmcs.api_url}?action=GetStats", data=form, timeout=30).json()["result"] == "success"
