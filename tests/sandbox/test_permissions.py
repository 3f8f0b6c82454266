"""What the pretend org keeps from the integration user: rights on objects and fields, picklists, rows, limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from simple_salesforce.exceptions import SalesforceError

from sandbox.control import SalesforceSandbox
from tests.sandbox.conftest import Sides


@pytest.fixture(autouse=True)
def portal(org: SalesforceSandbox) -> Iterator[None]:
    """The API user has the portal's permission set and nothing else."""
    org.settings(permissions="portal")
    yield
    org.unlock()


def refused(act: Callable[[], Any]) -> dict[str, Any]:
    """The one error a call is refused with."""
    with pytest.raises(SalesforceError) as caught:
        act()
    content: Any = caught.value.content
    return dict(content[0])


def test_rights_on_objects(sf: Any, sides: Sides, new_order: Callable[..., str]) -> None:
    account = sides.ids["account:ada"]
    order = new_order()
    assert refused(lambda: sf.Contact.create({"LastName": "New"})) == {
        "message": "entity type cannot be inserted: Contact",
        "errorCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        "fields": [],
    }
    contact = sides.ids["contact:ada"]
    assert refused(lambda: sf.Contact.update(contact, {"Phone": "1"}))["errorCode"] == "INSUFFICIENT_ACCESS_OR_READONLY"
    assert refused(lambda: sf.Order.delete(order))["errorCode"] == "INSUFFICIENT_ACCESS_OR_READONLY"
    described = {each["name"]: each for each in sf.describe()["sobjects"]}
    assert (described["Order"]["createable"], described["Order"]["deletable"]) == (True, False)
    assert described["Contact"]["createable"] is described["Contact"]["updateable"] is False
    sf.Account.update(account, {"WHMCS_Client_ID__c": "1"})
    error = refused(lambda: sf.Account.update(account, {"Name": "Mine", "WHMCS_Client_ID__c": "1"}))
    assert (error["errorCode"], error["fields"]) == ("INVALID_FIELD_FOR_INSERT_UPDATE", ["Name"])
    fields = {each["name"]: each for each in sf.Account.describe()["fields"]}
    assert (fields["WHMCS_Client_ID__c"]["updateable"], fields["Name"]["updateable"]) == (True, False)


