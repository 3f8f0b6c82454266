"""Whether a WHMCS order is what was ordered, and whether one that Salesforce names can be this one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from portal.domain.completeness import CLOCKS_APART, claim_fault, difference, is_complete
from portal.domain.model import OrderLine, WhmcsOrder, WhmcsService

ORDER, OTHER = "801000000000001AAA", "801000000000002AAA"
HOSTING = OrderLine("1", "monthly", 1, domain="shop.example.com")
SERVERS = OrderLine("3", "annually", 3, hostname="node.example.com")


def service(pid: str = "1", *, quantity: int | None = 1, cycle: str = "Monthly", domain: str = "") -> WhmcsService:
    return WhmcsService("7", "12", pid, cycle, quantity, "Pending", domain=domain)


def order(notes: str = "", *, client: str = "5", placed_at: float | None = None) -> WhmcsOrder:
    return WhmcsOrder("12", client, "Pending", notes, "10.00", "9", True, ("7",), 1, placed_at)


@pytest.mark.parametrize(
    ("services", "lines", "words"),
    [
        ([service(domain="shop.example.com")], [HOSTING], None),
        ([service(domain="SHOP.example.com.")], [HOSTING], None),
        ([service("3", quantity=3, cycle="Annually")], [SERVERS], None),
        ([service("3", cycle="Annually")] * 3, [SERVERS], None),
        ([service("3", quantity=None, cycle="Annually")] * 3, [SERVERS], None),
        ([service("3", quantity=1, cycle="Annually")], [SERVERS], "asked for 3 times and is there once"),
        ([service("3", quantity=None, cycle="Annually")], [SERVERS], "asked for 3 times and is there once"),
        ([service(domain="shop.example.com")], [HOSTING, SERVERS], "product 3 (annually)"),
        ([service(domain="shop.example.com"), service("9")], [HOSTING], "product 9 (monthly) was asked for not at all"),
        ([service(cycle="Annually", domain="shop.example.com")], [HOSTING], "is there once"),
        ([service(domain="other.example.com")], [HOSTING], "WHMCS has other.example.com"),
        ([service()], [HOSTING], "WHMCS has none"),
        ([], [HOSTING], "is there not at all"),
    ],
)
def test_a_difference_is_named(services: list[WhmcsService], lines: list[OrderLine], words: str | None) -> None:
    found = difference(services, lines)
    if words is None:
        assert found is None
    else:
        assert found is not None
        assert words in found


def test_a_domain_is_the_same_in_both_its_forms() -> None:
    line = replace(HOSTING, domain="bücher.example")
    assert difference([service(domain="xn--bcher-kva.example")], [line]) is None


def test_an_order_found_in_whmcs_lacks_its_invoice_as_well_as_its_services() -> None:
    whole = [service(domain="shop.example.com")]
    assert is_complete(order(), whole, [HOSTING])
    assert not is_complete(replace(order(), invoice_id=None), whole, [HOSTING])
    assert is_complete(replace(order(), invoice_id=None, amount="0.00"), whole, [HOSTING])
    assert not is_complete(replace(order(), invoice_id=None, amount="1,234.00"), whole, [HOSTING]), "it isn't free"
    assert not is_complete(order(), [], [HOSTING])


@pytest.mark.parametrize(
    ("named", "fault"),
    [
        (order(), None),
        (order(f"sfOrderId={ORDER}"), None),
        (order(f"sfOrderId={ORDER}", placed_at=0.0), None),  # ours, whatever its date
        (order(placed_at=2e6 - CLOCKS_APART + 60), None),  # another time zone
        (order(client="6"), "belongs to WHMCS client 6"),
        (order(f"hello sfOrderId={OTHER}"), f"bears the reference of Salesforce order {OTHER}"),
        (order(placed_at=2e6 - CLOCKS_APART - 60), "is older than the Salesforce order"),
    ],
)
def test_an_order_that_salesforce_names_is_a_claim(named: WhmcsOrder, fault: str | None) -> None:
    found = claim_fault(named, (), sf_order_id=ORDER, client_id="5", ordered_at=2e6, reference_field=None)
    if fault is None:
        assert found is None
    else:
        assert found is not None
        assert fault in found


def test_the_reference_in_a_custom_field_counts_as_well() -> None:
    marked = replace(service(), custom_fields={"Mark": f"sfOrderId={OTHER}"})
    found = claim_fault(order(), [marked], sf_order_id=ORDER, client_id="5", ordered_at=None, reference_field="Mark")
    assert found == f"bears the reference of Salesforce order {OTHER}"
