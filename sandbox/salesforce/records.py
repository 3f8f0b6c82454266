"""The org's records: checked as the real org checks them, kept in the store, computed fields included."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sandbox.salesforce import ids, schema
from sandbox.salesforce.errors import SfError, not_found
from sandbox.salesforce.field_values import FieldValues
from sandbox.salesforce.locks import Locks
from sandbox.salesforce.order_rules import OrderRules
from sandbox.salesforce.permissions import Permissions
from sandbox.salesforce.refusals import refuse_write
from sandbox.salesforce.schema import Field, Record, SObject
from sandbox.salesforce.soql.values import to_utc
from sandbox.store import Store, Transaction


def now() -> str:
    """The present, as the org writes it."""
    return to_utc(datetime.now(UTC).isoformat())


def find_object(objects: dict[str, SObject], name: str) -> SObject | None:
    """The object of that name, whatever its case."""
    found = objects.get(name)
    return found or next((each for key, each in objects.items() if key.lower() == name.lower()), None)


class Records:
    """Reads and changes records; every change goes through a transaction of the store."""

    def __init__(self, store: Store, settings: dict[str, Any]):
        self.store = store
        self.settings = settings
        self.schema = schema.build()
        self.permissions = Permissions(self.schema, settings)
        self.values = FieldValues(store, self.schema, settings, self.permissions)
        self.rules = OrderRules(store, settings, self.items)
        self.locks = Locks()
        for document in store.all("_field"):
            self._add_field(document["object"], Field(**document["field"]))
        with store.transaction() as change:
            if not store.all("Organization"):
                organization = self._new_id(change, "Organization")
                change.put(
                    "Organization",
                    organization,
                    {
                        "Id": organization,
                        "Name": "Northwind Hosting (sandbox)",
                        "IsSandbox": True,
                        "InstanceName": "WS1",
                        "OrganizationType": "Developer Edition",
                        "CreatedDate": now(),
                    },
                )
                profile = self._new_id(change, "Profile")
                change.put("Profile", profile, {"Id": profile, "Name": "Minimum Access - API Only Integrations"})
            profiles = [each["Id"] for each in store.all("Profile")]
            have = {each["LastName"] for each in store.all("User")}
            username = settings.get("username") or "portal@northwind.example"
            for login, first, last in (
                (username, "Portal", "Integration"),
                ("operator@northwind.example", "Olivia", "Operator"),
            ):
                if last not in have:
                    user = self._new_id(change, "User")
                    email = f"{first.lower()}@northwind.example"
                    names = {"Username": login, "FirstName": first, "LastName": last, "Email": email}
                    names["ProfileId"] = profiles[0] if profiles else None
                    change.put("User", user, {"Id": user, **names, "IsActive": True, "CreatedDate": now()})

    @property
    def organization_id(self) -> str:
        """The org's id."""
        return str(self.store.all("Organization")[0]["Id"])

    @property
    def user_id(self) -> str:
        """The integration user's id."""
        return str(self.store.all("User")[0]["Id"])

    @property
    def operator_id(self) -> str:
        """The id of the operator who presses the buttons."""
        return str(self.store.all("User")[1]["Id"])

    def _add_field(self, name: str, what: Field) -> None:
        self.schema[name].fields[what.name] = what

    def add_field(self, name: str, what: Field) -> None:
        """Adds a custom field to an object for good."""
        document = {"object": name, "field": {key: getattr(what, key) for key in Field.__slots__}}
        with self.store.transaction() as change:
            change.put("_field", f"{name}.{what.name}", document)
        self._add_field(name, what)

    # -- reading (the Source of soql)

    def rows(self, name: str) -> list[Record]:
        """Every record of an object, deleted ones included."""
        return self.store.all(name)

    def find(self, name: str, field_name: str, value: Any) -> list[Record] | None:
        """Records by an indexed field or the id; None when there is no index."""
        if field_name == "Id":
            record = self.store.get(name, str(value))
            return [record] if record else []
        return self.store.find(name, field_name, value) if self.store.indexed(name, field_name) else None

    def record(self, name: str, key: str) -> Record | None:
        """One record by 18-character id."""
        return self.store.get(name, key)

    def items(self, order_id: str) -> list[Record]:
        """An order's items, not the deleted ones, oldest first."""
        found = [row for row in self.store.find("OrderItem", "OrderId", order_id) if not row.get("IsDeleted")]
        return sorted(found, key=lambda row: row.get("_number", 0))

    def value(self, name: str, record: Record, field_name: str) -> Any:
        """A field's value, computed where the org computes it."""
        if name == "Order":
            if field_name == "TotalAmount":
                return round(sum(row["Quantity"] * row["UnitPrice"] for row in self.items(record["Id"])), 2)
            if field_name == "StatusCode":
                return "Activated" if record.get("Status") in schema.ACTIVATED_STATUSES else "Draft"
        elif name == "OrderItem":
            if field_name == "TotalPrice":
                return round(record["Quantity"] * record["UnitPrice"], 2)
            if field_name in ("Product2Id", "ListPrice"):
                entry = self.store.get("PricebookEntry", record.get("PricebookEntryId") or "") or {}
                return entry.get("UnitPrice" if field_name == "ListPrice" else "Product2Id")
        elif name == "PricebookEntry" and field_name in ("Name", "ProductCode"):
            return (self.store.get("Product2", record.get("Product2Id") or "") or {}).get(field_name)
        elif field_name == "Name" and (name in ("Contact", "User") or record.get("IsPersonAccount")):
            return " ".join(part for part in (record.get("FirstName"), record.get("LastName")) if part)
        found = record.get(field_name)
        if found is None:
            what = self.schema[name].fields[field_name]
            return False if what.type == "boolean" else what.default
        return found

    def whole(self, name: str, record: Record) -> Record:
        """Every field of a record."""
        return {each: self.value(name, record, each) for each in self.schema[name].fields}

    def seen(self) -> Seen:
        """The records as the user sees them."""
        return Seen(self)

    # -- names and ids

    def object(self, name: str) -> SObject:
        """An object that the user sees by name, whatever its case. Raises SfError."""
        found = find_object(self.permissions.schema(), name)
        if found is None:
            raise not_found()
        return found

    def existing(self, name: str, key: str, in_body: bool = False) -> Record:
        """A record to be read or changed; the real org's errors when it isn't there."""
        found = ids.to_18(key)
        if found is None:
            if in_body:
                raise SfError("MALFORMED_ID", f"{name} ID: id value of incorrect type: {key}", ["Id"])
            raise SfError(
                "NOT_FOUND", "Provided external ID field does not exist or is not accessible: " + key, status=404
            )
        record = self.store.get(name, found)
        if record is None:
            if found[:3] != self.schema[name].prefix:
                raise SfError("MALFORMED_ID", f"{name} ID: id value of incorrect type: {key}", ["Id"])
            if in_body:
                raise SfError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [])
            raise not_found()
        if record.get("IsDeleted"):
            raise SfError("ENTITY_IS_DELETED", "entity is deleted", [], status=404)
        return record

    def _new_id(self, change: Transaction, name: str) -> str:
        prefix = self.schema[name].prefix
        while True:
            key = ids.make(prefix, change.next(f"id.{name}"))
            if change.get(name, key) is None:
                return key

    # -- changing

    def create(self, change: Transaction, target: SObject, data: Record, raw: str = "") -> str:
        """Creates a record; answers its id."""
        self.permissions.check("c", target.name)
        values = self.values.checked(target, data, True, raw)
        missing = [name for name in self._required(target, values) if values.get(name) is None]
        if missing:
            raise SfError("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)
        self.values.check_unique(target, values, None)
        if target.name == "Order" and values["Status"] in schema.ACTIVATED_STATUSES:
            raise SfError(
                "FAILED_ACTIVATION",
                "You can't create an order whose status is Activated; create a draft "
                "order, add its products, then activate it.",
                ["Status"],
            )
        if target.name == "OrderItem":
            self.rules.check_item(values)
        self.locks.check(values.get("OrderId"), values.get("AccountId"), patient=change.patient)
        refuse_write(self.settings, "create", target.name, None)
        return self.insert(change, target.name, values)

    def _required(self, target: SObject, values: Record) -> list[str]:
        needed = [each.name for each in target.fields.values() if each.required]
        if target.name == "Account" and values.get("LastName"):
            needed.remove("Name")  # a person's is made of the parts
        if target.name == "Order" and self.settings.get("orders_without_account"):
            needed.remove("AccountId")
        return needed

    def insert(self, change: Transaction, name: str, values: Record) -> str:
        """Puts a new record with values that need no check; an `Id` among them is kept."""
        key = ids.to_18(values.get("Id")) or self._new_id(change, name)
        stamp = now()
        number = change.next(f"number.{name}", 100)
        automatic: Record = {}
        if name == "Order":
            automatic["OrderNumber"] = f"{number:08d}"
        elif name == "Account" and values.get("LastName"):
            automatic["IsPersonAccount"] = True
        elif name == "OrderItem":
            automatic["OrderItemNumber"] = f"{number:010d}"
        defaults = {each.name: each.default for each in self.schema[name].fields.values() if each.default is not None}
        change.put(
            name,
            key,
            {
                **defaults,
                **automatic,
                "CreatedDate": stamp,
                "CreatedById": self.user_id,
                "LastModifiedDate": stamp,
                "LastModifiedById": self.user_id,
                "SystemModstamp": stamp,
                **{field: value for field, value in values.items() if value is not None},
                "Id": key,
                "_number": number,
            },
        )
        if automatic.get("IsPersonAccount") and self.settings.get("person_contacts"):
            person = {name: values.get(name) for name in ("FirstName", "LastName")}
            contact = {"AccountId": key, "Email": values.get("PersonEmail"), "IsPersonAccount": True, **person}
            change.change(name, key, PersonContactId=self.insert(change, "Contact", contact))
        return key

    def update(self, change: Transaction, target: SObject, record: Record, data: Record, raw: str = "") -> None:
        """Changes a record."""
        self.permissions.check("e", target.name)
        values = self.values.checked(target, data, False, raw)
        cleared = [name for name in self._required(target, record) if name in values and values[name] is None]
        if cleared:
            raise SfError("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(cleared)}]", cleared)
        self.values.check_unique(target, values, record["Id"])
        if target.name == "Order":
            self.rules.check_order_change(record, values)
        elif target.name == "OrderItem":
            order = self.store.get("Order", record["OrderId"]) or {}
            self.rules.check_editable(order)
        self.locks.check(record["Id"], record.get("OrderId"), patient=change.patient)
        refuse_write(self.settings, "update", target.name, record["Id"])
        self.write(change, target.name, record, values)

    def update_as_apex(self, change: Transaction, name: str, record: Record, values: Record) -> None:
        """Changes a record in system mode, as the org's own code does for an operator: no rights are needed, but
        picklists, locks and triggers are as they are. Raises SfError."""
        for field_name, value in values.items():
            self.values.check_picklist(name, self.schema[name].fields[field_name], value)
        self.locks.check(record["Id"], patient=change.patient)
        refuse_write(self.settings, "update", name, record["Id"], as_apex=True)
        self.write(change, name, record, values, by=self.operator_id)

    def write(self, change: Transaction, name: str, record: Record, values: Record, by: str | None = None) -> None:
        """Changes fields with values that need no check; `by` is the id of the user who does it."""
        stamp = now()
        who = by or self.user_id
        change.put(
            name,
            record["Id"],
            {**record, **values, "LastModifiedDate": stamp, "LastModifiedById": who, "SystemModstamp": stamp},
        )

    def delete(self, change: Transaction, target: SObject, record: Record) -> None:
        """Moves a record (an order's items with it) to the bin."""
        self.permissions.check("d", target.name)
        self.locks.check(record["Id"], record.get("OrderId"), patient=change.patient)
        refuse_write(self.settings, "delete", target.name, record["Id"])
        if target.name == "Order":
            if record.get("Status") in schema.ACTIVATED_STATUSES:
                raise SfError("DELETE_FAILED", "You can't delete an activated order.", [])
            for item in self.items(record["Id"]):
                self.write(change, "OrderItem", item, {"IsDeleted": True})
        self.write(change, target.name, record, {"IsDeleted": True})


class Seen:
    """Where queries read (the Source of soql): all records, but only the objects and fields that the user sees."""

    def __init__(self, records: Records):
        self.schema = records.permissions.schema()
        self.rows = records.rows
        self.find = records.find
        self.value = records.value
        self.record = records.record
