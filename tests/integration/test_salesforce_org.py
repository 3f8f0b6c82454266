"""The Salesforce client against the pretend org: orders, people, the catalogue, pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from portal.clients.salesforce.client import SalesforceClient
from portal.clients.salesforce.fields import FieldCache
from portal.clients.salesforce.records import OrderChange
from portal.domain.model import SalesforceItem, UpstreamError
from sandbox.salesforce.app import Org
from tests.upstream.salesforce import NO_RECORDS, ORDER_ID, new_order, talking_to
from tests.upstream.sandboxes import org_sandbox, salesforce_client
from tests.upstream.wire import answer


def test_an_order_is_created_once_and_read_back(pretend_org: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    org, client, names = pretend_org
    order_id = client.create_order(new_order(names))
    assert client.create_order(new_order(names)) == order_id
    assert client.find_order_by_reference("ref-1") == order_id
    assert client.find_order_by_reference("' OR Name != '") is None
    order = client.fetch_order(order_id[:15])
    assert order is not None
    assert (order.id, order.status, order.account_id) == (order_id, "Pending Review", names["acme"])
    assert (order.account_name, order.whmcs_client_id, order.email) == ("Acme", "41", None)
    assert (order.portal_reference, order.provisioning_status, order.whmcs_order_id) == ("ref-1", None, None)
    assert order.total == "37.50"
    assert sorted(order.items, key=lambda item: item.quantity, reverse=True) == [
        SalesforceItem(order.items[0].id, "Starter", 2, "12.50", "5", "Semi-Annually", "ada.example", None),
        SalesforceItem(order.items[1].id, "Starter", 1, "12.50", "5", "Semi-Annually", None, "h1"),
    ]
    rows = org.state({"objects": "OrderItem"})["OrderItem"]
    assert sorted(row["Portal_Reference__c"] for row in rows) == ["ref-1-1", "ref-1-2"]
    assert client.fetch_order(ORDER_ID) is None


def test_many_orders_are_read_in_one_query(pretend_org: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    """Those that are there; each as if it had been read alone."""
    org, client, names = pretend_org
    orders = [client.create_order(new_order(names, reference)) for reference in ("r1", "r2", "r3")]
    before = len(org.journal.read(limit=10_000))
    found = {order.id: order for order in client.fetch_orders([*orders, ORDER_ID])}
    queries = [each for each in org.journal.read(limit=10_000)[before:] if each["action"] == "query"]
    assert len(queries) == 1
    assert found == {order: client.fetch_order(order) for order in orders}


def test_a_lost_answer_to_the_creation_is_unknown_and_found_again(
    pretend_org: tuple[Org, SalesforceClient, dict[str, str]],
) -> None:
    org, client, names = pretend_org
    client.sign_in()
    org.faults.add({"kind": "drop_after", "path": "*/composite/tree/*"})
    with pytest.raises(UpstreamError) as caught:
        client.create_order(new_order(names))
    assert caught.value.unknown
    found = client.find_order_by_reference("ref-1")
    assert found is not None
    assert client.create_order(new_order(names)) == found
    assert len(org.state({"objects": "Order"})["Order"]) == 1


def test_the_status_is_written_back(pretend_org: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    org, client, names = pretend_org
    first, second = (client.create_order(new_order(names, reference)) for reference in ("r1", "r2"))
    client.update_order(
        first,
        {
            "Provisioning_Status__c": "Provisioned",
            "WHMCS_Order_ID__c": 99,
            "Provisioning_Error_Code__c": None,
            "Last_Provisioning_At__c": "2026-11-21T16:38:52.000+0000",
        },
    )
    order = client.fetch_order(first)
    assert order is not None
    assert (order.provisioning_status, order.whmcs_order_id) == ("Provisioned", "99")
    outcome = client.update_orders(
        [(second, {"Provisioning_Status__c": "Requested"}), (ORDER_ID, {"Provisioning_Status__c": "Failed"})]
    )
    assert outcome[0] is None
    assert outcome[1] is not None
    assert outcome[1].permanent
    assert client.requested_orders(10) == [second]
    with pytest.raises(UpstreamError) as caught:
        client.update_order(first, {"Provisioning_Error_Message__c": "x" * 256})
    assert (caught.value.code, caught.value.permanent) == ("STRING_TOO_LONG", True)
    org.faults.add({"kind": "ENTITY_IS_LOCKED", "method": "PATCH"})
    with pytest.raises(UpstreamError) as caught:
        client.update_order(first, {"Provisioning_Status__c": "Failed"})
    assert (caught.value.code, caught.value.permanent) == ("ENTITY_IS_LOCKED", False)


def test_an_account_without_a_client_is_read_with_its_contact(
    pretend_org: tuple[Org, SalesforceClient, dict[str, str]],
) -> None:
    _, client, names = pretend_org
    order = client.fetch_order(client.create_order(new_order(names, account="bare")))
    assert order is not None
    assert (order.whmcs_client_id, order.email) == (None, "o'brien@example.com")
    assert order.contact == {
        "firstname": "Pat",
        "lastname": "O'Brien",
        "email": "o'brien@example.com",
        "companyname": 'O\'Brien & "Sons"',
        "phonenumber": "+353 1",
        "city": "Cork",
    }
    client.set_whmcs_client(names["bare"], "77")
    order = client.fetch_order(order.id)
    assert order is not None
    assert order.whmcs_client_id == "77"


def test_people_are_found_by_their_address(pretend_org: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    _, client, names = pretend_org
    assert client.accounts_with_email("ada@example.com") == 2
    assert client.accounts_with_email("O'Brien@example.com") == 1
    assert client.accounts_with_email("nobody@example.com") == 0
    assert client.contact_by_email("ada@example.com") is None
    assert {contact.account_id for contact in client.contacts_by_email("ada@example.com")} == {
        names["acme"],
        names["bare"],
    }
    contact = client.contact_by_email("o'brien@example.com")
    assert contact is not None
    assert (contact.id, contact.first_name, contact.account_id) == (names["pat"], "Pat", names["bare"])
    assert "brien" not in repr(contact).lower()
    assert client.contacts_by_email("x' OR Email != '") == []


def test_the_catalogue_is_what_is_active(pretend_org: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    _, client, names = pretend_org
    entries = client.catalogue(names["book"][:15])
    assert [(entry.id, entry.name, entry.unit_price, entry.wh_product_id) for entry in entries] == [
        (names["e1"], "Starter", "12.50", "5")
    ]
    assert (entries[0].family, entries[0].description) == ("Hosting", "Small")
    assert (entries[0].billing_cycle, entries[0].product_id) == ("Semi-Annually", names["starter"])


def test_an_accounts_orders_are_paged(pretend_org: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    _, client, names = pretend_org
    placed = [client.create_order(new_order(names, f"r{number}")) for number in range(5)]
    client.create_order(new_order(names, "other", account="bare"))
    seen = []
    page = client.orders_of_account(names["acme"], 2)
    while page:
        seen += [row.id for row in page]
        assert page[0].items == (("Starter", 2), ("Starter", 1))
        assert page[0].total == "37.50"
        assert page[0].status == "Pending Review"
        page = client.orders_of_account(names["acme"], 2, before=page[-1])
    assert sorted(seen) == sorted(placed)
    assert len(seen) == 5


def test_changes_are_learnt_in_bulk(pretend_org: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    org, client, names = pretend_org
    placed = [client.create_order(new_order(names, f"r{number}")) for number in range(5)]
    org.seed({"update": [{"type": "Order", "Id": placed[3], "Status": "Rejected"}]})
    learnt: list[OrderChange] = []
    page = client.orders_changed_since(0.0, 2)
    while page.rows:
        learnt += page.changes
        page = client.orders_changed_since(page.changed_at, 2, after_id=page.last_id)
    assert sorted(row.order.id for row in learnt) == sorted(placed)
    rejected = [row.order for row in learnt if row.order.status == "Rejected"]
    assert [(order.id, order.portal_reference) for order in rejected] == [(placed[3], "r3")]
    assert rejected[0].account_id == names["acme"]
    assert len(rejected[0].items) == 2
    end = client.orders_changed_since(4_000_000_000.0, 10, after_id=placed[0])
    assert (end.rows, end.changed_at, end.last_id) == (0, 4_000_000_000.0, placed[0])


def test_pages_of_two_are_followed(tmp_path: Path) -> None:
    with org_sandbox(tmp_path, query_batch_size=2) as (org, client):
        org.seed(
            {
                "records": [{"type": "Account", "ref": f"a{number}", "Name": "A"} for number in range(7)]
                + [
                    {"type": "Contact", "LastName": "X", "Email": "x@example.com", "AccountId": f"@{{a{number}}}"}
                    for number in range(7)
                ]
            }
        )
        assert client.accounts_with_email("x@example.com") == 7


@contextmanager
def asking(org: Org) -> Iterator[SalesforceClient]:
    """A client that has yet to ask which optional fields the org has."""
    assert org.server is not None
    client = salesforce_client(org.server.url, field_cache=FieldCache())
    try:
        yield client
    finally:
        client.close()


def test_an_org_with_several_currencies_names_them(tmp_path: Path) -> None:
    """An order bears its entries' currency; one of another would be refused as a whole."""
    with org_sandbox(tmp_path, multi_currency=True) as (org, _), asking(org) as client:
        names = org.seed(
            {
                "records": [
                    {"type": "Account", "ref": "acme", "Name": "Acme", "CurrencyIsoCode": "EUR"},
                    {"type": "Contact", "LastName": "A", "Email": "a@example.com", "AccountId": "@{acme}"},
                    {"type": "Pricebook2", "ref": "book", "Name": "Portal", "IsActive": True},
                    {"type": "Product2", "ref": "p", "Name": "Starter", "IsActive": True, "Sort_Order__c": 3},
                    *(
                        {
                            "type": "PricebookEntry",
                            "ref": ref,
                            "Pricebook2Id": "@{book}",
                            "Product2Id": "@{p}",
                            "UnitPrice": price,
                            "CurrencyIsoCode": currency,
                            "IsActive": True,
                        }
                        for ref, currency, price in (("e1", "EUR", 12.5), ("usd", "USD", 14.0))
                    ),
                ]
            }
        )["names"]
        assert [each.currency for each in client.contacts_by_email("a@example.com")] == ["EUR"]
        entries = client.catalogue(names["book"])
        assert {(each.id, each.currency) for each in entries} == {(names["e1"], "EUR"), (names["usd"], "USD")}
        assert {each.sort_order for each in entries} == {3.0}
        with pytest.raises(UpstreamError) as caught:
            client.create_order(replace(new_order(names), currency="USD"))
        assert caught.value.permanent
        order = client.fetch_order(client.create_order(replace(new_order(names), currency="EUR")))
        assert order is not None
        assert order.currency == "EUR"


