"""WHMCS' JSON as records of ours: numbers come as text, lists as "", one row, or a PHP array with numbers for keys."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from portal.domain.model import WhmcsOrder, WhmcsProduct, WhmcsService

#: GetProducts' pricing keys, which are AddOrder's cycles too.
CYCLES: Final = ("monthly", "quarterly", "semiannually", "annually", "biennially", "triennially", "onetime")


@dataclass(frozen=True)
class PaymentGateway:
    """A gateway WHMCS takes money through: its system name, and the one customers see."""

    module: str
    name: str


def to_order(row: Mapping[str, Any]) -> WhmcsOrder:
    """A row of GetOrders."""
    lines = rows(row.get("lineitems"), "lineitem")
    services = [id_text(line.get("relid")) for line in lines if text(line.get("type")).lower() in ("product", "")]
    return WhmcsOrder(
        id=id_text(row.get("id")),
        client_id=id_text(row.get("userid")),
        status=text(row.get("status")),
        notes=text(row.get("notes")),
        amount=text(row.get("amount")),
        invoice_id=id_text(row.get("invoiceid")) or None,
        invoice_known="invoiceid" in row,
        service_ids=tuple(service for service in services if service),
        line_item_count=len(lines) if "lineitems" in row else None,
        placed_at=moment(row.get("date")),
    )


def to_service(row: Mapping[str, Any]) -> WhmcsService:
    """A row of GetClientsProducts. Picks fields by name: the row holds the service's password."""
    return WhmcsService(
        id=first_id(row, "id", "serviceid") or "",
        order_id=id_text(row.get("orderid")),
        pid=id_text(row.get("pid")),
        billing_cycle=text(row.get("billingcycle")),
        quantity=number(row.get("qty")),
        status=text(row.get("status")),
        name=text(row.get("name")),
        domain=text(row.get("domain")),
        custom_fields={
            text(entry.get("name")): text(entry.get("value")) for entry in rows(row.get("customfields"), "customfield")
        },
    )


def to_product(row: Mapping[str, Any]) -> WhmcsProduct:
    """A row of GetProducts; `cycles`: those that have a price in some currency."""
    pay_type = text(row.get("paytype")).lower().replace("-", "").replace(" ", "")
    pricing = row.get("pricing")
    prices = [entry for entry in pricing.values() if isinstance(entry, Mapping)] if isinstance(pricing, Mapping) else []
    if pay_type == "free":
        cycles = {"free"}
    elif pay_type == "onetime":
        cycles = {"onetime"}  # its price stands in the column of the monthly one
    else:
        cycles = {cycle for cycle in CYCLES for entry in prices if _offered(entry.get(cycle))}
    return WhmcsProduct(
        pid=first_id(row, "pid", "id") or "",
        name=text(row.get("name")),
        cycles=frozenset(cycles),
        custom_fields={
            text(entry.get("name")): id_text(entry.get("id")) for entry in rows(row.get("customfields"), "customfield")
        },
    )


def _offered(price: object) -> bool:
    """`-1.00` says that a cycle isn't offered."""
    return bool(re.fullmatch(r"[0-9]+(\.[0-9]+)?", text(price)))


# --- PHP's ways


def php_array(values: Mapping[str, str]) -> str:
    """`{"101": "7"}` as AddOrder's customfields wants it: base64 of PHP's serialized array (`a:1:{i:101;s:1:"7";}`).

    Rules: WHMCS API, AddOrder; PHP Manual, "serialize" and "Arrays" (a key that is a whole number is an int).
    """
    parts = []
    for name, value in values.items():
        whole = re.fullmatch(r"0|-?[1-9][0-9]{0,17}", name)
        parts.append((f"i:{name};" if whole else _php_string(name)) + _php_string(value))
    return base64.b64encode(f"a:{len(values)}:{{{''.join(parts)}}}".encode()).decode("ascii")


def _php_string(value: str) -> str:
    return f's:{len(value.encode())}:"{value}";'  # PHP counts bytes


def rows(container: object, inner: str) -> list[Mapping[str, Any]]:
    """The rows of `{"orders": {"order": […]}}`, of a plain list, of one row instead of a list, of a PHP array with
    numbers as keys; none for "" and null."""
    if isinstance(container, Mapping):
        if inner in container:
            return rows(container[inner], "")
        if container and all(str(name).isdecimal() for name in container):
            return rows(list(container.values()), "")
        return [container] if container and inner == "" else []
    return [row for row in container if isinstance(row, Mapping)] if isinstance(container, list) else []


def text(value: object) -> str:
    """A field as text; "" for null and for what is no scalar."""
    if value is None or isinstance(value, dict | list | bool):
        return ""
    return str(value).strip()


def id_text(value: object) -> str:
    """An id as text; "" for none. WHMCS writes 7, "7" and, for none, 0, "0" or ""."""
    written = text(value)
    return written.lstrip("0") if written.isdecimal() else written


def moment(value: object) -> float | None:
    """A WHMCS date ("2026-11-21 16:38:52", in a zone it doesn't tell) as if it were UTC; None for 0000-00-00."""
    try:
        return datetime.fromisoformat(text(value)).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def first_id(row: Mapping[str, Any], *names: str) -> str | None:
    """The id under the first of these names that has one."""
    return next((found for name in names if (found := id_text(row.get(name)))), None)


def ids(value: object) -> tuple[str, ...]:
    """ "1,2" (or a list, or one number) as ids."""
    parts = value if isinstance(value, list) else text(value).split(",")
    return tuple(found for part in parts if (found := id_text(part)))


def number(value: object) -> int | None:
    """A whole number of at most 15 digits; None for anything else."""
    written = text(value)
    return int(written) if re.fullmatch(r"[0-9]{1,15}", written) else None
