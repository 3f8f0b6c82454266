"""People's spellings of billing cycles, and the report of items that can't be ordered."""

from __future__ import annotations

import pytest

from portal.domain.mapping import WHMCS_CYCLES, map_items, normalise_cycle, refuse_faults
from portal.domain.model import ErrorCode, FulfillmentFailed, SalesforceItem


@pytest.mark.parametrize(
    ("spelling", "cycle"),
    [
        ("Monthly", "monthly"),
        (" monthly ", "monthly"),
        ("Semi-Annually", "semiannually"),
        ("semi annual", "semiannually"),
        ("One-Time", "onetime"),
        ("One Time", "onetime"),
        ("One‑Time", "onetime"),
        ("Annual", "annually"),
        ("Yearly", "annually"),
        ("Free Account", "free"),
        ("2 Years", "biennially"),
    ],
)
def test_spellings(spelling: str, cycle: str) -> None:
    assert normalise_cycle(spelling) == cycle


@pytest.mark.parametrize("cycle", sorted(WHMCS_CYCLES))
def test_whmcs_own_words_stay(cycle: str) -> None:
    assert normalise_cycle(cycle) == cycle


@pytest.mark.parametrize("spelling", ["weekly", "", None, "Bi-Annually", "monthly!", "0"])
def test_what_whmcs_does_not_know_is_refused(spelling: str | None) -> None:
    assert normalise_cycle(spelling) is None


def item(**changes: object) -> SalesforceItem:
    values = {
        "id": "802x",
        "product_name": "Shared",
        "quantity": 1,
        "unit_price": "5.00",
        "wh_product_id": "7",
        "billing_cycle": "Monthly",
        "domain": "example.com",
        "hostname": None,
    }
    return SalesforceItem(**{**values, **changes})  # type: ignore[arg-type]


def test_items_keep_quantity_domain_and_hostname() -> None:
    report = map_items([item(quantity=3, hostname="ns1")])
    assert not report.faults
    line = report.lines[0]
    assert (line.pid, line.billing_cycle, line.quantity, line.domain, line.hostname, line.price_override) == (
        "7",
        "monthly",
        3,
        "example.com",
        "ns1",
        None,
    )


def test_salesforce_prices_only_when_they_count() -> None:
    assert map_items([item()], "salesforce").lines[0].price_override == "5.00"


def test_every_fault_is_named_at_once() -> None:
    report = map_items(
        [
            item(),
            item(product_name="VPS", wh_product_id=None),
            item(product_name="SSL", billing_cycle="weekly"),
            item(product_name="Mail", billing_cycle=None),
            item(product_name="Odd", wh_product_id="abc"),
            item(product_name="None", quantity=0),
        ]
    )
    with pytest.raises(FulfillmentFailed) as raised:
        refuse_faults(report)
    assert raised.value.code is ErrorCode.PRODUCT_MAPPING_MISSING
    assert raised.value.message.split("; ") == [
        "VPS has no WH_Product_ID__c",
        "SSL has the Billing_Cycle__c 'weekly', unknown to WHMCS",
        "Mail has no Billing_Cycle__c",
        "Odd has the WH_Product_ID__c 'abc', which is no WHMCS product id",
        "None has the quantity 0",
    ]
    assert len(report.rows) == 6
