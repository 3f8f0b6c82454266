"""The pretend WHMCS satisfies whmcspy, a client nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
import whmcspy
from whmcspy.exceptions import Error, MissingPermission

from sandbox.control import WhmcsSandbox
from tests.sandbox.conftest import IDENTIFIER, SECRET


@pytest.fixture
def shop(whmcs: WhmcsSandbox) -> whmcspy.WHMCS:
    return whmcspy.WHMCS(whmcs.api_url, IDENTIFIER, SECRET)


@pytest.fixture(params=["strings", "ints"], autouse=True)
def ids(request: pytest.FixtureRequest, whmcs: WhmcsSandbox) -> None:
    """Everything below holds however WHMCS writes its ids."""
    whmcs.settings(ids=request.param)


def test_the_life_of_an_order(shop: whmcspy.WHMCS, client: Callable[..., int], request: pytest.FixtureRequest) -> None:
    customer = client(f"life-{request.node.name}@example.com")
    made = shop.add_order(
        customer,
        paymentmethod="stripe",
        products=[{"id": 1, "domain": "one.example"}, {"id": 2, "domain": "two.example"}],
    )
    assert len(made["serviceids"].split(",")) == 2
    assert shop.accept_order(made["orderid"])["result"] == "success"
    with pytest.raises(Error, match="^Order ID not found or Status not Pending$"):
        shop.accept_order(made["orderid"])
    orders = list(shop.get_orders(userid=customer))
    assert [order["status"] for order in orders] == ["Active"]
    assert [line["status"] for line in orders[0]["lineitems"]["lineitem"]] == ["Active", "Active"]
    services = list(shop.get_clients_products(clientid=customer, active=True))
    assert {each["domain"] for each in services} == {"one.example", "two.example"}
    invoice = shop.get_invoice(made["invoiceid"])
    assert (invoice["total"], invoice["status"]) == ("125.00", "Unpaid")
    shop.add_transaction("stripe", invoiceid=made["invoiceid"], userid=customer, transid="t1", amountin="125.00")
    assert shop.get_invoice(made["invoiceid"])["status"] == "Paid"
    assert [each["transid"] for each in shop.get_transactions(invoiceid=made["invoiceid"])] == ["t1"]


def test_pending_cancel_delete(shop: whmcspy.WHMCS, client: Callable[..., int], request: pytest.FixtureRequest) -> None:
    customer = client(f"cancel-{request.node.name}@example.com")
    order = shop.add_order(customer, paymentmethod="mailin", products=[{"id": 1, "domain": "x.example"}])["orderid"]
    with pytest.raises(Error, match="Cancelled or Fraud"):
        shop.delete_order(order)
    shop.accept_order(order)
    with pytest.raises(Error, match="Status not Pending"):
        shop.cancel_order(order)
    shop.pending_order(order)
    shop.cancel_order(order)
    assert [each["status"] for each in shop.get_orders(id=order)] == ["Cancelled"]
    shop.delete_order(order)
    assert list(shop.get_orders(id=order)) == []


def test_pages_of_orders(
    shop: whmcspy.WHMCS, client: Callable[..., int], whmcs: WhmcsSandbox, request: pytest.FixtureRequest
) -> None:
    customer = client(f"pages-{request.node.name}@example.com")
    whmcs.seed(orders=[{"userid": customer} for _ in range(60)])
    for unordered in (False, True):
        whmcs.settings(unordered=unordered)
        found = [int(each["id"]) for each in shop.get_orders(userid=customer)]
        assert len(found) == len(set(found)) == 60
        assert (found != sorted(found, reverse=True)) is unordered
    pages = list(shop.paginated_call("GetOrders", userid=customer, limitnum=25))
    assert [page["numreturned"] for page in pages] == [25, 25, 10]
    assert {page["totalresults"] for page in pages} == {60}


def test_clients_and_products(shop: whmcspy.WHMCS, request: pytest.FixtureRequest) -> None:
    email = f"add-{request.node.name}@example.com"
    person = ("Ann", "Other", email, "1 Road", "Town", "TX", "12345", "US", "1", "secret")
    assert int(shop.add_client(*person)) > 0
    with pytest.raises(Error, match="A user already exists with that email address"):
        shop.add_client(*person)
    pid = shop.add_product("Extra", 1)
    assert shop.call("GetProducts", pid=pid)["products"]["product"][0]["name"] == "Extra"


def test_services(shop: whmcspy.WHMCS, client: Callable[..., int], request: pytest.FixtureRequest) -> None:
    customer = client(f"services-{request.node.name}@example.com")
    made = shop.add_order(customer, paymentmethod="stripe", products=[{"id": 1, "domain": "s.example"}])
    service = made["serviceids"]
    assert shop.module_create(service)["result"] == "success"
    shop.update_client_product(service, status="Suspended", nextduedate=date(2027, 1, 1))
    assert [each["status"] for each in shop.get_clients_products(serviceid=service, active=False)] == ["Suspended"]
    assert list(shop.get_clients_products(clientid=customer, productid=2)) == []


def test_domains_and_the_rest(shop: whmcspy.WHMCS, client: Callable[..., int], request: pytest.FixtureRequest) -> None:
    customer = client(f"rest-{request.node.name}@example.com")
    shop.add_order(customer, paymentmethod="stripe", domains=["new.example"])
    domain = next(shop.get_clients_domains(clientid=customer))
    assert (domain["domainname"], domain["status"]) == ("new.example", "Pending")
    assert shop.get_servers()[0]["name"] == "Saturn"
    assert "example" in shop.get_tld_pricing()["pricing"]
    shop.open_ticket(1, "Help", "Please", clientid=customer)
    assert [each["subject"] for each in shop.get_tickets(clientid=customer)] == ["Help"]
    shop.send_email(messagename="Welcome", id=customer)


def test_refusals(shop: whmcspy.WHMCS, whmcs: WhmcsSandbox) -> None:
    with pytest.raises(Error, match='Invalid API Action: "Nonsense" is not a valid API action'):
        shop.call("Nonsense")
    whmcs.settings(denied_actions=["AddOrder"])
    with pytest.raises(MissingPermission, match='API action "addorder" is not allowed'):
        shop.add_order(1, products=[{"id": 1, "domain": "x.example"}])
    with pytest.raises(MissingPermission, match="Authentication Failed"):
        whmcspy.WHMCS(whmcs.api_url, IDENTIFIER, "wrong").get_servers()
    with pytest.raises(MissingPermission, match="Invalid or missing credentials"):
        whmcspy.WHMCS(whmcs.api_url, "", "").get_servers()
