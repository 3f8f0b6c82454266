"""What the integration user may do and see: its permission set, the org's features, what an administrator took away.

Salesforce hides what a user may not read: an object or field without the right is one that doesn't exist.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sandbox.salesforce.errors import SfError
from sandbox.salesforce.schema import Field, SObject

#: The portal's permission set, as little as it needs: per object the rights (create, read, edit), and the fields that
#: may be written. What isn't named is only read.
PORTAL_RIGHTS = {
    "Organization": "r",
    "Profile": "r",
    "User": "r",
    "Account": "re",
    "Contact": "r",
    "Product2": "r",
    "Pricebook2": "r",
    "PricebookEntry": "r",
    "Order": "cre",
    "OrderItem": "cr",
}
PORTAL_EDITS = {
    "Account": {"WHMCS_Client_ID__c"},
    "Order": {
        "AccountId",
        "CurrencyIsoCode",
        "EffectiveDate",
        "Last_Provisioning_At__c",
        "Portal_Reference__c",
        "Pricebook2Id",
        "Provisioning_Error_Code__c",
        "Provisioning_Error_Message__c",
        "Provisioning_Status__c",
        "Status",
        "WHMCS_Order_ID__c",
    },
    "OrderItem": {
        "Domain__c",
        "Hostname__c",
        "OrderId",
        "Portal_Reference__c",
        "PricebookEntryId",
        "Quantity",
        "UnitPrice",
    },
}
SEES = ("permissions", "hidden_objects", "hidden_fields", "person_accounts", "multi_currency", "product_sort_order")


class Permissions:
    """Asked by every resource of the API; what the org's own code (Apex) does is not subject to it.

    Settings: `permissions` (`portal` or `administrator`), `hidden_objects` ["Contact"], `hidden_fields`
    ["Order.Hostname__c"], `read_only_objects`, `read_only_fields`; the features
    `person_accounts`, `multi_currency`, `product_sort_order`.
    """

    def __init__(self, schema: dict[str, SObject], settings: dict[str, Any]):
        self._schema = schema
        self._settings = settings
        self._seen: tuple[str, dict[str, SObject]] = ("", {})

    def schema(self) -> dict[str, SObject]:
        """The objects and fields that the user sees."""
        key = repr([self._settings.get(name) for name in SEES] + [len(each.fields) for each in self._schema.values()])
        if self._seen[0] != key:
            self._seen = (key, self._visible())
        return self._seen[1]

    def _visible(self) -> dict[str, SObject]:
        hidden = set(self._settings.get("hidden_fields") or ())
        objects = {
            name: dataclasses.replace(
                each,
                fields={
                    key: what
                    for key, what in each.fields.items()
                    if f"{name}.{key}" not in hidden and (not what.feature or self._settings.get(what.feature))
                },
            )
            for name, each in self._schema.items()
            if name not in (self._settings.get("hidden_objects") or ()) and self._may("r", name)
        }
        for each in objects.values():
            each.children = {key: child for key, child in each.children.items() if child[0] in objects}
        return objects

    def _may(self, right: str, name: str) -> bool:
        return self._settings.get("permissions") == "administrator" or right in PORTAL_RIGHTS.get(name, "")

    def may(self, right: str, name: str) -> bool:
        """Whether the user has a right on an object: `c` create, `r` read, `e` edit, `d` delete."""
        read_only = name in (self._settings.get("read_only_objects") or ())
        return self._may(right, name) and (right == "r" or not read_only)

    def editable(self, name: str, what: Field) -> bool:
        """Whether the user may write a field."""
        if f"{name}.{what.name}" in (self._settings.get("read_only_fields") or ()):
            return False
        return self._settings.get("permissions") == "administrator" or what.name in PORTAL_EDITS.get(name, ())

    def check(self, right: str, name: str) -> None:
        """Refuses what the user may not do with an object. Raises SfError."""
        if self.may(right, name):
            return
        if right == "c":
            raise SfError("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", f"entity type cannot be inserted: {name}", [])
        raise SfError("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id", [])
