"""The Salesforce client against servers that misbehave on the wire, and against the pretend org."""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
import pytest

from portal.clients.http import Hooks, SendChecks
from portal.clients.salesforce.auth import Token
from portal.clients.salesforce.client import SalesforceClient
from portal.clients.salesforce.fields import FieldCache
from portal.clients.salesforce.records import NewOrder, NewOrderItem, OrderChange
from portal.domain.model import LeaseLost, SalesforceItem, Setup, UpstreamError
from sandbox.salesforce.app import Org
from sandbox.salesforce.schema import Field
from tests.upstream.sandboxes import CLIENT_ID, USERNAME, key_pair, org_sandbox, salesforce_client
from tests.upstream.wire import Act, Wire, answer, drip, drop, hang, serving, unused_port

ORDER_ID = "801D000000K0fXOIAZ"
TOKEN_CANARY = "00Dcanary!token-91c3"
EXPIRED = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
NO_RECORDS = {"totalSize": 0, "done": True, "records": []}


def token_answer(wire_address: str, token: str = TOKEN_CANARY) -> Act:
    return answer(
        {
            "access_token": token,
            "scope": "api",
            "instance_url": wire_address,
            "token_type": "Bearer",
            "id": "https://login.salesforce.com/id/00DD000000K0fXO/005D000000K0fXO",
        }
    )


@contextlib.contextmanager
def talking_to(*acts: Act, **limits: Any) -> Iterator[tuple[Wire, SalesforceClient]]:
    """A server whose first act is a successful sign-in; `acts` follow."""
    with serving(drop) as wire:
        wire.acts = [token_answer(wire.address), *acts]
        client = salesforce_client(wire.address, **limits)
        try:
            yield wire, client
        finally:
            client.close()


def requests_of(wire: Wire) -> list[str]:
    return [f"{seen.method} {urlsplit(seen.target).path}" for seen in wire.seen]


# --- signing in ----------------------------------------------------------------------------------------


def test_the_assertion_is_what_salesforce_wants() -> None:
    with talking_to(answer(NO_RECORDS)) as (wire, client):
        assert client.fetch_order(ORDER_ID) is None
        form = wire.seen[0].form
        assert wire.seen[0].target == "/services/oauth2/token"
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        claims = jwt.decode(form["assertion"], key_pair()[1], ["RS256"], audience="https://test.salesforce.com")
        assert (claims["iss"], claims["sub"]) == (CLIENT_ID, USERNAME)
        remaining = claims["exp"] - datetime.datetime.now(datetime.UTC).timestamp()
        assert 60 < remaining <= 180
        assert wire.seen[1].headers["authorization"] == f"Bearer {TOKEN_CANARY}"
        assert client.organization_id() == "00DD000000K0fXOMAZ"


def test_the_token_is_kept_and_the_connection_too() -> None:
    with talking_to(answer(NO_RECORDS)) as (wire, client):
        for _ in range(4):
            client.fetch_order(ORDER_ID)
        assert requests_of(wire) == ["POST /services/oauth2/token"] + ["GET /services/data/v67.0/query/"] * 4
        assert wire.connections == 1


def test_a_refused_token_is_renewed_once() -> None:
    heard: list[tuple[str, str]] = []

    def hear(upstream: str, action: str, outcome: str, seconds: float, error: UpstreamError | None) -> None:
        heard.append((action, outcome))

    with talking_to(hooks=Hooks(after_call=hear)) as (wire, client):
        wire.acts += [answer(EXPIRED, 401), token_answer(wire.address, "second"), answer(NO_RECORDS)]
        client.fetch_order(ORDER_ID)
        assert wire.seen[3].headers["authorization"] == "Bearer second"
        assert heard == [("sign_in", "ok"), ("fetch_order", "expired"), ("sign_in", "ok"), ("fetch_order", "ok")]


@pytest.mark.parametrize("write", [False, True])
def test_a_token_that_is_always_refused_ends(write: bool) -> None:
    with talking_to() as (wire, client):
        wire.acts += [answer(EXPIRED, 401), token_answer(wire.address, "second"), answer(EXPIRED, 401)]
        with pytest.raises(UpstreamError) as caught:
            client.update_order(ORDER_ID, {"WHMCS_Order_ID__c": "1"}) if write else client.fetch_order(ORDER_ID)
        assert (caught.value.permanent, caught.value.unknown) == (False, False)
        assert caught.value.code == "INVALID_SESSION_ID"
        assert len(wire.seen) == 4


