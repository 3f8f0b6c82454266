"""What an org may lack or word otherwise, and how the Salesforce client gets by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from portal.clients.http import Hooks
from portal.clients.salesforce.client import SalesforceClient
from portal.clients.salesforce.fields import FieldCache
from portal.domain.model import Setup, UpstreamError
from sandbox.salesforce.app import Org
from sandbox.salesforce.schema import Field
from tests.upstream.salesforce import ORDER_ID, new_order, sf_error, talking_to
from tests.upstream.sandboxes import salesforce_client
from tests.upstream.wire import answer

# --- what an org may lack ----------------------------------------------------------------------------------------


@pytest.fixture
def asking(pretend_org: tuple[Org, SalesforceClient, dict[str, str]]) -> Iterator[tuple[SalesforceClient, list[Any]]]:
    """A client that knows nothing of the pretend org's fields, and the calls it makes: action, outcome."""
    org, _, _ = pretend_org
    heard: list[Any] = []
    assert org.server is not None

    def hear(upstream: str, action: str, outcome: str, seconds: float, error: UpstreamError | None) -> None:
        heard.append((action, outcome))

    client = salesforce_client(org.server.url, field_cache=FieldCache(), hooks=Hooks(after_call=hear))
    yield client, heard
    client.close()


def test_an_org_is_asked_once_which_fields_it_has(
    pretend_org: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    _, client, names = pretend_org
    order_id = client.create_order(new_order(names))
    client, heard = asking
    for _ in range(3):
        order = client.fetch_order(order_id)
        assert order is not None
        assert order.portal_reference == "ref-1"
        assert {item.domain or item.hostname for item in order.items} == {"ada.example", "h1"}
    assert heard == [("sign_in", "ok"), ("describe", "ok"), ("describe", "ok"), *[("fetch_order", "ok")] * 3]


def test_fields_an_org_lacks_are_not_asked_for_and_one_that_goes_is_noticed(
    pretend_org: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    org, client, names = pretend_org
    order_id = client.create_order(new_order(names))
    client, heard = asking
    of_item, of_order = (org.records.schema[name].fields for name in ("OrderItem", "Order"))
    del of_item["Domain__c"]
    order = client.fetch_order(order_id)
    assert order is not None
    assert [item.domain for item in order.items] == [None, None]
    assert "h1" in [item.hostname for item in order.items]
    del of_item["Hostname__c"], of_order["Portal_Reference__c"], heard[:]
    order = client.fetch_order(order_id)
    assert order is not None
    assert (order.portal_reference, len(order.items)) == (None, 2)
    # The refused question is no failure of the other side's, and no fault of its set-up.
    assert heard == [("fetch_order", "expired"), ("describe", "ok"), ("describe", "ok"), ("fetch_order", "ok")]
    assert client.orders_changed_since(0.0, 5).rows == len(client.orders_of_account(names["acme"], 5)) == 1


def test_a_field_nobody_can_do_without_is_the_set_ups(
    pretend_org: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    org, client, names = pretend_org
    order_id = client.create_order(new_order(names))
    client, heard = asking
    del org.records.schema["Order"].fields["WHMCS_Order_ID__c"]
    with pytest.raises(UpstreamError) as caught:
        client.fetch_order(order_id)
    error = caught.value
    assert (error.setup, error.permanent, error.code) == (Setup.ACTION, False, "INVALID_FIELD")
    assert "No such column 'WHMCS_Order_ID__c'" in error.message
    assert "permission set" in error.message
    assert heard[-1] == ("fetch_order", "refused")


def test_where_describe_is_refused_the_package_is_taken_to_be_there(
    pretend_org: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    org, client, names = pretend_org
    order_id = client.create_order(new_order(names, account="bare"))
    client, _ = asking
    org.faults.add({"kind": "error", "path": "*/describe", "status": 404, "body": "<html>", "count": 0})
    order = client.fetch_order(order_id)
    assert order is not None
    assert (order.portal_reference, order.email) == ("ref-1", "o'brien@example.com")
    assert client.accounts_with_email("ada@example.com") == 2


def test_a_person_account_is_its_own_contact(
    pretend_org: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    org, client, names = pretend_org
    account = org.records.schema["Account"]
    for name in ("PersonEmail", "FirstName", "LastName"):
        account.fields[name] = Field(name)
    account.fields["IsPersonAccount"] = Field("IsPersonAccount", "boolean", default=False)
    person: dict[str, object] = {
        "type": "Account",
        "ref": "grace",
        "Name": "Grace Hopper",
        "BillingCity": "Arlington",
        "Phone": "1",
    }
    person |= {"FirstName": "Grace", "LastName": "Hopper", "PersonEmail": "grace@example.com", "IsPersonAccount": True}
    names |= org.seed({"records": [person]})["names"]
    order_id = client.create_order(new_order(names, account="grace"))
    client, _ = asking
    order = client.fetch_order(order_id)
    assert order is not None
    assert (order.email, order.whmcs_client_id) == ("grace@example.com", None)
    assert order.contact == {
        "firstname": "Grace",
        "lastname": "Hopper",
        "email": "grace@example.com",
        "phonenumber": "1",
        "city": "Arlington",
    }
    assert client.accounts_with_email("grace@example.com") == 1
    found = client.contact_by_email("grace@example.com")
    assert found is not None
    assert (found.account_id, found.last_name) == (names["grace"], "Hopper")
    org.seed({"update": [{"type": "Contact", "Id": names["ada"], "Email": "grace@example.com"}]})
    assert client.accounts_with_email("grace@example.com") == 2
    assert client.contact_by_email("grace@example.com") is None
    # One that shows itself as a contact, too, is one.
    org.seed({"update": [{"type": "Contact", "Id": names["ada"], "AccountId": names["grace"]}]})
    assert client.accounts_with_email("grace@example.com") == len(client.contacts_by_email("grace@example.com")) == 1


# --- the org's set-up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "status", "setup", "cure"),
    [
        ("UNSUPPORTED_API_VERSION", "gone", 410, Setup.SIDE, "SF_API_VERSION"),
        ("NOT_FOUND", "The requested resource does not exist", 404, Setup.SIDE, "SF_API_VERSION"),
        ("API_DISABLED_FOR_ORG", "API is not enabled", 403, Setup.SIDE, "API Enabled"),
        ("API_CURRENTLY_DISABLED", "API is disabled for this User", 403, Setup.SIDE, "API Enabled"),
        ("INVALID_TYPE", "sObject type 'Order' is not supported.", 400, Setup.ACTION, "permission set"),
        ("INVALID_FIELD", "No such column 'X__c' on entity 'Order'", 400, Setup.ACTION, "package"),
        ("SOMETHING_NEW", "no", 400, Setup.ACTION, "doesn't fit this org"),
        ("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", 403, None, ""),
        ("QUERY_TIMEOUT", "too slow", 400, None, ""),
    ],
)
def test_what_refuses_a_query_is_about_the_org(
    code: str, message: str, status: int, setup: Setup | None, cure: str
) -> None:
    with talking_to(sf_error(code, message, status)) as (_, client), pytest.raises(UpstreamError) as caught:
        client.fetch_order(ORDER_ID)
    error = caught.value
    assert (error.permanent, error.unknown, error.setup, error.code) == (False, False, setup, code)
    assert cure in error.message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded"),
        ("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "bad value for restricted picklist field: Activating"),
        (
            "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
            "x: execution of AfterUpdate\ncaused by: System.LimitException: Too many SOQL queries: 101",
        ),  # noqa: E501
        ("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id"),
        ("INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: WHMCS_Order_ID__c"),
    ],
)
def test_what_no_record_of_ours_would_fare_better_with_is_the_set_ups(
    pretend_org: tuple[Org, SalesforceClient, dict[str, str]], code: str, message: str
) -> None:
    org, client, names = pretend_org
    ids = [client.create_order(new_order(names, reference)) for reference in ("r1", "r2")]
    fault = {"kind": "record_error", "code": code, "message": message}
    errors: list[UpstreamError | None] = []
    for call in (
        lambda: client.create_order(new_order(names, "r3")),
        lambda: client.update_order(ids[0], {"Provisioning_Status__c": "Activating"}),
    ):
        org.faults.add(fault)
        with pytest.raises(UpstreamError) as caught:
            call()
        errors.append(caught.value)
    org.faults.add(fault | {"record": ids[1]})
    errors += client.update_orders([(each, {"Provisioning_Status__c": "Activating"}) for each in ids])[1:]
    for error in errors:
        assert error is not None
        assert (error.setup, error.permanent, error.unknown, error.code) == (Setup.RECORDS, False, False, code)
    assert client.create_order(new_order(names, "r3")) is not None  # and mended is mended


def test_an_order_of_no_account_is_refused_and_learnt_around() -> None:
    def row(last: str, **about: Any) -> dict[str, Any]:
        return {
            "Id": f"801D000000K0fX{last}",
            "AccountId": "001D000000K0fXO",
            "CreatedDate": "2026-11-21T16:38:52.000+0000",
            "LastModifiedDate": "2026-11-21T16:38:53.000+0000",
            "OrderItems": None,
        } | about

    odd = [
        row("A", AccountId=None),
        row("B"),
        row("C", CreatedDate=None),
        row("D", OrderItems={"done": True, "records": [{"Id": "nonsense"}]}),
        row("E", TotalAmount="NaN", LastModifiedDate="2026-11-21T16:38:54.000+0000"),
    ]
    with talking_to(answer({"done": True, "records": odd})) as (_, client):
        page = client.orders_changed_since(1.0, 5)
    assert [each.id[:15] for each in page.changes] == ["801D000000K0fXB"]
    assert [each[14] for each in page.odd] == ["A", "C", "D", "E"]
    assert (page.rows, page.changed_at, page.last_id[:15]) == (5, 1795279134.0, "801D000000K0fXE")
    with talking_to(answer({"done": True, "records": odd[:1]})) as (_, client), pytest.raises(UpstreamError) as caught:
        client.fetch_order("801D000000K0fXA")
    assert (caught.value.permanent, caught.value.code) == (True, "order_without_account")
