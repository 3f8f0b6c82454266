"""What people do in the org by hand: seeded records, an order changed, cloned or left without an account.

None of it meets the checks of the API: an administrator can do anything, and tests need orgs that grew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from sandbox.salesforce import ids
from sandbox.salesforce.records import Records
from sandbox.salesforce.schema import Field, Record
from sandbox.store import Document, Journal, Transaction


class Staff:
    """Changes records by the operator's hand; every method answers what the control API tells."""

    def __init__(self, records: Records, journal: Journal):
        self.records = records
        self.store = records.store
        self._journal = journal

    @contextlib.contextmanager
    def _changing(self, action: str, order_id: Any, params: Any) -> Iterator[Transaction]:
        """A transaction with an entry of its own in the journal (direction `staff`)."""
        key = ids.to_18(order_id)
        path = f"/_sandbox/{action.rsplit('.', 1)[-1]}"
        entry = self._journal.begin(
            direction="staff", method="POST", path=path, action=action, order=key, params=params
        )
        try:
            with self.store.transaction(entry) as change:
                yield change
        finally:
            self._journal.finish(entry, state="answered", answered=time.time(), inside=0.0)

    def seed(self, wanted: Document) -> Document:
        """`fields` adds custom fields, `records` creates, `update` changes, `delete` removes: all without the checks a
        caller of the REST API meets. `ref` names a record; "@{name}" elsewhere is its id."""
        for name, fields in (wanted.get("fields") or {}).items():
            for field_name, about in fields.items():
                self.records.add_field(name, Field(field_name, **about))
        names: dict[str, str] = {}
        created, updated = [], 0
        with self.store.transaction() as change:
            for record in wanted.get("records", []):
                key = self.records.insert(change, record["type"], self._values(record, names))
                created.append(key)
                names[record.get("ref", key)] = key
            for record in wanted.get("update", []):
                before = self._existing(change, record["type"], record["Id"])
                self.records.write(change, record["type"], before, self._values({**record, "Id": before["Id"]}, names))
                updated += 1
            for record in wanted.get("delete", []):
                change.delete(record["type"], ids.to_18(record["Id"]) or "")
        return {"ids": created, "names": names, "updated": updated}

    def _values(self, record: Record, names: dict[str, str]) -> Record:
        result = {}
        for key, value in record.items():
            if key in ("type", "ref"):
                continue
            if isinstance(value, str) and value.startswith("@{") and value.endswith("}"):
                value = names[value[2:-1]]
            result[key] = value
        unknown = set(result) - set(self.records.schema[record["type"]].fields)
        if unknown:
            raise ValueError(f"{record['type']} has no field {', '.join(sorted(unknown))}")
        return result

    @staticmethod
    def _existing(change: Transaction, name: str, key: Any) -> Record:
        found = change.get(name, ids.to_18(key) or "")
        if found is None:
            raise ValueError(f"no {name} {key}")
        return found

    def change_order(self, wanted: Document) -> Document:
        """An order edited by an operator: `orderId`, `fields` of the order, `items` (with an `Id` changed, without one
        added at the price of their `PricebookEntryId`), `remove` (item ids, or "all")."""
        with self._changing("staff.change", wanted["orderId"], wanted) as change:
            order = self._existing(change, "Order", wanted["orderId"])
            gone = wanted.get("remove") or []
            for item in self.records.items(order["Id"]):
                if gone == "all" or item["Id"] in [ids.to_18(key) for key in gone]:
                    self.records.write(change, "OrderItem", item, {"IsDeleted": True}, by=self.records.operator_id)
            added = []
            for item in wanted.get("items") or []:
                values = self._values({"type": "OrderItem", **item}, {})
                if "Id" in values:
                    before = self._existing(change, "OrderItem", values.pop("Id"))
                    self.records.write(change, "OrderItem", before, values, by=self.records.operator_id)
                else:
                    entry = self._existing(change, "PricebookEntry", values["PricebookEntryId"])
                    defaults = {"OrderId": order["Id"], "Quantity": 1.0, "UnitPrice": entry["UnitPrice"]}
                    added.append(self.records.insert(change, "OrderItem", {**defaults, **values}))
            fields = self._values({"type": "Order", **(wanted.get("fields") or {})}, {})
            self.records.write(change, "Order", order, fields, by=self.records.operator_id)
        return {"added": added}

    def clone(self, wanted: Document) -> Document:
        """Salesforce's button "Clone with Products" (`items` false: without): everything is copied but what is unique
        or the org's own, `WHMCS_Order_ID__c` among the copied; `fields` replaces. The clone is a draft."""
        with self._changing("staff.clone", wanted["orderId"], wanted) as change:
            order = self._existing(change, "Order", wanted["orderId"])
            copied = {**self._copy("Order", order), "Status": "Draft"}
            replaced = self._values({"type": "Order", **(wanted.get("fields") or {})}, {})
            key = self.records.insert(change, "Order", {**copied, **replaced})
            if wanted.get("items", True):
                for item in self.records.items(order["Id"]):
                    self.records.insert(change, "OrderItem", {**self._copy("OrderItem", item), "OrderId": key})
        return {"id": key}

    def _copy(self, name: str, record: Record) -> Record:
        fields = self.records.schema[name].fields.values()
        return {each.name: record.get(each.name) for each in fields if not (each.read_only or each.unique)}