def test_many_threads_fetch_one_token() -> None:
    with talking_to(answer(NO_RECORDS)) as (wire, client):
        gate = threading.Barrier(6)

        def ask() -> None:
            gate.wait()
            client.fetch_order(ORDER_ID)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert requests_of(wire).count("POST /services/oauth2/token") == 1
        assert len(wire.seen) == 7


def test_a_shared_store_keeps_the_token_for_others() -> None:
    class Store:
        token: Token | None = None
        locked = 0

        def get(self) -> Token | None:
            return self.token

        def set(self, token: Token) -> None:
            self.token = token

        @contextlib.contextmanager
        def lock(self) -> Iterator[None]:
            self.locked += 1
            yield

    store = Store()
    with talking_to(answer(NO_RECORDS), token_store=store) as (wire, client):
        client.fetch_order(ORDER_ID)
        other = salesforce_client(wire.address, token_store=store)
        other.fetch_order(ORDER_ID)
        other.close()
        assert requests_of(wire).count("POST /services/oauth2/token") == 1
        assert store.locked == 1


@pytest.mark.parametrize(
    ("error", "description", "hint"),
    [
        ("invalid_grant", "user hasn't approved this consumer", "pre-authorized"),
        ("invalid_grant", "audience is invalid", "SF_AUDIENCE"),
        ("invalid_grant", "expired authorization code", "clock"),
        ("invalid_grant", "invalid assertion", "SF_PRIVATE_KEY_PATH"),
        ("invalid_client_id", "client identifier invalid", "SF_CLIENT_ID"),
        ("invalid_app_access", "user is not admin approved to access this app", "permission set"),
    ],
)
def test_a_refused_sign_in_says_what_fixes_it_and_fails_no_order(error: str, description: str, hint: str) -> None:
    with serving(answer({"error": error, "error_description": description}, 400)) as wire:
        client = salesforce_client(wire.address)
        with pytest.raises(UpstreamError) as caught:
            client.fetch_order(ORDER_ID)
        client.close()
    assert (caught.value.permanent, caught.value.unknown, caught.value.code) == (False, False, error)
    assert hint in caught.value.message


@pytest.mark.parametrize(
    "address", ["http://evil.example", "ftp://127.0.0.1", "", "http://127.0.0.1.evil.example", "javascript:1"]
)
def test_a_token_goes_to_https_or_this_machine_only(address: str) -> None:
    body = {"access_token": TOKEN_CANARY, "instance_url": address}
    with serving(answer(body)) as wire:
        client = salesforce_client(wire.address)
        with pytest.raises(UpstreamError):
            client.fetch_order(ORDER_ID)
        client.close()
        assert len(wire.seen) == 1


def test_a_next_page_elsewhere_is_not_followed() -> None:
    page = {"totalSize": 2, "done": False, "nextRecordsUrl": "@evil.example/services/data/", "records": [{}]}
    with talking_to(answer(page)) as (wire, client), pytest.raises(UpstreamError):
        client.requested_orders(5)
    assert len(wire.seen) == 2


def test_a_key_that_is_none_is_refused_at_the_start() -> None:
    for pem in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(ValueError, match="SF_PRIVATE_KEY_PATH"):
            salesforce_client("http://127.0.0.1:1", private_key=pem)


# --- errors --------------------------------------------------------------------------------------------


def sf_error(code: str, message: str = "no", status: int = 400) -> Act:
    return answer([{"message": message, "errorCode": code, "fields": []}], status)


