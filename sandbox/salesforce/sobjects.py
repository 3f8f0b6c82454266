"""/sobjects: describe, and single records by id or external id."""

from __future__ import annotations

from typing import Any

from sandbox.call import Call
from sandbox.salesforce import ids, soql
from sandbox.salesforce.bodies import parse_object
from sandbox.salesforce.errors import SfError, not_found
from sandbox.salesforce.records import Records
from sandbox.salesforce.refusals import MESSAGES
from sandbox.salesforce.schema import Field, Record, SObject
from sandbox.salesforce.soql.values import to_utc
from sandbox.store import Transaction

Answer = tuple[int, Any]


class SObjects:
    """Answers what is asked below /sobjects; the other resources read and upsert through it, too."""

    def __init__(self, records: Records, settings: dict[str, Any]):
        self.records = records
        self.settings = settings

    def about(self, target: SObject, version: str) -> dict[str, Any]:
        """What `sobjects` tells of an object."""
        base = f"/services/data/{version}/sobjects/{target.name}"
        return {
            "name": target.name,
            "label": target.name,
            "keyPrefix": target.prefix,
            "custom": False,
            "createable": self.records.permissions.may("c", target.name),
            "updateable": self.records.permissions.may("e", target.name),
            "deletable": self.records.permissions.may("d", target.name),
            "queryable": True,
            "urls": {"sobject": base, "describe": f"{base}/describe", "rowTemplate": base + "/{ID}"},
        }

    def describe(self, target: SObject, version: str) -> dict[str, Any]:
        """What `describe` tells of an object."""
        fields = [self._about_field(target, each) for each in target.fields.values()]
        children = [
            {"relationshipName": name, "childSObject": child, "field": field}
            for name, (child, field) in target.children.items()
        ]
        return {**self.about(target, version), "fields": fields, "childRelationships": children}

    def _about_field(self, target: SObject, what: Field) -> dict[str, Any]:
        values, restricted = self.records.values.picklist(target.name, what)
        editable = not what.read_only and self.records.permissions.editable(target.name, what)
        return {
            "name": what.name,
            "label": what.label,
            "type": what.type,
            "length": what.length,
            "custom": what.name.endswith("__c"),
            "nillable": not what.required,
            "createable": editable,
            "updateable": editable and not what.create_only,
            "externalId": what.external_id,
            "unique": what.unique,
            "idLookup": what.external_id or what.name == "Id",
            "calculated": False,
            "referenceTo": [what.refers_to] if what.refers_to else [],
            "relationshipName": what.relationship,
            "restrictedPicklist": restricted,
            "picklistValues": [
                {"active": True, "defaultValue": False, "label": each, "validFor": None, "value": each}
                for each in values
            ],
        }

    def answer(
        self,
        change: Transaction,
        call: Call,
        method: str,
        target: SObject,
        more: list[str],
        query: dict[str, str],
        text: str,
        version: str,
    ) -> Answer:
        """One request to a record or an object."""
        match method, more:
            case "GET", []:
                return 200, {
                    "objectDescribe": self.about(target, version),
                    "recentItems": self.recent([target], 10, version),
                }
            case "POST", []:
                self.maybe_fail(call, "")
                key = self.records.create(change, target, parse_object(text), text)
                return 201, {"id": key, "success": True, "errors": []}
            case "GET", ["describe"]:
                return 200, self.describe(target, version)
            case "GET", [("updated" | "deleted") as what] if "start" in query and "end" in query:
                return 200, self._changed(target, what, query["start"], query["end"])
            case "GET", [key]:
                return 200, self.get(target, self.records.existing(target.name, key), query.get("fields"), version)
            case "PATCH", [key]:
                self.maybe_fail(call, key)
                self.records.update(change, target, self.records.existing(target.name, key), parse_object(text), text)
                return 204, None
            case "DELETE", [key]:
                self.records.delete(change, target, self.records.existing(target.name, key))
                return 204, None
            case "GET", [field, value]:
                return 200, self.get(target, self.by_external_id(target, field, value), query.get("fields"), version)
            case "PATCH", [field, value]:
                self.maybe_fail(call, value)
                created, key = self.upsert(change, target, field, value, parse_object(text), text)
                status = 201 if created else int(self.settings["upsert_update_status"])
                return status, None if status == 204 else {"id": key, "success": True, "errors": [], "created": created}
            case "DELETE", [field, value]:
                self.records.delete(change, target, self.by_external_id(target, field, value))
                return 204, None
        raise not_found()

    def recent(self, targets: list[SObject], most: int, version: str) -> list[Record]:
        """The records that were changed last, newest first, as /recent answers them."""
        found = [
            (row.get("LastModifiedDate") or "", each, row)
            for each in targets
            for row in self.records.rows(each.name)
            if not row.get("IsDeleted")
        ]
        found.sort(key=lambda each: each[0], reverse=True)
        return [
            {
                "attributes": soql.attributes(each.name, row["Id"], version),
                "Id": row["Id"],
                "Name": self.records.value(each.name, row, "Name") if "Name" in each.fields else None,
            }
            for _, each, row in found[:most]
        ]

    def _changed(self, target: SObject, what: str, start: str, end: str) -> Record:
        """Which records were changed or deleted from `start` until `end`."""
        try:
            since, until = to_utc(start), to_utc(end)
        except ValueError:
            raise SfError("INVALID_FIELD", f"start or end is no date and time: {start}, {end}") from None
        rows = [row for row in self.records.rows(target.name) if since <= (row.get("LastModifiedDate") or "") < until]
        if what == "updated":
            return {"ids": [row["Id"] for row in rows if not row.get("IsDeleted")], "latestDateCovered": until}
        gone = [{"id": row["Id"], "deletedDate": row["LastModifiedDate"]} for row in rows if row.get("IsDeleted")]
        return {"deletedRecords": gone, "earliestDateAvailable": since, "latestDateCovered": until}

    def get(self, target: SObject, record: Record, fields: str | None, version: str) -> Record:
        """A record, or some of its fields."""
        wanted = list(target.fields)
        if fields:
            wanted = []
            for name in fields.split(","):
                what = target.field(name.strip())
                if what is None:
                    raise SfError("INVALID_FIELD", f"No such column '{name}' on sobject of type {target.name}")
                wanted.append(what.name)
            wanted = list(dict.fromkeys([*wanted, "Id"]))
        return {
            "attributes": soql.attributes(target.name, record["Id"], version),
            **{name: self.records.value(target.name, record, name) for name in wanted},
        }

    def external_field(self, target: SObject, field: str) -> str:
        """The external id field of this name; SfError where there is none."""
        what = target.field(field)
        if what is None or not (what.external_id or what.name == "Id"):
            raise SfError(
                "NOT_FOUND", f"Provided external ID field does not exist or is not accessible: {field}", status=404
            )
        return what.name

    def by_external_id(self, target: SObject, field: str, value: str) -> Record:
        """The record with this external id; SfError for none or several."""
        name = self.external_field(target, field)
        if name == "Id":
            return self.records.existing(target.name, value)
        found = [row for row in self.records.find(target.name, name, value) or [] if not row.get("IsDeleted")]
        if not found:
            raise not_found()
        return found[0]

    def upsert(
        self, change: Transaction, target: SObject, field: str, value: str, data: Record, raw: str
    ) -> tuple[bool, str]:
        """Creates or updates by external id; answers (created, id)."""
        name = self.external_field(target, field)
        if any(key.lower() == name.lower() for key in data):
            raise SfError("INVALID_FIELD", f"The {name} field should not be specified in the sobject data.", [name])
        try:
            record = self.by_external_id(target, field, value)
        except SfError as error:
            if error.code != "NOT_FOUND" or name == "Id":
                raise
            return True, self.records.create(change, target, {**data, name: value}, raw)
        self.records.update(change, target, record, data, raw)
        return False, str(record["Id"])

    @staticmethod
    def maybe_fail(call: Call, *keys: str) -> None:
        """The `record_error` fault: one record of a call is refused."""
        fault = call.fault
        if fault is None or fault["kind"] != "record_error":
            return
        wanted = str(fault.get("record", ""))
        if any(key and (key == wanted or ids.to_18(key) == (ids.to_18(wanted) or "-")) for key in keys) or not wanted:
            code = str(fault.get("code", "UNABLE_TO_LOCK_ROW"))
            raise SfError(code, str(fault.get("message") or MESSAGES.get(code, code)), [])
