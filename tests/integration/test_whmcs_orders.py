"""The WHMCS client against the pretend WHMCS: an order's life, clients, long listings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.clients.whmcs.client import WhmcsClient
from portal.domain.ids import bears_reference, external_reference
from portal.domain.model import OrderLine, UpstreamError
from sandbox.whmcs.app import Whmcs
from tests.upstream.sandboxes import whmcs_sandbox
from tests.upstream.whmcs import LINES, add_order

SEED = {
    "clients": [
        {
            "id": 1,
            "firstname": "Ada",
            "lastname": "L",
            "email": "ada@example.com",
            "address1": "1 St",
            "city": "X",
            "state": "Y",
            "postcode": "1",
            "country": "GB",
            "phonenumber": "1",
            "defaultgateway": "stripe",
        },
        {
            "id": 2,
            "firstname": "Bob",
            "lastname": "B",
            "email": "bob@example.com",
            "address1": "1 St",
            "city": "X",
            "state": "Y",
            "postcode": "1",
            "country": "GB",
            "phonenumber": "1",
        },
    ],
    "products": [
        {
            "id": 5,
            "name": "Starter",
            "pricing": {"monthly": "10.00", "annually": "100.00"},
            "customfields": [{"id": 101, "name": "Salesforce Order"}],
        },
        {"id": 6, "name": "Setup", "paytype": "onetime", "pricing": {"monthly": "50.00"}},
    ],
    "paymethods": [{"userid": 1, "type": "RemoteCreditCard", "gateway_name": "stripe", "remote_token": "tok_canary"}],
}


@pytest.fixture(params=["strings", "ints"])
def pretend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Whmcs, WhmcsClient]]:
    empty = "object" if request.param == "ints" else "string"
    with whmcs_sandbox(tmp_path, ids=request.param, empty_lists=empty) as (sandbox, client):
        sandbox.seed(SEED)
        yield sandbox, client


def test_an_orders_life(pretend: tuple[Whmcs, WhmcsClient]) -> None:
    _, client = pretend
    sf_order_id = "801D000000K0fXOIAZ"
    products = client.products(["5", "6", "99"])
    assert [(product.pid, product.name) for product in products] == [("5", "Starter"), ("6", "Setup")]
    assert products[0].cycles >= {"monthly", "annually"}
    assert "biennially" not in products[0].cycles
    assert products[0].custom_fields == {"Salesforce Order": "101"}
    assert products[1].cycles == {"onetime"}

    assert client.services("1") == []
    lines = [
        OrderLine(pid="5", billing_cycle="annually", quantity=1, domain="ada.example"),
        OrderLine(pid="6", billing_cycle="onetime", quantity=1),
    ]
    added = client.add_order(
        "1",
        "stripe",
        lines,
        notes=external_reference(sf_order_id),
        custom_fields={"5": {"101": external_reference(sf_order_id)}},
    )
    assert len(added.service_ids) == 2
    order = client.order(added.order_id)
    assert order is not None
    assert (order.client_id, order.status) == ("1", "Pending")
    assert order.service_ids == added.service_ids
    assert order.line_item_count == 2
    assert order.invoice_known
    assert order.invoice_id == added.invoice_id
    assert bears_reference(order.notes, sf_order_id)
    assert client.orders_of("1") == [order]
    assert client.orders_of("2") == []
    assert client.order("999") is None

    client.accept_order(added.order_id)
    with pytest.raises(UpstreamError) as caught:
        client.accept_order(added.order_id)
    assert caught.value.permanent
    assert "Order ID not found or Status not Pending" in caught.value.message
    services = client.services("1")
    assert {service.id for service in services} == set(added.service_ids)
    assert {service.status for service in services} <= {"Active", "Completed"}
    first = next(service for service in services if service.pid == "5")
    assert (first.order_id, first.domain, first.name) == (added.order_id, "ada.example", "Starter")
    assert first.custom_fields == {"Salesforce Order": external_reference(sf_order_id)}
    assert client.services("1", first.id) == [first]
    assert client.invoice_status(added.invoice_id or "") == "Unpaid"
    assert client.invoice_status("999") is None
    client.module_create(first.id)

    stray = client.add_order("1", "stripe", LINES, notes="", custom_fields={})
    client.cancel_order(stray.order_id)
    cancelled = client.order(stray.order_id)
    assert cancelled is not None
    assert cancelled.status == "Cancelled"


def test_clients_and_their_payment_methods(pretend: tuple[Whmcs, WhmcsClient]) -> None:
    _, client = pretend
    found = client.client(client_id="1")
    assert found is not None
    assert (found.id, found.email, found.status, found.default_gateway) == ("1", "ada@example.com", "Active", "stripe")
    assert client.client(email="ADA@example.com") == found
    assert client.client(client_id="77") is None
    assert client.client(email="nobody@example.com") is None
    methods = client.pay_methods("1")
    assert [(method.type, method.gateway) for method in methods] == [("RemoteCreditCard", "stripe")]
    assert "tok_canary" not in repr(methods)
    assert client.pay_methods("2") == []
    made = client.add_client(
        {
            "firstname": "Cy",
            "lastname": "C",
            "email": "cy@example.com",
            "address1": "2 St",
            "city": "X",
            "state": "Y",
            "postcode": "1",
            "country": "GB",
            "phonenumber": "2",
        }
    )
    assert client.client(email="cy@example.com") == client.client(client_id=made)
    with pytest.raises(UpstreamError) as caught:
        client.add_client(
            {
                "firstname": "Cy",
                "lastname": "C",
                "email": "cy@example.com",
                "address1": "2 St",
                "city": "X",
                "state": "Y",
                "postcode": "1",
                "country": "GB",
                "phonenumber": "2",
            }
        )
    assert caught.value.permanent
    assert client.sso_link(made).startswith("http")
    assert {"stripe", "mailin"} <= {gateway.module for gateway in client.payment_gateways()}


def test_hundreds_of_unordered_orders_are_all_seen(tmp_path: Path) -> None:
    with whmcs_sandbox(tmp_path, unordered=True) as (sandbox, client):
        sandbox.seed(SEED)
        sandbox.seed({"orders": [{"id": number, "userid": 1} for number in range(1, 612)]})
        # Pages shuffled against each other need not add up; when they don't, that must be said.
        try:
            orders = client.orders_of("1")
        except UpstreamError as error:
            assert error.code == "listing_unstable"
        else:
            assert {order.id for order in orders} == {str(number) for number in range(1, 612)}
        assert len(client.orders_of("2")) == 0


def test_an_order_that_commits_although_its_answer_was_lost(pretend: tuple[Whmcs, WhmcsClient]) -> None:
    sandbox, client = pretend
    sandbox.faults.add({"kind": "drop_after", "action": "AddOrder"})
    with pytest.raises(UpstreamError) as caught:
        add_order(client)
    assert caught.value.unknown
    assert [bears_reference(order.notes, "801D000000K0fXOIAZ") for order in client.orders_of("1")] == [True]
