"""What the Salesforce client makes of what Salesforce says, and what of it nobody may read."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from portal.clients.http import Hooks, SendChecks
from portal.domain.model import LeaseLost, UpstreamError
from tests.upstream.salesforce import ORDER_ID, TOKEN_CANARY, requests_of, sf_error, talking_to
from tests.upstream.sandboxes import CLIENT_ID, USERNAME, salesforce_client
from tests.upstream.wire import Act, answer, drip, drop, hang, serving, unused_port


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
    assert error.__context__ is None
    assert error.__cause__ is None
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
    assert second is not None
    assert not second.permanent
    assert second.code == "UNABLE_TO_LOCK_ROW"
    assert third is not None
    assert third.permanent
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
    assert caught.value.permanent
    assert caught.value.code == "FRACTIONAL_QUANTITY"


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
            assert caught.value.__context__ is None
            assert caught.value.__cause__ is None
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
