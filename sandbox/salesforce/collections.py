"""/composite/sobjects: up to 200 records created, changed, upserted, deleted or read in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.call import Call
from sandbox.salesforce import ids
from sandbox.salesforce.bodies import parse_object
from sandbox.salesforce.errors import SfError
from sandbox.salesforce.schema import Record, SObject
from sandbox.salesforce.sobjects import Answer, SObjects
from sandbox.store import Transaction

ROLLED_BACK = {
    "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "fields": [],
    "message": "Record rolled back because not all records were valid and the request was using AllOrNone header",
}


class Collections:
    """Each record of a collection succeeds or fails by itself, unless all or none is asked for."""

    def __init__(self, sobjects: SObjects):
        self.sobjects = sobjects
        self.records = sobjects.records

    def _each(
        self,
        change: Transaction,
        call: Call,
        wanted: list[Any],
        all_or_none: bool,
        act: Callable[[Any], dict[str, Any]],
        name_of: Callable[[Any], str],
    ) -> Answer:
        """Does something with each record of a collection, each in its own part of the transaction."""
        if len(wanted) > 200:
            raise SfError("INVALID_INPUT", "The number of records exceeds the limit of 200.")
        names = [name_of(record) for record in wanted]
        mark = change.mark()
        results: list[dict[str, Any]] = []
        for record, name in zip(wanted, names, strict=True):
            inner = change.mark()
            try:
                if name and names.count(name) > 1:
                    raise SfError("DUPLICATE_VALUE", f"Duplicate id specified in the same batch: {name}", ["Id"])
                self.sobjects.maybe_fail(call, name)
                results.append(act(record))
            except SfError as error:
                change.rollback_to(inner)
                results.append({"success": False, "errors": [error.in_collection()]})
        if all_or_none and not all(each["success"] for each in results):
            change.rollback_to(mark)
            results = [{"success": False, "errors": [ROLLED_BACK]} if each["success"] else each for each in results]
        return 200, results

    def change(self, change: Transaction, call: Call, method: str, query: dict[str, str], text: str) -> Answer:
        """sObject Collections: create, update or delete up to 200 records."""
        if method == "DELETE":

            def remove(key: str) -> dict[str, Any]:
                name = self._object_of(key)
                record = self.records.existing(name, key, in_body=True)
                self.records.delete(change, self.records.object(name), record)
                return {"id": record["Id"], "success": True, "errors": []}

            keys = [key for key in query.get("ids", "").split(",") if key]
            return self._each(change, call, keys, query.get("allOrNone", "").lower() == "true", remove, str)
        wanted = parse_object(text)

        def act(record: Record) -> dict[str, Any]:
            target = self.records.object((record.get("attributes") or {}).get("type") or "")
            if method == "POST":
                key = self.records.create(change, target, record, text)
            else:
                key_name = next((name for name in record if name.lower() == "id"), None)
                if key_name is None:
                    raise SfError("MISSING_ARGUMENT", "Id not specified in an update call", [])
                found = self.records.existing(target.name, str(record[key_name]), in_body=True)
                self.records.update(
                    change, target, found, {name: value for name, value in record.items() if name != key_name}, text
                )
                key = found["Id"]
            return {"id": key, "success": True, "errors": []}

        def name_of(record: Record) -> str:
            key = str(record.get("id") or record.get("Id") or "")
            return "" if method == "POST" else ids.to_18(key) or key

        return self._each(change, call, wanted.get("records") or [], bool(wanted.get("allOrNone")), act, name_of)

    def _object_of(self, key: str) -> str:
        found = next((each.name for each in self.records.permissions.schema().values() if each.prefix == key[:3]), None)
        if found is None:
            raise SfError("MALFORMED_ID", f"malformed id {key}", ["Id"])
        return found

    def upsert(self, change: Transaction, call: Call, target: SObject, field: str, text: str) -> Answer:
        """Upsert up to 200 records by an external id."""
        wanted = parse_object(text)
        name = self.sobjects.external_field(target, field)

        def act(record: Record) -> dict[str, Any]:
            data = {key: value for key, value in record.items() if key not in (name, "attributes")}
            created, key = self.sobjects.upsert(change, target, field, str(record.get(name, "")), data, text)
            return {"id": key, "success": True, "errors": [], "created": created}

        return self._each(
            change,
            call,
            wanted.get("records") or [],
            bool(wanted.get("allOrNone")),
            act,
            lambda record: str(record.get(name, "")),
        )

    def read(self, target: SObject, method: str, query: dict[str, str], text: str, version: str) -> Answer:
        """Read up to 2000 records by their ids."""
        wanted = (
            parse_object(text)
            if method == "POST"
            else {"ids": query.get("ids", "").split(","), "fields": query.get("fields", "").split(",")}
        )
        results: list[Record | None] = []
        for key in wanted["ids"]:
            try:
                results.append(
                    self.sobjects.get(
                        target, self.records.existing(target.name, key), ",".join(wanted["fields"]), version
                    )
                )
            except SfError as error:
                if error.code == "INVALID_FIELD":
                    raise
                results.append(None)
        return 200, results