def test_what_is_hidden_does_not_exist(sf: Any, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    order = new_order()
    org.settings(hidden_objects=["Contact"], hidden_fields=["OrderItem.Hostname__c", "Order.WHMCS_Order_ID__c"])
    assert "Contact" not in {each["name"] for each in sf.describe()["sobjects"]}
    assert refused(lambda: sf.query("SELECT Id FROM Contact"))["errorCode"] == "INVALID_TYPE"
    assert refused(lambda: sf.Contact.describe())["errorCode"] == "NOT_FOUND"
    assert refused(lambda: sf.query("SELECT (SELECT Id FROM Contacts) FROM Account"))["errorCode"] == "INVALID_TYPE"
    error = refused(lambda: sf.query("SELECT (SELECT Hostname__c FROM OrderItems) FROM Order"))
    assert error["errorCode"] == "INVALID_FIELD"
    assert "'Hostname__c' on entity 'OrderItem'" in error["message"]
    assert "Hostname__c" not in {each["name"] for each in sf.OrderItem.describe()["fields"]}
    assert "WHMCS_Order_ID__c" not in sf.Order.get(order)
    assert refused(lambda: sf.Order.update(order, {"WHMCS_Order_ID__c": "1"}))["errorCode"] == "INVALID_FIELD"
    org.settings(hidden_objects=[], hidden_fields=[])
    assert "WHMCS_Order_ID__c" in sf.Order.get(order)


def test_read_only_by_the_administrator(sf: Any, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    order = new_order()
    org.settings(read_only_fields=["Order.Provisioning_Status__c"])
    error = refused(lambda: sf.Order.update(order, {"Provisioning_Status__c": "Failed", "WHMCS_Order_ID__c": "7"}))
    assert (error["errorCode"], error["fields"]) == ("INVALID_FIELD_FOR_INSERT_UPDATE", ["Provisioning_Status__c"])
    assert org.order(order)["WHMCS_Order_ID__c"] is None, "all or nothing"
    org.settings(read_only_objects=["Order"], read_only_fields=[])
    assert refused(lambda: sf.Order.update(order, {"WHMCS_Order_ID__c": "7"}))["errorCode"].startswith("INSUFFICIENT")
    assert sf.query(f"SELECT Id FROM Order WHERE Id = '{order}'")["totalSize"] == 1, "reading goes on"


def test_restricted_picklists(sf: Any, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    order = new_order()
    error = refused(lambda: sf.Order.update(order, {"Provisioning_Status__c": "Done"}))
    assert error == {
        "message": "Provisioning Status: bad value for restricted picklist field: Done",
        "errorCode": "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "fields": ["Provisioning_Status__c"],
    }
    fields = {each["name"]: each for each in sf.Order.describe()["fields"]}
    assert fields["Provisioning_Status__c"]["restrictedPicklist"] is True
    assert "Activating" in [each["value"] for each in fields["Provisioning_Status__c"]["picklistValues"]]
    org.settings(picklists={"Order.Provisioning_Status__c": ["Provisioned", "Failed"]})
    sf.Order.update(order, {"Provisioning_Status__c": "Failed"})
    assert "Activating" in refused(lambda: sf.Order.update(order, {"Provisioning_Status__c": "Activating"}))["message"]
    fields = {each["name"]: each for each in sf.Order.describe()["fields"]}
    assert [each["value"] for each in fields["Provisioning_Status__c"]["picklistValues"]] == ["Provisioned", "Failed"]


def test_a_held_row_is_waited_for(sf: Any, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    order = new_order()
    org.settings(lock_wait_seconds=0.2)
    org.lock(order)
    begun = time.monotonic()
    error = refused(lambda: sf.Order.update(order[:15], {"WHMCS_Order_ID__c": "7"}))
    assert error["errorCode"] == "UNABLE_TO_LOCK_ROW"
    assert order in error["message"]
    assert 0.2 <= time.monotonic() - begun < 5
    body = {"records": [{"attributes": {"type": "Order"}, "id": order, "WHMCS_Order_ID__c": "7"}]}
    (one,) = sf.restful("composite/sobjects", method="PATCH", json=body)
    assert one["errors"][0]["statusCode"] == "UNABLE_TO_LOCK_ROW"
    assert sf.Order.get(order)["WHMCS_Order_ID__c"] is None, "reading needs no lock"

    org.settings(lock_wait_seconds=30)
    since = org.last_entry()
    writer = threading.Thread(target=lambda: sf.Order.update(order, {"WHMCS_Order_ID__c": "8"}))
    writer.start()
    org.wait_for(lambda: org.journal(since, action="update:Order"))
    org.unlock(order)
    writer.join(20)
    assert not writer.is_alive()
    assert org.order(order)["WHMCS_Order_ID__c"] == "8"
    assert len(org.journal(since, action="update:Order")) == 1, "one call, that waited"


def test_an_approval_process_locks_until_it_is_over(
    sf: Any, org: SalesforceSandbox, new_order: Callable[..., str]
) -> None:
    order = new_order()
    org.lock(order, approval=True)
    assert refused(lambda: sf.Order.update(order, {"WHMCS_Order_ID__c": "7"}))["errorCode"] == "ENTITY_IS_LOCKED"
    org.unlock(order)
    sf.Order.update(order, {"WHMCS_Order_ID__c": "7"})


def test_too_many_calls_at_once(sf: Any, org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    order = new_order()
    org.settings(max_concurrent_requests=1, lock_wait_seconds=30)
    org.lock(order)
    since = org.last_entry()
    writer = threading.Thread(target=lambda: sf.Order.update(order, {"WHMCS_Order_ID__c": "9"}))
    writer.start()
    org.wait_for(lambda: org.journal(since, action="update:Order"))

    def refusal() -> Any:
        url = f"{org.url}/services/data/v67.0/query?q=SELECT+Id+FROM+Account"
        answer = requests.get(url, headers={"Authorization": sf.headers["Authorization"]}, timeout=30)
        return answer.json() if answer.status_code == 403 else None

    assert org.wait_for(refusal)[0]["errorCode"] == "REQUEST_LIMIT_EXCEEDED"
    org.unlock()
    writer.join(20)
    assert not writer.is_alive()
    assert org.order(order)["WHMCS_Order_ID__c"] == "9"
