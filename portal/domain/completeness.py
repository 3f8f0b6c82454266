"""Whether a WHMCS order is what was ordered: products, quantities, cycles, domains, and whose it is. Pure."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

import idna

from portal.domain.ids import bears_reference, other_reference
from portal.domain.mapping import normalise_cycle
from portal.domain.model import OrderLine, WhmcsOrder, WhmcsService

#: WHMCS tells an order's date in a time zone of its own: by so many seconds it may seem older than it is.
CLOCKS_APART: Final = 16 * 3600.0


def is_complete(order: WhmcsOrder, services: Sequence[WhmcsService], lines: Sequence[OrderLine]) -> bool:
    """Whether an order found in WHMCS has everything: its invoice where it costs something, and what was asked for."""
    if order.invoice_known and order.invoice_id is None and _costs(order.amount):
        return False
    return difference([service for service in services if service.order_id == order.id], lines) is None


def difference(services: Sequence[WhmcsService], lines: Sequence[OrderLine]) -> str | None:
    """How an order's services differ from the lines that were asked for, in words; None when they don't.

    A quantity may be one service each, or one service with a quantity (WHMCS 8.12 and later; before, each is one).
    """
    asked: Counter[tuple[str, str]] = Counter()
    for line in lines:
        asked[line.pid, line.billing_cycle] += line.quantity
    found: Counter[tuple[str, str]] = Counter()
    for service in services:
        cycle = normalise_cycle(service.billing_cycle) or service.billing_cycle
        found[service.pid, cycle] += max(service.quantity or 1, 1)
    for what in sorted(asked.keys() | found.keys()):
        if asked[what] != found[what]:
            pid, cycle = what
            return f"product {pid} ({cycle}) was asked for {_times(asked[what])} and is there {_times(found[what])}"
    return _domain_difference(services, lines)


def _domain_difference(services: Sequence[WhmcsService], lines: Sequence[OrderLine]) -> str | None:
    """A domain that was asked for and that no service of its product has; one service may stand for several of them."""
    for line in lines:
        if not line.domain:
            continue
        there = {_folded(service.domain) for service in services if service.pid == line.pid}
        if _folded(line.domain) not in there:
            names = ", ".join(sorted(name for name in there if name)) or "none"
            return f"product {line.pid} was asked for with the domain {line.domain}, WHMCS has {names}"
    return None


def _folded(domain: str) -> str:
    """A domain as it is compared: lower case, its ASCII form, no dot at the end."""
    name = domain.strip().rstrip(".").lower()
    with contextlib.suppress(UnicodeError):  # idna.IDNAError is one
        name = idna.encode(name, uts46=True).decode("ascii")
    return name


def _times(count: int) -> str:
    return {0: "not at all", 1: "once"}.get(count, f"{count} times")


def claim_fault(
    order: WhmcsOrder,
    services: Sequence[WhmcsService],
    *,
    sf_order_id: str,
    client_id: str,
    ordered_at: float | None,
    reference_field: str | None,
) -> str | None:
    """Why a WHMCS order that Salesforce names can't be this Salesforce order, in words; None when it can.

    ordered_at: Order.CreatedDate, seconds since 1970; reference_field: WHMCS_MARKER_CUSTOM_FIELD.
    """
    if order.client_id not in ("", client_id):
        return f"belongs to WHMCS client {order.client_id}, this order to client {client_id}"
    texts = [order.notes, *(service.custom_fields.get(reference_field or "", "") for service in services)]
    if any(bears_reference(text, sf_order_id) for text in texts):
        return None
    for text in texts:
        other = other_reference(text, sf_order_id)
        if other is not None:
            return f"bears the reference of Salesforce order {other}"
    if ordered_at is not None and order.placed_at is not None and order.placed_at < ordered_at - CLOCKS_APART:
        return "is older than the Salesforce order"
    return None


def _costs(amount: str) -> bool:
    """Whether an order's amount asks for an invoice. One that can't be read may: then a person looks."""
    try:
        return float(amount) != 0
    except ValueError:
        return True