def test_an_org_without_a_sort_order_is_not_asked_for_it(tmp_path: Path) -> None:
    with org_sandbox(tmp_path, product_sort_order=False) as (org, _), asking(org) as client:
        book = {"type": "Pricebook2", "ref": "book", "Name": "Portal", "IsActive": True}
        names = org.seed({"records": [book]})["names"]
        assert client.catalogue(names["book"]) == []
        queries = [each for each in org._read_journal({})["entries"] if each["action"] == "query"]
        assert queries
        assert "Sort_Order__c" not in str(queries)


def test_tokens_that_expire_are_renewed(pretend_org: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    org, client, names = pretend_org
    order_id = client.create_order(new_order(names))
    with org.store.transaction() as change:
        for token in list(org.store.tables.get("_token", {})):
            change.delete("_token", token)
    client.update_order(order_id, {"Provisioning_Status__c": "Activating"})
    assert client.api_usage is not None
    assert client.api_usage[0] > 0
    names_of_fields = {field["name"] for field in client.describe("Order")["fields"]}
    assert {"Provisioning_Status__c", "Portal_Reference__c"} <= names_of_fields


def test_the_query_names_no_field_an_org_may_lack() -> None:
    with talking_to(answer(NO_RECORDS)) as (wire, client):
        client.fetch_order(ORDER_ID)
        soql = parse_qs(urlsplit(wire.seen[1].target).query)["q"][0]
        assert "CurrencyIsoCode" not in soql
        assert soql.endswith(f"FROM Order WHERE Id = '{ORDER_ID}'")
