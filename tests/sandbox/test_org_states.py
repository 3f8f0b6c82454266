"""Switches of the pretend org: refused writes while queries work, retired versions, other kinds of orgs, staff."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from simple_salesforce.exceptions import SalesforceError

from sandbox.control import SalesforceSandbox
from tests.sandbox.conftest import Sides
from tests.sandbox.test_permissions import refused

CODES = (
    "INSUFFICIENT_ACCESS_OR_READONLY",
    "INVALID_FIELD_FOR_INSERT_UPDATE",
    "ENTITY_IS_LOCKED",
    "STORAGE_LIMIT_EXCEEDED",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
)


def batch(sf: Any, *orders: str) -> list[dict[str, Any]]:
    """Both orders' status in one call."""
    records = [{"attributes": {"type": "Order"}, "id": key, "Provisioning_Status__c": "Activating"} for key in orders]
    return list(sf.restful("composite/sobjects", method="PATCH", json={"records": records}))


@pytest.mark.parametrize("code", CODES)
def test_writes_refused_record_by_record_and_call_by_call(
    sf: Any, org: SalesforceSandbox, new_order: Callable[..., str], code: str
) -> None:
    first, second = new_order(), new_order()
    org.settings(refused_writes={first: code})
    refusal, success = batch(sf, first, second)
    assert (refusal["success"], refusal["errors"][0]["statusCode"]) == (False, code)
    assert success["success"] is True
    assert org.order(second)["Provisioning_Status__c"] == "Activating"
    assert refused(lambda: sf.Order.update(first, {"Provisioning_Status__c": "Failed"}))["errorCode"] == code
    org.settings(refused_writes={"update:Order": {"code": code, "message": "in words of their own"}})
    assert [each["errors"][0]["message"] for each in batch(sf, first, second)] == ["in words of their own"] * 2
    assert new_order(), "creating goes on"
    org.settings(refused_writes={})
    org.fault(code, action="collections.update")
    assert refused(lambda: batch(sf, first, second))["errorCode"] == code
    assert sf.query(f"SELECT Id FROM Order WHERE Id = '{first}'")["totalSize"] == 1
    assert all(each["success"] for each in batch(sf, first, second))