@pytest.mark.parametrize(
    ("act", "permanent", "unknown", "code"),
    [
        (sf_error("REQUEST_LIMIT_EXCEEDED", status=403), False, False, "REQUEST_LIMIT_EXCEEDED"),
        (sf_error("UNABLE_TO_LOCK_ROW"), False, False, "UNABLE_TO_LOCK_ROW"),
        (sf_error("ENTITY_IS_LOCKED"), False, False, "ENTITY_IS_LOCKED"),
        (
            sf_error("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "trigger: UNABLE_TO_LOCK_ROW, x"),
            False,
            False,
            "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        ),
        (sf_error("STRING_TOO_LONG"), True, False, "STRING_TOO_LONG"),
        (sf_error("FIELD_CUSTOM_VALIDATION_EXCEPTION"), True, False, "FIELD_CUSTOM_VALIDATION_EXCEPTION"),
        (sf_error("INSUFFICIENT_ACCESS_OR_READONLY", status=403), False, False, "INSUFFICIENT_ACCESS_OR_READONLY"),
        (sf_error("NOT_FOUND", status=404), True, False, "NOT_FOUND"),
        (sf_error("ENTITY_IS_DELETED", status=404), True, False, "ENTITY_IS_DELETED"),
        (sf_error("UNKNOWN_EXCEPTION", status=500), False, True, "UNKNOWN_EXCEPTION"),
        (sf_error("SERVER_UNAVAILABLE", status=503), False, True, "SERVER_UNAVAILABLE"),
        (answer(b"<html>maintenance</html>", 503), False, True, "http_503"),
        (answer(b"<html>maintenance</html>", 200), False, True, "not_json"),
        (answer(b"<html>moved</html>", 302, Location="http://127.0.0.1:1/"), False, False, "http_302"),
        (drop, False, True, "connection"),
    ],
)
def test_what_an_update_can_meet(act: Act, permanent: bool, unknown: bool, code: str) -> None:
    with talking_to(act) as (wire, client), pytest.raises(UpstreamError) as caught:
        client.update_order(ORDER_ID, {"WHMCS_Order_ID__c": 7})
    error = caught.value
    assert (error.permanent, error.unknown, error.code) == (permanent, unknown, code)
    assert error.__context__ is None and error.__cause__ is None
    assert len(wire.seen) == 2


@pytest.mark.parametrize("act", [hang, drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b" ")])
def test_the_deadline_is_for_the_whole_call(act: Act) -> None:
    with talking_to(act, read_seconds=0.6) as (_, client), pytest.raises(UpstreamError) as caught:
        client.fetch_order(ORDER_ID)
    assert (caught.value.code, caught.value.unknown, caught.value.permanent) == ("timeout", False, False)


def test_salesforce_out_of_reach() -> None:
    client = salesforce_client(f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(UpstreamError) as caught:
        client.update_order(ORDER_ID, {})
    assert (caught.value.reached, caught.value.unknown, caught.value.permanent) == (False, False, False)


def test_before_send_stops_an_update() -> None:
    checks = SendChecks()
    with talking_to(answer(b"", 204), hooks=Hooks(before_send=checks)) as (wire, client):
        client.sign_in()

        def lost(seconds: float) -> None:
            raise LeaseLost("gone")

        checks.add(lost)
        with pytest.raises(LeaseLost):
            client.update_order(ORDER_ID, {})
        assert len(wire.seen) == 1


def test_an_unknown_api_version_is_not_an_unknown_order() -> None:
    act = sf_error("NOT_FOUND", "The requested resource does not exist", 404)
    with talking_to(act) as (_, client), pytest.raises(UpstreamError):
        client.fetch_order(ORDER_ID)


def test_ids_salesforce_can_not_know_are_unknown_orders() -> None:
    with talking_to(sf_error("INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: 801")) as (wire, client):
        assert client.fetch_order("801D000000K0fXO") is None
        assert client.fetch_order("' OR Id != '") is None
        assert len(wire.seen) == 2


def test_each_record_of_a_batch_has_its_own_outcome() -> None:
    rows = [
        {"id": ORDER_ID, "success": True, "errors": []},
        {"success": False, "errors": [{"statusCode": "UNABLE_TO_LOCK_ROW", "message": "locked", "fields": []}]},
        {"success": False, "errors": [{"statusCode": "STRING_TOO_LONG", "message": "too long", "fields": ["X"]}]},
    ]
    ids = ["801D000000K0fXO", "801D000000K0fXP", "801D000000K0fXQ"]
    with talking_to(answer(rows)) as (wire, client):
        first, second, third = client.update_orders([(key, {"WHMCS_Order_ID__c": 12, "X": None}) for key in ids])
        sent = wire.seen[1].json
        assert (wire.seen[1].method, wire.seen[1].target) == ("PATCH", "/services/data/v67.0/composite/sobjects")
    assert first is None
    assert second is not None and not second.permanent and second.code == "UNABLE_TO_LOCK_ROW"
    assert third is not None and third.permanent
    assert sent["allOrNone"] is False
    assert sent["records"][0] == {"attributes": {"type": "Order"}, "id": ORDER_ID, "WHMCS_Order_ID__c": "12", "X": None}


def test_a_batch_is_bounded_and_its_answer_must_be_whole() -> None:
    with talking_to(answer([])) as (wire, client):
        assert client.update_orders([]) == []
        with pytest.raises(ValueError, match="200"):
            client.update_orders([(ORDER_ID, {})] * 201)
        assert wire.seen == []
        with pytest.raises(UpstreamError) as caught:
            client.update_orders([(ORDER_ID, {})])
        assert caught.value.unknown


def test_child_pages_are_followed() -> None:
    def item(last: str) -> dict[str, Any]:
        return {
            "Id": f"802D000000K0fX{last}",
            "Quantity": 2.0,
            "UnitPrice": 10.1,
            "Domain__c": None,
            "Hostname__c": None,
            "Product2": {"Name": "P", "WH_Product_ID__c": "5", "Billing_Cycle__c": "Monthly"},
        }

    order = {
        "Id": ORDER_ID,
        "OrderNumber": "00000100",
        "Status": "Pending Review",
        "AccountId": "001D000000K0fXO",
        "Account": {"Name": "Ada", "WHMCS_Client_ID__c": 12},
        "Provisioning_Status__c": None,
        "WHMCS_Order_ID__c": None,
        "Portal_Reference__c": None,
        "TotalAmount": 40.4,
        "OrderItems": {
            "totalSize": 2,
            "done": False,
            "nextRecordsUrl": "/services/data/v67.0/query/01g-1",
            "records": [item("A")],
        },
    }
    acts = [
        answer({"totalSize": 1, "done": True, "records": [order]}),
        answer({"totalSize": 2, "done": True, "records": [item("B")]}),
    ]
    with talking_to(*acts) as (wire, client):
        found = client.fetch_order(ORDER_ID)
        assert requests_of(wire)[2] == "GET /services/data/v67.0/query/01g-1"
    assert found is not None
    assert [row.unit_price for row in found.items] == ["10.10", "10.10"]
    assert [row.quantity for row in found.items] == [2, 2]
    assert (found.whmcs_client_id, found.total) == ("12", "40.40")


def test_a_fraction_of_a_product_is_refused() -> None:
    order = {
        "Id": ORDER_ID,
        "AccountId": "001D000000K0fXO",
        "Account": {"WHMCS_Client_ID__c": "1"},
        "OrderItems": {"done": True, "records": [{"Id": "802D000000K0fXO", "Quantity": 1.5, "UnitPrice": 1}]},
    }
    with talking_to(answer({"done": True, "records": [order]})) as (_, client), pytest.raises(UpstreamError) as caught:
        client.fetch_order(ORDER_ID)
    assert caught.value.permanent and caught.value.code == "FRACTIONAL_QUANTITY"


def test_one_odd_order_does_not_keep_the_others_from_being_learnt() -> None:
    row = {
        "Id": ORDER_ID,
        "AccountId": "001D000000K0fXO",
        "CreatedDate": "2026-11-21T16:38:52.000+0000",
        "LastModifiedDate": "2026-11-21T16:38:53.000+0000",
        "OrderItems": {"done": True, "records": [{"Id": "802D000000K0fXO", "Quantity": 1.5, "UnitPrice": 1}]},
    }
    with talking_to(answer({"done": True, "records": [row]})) as (wire, client):
        learnt = client.orders_changed_since(1795279132.0, 10).changes
        soql = parse_qs(urlsplit(wire.seen[1].target).query)["q"][0]
    assert [change.order.items[0].quantity for change in learnt] == [2]
    assert (learnt[0].created_at, learnt[0].changed_at) == (1795279132.0, 1795279133.0)
    assert "LastModifiedDate >= 2026-11-21T16:38:52Z" in soql


def test_no_secret_and_no_customer_data_gets_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    canaries = [TOKEN_CANARY, USERNAME, CLIENT_ID, "jane.canary@example.com"]
    text = f"bad token {TOKEN_CANARY} of {USERNAME}, app {CLIENT_ID}: Email = 'jane.canary@example.com'"
    acts = [
        sf_error("MALFORMED_QUERY", text),
        sf_error("UNKNOWN_EXCEPTION", text, 500),
        answer(text.encode(), 500),
        drop,
        answer(
            {
                "compositeResponse": [
                    {"body": [{"errorCode": "X", "message": text}], "httpStatusCode": 400, "referenceId": "result"}
                ]
            }
        ),
        answer(text.encode()),
    ]
    with talking_to(*acts) as (wire, client):
        texts = [repr(client)]
        for _ in acts:
            with pytest.raises(UpstreamError) as caught:
                client.contacts_by_email("jane.canary@example.com")
            texts += [str(caught.value), repr(caught.value)]
            assert caught.value.__context__ is None and caught.value.__cause__ is None
        assert not [seen.target for seen in wire.seen if "canary" in unquote(seen.target)]
        assert "jane.canary" in unquote(wire.seen[1].json["compositeRequest"][0]["url"])
        texts.append(repr(client._auth.token()))
    said = "\n".join([*texts, caplog.text])
    assert [canary for canary in canaries if canary in said] == []
    # Sign-ins are refused with the client's own name in the text, too.
    with serving(answer({"error": "invalid_grant", "error_description": text}, 400)) as wire:
        other = salesforce_client(wire.address)
        with pytest.raises(UpstreamError) as caught:
            other.sign_in()
        other.close()
    said = f"{caught.value}{caplog.text}"
    assert [canary for canary in canaries[1:] if canary in said] == []


# --- the pretend org -----------------------------------------------------------------------------------


@pytest.fixture
def pretend(tmp_path: Path) -> Iterator[tuple[Org, SalesforceClient, dict[str, str]]]:
    with org_sandbox(tmp_path) as (org, client):
        names = org.seed(
            {
                "records": [
                    {
                        "type": "Account",
                        "ref": "acme",
                        "Name": "Acme",
                        "WHMCS_Client_ID__c": "41",
                        "BillingCity": "Oslo",
                        "BillingCountry": "NO",
                    },
                    {"type": "Account", "ref": "bare", "Name": 'O\'Brien & "Sons"', "BillingCity": "Cork"},
                    {
                        "type": "Contact",
                        "ref": "ada",
                        "AccountId": "@{acme}",
                        "FirstName": "Ada",
                        "LastName": "L",
                        "Email": "ada@example.com",
                    },
                    {
                        "type": "Contact",
                        "ref": "pat",
                        "AccountId": "@{bare}",
                        "FirstName": "Pat",
                        "LastName": "O'Brien",
                        "Email": "o'brien@example.com",
                        "Phone": "+353 1",
                    },
                    {
                        "type": "Contact",
                        "ref": "both",
                        "AccountId": "@{bare}",
                        "LastName": "L",
                        "Email": "ada@example.com",
                    },
                    {
                        "type": "Product2",
                        "ref": "starter",
                        "Name": "Starter",
                        "IsActive": True,
                        "Family": "Hosting",
                        "Description": "Small",
                        "WH_Product_ID__c": "5",
                        "Billing_Cycle__c": "Semi-Annually",
                    },
                    {"type": "Product2", "ref": "gone", "Name": "Gone", "IsActive": False},
                    {"type": "Product2", "ref": "odd", "Name": "Odd", "IsActive": True},
                    {"type": "Pricebook2", "ref": "book", "Name": "Portal", "IsActive": True},
                    {
                        "type": "PricebookEntry",
                        "ref": "e1",
                        "Pricebook2Id": "@{book}",
                        "Product2Id": "@{starter}",
                        "UnitPrice": 12.5,
                        "IsActive": True,
                    },
                    {
                        "type": "PricebookEntry",
                        "ref": "e2",
                        "Pricebook2Id": "@{book}",
                        "Product2Id": "@{gone}",
                        "UnitPrice": 1,
                        "IsActive": True,
                    },
                    {
                        "type": "PricebookEntry",
                        "ref": "e3",
                        "Pricebook2Id": "@{book}",
                        "Product2Id": "@{odd}",
                        "UnitPrice": 1,
                        "IsActive": False,
                    },
                ]
            }
        )["names"]
        yield org, client, names


def new_order(names: dict[str, str], reference: str = "ref-1", account: str = "acme") -> NewOrder:
    return NewOrder(
        reference=reference,
        account_id=names[account],
        pricebook_id=names["book"],
        effective_date=datetime.date(2026, 11, 21),
        items=(
            NewOrderItem(names["e1"], 2, "12.50", domain="ada.example"),
            NewOrderItem(names["e1"], 1, "12.50", hostname="h1"),
        ),
    )


def test_an_order_is_created_once_and_read_back(pretend: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    org, client, names = pretend
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


def test_a_lost_answer_to_the_creation_is_unknown_and_found_again(
    pretend: tuple[Org, SalesforceClient, dict[str, str]],
) -> None:
    org, client, names = pretend
    client.sign_in()
    org.faults.add({"kind": "drop_after", "path": "*/composite/tree/*"})
    with pytest.raises(UpstreamError) as caught:
        client.create_order(new_order(names))
    assert caught.value.unknown
    found = client.find_order_by_reference("ref-1")
    assert found is not None and client.create_order(new_order(names)) == found
    assert len(org.state({"objects": "Order"})["Order"]) == 1


def test_the_status_is_written_back(pretend: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    org, client, names = pretend
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
    assert outcome[0] is None and outcome[1] is not None and outcome[1].permanent
    assert client.requested_orders(10) == [second]
    with pytest.raises(UpstreamError) as caught:
        client.update_order(first, {"Provisioning_Error_Message__c": "x" * 256})
    assert (caught.value.code, caught.value.permanent) == ("STRING_TOO_LONG", True)
    org.faults.add({"kind": "ENTITY_IS_LOCKED", "method": "PATCH"})
    with pytest.raises(UpstreamError) as caught:
        client.update_order(first, {"Provisioning_Status__c": "Failed"})
    assert (caught.value.code, caught.value.permanent) == ("ENTITY_IS_LOCKED", False)


def test_an_account_without_a_client_is_read_with_its_contact(
    pretend: tuple[Org, SalesforceClient, dict[str, str]],
) -> None:
    _, client, names = pretend
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
    assert order is not None and order.whmcs_client_id == "77"


def test_people_are_found_by_their_address(pretend: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    _, client, names = pretend
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


def test_the_catalogue_is_what_is_active(pretend: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    _, client, names = pretend
    entries = client.catalogue(names["book"][:15])
    assert [(entry.id, entry.name, entry.unit_price, entry.wh_product_id) for entry in entries] == [
        (names["e1"], "Starter", "12.50", "5")
    ]
    assert (entries[0].family, entries[0].description) == ("Hosting", "Small")
    assert (entries[0].billing_cycle, entries[0].product_id) == ("Semi-Annually", names["starter"])


def test_an_accounts_orders_are_paged(pretend: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    _, client, names = pretend
    placed = [client.create_order(new_order(names, f"r{number}")) for number in range(5)]
    client.create_order(new_order(names, "other", account="bare"))
    seen = []
    page = client.orders_of_account(names["acme"], 2)
    while page:
        seen += [row.id for row in page]
        assert page[0].items == (("Starter", 2), ("Starter", 1))
        assert page[0].total == "37.50" and page[0].status == "Pending Review"
        page = client.orders_of_account(names["acme"], 2, before=page[-1])
    assert sorted(seen) == sorted(placed) and len(seen) == 5


def test_changes_are_learnt_in_bulk(pretend: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    org, client, names = pretend
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
    assert rejected[0].account_id == names["acme"] and len(rejected[0].items) == 2
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


def test_tokens_that_expire_are_renewed(pretend: tuple[Org, SalesforceClient, dict[str, str]]) -> None:
    org, client, names = pretend
    order_id = client.create_order(new_order(names))
    with org.store.transaction() as change:
        for token in list(org.store.tables.get("_token", {})):
            change.delete("_token", token)
    client.update_order(order_id, {"Provisioning_Status__c": "Activating"})
    assert client.api_usage is not None and client.api_usage[0] > 0
    names_of_fields = {field["name"] for field in client.describe("Order")["fields"]}
    assert {"Provisioning_Status__c", "Portal_Reference__c"} <= names_of_fields


def test_the_query_names_no_field_an_org_may_lack() -> None:
    with talking_to(answer(NO_RECORDS)) as (wire, client):
        client.fetch_order(ORDER_ID)
        soql = parse_qs(urlsplit(wire.seen[1].target).query)["q"][0]
        assert "CurrencyIsoCode" not in soql
        assert soql.endswith(f"FROM Order WHERE Id = '{ORDER_ID}'")


# --- what an org may lack ----------------------------------------------------------------------------------------


@pytest.fixture
def asking(pretend: tuple[Org, SalesforceClient, dict[str, str]]) -> Iterator[tuple[SalesforceClient, list[Any]]]:
    """A client that knows nothing of the pretend org's fields, and the calls it makes: action, outcome."""
    org, _, _ = pretend
    heard: list[Any] = []
    assert org.server is not None

    def hear(upstream: str, action: str, outcome: str, seconds: float, error: UpstreamError | None) -> None:
        heard.append((action, outcome))

    client = salesforce_client(org.server.url, field_cache=FieldCache(), hooks=Hooks(after_call=hear))
    yield client, heard
    client.close()


def test_an_org_is_asked_once_which_fields_it_has(
    pretend: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    _, client, names = pretend
    order_id = client.create_order(new_order(names))
    client, heard = asking
    for _ in range(3):
        order = client.fetch_order(order_id)
        assert order is not None and order.portal_reference == "ref-1"
        assert {item.domain or item.hostname for item in order.items} == {"ada.example", "h1"}
    assert heard == [("sign_in", "ok"), ("describe", "ok"), ("describe", "ok"), *[("fetch_order", "ok")] * 3]


def test_fields_an_org_lacks_are_not_asked_for_and_one_that_goes_is_noticed(
    pretend: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    org, client, names = pretend
    order_id = client.create_order(new_order(names))
    client, heard = asking
    of_item, of_order = (org.records.schema[name].fields for name in ("OrderItem", "Order"))
    del of_item["Domain__c"]
    order = client.fetch_order(order_id)
    assert order is not None and [item.domain for item in order.items] == [None, None]
    assert "h1" in [item.hostname for item in order.items]
    del of_item["Hostname__c"], of_order["Portal_Reference__c"], heard[:]
    order = client.fetch_order(order_id)
    assert order is not None and (order.portal_reference, len(order.items)) == (None, 2)
    # The refused question is no failure of the other side's, and no fault of its set-up.
    assert heard == [("fetch_order", "expired"), ("describe", "ok"), ("describe", "ok"), ("fetch_order", "ok")]
    assert client.orders_changed_since(0.0, 5).rows == len(client.orders_of_account(names["acme"], 5)) == 1


def test_a_field_nobody_can_do_without_is_the_set_ups(
    pretend: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    org, client, names = pretend
    order_id = client.create_order(new_order(names))
    client, heard = asking
    del org.records.schema["Order"].fields["WHMCS_Order_ID__c"]
    with pytest.raises(UpstreamError) as caught:
        client.fetch_order(order_id)
    error = caught.value
    assert (error.setup, error.permanent, error.code) == (Setup.ACTION, False, "INVALID_FIELD")
    assert "No such column 'WHMCS_Order_ID__c'" in error.message and "permission set" in error.message
    assert heard[-1] == ("fetch_order", "refused")


def test_where_describe_is_refused_the_package_is_taken_to_be_there(
    pretend: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    org, client, names = pretend
    order_id = client.create_order(new_order(names, account="bare"))
    client, _ = asking
    org.faults.add({"kind": "error", "path": "*/describe", "status": 404, "body": "<html>", "count": 0})
    order = client.fetch_order(order_id)
    assert order is not None and (order.portal_reference, order.email) == ("ref-1", "o'brien@example.com")
    assert client.accounts_with_email("ada@example.com") == 2


def test_a_person_account_is_its_own_contact(
    pretend: tuple[Org, SalesforceClient, dict[str, str]], asking: tuple[SalesforceClient, list[Any]]
) -> None:
    org, client, names = pretend
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
    assert order is not None and (order.email, order.whmcs_client_id) == ("grace@example.com", None)
    assert order.contact == {
        "firstname": "Grace",
        "lastname": "Hopper",
        "email": "grace@example.com",
        "phonenumber": "1",
        "city": "Arlington",
    }
    assert client.accounts_with_email("grace@example.com") == 1
    found = client.contact_by_email("grace@example.com")
    assert found is not None and (found.account_id, found.last_name) == (names["grace"], "Hopper")
    org.seed({"update": [{"type": "Contact", "Id": names["ada"], "Email": "grace@example.com"}]})
    assert client.accounts_with_email("grace@example.com") == 2 and client.contact_by_email("grace@example.com") is None
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
        ("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "x: execution of AfterUpdate\ncaused by: System.LimitException: Too many SOQL queries: 101"),  # noqa: E501
        ("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id"),
        ("INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: WHMCS_Order_ID__c"),
    ],
)  # fmt: skip
def test_what_no_record_of_ours_would_fare_better_with_is_the_set_ups(
    pretend: tuple[Org, SalesforceClient, dict[str, str]], code: str, message: str
) -> None:
    org, client, names = pretend
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
