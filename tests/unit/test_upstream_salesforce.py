"""How Salesforce's JSON is read and written: money, quantities, moments, ids, errors."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.clients.salesforce import auth, errors, queries, records
from portal.domain.model import UpstreamError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("10.1"), "10.10"),
        (10, "10.00"),
        (Decimal("0.125"), "0.125"),
        (Decimal("1E+2"), "100.00"),
        (None, None),
        ("9.5", "9.50"),
        (Decimal("12345678901234.56"), "12345678901234.56"),
    ],
)
def test_money_keeps_every_digit(value: object, text: str | None) -> None:
    assert records.money(value) == text


@pytest.mark.parametrize("value", ["NaN", "Infinity", "x", "", {}])
def test_what_is_no_money(value: object) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        records.money(value)


def test_quantities_are_whole_or_refused() -> None:
    assert records.whole_quantity(Decimal("2.0")) == records.whole_quantity(2) == 2
    with pytest.raises(UpstreamError) as caught:
        records.whole_quantity(Decimal("1.50"))
    assert caught.value.permanent
    assert "1.5;" in caught.value.message
    assert records.shown_quantity(Decimal("1.50")) == 2


def test_text_fields() -> None:
    assert records.text(Decimal("99.0")) == records.text(99) == records.text(" 99 ") == "99"
    assert records.text("  ") is records.text(None) is records.text({}) is None


def test_moments_in_salesforces_form_and_back() -> None:
    for text in ("2026-11-21T16:38:52.000+0000", "2026-11-21T16:38:52Z", "2026-11-21T17:38:52.000+01:00"):
        assert records.moment(text) == 1795279132.0
    assert records.moment(None) is None
    assert queries.literal(1795279132.0) == "2026-11-21T16:38:52Z"
    assert queries.literal(1795279132.1) == "2026-11-21T16:38:52.100Z"


@given(st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000))
def test_a_moment_survives_the_way_there_and_back(moment: float) -> None:
    assert records.moment(queries.literal(moment)) == moment


def test_numbers_go_as_text_and_null_stays_null() -> None:
    fields = {"WHMCS_Order_ID__c": 7, "a": None, "b": "x", "c": True, "d": Decimal("1.5")}
    assert records.sendable(fields) == {"WHMCS_Order_ID__c": "7", "a": None, "b": "x", "c": True, "d": "1.5"}


def test_the_org_in_the_identity_address() -> None:
    identity = "https://login.salesforce.com/id/00D50000000IZ3ZEAW/00550000001fg5OAAQ"
    assert auth.organization_of(identity) == "00D50000000IZ3ZEAW"
    assert auth.organization_of("https://login.salesforce.com/id/") is None
    assert auth.organization_of(None) is None


ERROR = {"errorCode": "X", "message": "m", "fields": []}
TREE_ERROR = {"statusCode": "DUPLICATE_VALUE", "message": "m", "fields": []}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([ERROR], [ERROR]),
        (ERROR, [ERROR]),
        ({"hasErrors": True, "results": [{"referenceId": "order", "errors": [TREE_ERROR]}]}, [TREE_ERROR]),
        ("<html>", []),
        (b"", []),
        ([], []),
        (["x"], []),
        ({}, []),
        (None, []),
    ],
)
def test_errors_in_every_shape(content: Any, found: list[Any]) -> None:
    assert errors.errors_in(content) == found


def test_records_hold_no_person_in_their_repr() -> None:
    contact = records.Contact("003", "001", "canary", None, "canary", "canary", "canary@example.com")
    token = auth.Token("canary", "https://x.my.salesforce.com")
    assert "canary" not in f"{contact!r}{token!r}"
