"""The rules Salesforce has for orders and their products beyond single fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.salesforce import schema
from sandbox.salesforce.errors import SfError
from sandbox.salesforce.schema import Record
from sandbox.store import Store


class OrderRules:
    """Asked before an order or an item is written; `items` answers an order's items."""

    def __init__(self, store: Store, settings: dict[str, Any], items: Callable[[str], list[Record]]):
        self.store = store
        self.settings = settings
        self._items = items

    def check_item(self, values: Record) -> None:
        """SfError for an item that its order can't take."""
        order = self.store.get("Order", values["OrderId"]) or {}
        entry = self.store.get("PricebookEntry", values["PricebookEntryId"]) or {}
        if order.get("Status") in schema.ACTIVATED_STATUSES:
            raise SfError("FIELD_INTEGRITY_EXCEPTION", "You can't add products to an activated order.", ["OrderId"])
        if not order.get("Pricebook2Id") or order["Pricebook2Id"] != entry.get("Pricebook2Id"):
            raise SfError(
                "FIELD_INTEGRITY_EXCEPTION",
                "pricebook entry is in a different pricebook than the one assigned to the order",
                ["PricebookEntryId"],
            )
        currencies = [each.get("CurrencyIsoCode") or "USD" for each in (order, entry)]
        if self.settings.get("multi_currency") and currencies[0] != currencies[1]:
            raise SfError(
                "FIELD_INTEGRITY_EXCEPTION",
                "The pricebook entry currency code must match the order currency code",
                ["PricebookEntryId"],
            )
        if not entry.get("IsActive"):
            raise SfError("FIELD_INTEGRITY_EXCEPTION", "pricebook entry is inactive", ["PricebookEntryId"])
        if values["Quantity"] <= 0:
            raise SfError("FIELD_INTEGRITY_EXCEPTION", "Quantity: the quantity must be greater than 0", ["Quantity"])

    def check_editable(self, order: Record) -> None:
        """SfError where an activated order may not be changed."""
        if order.get("Status") in schema.ACTIVATED_STATUSES and not self.settings["edit_activated_orders"]:
            raise SfError("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id", [])

    def check_order_change(self, record: Record, values: Record) -> None:
        """SfError for a change that an order's status forbids."""
        activates = (
            values.get("Status") in schema.ACTIVATED_STATUSES and record.get("Status") not in schema.ACTIVATED_STATUSES
        )
        if activates:
            if not self._items(record["Id"]):
                raise SfError("FAILED_ACTIVATION", "An order must have at least one product.", [])
            if set(values) - {"Status"}:
                raise SfError(
                    "FAILED_ACTIVATION",
                    "When activating an order, you can change only its status.",
                    sorted(set(values) - {"Status"}),
                )
        elif record.get("Status") in schema.ACTIVATED_STATUSES:
            self.check_editable(record)
        if (
            "Pricebook2Id" in values
            and values["Pricebook2Id"] != record.get("Pricebook2Id")
            and self._items(record["Id"])
        ):
            raise SfError(
                "FIELD_INTEGRITY_EXCEPTION",
                "You can't change the price book of an order with products.",
                ["Pricebook2Id"],
            )