def test_full_storage_and_failing_triggers(sf: Any, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    order = new_order()
    org.settings(storage_full=True)
    assert refused(lambda: sf.Order.update(order, {"Description": "x"}))["errorCode"] == "STORAGE_LIMIT_EXCEEDED"
    assert refused(lambda: sf.Contact.create({"LastName": "x"}))["errorCode"] == "STORAGE_LIMIT_EXCEEDED"
    org.settings(storage_full=False, failing_triggers={"Order": "System.NullPointerException: no owner"})
    error = refused(lambda: sf.Order.update(order, {"Description": "x"}))
    assert error["errorCode"] == "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
    assert "OrderTrigger: execution of BeforeUpdate" in error["message"]
    assert "no owner" in error["message"]
    assert sf.Contact.create({"LastName": "x"})["success"]


def test_an_installation_that_refuses_reads(sf: Any, org: SalesforceSandbox, sides: Sides) -> None:
    query = "SELECT Id FROM Account LIMIT 1"
    org.settings(oldest_version=68)
    with pytest.raises(SalesforceError) as caught:
        sf.query(query)
    assert caught.value.status == 410
    org.settings(oldest_version=31, api_disabled=True)
    assert refused(lambda: sf.query(query))["errorCode"] == "API_DISABLED_FOR_ORG"
    org.settings(api_disabled=False)
    for kind in ("INVALID_FIELD", "INVALID_TYPE", "API_DISABLED_FOR_ORG"):
        org.fault(kind, action="query")
        assert refused(lambda: sf.query(query))["errorCode"] == kind
    assert sf.query(query)["totalSize"] == 1


def test_person_accounts(sf: Any, org: SalesforceSandbox, sides: Sides) -> None:
    query = "SELECT Name, IsPersonAccount, PersonEmail, (SELECT Id FROM Contacts) FROM Account WHERE PersonEmail = '{}'"
    assert refused(lambda: sf.query(query.format("x@y.example")))["errorCode"] == "INVALID_FIELD"
    assert "IsPersonAccount" not in {each["name"] for each in sf.Account.describe()["fields"]}
    org.settings(person_accounts=True)
    assert "IsPersonAccount" in {each["name"] for each in sf.Account.describe()["fields"]}
    key = sf.Account.create({"FirstName": "Edith", "LastName": "Clarke", "PersonEmail": "edith@clarke.example"})["id"]
    (row,) = sf.query(query.format("edith@clarke.example"))["records"]
    assert (row["Name"], row["IsPersonAccount"], row["Contacts"]) == ("Edith Clarke", True, None)
    assert sf.Account.get(sides.ids["account:ada"])["IsPersonAccount"] is False
    made = org.seed(records=[{"type": "Account", "LastName": "Seeded", "PersonEmail": "seeded@clarke.example"}])
    assert sf.Account.get(made["ids"][0])["IsPersonAccount"] is True
    assert key != made["ids"][0]
    assert refused(lambda: sf.Account.create({"Phone": "1"}))["fields"] == ["Name"]


def test_person_accounts_with_their_contact(sf: Any, org: SalesforceSandbox) -> None:
    org.settings(person_accounts=True, person_contacts=True)
    key = sf.Account.create({"FirstName": "Ida", "LastName": "Rhodes", "PersonEmail": "ida@rhodes.example"})["id"]
    (row,) = sf.query("SELECT Id, AccountId, IsPersonAccount FROM Contact WHERE Email = 'ida@rhodes.example'")[
        "records"
    ]
    assert (row["AccountId"], row["IsPersonAccount"]) == (key, True)
    assert sf.Account.get(key)["PersonContactId"] == row["Id"]


def test_several_currencies(sf: Any, org: SalesforceSandbox, sides: Sides, new_order: Callable[..., str]) -> None:
    assert refused(lambda: sf.query("SELECT CurrencyIsoCode FROM Order"))["errorCode"] == "INVALID_FIELD"
    org.settings(multi_currency=True)
    order = new_order(CurrencyIsoCode="USD")
    assert sf.Order.get(order)["CurrencyIsoCode"] == "USD"
    euros = sf.Order.create(
        {
            "AccountId": sides.ids["account:ada"],
            "EffectiveDate": "2026-11-21",
            "Status": "Draft",
            "Pricebook2Id": sides.ids["pricebook"],
            "CurrencyIsoCode": "EUR",
        }
    )["id"]
    item = {"OrderId": euros, "PricebookEntryId": sides.ids["entry:starter"], "Quantity": 1, "UnitPrice": 5}
    assert "currency code" in refused(lambda: sf.OrderItem.create(item))["message"]


def test_orders_without_an_account(sf: Any, org: SalesforceSandbox, sides: Sides) -> None:
    order = {"EffectiveDate": "2026-11-21", "Status": "Draft"}
    assert refused(lambda: sf.Order.create(order))["fields"] == ["AccountId"]
    org.settings(orders_without_account=True)
    key = sf.Order.create(order)["id"]
    row = sf.query(f"SELECT AccountId, Account.Name FROM Order WHERE Id = '{key}'")["records"][0]
    assert (row["AccountId"], row["Account"]) == (None, None)


def test_a_clone_carries_the_old_whmcs_order(sf: Any, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    order = new_order("starter", "support", Portal_Reference__c="cloned-1")
    sf.Order.update(order, {"WHMCS_Order_ID__c": "77", "Provisioning_Status__c": "Provisioned"})
    clone = org.clone(order)
    found = org.order(clone)
    assert (found["WHMCS_Order_ID__c"], found["Provisioning_Status__c"]) == ("77", "Provisioned")
    assert (found["Portal_Reference__c"], found["Status"], found["OrderNumber"] != org.order(order)["OrderNumber"]) == (
        None,
        "Draft",
        True,
    )
    items = "SELECT COUNT() FROM OrderItem WHERE OrderId = '{}'"
    assert sf.query(items.format(clone))["totalSize"] == 2
    bare = org.clone(order, items=False, Status="Pending Review", WHMCS_Order_ID__c="078")
    assert sf.query(items.format(bare))["totalSize"] == 0
    assert (org.order(bare)["Status"], org.order(bare)["WHMCS_Order_ID__c"]) == ("Pending Review", "078")


def test_staff_change_an_order(sf: Any, org: SalesforceSandbox, sides: Sides, new_order: Callable[..., str]) -> None:
    order = new_order("starter", "support")
    sf.Order.update(order, {"Status": "Activated"})
    rows = f"SELECT Id, Quantity, Product2.Name FROM OrderItem WHERE OrderId = '{order}' ORDER BY Product2.Name"
    support, starter = sf.query(rows)["records"]
    org.staff(order, items=[{"Id": starter["Id"], "Quantity": 3}], remove=[support["Id"]], Status="Cancelled")
    (left,) = sf.query(rows)["records"]
    assert (left["Id"], left["Quantity"], org.order(order)["Status"]) == (starter["Id"], 3.0, "Cancelled")
    org.staff(order, remove="all", items=[{"PricebookEntryId": sides.ids["entry:server"]}])
    (left,) = sf.query(rows)["records"]
    assert left["Product2"]["Name"] == "Cloud Server S"
    users = {each["Id"]: each["Username"] for each in org.state("User")["User"]}
    assert users[org.order(order)["LastModifiedById"]] == "operator@northwind.example"


def test_staff_change_an_order_in_the_middle_of_a_call(
    sf: Any, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    order = new_order()
    org.meanwhile(
        ("staff", {"orderId": order, "fields": {"Status": "Cancelled"}}), action="query", contains=order, when="after"
    )
    before = sf.query(f"SELECT Status FROM Order WHERE Id = '{order}'")["records"][0]
    assert (before["Status"], org.order(order)["Status"]) == ("Pending Review", "Cancelled")
    org.meanwhile(("staff", {"orderId": order, "fields": {"Status": "Draft"}}), action="query", contains=order)
    after = sf.query(f"SELECT Status FROM Order WHERE Id = '{order}'")["records"][0]
    assert after["Status"] == "Draft"
