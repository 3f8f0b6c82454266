"""What AddOrder is asked for, name by name (WHMCS API reference, "AddOrder")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portal.clients.whmcs.records import php_array
from portal.domain.model import OrderLine


def add_order_params(
    client_id: str,
    payment_method: str,
    lines: Sequence[OrderLine],
    *,
    notes: str,
    custom_fields: Mapping[str, Mapping[str, str]],
) -> dict[str, str]:
    """The parameters beside the credentials; the arguments are those of `WhmcsClient.add_order`."""
    params: dict[str, str] = {"clientid": client_id, "noemail": "1"}
    if payment_method:
        params["paymentmethod"] = payment_method
    if notes:
        params["notes"] = notes
    quantities = any(line.quantity != 1 for line in lines)
    for index, line in enumerate(lines):
        fields = custom_fields.get(line.pid)
        item = {
            "pid": line.pid,
            "qty": str(line.quantity) if quantities else None,
            "billingcycle": line.billing_cycle,
            "domain": line.domain,
            "hostname": line.hostname,
            "priceoverride": line.price_override,
            "customfields": php_array(fields) if fields else None,
        }
        params.update({f"{name}[{index}]": value for name, value in item.items() if value})
    return params
