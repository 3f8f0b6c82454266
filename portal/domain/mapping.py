"""From Salesforce's products to WHMCS' words: product ids, billing cycles, and the report of what is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from portal.domain.model import ErrorCode, FulfillmentFailed, OrderLine, SalesforceItem

#: What AddOrder takes as billingcycle.
WHMCS_CYCLES = frozenset(
    {"monthly", "quarterly", "semiannually", "annually", "biennially", "triennially", "onetime", "free"}
)

# People's spellings, without case, spaces and hyphens. "Biannual" is left out: it is used for both 6 and 24 months.
_SYNONYMS = {
    "month": "monthly",
    "permonth": "monthly",
    "1month": "monthly",
    "everymonth": "monthly",
    "quarter": "quarterly",
    "3months": "quarterly",
    "threemonths": "quarterly",
    "everythreemonths": "quarterly",
    "semiannual": "semiannually",
    "halfyearly": "semiannually",
    "6months": "semiannually",
    "sixmonths": "semiannually",
    "semiyearly": "semiannually",
    "annual": "annually",
    "yearly": "annually",
    "year": "annually",
    "1year": "annually",
    "12months": "annually",
    "peryear": "annually",
    "biennial": "biennially",
    "2years": "biennially",
    "twoyears": "biennially",
    "24months": "biennially",
    "twoyearly": "biennially",
    "everytwoyears": "biennially",
    "triennial": "triennially",
    "3years": "triennially",
    "threeyears": "triennially",
    "36months": "triennially",
    "threeyearly": "triennially",
    "everythreeyears": "triennially",
    "once": "onetime",
    "oneoff": "onetime",
    "single": "onetime",
    "onetimepayment": "onetime",
    "freeaccount": "free",
    "nocharge": "free",
}


def normalise_cycle(spelling: str | None) -> str | None:
    """WHMCS' word for a billing cycle however it is spelt; None for one WHMCS doesn't know."""
    folded = re.sub(r"[\s_‐-―-]+", "", (spelling or "").casefold())
    folded = _SYNONYMS.get(folded, folded)
    return folded if folded in WHMCS_CYCLES else None


@dataclass(frozen=True)
class MappingReport:
    """What became of each item; `faults` has one sentence per item that can't be ordered."""

    lines: tuple[OrderLine, ...]
    faults: tuple[str, ...]
    rows: tuple[dict[str, str | int | None], ...]  # for the log: one per item


def map_items(items: Sequence[SalesforceItem], price_source: str = "whmcs") -> MappingReport:
    """Map every item, and report all faults at once. `price_source`: `whmcs`, or `salesforce` for priceoverride."""
    lines: list[OrderLine] = []
    faults: list[str] = []
    rows: list[dict[str, str | int | None]] = []
    for item in items:
        wanted = (item.wh_product_id or "").strip()
        pid = re.sub(r"\.0+$", "", wanted)
        cycle = normalise_cycle(item.billing_cycle)
        if not pid:
            faults.append(f"{item.product_name} has no WH_Product_ID__c")
        elif not (pid.isascii() and pid.isdigit()):
            faults.append(f"{item.product_name} has the WH_Product_ID__c {wanted!r}, which is no WHMCS product id")
        if not (item.billing_cycle or "").strip():
            faults.append(f"{item.product_name} has no Billing_Cycle__c")
        elif cycle is None:
            faults.append(f"{item.product_name} has the Billing_Cycle__c {item.billing_cycle!r}, unknown to WHMCS")
        if item.quantity < 1:
            faults.append(f"{item.product_name} has the quantity {item.quantity}")
        rows.append(
            {
                "item": item.id,
                "product": item.product_name,
                "whProductId": wanted or None,
                "billingCycle": item.billing_cycle,
                "mappedTo": cycle,
                "quantity": item.quantity,
            }
        )
        if pid and cycle:
            lines.append(
                OrderLine(
                    pid=pid,
                    billing_cycle=cycle,
                    quantity=item.quantity,
                    domain=item.domain,
                    hostname=item.hostname,
                    price_override=item.unit_price if price_source == "salesforce" else None,
                )
            )
    return MappingReport(tuple(lines), tuple(faults), tuple(rows))


def refuse_faults(report: MappingReport) -> None:
    """Raises FulfillmentFailed (PRODUCT_MAPPING_MISSING) naming every item that can't be ordered."""
    if report.faults:
        raise FulfillmentFailed(ErrorCode.PRODUCT_MAPPING_MISSING, "; ".join(report.faults))
