"""Whether every product of the pricebook can be ordered in WHMCS, before an order fails on it."""

from __future__ import annotations

from collections.abc import Sequence

from portal.domain.mapping import map_items
from portal.domain.model import OrderLine, SalesforceItem
from portal.ops.doctor.model import Check, Context, Finding, error, good

#: Faults that are told one by one.
SHOWN = 10
#: Products asked for in one call.
BATCH = 100


def _mapping(context: Context) -> Finding:
    """What the mapping step of an order would say of each product."""
    entries = context.found["catalogue"]
    items = [
        SalesforceItem(
            id=entry.id,
            product_name=entry.name,
            wh_product_id=entry.wh_product_id,
            billing_cycle=entry.billing_cycle,
            quantity=1,
            unit_price=entry.unit_price,
        )
        for entry in entries
    ]
    report = map_items(items)
    if report.faults:
        return _told(report.faults)
    context.found["lines"] = [(item.product_name, line) for item, line in zip(items, report.lines, strict=True)]
    return good(f"{len(items)} products")


def _in_whmcs(context: Context) -> Finding:
    lines: list[tuple[str, OrderLine]] = context.found["lines"]
    pids = list(dict.fromkeys(line.pid for _, line in lines))
    known = {}
    for start in range(0, len(pids), BATCH):
        known.update({product.pid: product for product in context.whmcs.products(pids[start : start + BATCH])})
    faults = []
    for name, line in lines:
        product = known.get(line.pid.lstrip("0"))
        if product is None:
            faults.append(f"{name}: WHMCS has no product {line.pid}")
        elif line.billing_cycle not in product.cycles:
            offered = ", ".join(sorted(product.cycles)) or "nothing"
            faults.append(f"{name}: WHMCS' product {line.pid} isn't offered {line.billing_cycle} (but {offered})")
    return _told(faults) if faults else good(f"{len(pids)} WHMCS products")


def _told(faults: Sequence[str]) -> Finding:
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return error("; ".join(faults[:SHOWN]) + more)


CHECKS = (
    Check(
        id="products.mapping",
        description="every product in the pricebook has a WHMCS product id and a billing cycle",
        run=_mapping,
        cure="Fill WH_Product_ID__c and Billing_Cycle__c of the product, or take it out of the pricebook",
        needs=("salesforce.pricebook",),
    ),
    Check(
        id="products.whmcs",
        description="WHMCS has each of these products and offers its cycle",
        run=_in_whmcs,
        cure="Correct the product's WH_Product_ID__c or Billing_Cycle__c, or give WHMCS' product a price for the cycle",
        needs=("products.mapping", "whmcs.api.GetProducts"),
        seconds=120,
    ),
)
