"""Values from JSON, checked as the real org checks them before it stores them."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

from sandbox.salesforce import ids
from sandbox.salesforce.errors import SfError
from sandbox.salesforce.permissions import Permissions
from sandbox.salesforce.refusals import UNEDITABLE
from sandbox.salesforce.schema import Field, Record, SObject
from sandbox.salesforce.soql.values import NUMBER_TYPES, TEXT_TYPES, to_utc
from sandbox.store import Store


class FieldValues:
    """What a field takes from the user; lookups are followed into the store."""

    def __init__(self, store: Store, schema: dict[str, SObject], settings: dict[str, Any], permissions: Permissions):
        self.store = store
        self.schema = schema
        self.settings = settings
        self.permissions = permissions

    def checked(self, target: SObject, data: Record, creating: bool, raw: str = "") -> Record:
        """Values from JSON as they are stored; SfError for what the org would refuse."""
        values: Record = {}
        refused = []
        for name, value in data.items():
            if name == "attributes":
                continue
            what = target.field(name)
            if what is None:
                raise SfError("INVALID_FIELD", f"No such column '{name}' on sobject of type {target.name}", [])
            if what.name == "Id":
                raise SfError("INVALID_FIELD", "The Id field should not be specified in the sobject data.", ["Id"])
            read_only = what.read_only or (what.create_only and not creating)
            if read_only or not self.permissions.editable(target.name, what):
                refused.append(what.name)
                continue
            values[what.name] = self._value(what, value, raw)
            self.check_picklist(target.name, what, values[what.name])
        if refused:
            raise SfError(
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                UNEDITABLE.format(", ".join(refused)),
                refused,
            )
        return values

    def picklist(self, name: str, what: Field) -> tuple[tuple[str, ...], bool]:
        """A picklist's values and whether it is restricted to them; the setting `picklists` replaces both
        ({"Order.Provisioning_Status__c": ["Failed"]})."""
        replaced = (self.settings.get("picklists") or {}).get(f"{name}.{what.name}")
        return (what.values, what.restricted) if replaced is None else (tuple(replaced), True)

    def check_picklist(self, name: str, what: Field, value: Any) -> None:
        """Refuses a value that a restricted picklist hasn't got. Raises SfError."""
        if what.type != "picklist" or value is None:
            return
        values, restricted = self.picklist(name, what)
        if restricted and value not in values:
            raise SfError(
                "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                f"{what.label}: bad value for restricted picklist field: {value}",
                [what.name],
            )

    def _value(self, what: Field, value: Any, raw: str) -> Any:
        if value is None:
            return None
        if what.type in TEXT_TYPES:
            if not isinstance(value, str):
                raise self._unreadable("string", what.name, value, raw)
            text = value.strip() if what.type != "textarea" else value
            if len(text) > what.length:
                raise SfError(
                    "STRING_TOO_LONG",
                    f"{what.label}: data value too large: {text} (max length={what.length})",
                    [what.name],
                )
            if what.type == "email" and text and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", text):
                raise SfError("INVALID_EMAIL_ADDRESS", f"{what.label}: invalid email address: {text}", [what.name])
            return text or None
        if what.type in NUMBER_TYPES:
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise self._unreadable("double", what.name, value, raw)
            try:
                return float(value)
            except ValueError:
                raise self._unreadable("double", what.name, value, raw) from None
        if what.type == "boolean":
            if isinstance(value, bool):
                return value
            if str(value).lower() in ("true", "false"):
                return str(value).lower() == "true"
            raise self._unreadable("boolean", what.name, value, raw)
        if what.type in ("date", "datetime"):
            try:
                if not isinstance(value, str):
                    raise ValueError("not text")
                if what.type == "datetime":
                    return to_utc(value)
                return date.fromisoformat(value[:10]).isoformat()
            except ValueError:
                raise self._unreadable(what.type, what.name, value, raw) from None
        if what.type == "reference":
            if value == "":
                return None
            key = ids.to_18(value)
            assert what.refers_to is not None
            if key is None or key[:3] != self.schema[what.refers_to].prefix:
                label = what.label.removesuffix("Id")
                raise SfError("MALFORMED_ID", f"{label} ID: id value of incorrect type: {value}", [what.name])
            record = self.store.get(what.refers_to, key)
            if record is None:
                raise SfError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [what.name])
            if record.get("IsDeleted"):
                raise SfError("ENTITY_IS_DELETED", "entity is deleted", [what.name])
            return key
        return value

    @staticmethod
    def _unreadable(wanted: str, name: str, value: Any, raw: str) -> SfError:
        """JSON of the wrong type for a field, with the place in the body."""
        kind = (
            "VALUE_TRUE"
            if value is True
            else "VALUE_FALSE"
            if value is False
            else "VALUE_NUMBER_INT"
            if isinstance(value, int)
            else "VALUE_NUMBER_FLOAT"
            if isinstance(value, float)
            else "VALUE_STRING"
            if isinstance(value, str)
            else "START_ARRAY"
            if isinstance(value, list)
            else "START_OBJECT"
        )
        shown = value if isinstance(value, str) else json.dumps(value)
        found = re.search(re.escape(json.dumps(name)) + r"\s*:\s*", raw)
        place = found.end() if found else 0
        line = raw.count("\n", 0, place) + 1
        column = place - (raw.rfind("\n", 0, place) + 1) + 1
        return SfError(
            "JSON_PARSER_ERROR",
            f"Cannot deserialize instance of {wanted} from {kind} value {shown} or request may be missing a "
            f"required field at [line:{line}, column:{column}]",
        )

    def check_unique(self, target: SObject, values: Record, key: str | None) -> None:
        """SfError where another record has a value that must be unique."""
        for name, value in values.items():
            if value is None or not target.fields[name].unique:
                continue
            for other in self.store.find(target.name, name, value):
                if other["Id"] != key and not other.get("IsDeleted"):
                    raise SfError(
                        "DUPLICATE_VALUE",
                        f"duplicate value found: {name} duplicates value on record with id: {other['Id'][:15]}",
                        [],
                    )
