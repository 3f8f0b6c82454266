"""The pretend org satisfies simple-salesforce, a client nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from simple_salesforce.exceptions import (
    SalesforceError,
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)
from simple_salesforce.format import format_soql

from sandbox.control import SalesforceSandbox
from tests.sandbox.conftest import Sides


def content(caught: pytest.ExceptionInfo[SalesforceError]) -> Any:
    """The parsed body of a refusal (simple-salesforce says `bytes` where it puts JSON)."""
    return caught.value.content


def test_create_get_update_delete(sf: Any, org: SalesforceSandbox) -> None:
    created = sf.Account.create({"Name": "Ø & Söhne", "WHMCS_Client_ID__c": "77"})
    assert created["success"] is True
    assert created["errors"] == []
    key = created["id"]
    assert len(key) == 18
    assert key.startswith("001")
    found = sf.Account.get(key)
    assert (found["Name"], found["attributes"]["type"]) == ("Ø & Söhne", "Account")
    assert found["attributes"]["url"].endswith(f"/sobjects/Account/{key}")
    assert sf.Account.update(key[:15], {"Phone": "555"}) == 204
    assert sf.Account.get(key)["Phone"] == "555"
    assert sf.Account.delete(key) == 204
    with pytest.raises(SalesforceResourceNotFound) as gone:
        sf.Account.update(key, {"Phone": "1"})
    assert content(gone)[0]["errorCode"] == "ENTITY_IS_DELETED"
    assert org.journal(action="delete:Account")[-1]["status"] == 204


def test_upsert_by_external_id(sf: Any, sides: Sides) -> None:
    reference = "upsert/ä 1"
    path = f"Portal_Reference__c/{quote(reference, safe='')}"
    order = {"AccountId": sides.ids["account:ada"], "EffectiveDate": "2026-11-21", "Status": "Pending Review"}
    assert sf.Order.upsert(path, order) == 201
    assert sf.Order.upsert(path, {"Description": "again"}) == 200
    sides.org.settings(upsert_update_status=204)
    assert sf.Order.upsert(path, {"Description": "and again"}) == 204
    found = sf.query(format_soql("SELECT Id, Description FROM Order WHERE Portal_Reference__c = {}", reference))
    assert found["totalSize"] == 1
    assert found["records"][0]["Description"] == "and again"


def test_get_by_custom_id(sf: Any, new_order: Callable[..., str]) -> None:
    key = new_order(Portal_Reference__c="by-custom-id")
    assert sf.Order.get_by_custom_id("Portal_Reference__c", "by-custom-id")["Id"] == key
    with pytest.raises(SalesforceResourceNotFound):
        sf.Order.get_by_custom_id("Portal_Reference__c", "nobody")


def test_describe_and_metadata(sf: Any) -> None:
    names = {each["name"] for each in sf.describe()["sobjects"]}
    assert {"Account", "Order", "OrderItem", "PricebookEntry"} <= names
    fields = {each["name"]: each for each in sf.Order.describe()["fields"]}
    assert fields["Portal_Reference__c"]["externalId"]
    assert fields["Portal_Reference__c"]["unique"]
    assert fields["Provisioning_Error_Message__c"]["length"] == 255
    assert sf.Order.metadata()["objectDescribe"]["keyPrefix"] == "801"


def test_limits_and_usage(sf: Any) -> None:
    assert sf.limits()["DailyApiRequests"]["Max"] > 0
    before = sf.api_usage["api-usage"].used
    sf.query("SELECT Id FROM Account LIMIT 1")
    assert sf.api_usage["api-usage"].used == before + 1


def test_is_sandbox(sf: Any) -> None:
    assert sf.is_sandbox() is True


def test_paging(sf: Any, sides: Sides) -> None:
    sides.org.settings(query_batch_size=3)
    sides.org.seed(
        records=[{"type": "Contact", "LastName": f"Page {number}", "Title": "paging"} for number in range(8)]
    )
    query = "SELECT Id, LastName FROM Contact WHERE Title = 'paging' ORDER BY LastName"
    first = sf.query(query)
    assert (first["totalSize"], first["done"], len(first["records"])) == (8, False, 3)
    second = sf.query_more(first["nextRecordsUrl"], identifier_is_url=True)
    third = sf.query_more(second["nextRecordsUrl"].rsplit("/", 1)[-1])
    assert third["done"] is True
    assert "nextRecordsUrl" not in third
    assert len(third["records"]) == 2
    everything = sf.query_all(query)
    assert [row["LastName"] for row in everything["records"]] == [f"Page {number}" for number in range(8)]
    assert len(list(sf.query_all_iter(query))) == 8
    with pytest.raises(SalesforceMalformedRequest) as wrong:
        sf.query_more("01gnothing-3")
    assert content(wrong)[0]["errorCode"] == "INVALID_QUERY_LOCATOR"


def test_query_all_includes_deleted(sf: Any) -> None:
    key = sf.Contact.create({"LastName": "Gone", "Title": "deleted"})["id"]
    sf.Contact.delete(key)
    query = "SELECT Id, IsDeleted FROM Contact WHERE Title = 'deleted'"
    assert sf.query(query)["totalSize"] == 0
    assert sf.query(query, include_deleted=True)["records"][0]["IsDeleted"] is True


def test_order_with_parents_and_items(sf: Any, new_order: Callable[..., str]) -> None:
    key = new_order("starter", "certificate")
    row = sf.query(
        format_soql(
            "SELECT Id, OrderNumber, TotalAmount, Account.Name, Account.WHMCS_Client_ID__c, (SELECT Id, Quantity, "
            "PricebookEntry.Product2.Name, Product2.Billing_Cycle__c FROM OrderItems) FROM Order WHERE Id = {}",
            key[:15],
        )
    )["records"][0]
    assert row["Account"]["WHMCS_Client_ID__c"] == "1"
    assert row["TotalAmount"] == 10.0
    assert len(row["OrderNumber"]) == 8
    items = row["OrderItems"]
    assert items["totalSize"] == 2
    assert items["done"] is True
    assert {each["Product2"]["Billing_Cycle__c"] for each in items["records"]} == {"Monthly", "One-Time"}
    assert items["records"][0]["PricebookEntry"]["Product2"]["Name"] == "Starter Hosting"


def test_empty_child_query_is_null(sf: Any, sides: Sides) -> None:
    key = sf.Order.create({"AccountId": sides.ids["account:ada"], "EffectiveDate": "2026-11-21", "Status": "Draft"})[
        "id"
    ]
    row = sf.query(f"SELECT Id, (SELECT Id FROM OrderItems) FROM Order WHERE Id = '{key}'")["records"][0]
    assert row["OrderItems"] is None


def test_composite(sf: Any, sides: Sides) -> None:
    base = "/services/data/v67.0/sobjects"
    parts: list[dict[str, Any]] = [
        {
            "method": "POST",
            "url": f"{base}/Order",
            "referenceId": "order",
            "body": {
                "AccountId": sides.ids["account:ada"],
                "EffectiveDate": "2026-11-21",
                "Status": "Draft",
                "Pricebook2Id": sides.ids["pricebook"],
            },
        },
        {
            "method": "POST",
            "url": f"{base}/OrderItem",
            "referenceId": "item",
            "body": {
                "OrderId": "@{order.id}",
                "PricebookEntryId": sides.ids["entry:starter"],
                "Quantity": 3,
                "UnitPrice": 5.0,
            },
        },
        {"method": "GET", "url": f"{base}/Order/@{{order.id}}?fields=TotalAmount", "referenceId": "read"},
    ]
    done = sf.restful("composite", method="POST", json={"compositeRequest": parts, "allOrNone": True})
    assert [each["httpStatusCode"] for each in done["compositeResponse"]] == [201, 201, 200]
    assert done["compositeResponse"][2]["body"]["TotalAmount"] == 15.0

    orders = sf.query("SELECT COUNT() FROM Order")["totalSize"]
    parts[1]["body"] = {**parts[1]["body"], "PricebookEntryId": sides.ids["product:starter"]}
    failed = sf.restful("composite", method="POST", json={"compositeRequest": parts, "allOrNone": True})
    codes = [each["body"][0]["errorCode"] for each in failed["compositeResponse"]]
    assert codes == ["PROCESSING_HALTED", "MALFORMED_ID", "PROCESSING_HALTED"]
    assert sf.query("SELECT COUNT() FROM Order")["totalSize"] == orders

    single = sf.restful("composite", method="POST", json={"compositeRequest": [parts[0], parts[1]]})
    assert [each["httpStatusCode"] for each in single["compositeResponse"]] == [201, 400]
    assert sf.query("SELECT COUNT() FROM Order")["totalSize"] == orders + 1


def tree(sides: Sides, reference: str, entry: str) -> dict[str, Any]:
    """An order with one item for composite/tree."""
    return {
        "records": [
            {
                "attributes": {"type": "Order", "referenceId": "order"},
                "AccountId": sides.ids["account:ada"],
                "EffectiveDate": "2026-11-21",
                "Status": "Pending Review",
                "Pricebook2Id": sides.ids["pricebook"],
                "Portal_Reference__c": reference,
                "OrderItems": {
                    "records": [
                        {
                            "attributes": {"type": "OrderItem", "referenceId": "item"},
                            "PricebookEntryId": entry,
                            "Quantity": 2,
                            "UnitPrice": 5,
                            "Domain__c": "example.com",
                        }
                    ]
                },
            }
        ]
    }


def test_composite_tree(sf: Any, sides: Sides) -> None:
    done = sf.restful("composite/tree/Order", method="POST", json=tree(sides, "tree-1", sides.ids["entry:starter"]))
    assert done["hasErrors"] is False
    assert [each["referenceId"] for each in done["results"]] == ["order", "item"]
    with pytest.raises(SalesforceMalformedRequest) as twice:
        sf.restful("composite/tree/Order", method="POST", json=tree(sides, "tree-1", sides.ids["entry:starter"]))
    failure = content(twice)["results"][0]
    assert (failure["referenceId"], failure["errors"][0]["statusCode"]) == ("order", "DUPLICATE_VALUE")
    with pytest.raises(SalesforceMalformedRequest) as half:
        sf.restful("composite/tree/Order", method="POST", json=tree(sides, "tree-2", sides.ids["account:ada"]))
    assert content(half)["results"][0]["referenceId"] == "item"
    assert sf.query("SELECT COUNT() FROM Order WHERE Portal_Reference__c = 'tree-2'")["totalSize"] == 0


def test_collections(sf: Any, new_order: Callable[..., str], org: SalesforceSandbox) -> None:
    first, second = new_order(), new_order()

    def update(*records: tuple[str, str], all_or_none: bool = False) -> list[dict[str, Any]]:
        body = {
            "allOrNone": all_or_none,
            "records": [
                {"attributes": {"type": "Order"}, "id": key, "Provisioning_Status__c": status}
                for key, status in records
            ],
        }
        return list(sf.restful("composite/sobjects", method="PATCH", json=body))

    assert all(each["success"] for each in update((first, "Activating"), (second, "Activating")))
    unknown = "801000000000001AAA"
    mixed = update((first, "Provisioned"), (unknown, "Provisioned"))
    assert [each["success"] for each in mixed] == [True, False]
    assert mixed[1]["errors"][0]["statusCode"] == "INVALID_CROSS_REFERENCE_KEY"
    rolled_back = update((first, "Failed"), (unknown, "Failed"), all_or_none=True)
    assert rolled_back[0]["errors"][0]["statusCode"] == "ALL_OR_NONE_OPERATION_ROLLED_BACK"
    assert org.order(first)["Provisioning_Status__c"] == "Provisioned"
    twice = update((first, "Failed"), (first[:15], "Activating"))
    assert {each["errors"][0]["statusCode"] for each in twice} == {"DUPLICATE_VALUE"}
    org.fault("record_error", record=second, code="UNABLE_TO_LOCK_ROW")
    locked = update((first, "Failed"), (second, "Failed"))
    assert [each["success"] for each in locked] == [True, False]

    created = sf.restful(
        "composite/sobjects",
        method="POST",
        json={"records": [{"attributes": {"type": "Contact"}, "LastName": "One"}, {"attributes": {"type": "Contact"}}]},
    )
    assert [each["success"] for each in created] == [True, False]
    read = sf.restful(
        "composite/sobjects/Contact", params={"ids": f"{created[0]['id']},003000000000001AAA", "fields": "LastName"}
    )
    assert read[0]["LastName"] == "One"
    assert read[1] is None
    removed = sf.restful("composite/sobjects", method="DELETE", params={"ids": created[0]["id"]})
    assert removed[0]["success"] is True


def test_batch(sf: Any) -> None:
    done = sf.restful(
        "composite/batch",
        method="POST",
        json={
            "batchRequests": [
                {"method": "GET", "url": "v67.0/limits"},
                {"method": "GET", "url": "v67.0/sobjects/Nothing/1"},
            ]
        },
    )
    assert [each["statusCode"] for each in done["results"]] == [200, 404]
    assert done["hasErrors"] is True


def refused(act: Callable[[], Any]) -> dict[str, Any]:
    """The one error a call is refused with."""
    with pytest.raises((SalesforceMalformedRequest, SalesforceResourceNotFound, SalesforceRefusedRequest)) as caught:
        act()
    return dict(content(caught)[0])


def test_error_bodies(sf: Any, sides: Sides, new_order: Callable[..., str]) -> None:
    key = new_order(Portal_Reference__c="unique-1")
    account = sides.ids["account:ada"]
    cases: list[tuple[Callable[[], Any], str, str]] = [
        (
            lambda: sf.Order.create({"Status": "Draft", "EffectiveDate": "2026-01-01"}),
            "REQUIRED_FIELD_MISSING",
            "Required fields are missing: [AccountId]",
        ),
        (
            lambda: sf.Order.update(key, {"Provisioning_Error_Message__c": "x" * 256}),
            "STRING_TOO_LONG",
            "(max length=255)",
        ),
        (
            lambda: sf.Order.update(key, {"WHMCS_Order_ID__c": 12}),
            "JSON_PARSER_ERROR",
            "Cannot deserialize instance of string from VALUE_NUMBER_INT value 12 or request may be missing a required "
            "field at [line:1, column:23]",
        ),
        (
            lambda: sf.Order.update(key, {"Nothing__c": "x"}),
            "INVALID_FIELD",
            "No such column 'Nothing__c' on sobject of type Order",
        ),
        (lambda: sf.Order.update(key, {"OrderNumber": "1"}), "INVALID_FIELD_FOR_INSERT_UPDATE", "OrderNumber"),
        (
            lambda: sf.Order.create(
                {
                    "AccountId": account,
                    "Status": "Draft",
                    "EffectiveDate": "2026-01-01",
                    "Portal_Reference__c": "UNIQUE-1",
                }
            ),
            "DUPLICATE_VALUE",
            "Portal_Reference__c",
        ),
        (lambda: sf.Order.update(key, {"AccountId": "001000000000001AAA"}), "INVALID_CROSS_REFERENCE_KEY", "invalid"),
        (lambda: sf.Order.update(key, {"AccountId": key}), "MALFORMED_ID", "incorrect type"),
        (lambda: sf.Order.update(key, {"Last_Provisioning_At__c": "yesterday"}), "JSON_PARSER_ERROR", "datetime"),
        (lambda: sf.Order.get("801000000000001AAA"), "NOT_FOUND", "does not exist"),
        (lambda: sf.Order.get("nonsense"), "NOT_FOUND", "external ID"),
        (lambda: sf.Nothing.get("1"), "NOT_FOUND", "does not exist"),
        (
            lambda: sf.OrderItem.create(
                {"OrderId": key, "PricebookEntryId": sides.ids["entry:starter"], "Quantity": 1}
            ),
            "REQUIRED_FIELD_MISSING",
            "UnitPrice",
        ),
        (lambda: sf.query("SELECT Id FROM Nothing"), "INVALID_TYPE", "sObject type 'Nothing' is not supported"),
        (
            lambda: sf.query("SELECT Nothing__c FROM Order"),
            "INVALID_FIELD",
            "No such column 'Nothing__c' on entity 'Order'",
        ),
        (lambda: sf.query("SELECT Id FORM Order"), "MALFORMED_QUERY", "unexpected token"),
    ]
    for act, code, words in cases:
        error = refused(act)
        assert error["errorCode"] == code, error
        assert words in error["message"], error


def test_activation(sf: Any, new_order: Callable[..., str], org: SalesforceSandbox) -> None:
    key = new_order()
    assert (
        refused(lambda: sf.Order.update(key, {"Status": "Activated", "Description": "x"}))["errorCode"]
        == "FAILED_ACTIVATION"
    )
    sf.Order.update(key, {"Status": "Activated"})
    assert org.order(key)["StatusCode"] == "Activated"
    sf.Order.update(key, {"Provisioning_Status__c": "Activating"})
    org.settings(edit_activated_orders=False)
    assert (
        refused(lambda: sf.Order.update(key, {"Provisioning_Status__c": "Failed"}))["errorCode"]
        == "INSUFFICIENT_ACCESS_OR_READONLY"
    )


def test_items_share_the_orders_pricebook(sf: Any, sides: Sides) -> None:
    standard = next(each["Id"] for each in sides.org.state("Pricebook2")["Pricebook2"] if each["IsStandard"])
    key = sf.Order.create(
        {
            "AccountId": sides.ids["account:ada"],
            "EffectiveDate": "2026-11-21",
            "Status": "Draft",
            "Pricebook2Id": standard,
        }
    )["id"]
    error = refused(
        lambda: sf.OrderItem.create(
            {"OrderId": key, "PricebookEntryId": sides.ids["entry:starter"], "Quantity": 1, "UnitPrice": 1}
        )
    )
    assert error["errorCode"] == "FIELD_INTEGRITY_EXCEPTION"


def test_datetimes_come_back_in_utc(sf: Any, new_order: Callable[..., str]) -> None:
    key = new_order()
    sf.Order.update(key, {"Last_Provisioning_At__c": "2026-11-21T18:38:52.120+02:00"})
    assert sf.Order.get(key)["Last_Provisioning_At__c"] == "2026-11-21T16:38:52.120+0000"


def test_expired_token(salesforce: Callable[[], Any], org: SalesforceSandbox) -> None:
    sf = salesforce()
    org.expire_tokens()
    with pytest.raises(SalesforceExpiredSession) as expired:
        sf.query("SELECT Id FROM Account LIMIT 1")
    assert content(expired) == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    assert salesforce().query("SELECT Id FROM Account LIMIT 1")["totalSize"] == 1


def test_request_limit(sf: Any, org: SalesforceSandbox) -> None:
    org.settings(api_limit=1, api_used=1)
    assert refused(lambda: sf.query("SELECT Id FROM Account"))["errorCode"] == "REQUEST_LIMIT_EXCEEDED"
    org.settings(api_used=0)
    assert sf.query("SELECT COUNT() FROM Account")["done"] is True
