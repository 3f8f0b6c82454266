"""How WHMCS' wandering types are read: numbers as text, "" for empty lists, one row instead of a list."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from portal.clients.whmcs import records
from portal.clients.whmcs.client import WhmcsClient
from portal.clients.whmcs.records import php_array
from portal.domain.model import WhmcsOrder, WhmcsService
from portal.settings import Settings
from sandbox.whmcs.php import unserialize


def test_custom_fields_are_phps_serialized_array() -> None:
    assert base64.b64decode(php_array({"101": "7"})) == b'a:1:{i:101;s:1:"7";}'
    assert base64.b64decode(php_array({"101": "é"})) == 'a:1:{i:101;s:2:"é";}'.encode()
    assert base64.b64decode(php_array({"007": 'a"b'})) == b'a:1:{s:3:"007";s:3:"a"b";}'


@given(st.dictionaries(st.integers(1, 10**9).map(str), st.text(max_size=30), min_size=1, max_size=4))
def test_php_reads_back_what_was_written(values: dict[str, str]) -> None:
    read = unserialize(base64.b64decode(php_array(values)))
    assert {str(key): value for key, value in read.items()} == values


@pytest.mark.parametrize(
    ("container", "ids"),
    [
        ({"order": [{"id": 1}, {"id": 2}]}, [1, 2]),
        ({"order": {"id": 1}}, [1]),
        ({"order": {"0": {"id": 1}, "1": {"id": 2}}}, [1, 2]),
        ({"order": ""}, []),
        ({"order": []}, []),
        ({"order": None}, []),
        ([{"id": 1}, "x", None], [1]),
        ({"0": {"id": 1}}, [1]),
        ({}, []),
        ("", []),
        (None, []),
        ([], []),
    ],
)
def test_rows_in_every_shape(container: Any, ids: list[int]) -> None:
    assert [row["id"] for row in records.rows(container, "order")] == ids


def test_an_order_as_whmcs_documents_it() -> None:
    row = {
        "id": 1,
        "ordernum": 7858259149,
        "userid": 1,
        "status": "Active",
        "amount": "8.00",
        "invoiceid": 1,
        "notes": "Sample Notes!",
        "paymentmethod": "stripe",
        "lineitems": {
            "lineitem": [
                {"type": "product", "relid": 1, "billingcycle": "One-Time", "status": "Active"},
                {"type": "domain", "relid": 9},
            ]
        },
    }
    assert records.to_order(row) == WhmcsOrder(
        id="1",
        client_id="1",
        status="Active",
        notes="Sample Notes!",
        amount="8.00",
        invoice_id="1",
        invoice_known=True,
        service_ids=("1",),
        line_item_count=2,
    )


@pytest.mark.parametrize(
    ("row", "invoice", "known"),
    [
        ({"invoiceid": "0"}, None, True),
        ({"invoiceid": 0}, None, True),
        ({"invoiceid": ""}, None, True),
        ({"invoiceid": None}, None, True),
        ({}, None, False),
        ({"invoiceid": "12"}, "12", True),
    ],
)
def test_an_orders_invoice(row: dict[str, Any], invoice: str | None, known: bool) -> None:
    order = records.to_order(row)
    assert (order.invoice_id, order.invoice_known) == (invoice, known)


def test_lines_not_told_are_not_lines_not_there() -> None:
    assert records.to_order({"id": 1}).line_item_count is None
    assert records.to_order({"id": 1, "lineitems": ""}).line_item_count == 0
    assert records.to_order({"id": 1, "lineitems": {"lineitem": ""}}).line_item_count == 0
    assert records.to_order({"id": 1, "notes": None}).notes == ""


def test_a_service_leaves_its_password_behind() -> None:
    row = {
        "id": "1",
        "qty": "2",
        "clientid": "1",
        "orderid": "1",
        "pid": "3",
        "name": "Plus",
        "domain": "d.example",
        "billingcycle": "Monthly",
        "status": "Active",
        "username": "canary",
        "password": "canary",
        "nextduedate": "0000-00-00",
        "customfields": {"customfield": [{"id": "101", "name": "Mark", "value": 7}]},
    }
    service = records.to_service(row)
    assert service == WhmcsService(
        id="1",
        order_id="1",
        pid="3",
        billing_cycle="Monthly",
        quantity=2,
        status="Active",
        name="Plus",
        domain="d.example",
        custom_fields={"Mark": "7"},
    )
    assert "canary" not in repr(service)
    assert records.to_service({"id": 1}).quantity is None


@pytest.mark.parametrize(
    ("row", "cycles"),
    [
        ({"paytype": "recurring", "pricing": {"USD": {"monthly": "10.00", "annually": "-1.00"}}}, {"monthly"}),
        ({"paytype": "recurring", "pricing": {"USD": {"monthly": 0, "annually": -1}}}, {"monthly"}),
        ({"paytype": "recurring", "pricing": {"USD": {"monthly": "-1.00"}, "EUR": {"monthly": "9.00"}}}, {"monthly"}),
        ({"paytype": "onetime", "pricing": {"USD": {"monthly": "10.00"}}}, {"onetime"}),
        ({"paytype": "free", "pricing": ""}, {"free"}),
        ({"pricing": {"USD": {"onetime": "5.00"}}}, {"onetime"}),
        ({"pricing": ""}, set()),
        ({}, set()),
    ],
)
def test_a_products_cycles(row: dict[str, Any], cycles: set[str]) -> None:
    assert records.to_product(row).cycles == cycles


def test_ids_in_every_shape() -> None:
    assert records.ids("1,2") == ("1", "2")
    assert records.ids("1, ,0,") == ("1",)
    assert records.ids(7) == ("7",)
    assert records.ids([7, "8"]) == ("7", "8")
    assert records.ids("") == records.ids(None) == ()
    assert records.first_id({"a": 0, "b": "007"}, "a", "b") == "7"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "order", "lineitems", "lineitem", "customfields", "customfield", "pricing", "qty", "0"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_answer_breaks_the_reader(value: Any) -> None:
    for row in records.rows(value, "order"):
        records.to_order(row)
        records.to_service(row)
        records.to_product(row)


def test_no_call_outlasts_the_time_whmcs_can_take(tmp_path: Any) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    environ = {
        "PORTAL_ENV": "development",
        "SF_LOGIN_URL": "https://sf.example",
        "SF_CLIENT_ID": "c",
        "SF_USERNAME": "u",
        "SF_PRIVATE_KEY_PATH": str(key),
        "SF_WEBHOOK_SECRET": "s",
        "PORTAL_PRICEBOOK_ID": "01sD000000K0fXO",
        "WHMCS_API_IDENTIFIER": "canary-i",
        "WHMCS_API_URL": "https://billing.example/includes/api.php",
        "WHMCS_API_SECRET": "canary-s",
    }
    client = WhmcsClient.from_settings(Settings.from_environ(environ))
    assert (client.read_seconds, client.write_seconds) == (15.0, 60.0)
    assert "canary" not in repr(client)
    client = WhmcsClient.from_settings(Settings.from_environ({**environ, "WHMCS_MAX_REQUEST_SECONDS": "3"}))
    assert (client.read_seconds, client.write_seconds) == (3.0, 3.0)
