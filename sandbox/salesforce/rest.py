"""The REST API under /services/data: sobjects, query, composite and its relatives."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

from sandbox.call import Call
from sandbox.salesforce import ids, soql
from sandbox.salesforce.errors import SfError, not_found
from sandbox.salesforce.records import Record, Records
from sandbox.salesforce.schema import SObject
from sandbox.store import Transaction

VERSIONS = range(31, 69)
REFERENCE = re.compile(r"@\{([A-Za-z0-9_]+)((?:\.[A-Za-z0-9_]+|\[\d+\])*)\}")
HALTED = "The transaction was rolled back since another operation in the same transaction failed."
ROLLED_BACK = {
    "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "fields": [],
    "message": "Record rolled back because not all records were valid and the request was using AllOrNone header",
}

Answer = tuple[int, Any]


class Rest:
    """Answers one API call inside a transaction; `dispatch` is also used for each part of a composite."""

    def __init__(self, records: Records, settings: dict[str, Any]):
        self.records = records
        self.settings = settings
        self._cursors: OrderedDict[str, tuple[list[Record], int]] = OrderedDict()
        self._cursor_lock = threading.Lock()

    def dispatch(
        self,
        change: Transaction,
        call: Call,
        method: str,
        path: str,
        query: dict[str, str],
        raw: bytes | str,
        headers: dict[str, str],
    ) -> Answer:
        """`path` is the path from /services/data on, still percent-encoded (an external id may hold a slash); answers
        (status, JSON body or None)."""
        parts = [unquote(part) for part in path.split("/") if part][2:]
        if not parts:
            return 200, [
                {"label": f"v{number}", "url": f"/services/data/v{number}.0", "version": f"{number}.0"}
                for number in VERSIONS
            ]
        version, rest = parts[0], parts[1:]
        found = re.fullmatch(r"v(\d+)\.0", version)
        if found is None or int(found.group(1)) not in VERSIONS:
            raise not_found()
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
        match method, rest:
            case "GET", []:
                names = ("sobjects", "query", "queryAll", "composite", "limits", "search", "recent")
                return 200, {name: f"/services/data/{version}/{name}" for name in names}
            case "GET", ["limits"]:
                limit = self.settings["api_limit"]
                return 200, {
                    "DailyApiRequests": {"Max": limit, "Remaining": max(0, limit - self.settings["api_used"])},
                    "DailyAsyncApexExecutions": {"Max": 250000, "Remaining": 250000},
                }
            case "GET", ["sobjects"]:
                return 200, {
                    "encoding": "UTF-8",
                    "maxBatchSize": 200,
                    "sobjects": [self._about(each, version) for each in self.records.schema.values()],
                }
            case "GET", [("query" | "queryAll") as kind]:
                return self._query(kind, query, version, headers)
            case "GET", [("query" | "queryAll") as kind, cursor]:
                return self._query_more(kind, cursor, version)
            case "POST", ["composite"]:
                return self._composite(change, call, parse(text), headers)
            case "POST", ["composite", "batch"]:
                return self._batch(change, call, parse(text), version, headers)
            case "POST", ["composite", "tree", name]:
                return self._tree(change, call, self.records.object(name), parse(text), text)
            case (("POST" | "PATCH" | "DELETE"), ["composite", "sobjects"]):
                return self._collection(change, call, method, query, text)
            case "PATCH", ["composite", "sobjects", name, field]:
                return self._collection_upsert(change, call, self.records.object(name), field, text)
            case (("GET" | "POST"), ["composite", "sobjects", name]):
                return self._collection_get(self.records.object(name), method, query, text, version)
            case _, ["sobjects", name, *more]:
                return self._sobject(change, call, method, self.records.object(name), more, query, text, version)
        raise not_found()

    # -- sobjects

    def _about(self, target: SObject, version: str) -> dict[str, Any]:
        base = f"/services/data/{version}/sobjects/{target.name}"
        return {
            "name": target.name,
            "label": target.name,
            "keyPrefix": target.prefix,
            "custom": False,
            "createable": True,
            "updateable": True,
            "deletable": True,
            "queryable": True,
            "urls": {"sobject": base, "describe": f"{base}/describe", "rowTemplate": base + "/{ID}"},
        }

    def _describe(self, target: SObject, version: str) -> dict[str, Any]:
        fields = [
            {
                "name": each.name,
                "label": each.label,
                "type": each.type,
                "length": each.length,
                "custom": each.name.endswith("__c"),
                "nillable": not each.required,
                "createable": not each.read_only,
                "updateable": not each.read_only and not each.create_only,
                "externalId": each.external_id,
                "unique": each.unique,
                "idLookup": each.external_id or each.name == "Id",
                "calculated": False,
                "referenceTo": [each.refers_to] if each.refers_to else [],
                "relationshipName": each.relationship,
                "restrictedPicklist": False,
                "picklistValues": [],
            }
            for each in target.fields.values()
        ]
        children = [
            {"relationshipName": name, "childSObject": child, "field": field}
            for name, (child, field) in target.children.items()
        ]
        return {**self._about(target, version), "fields": fields, "childRelationships": children}

    def _sobject(
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
        match method, more:
            case "GET", []:
                return 200, {"objectDescribe": self._about(target, version), "recentItems": []}
            case "POST", []:
                self._maybe_fail(call, "")
                key = self.records.create(change, target, parse_object(text), text)
                return 201, {"id": key, "success": True, "errors": []}
            case "GET", ["describe"]:
                return 200, self._describe(target, version)
            case "GET", [key]:
                return 200, self._get(target, self.records.existing(target.name, key), query.get("fields"), version)
            case "PATCH", [key]:
                self._maybe_fail(call, key)
                self.records.update(change, target, self.records.existing(target.name, key), parse_object(text), text)
                return 204, None
            case "DELETE", [key]:
                self.records.delete(change, target, self.records.existing(target.name, key))
                return 204, None
            case "GET", [field, value]:
                return 200, self._get(target, self._by_external_id(target, field, value), query.get("fields"), version)
            case "PATCH", [field, value]:
                self._maybe_fail(call, value)
                created, key = self.upsert(change, target, field, value, parse_object(text), text)
                status = 201 if created else int(self.settings["upsert_update_status"])
                return status, None if status == 204 else {"id": key, "success": True, "errors": [], "created": created}
            case "DELETE", [field, value]:
                self.records.delete(change, target, self._by_external_id(target, field, value))
                return 204, None
        raise not_found()

    def _get(self, target: SObject, record: Record, fields: str | None, version: str) -> Record:
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

    def _external_field(self, target: SObject, field: str) -> str:
        what = target.field(field)
        if what is None or not (what.external_id or what.name == "Id"):
            raise SfError(
                "NOT_FOUND", f"Provided external ID field does not exist or is not accessible: {field}", status=404
            )
        return what.name

    def _by_external_id(self, target: SObject, field: str, value: str) -> Record:
        name = self._external_field(target, field)
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
        name = self._external_field(target, field)
        if any(key.lower() == name.lower() for key in data):
            raise SfError("INVALID_FIELD", f"The {name} field should not be specified in the sobject data.", [name])
        try:
            record = self._by_external_id(target, field, value)
        except SfError as error:
            if error.code != "NOT_FOUND" or name == "Id":
                raise
            return True, self.records.create(change, target, {**data, name: value}, raw)
        self.records.update(change, target, record, data, raw)
        return False, str(record["Id"])

    @staticmethod
    def _maybe_fail(call: Call, *keys: str) -> None:
        """The `record_error` fault: one record of a call is refused."""
        fault = call.fault
        if fault is None or fault["kind"] != "record_error":
            return
        wanted = str(fault.get("record", ""))
        if any(key and (key == wanted or ids.to_18(key) == (ids.to_18(wanted) or "-")) for key in keys) or not wanted:
            raise SfError(
                fault.get("code", "UNABLE_TO_LOCK_ROW"),
                fault.get("message", "unable to obtain exclusive access to this record"),
                [],
            )

    # -- query

    def _query(self, kind: str, query: dict[str, str], version: str, headers: dict[str, str]) -> Answer:
        if "q" not in query:
            raise SfError("MALFORMED_QUERY", "The request is missing the 'q' parameter")
        include_deleted = kind == "queryAll"
        parsed = soql.Parser(query["q"], self.records, include_deleted).parse()
        found = soql.matching(self.records, parsed, include_deleted)
        if parsed.count_rows:
            return 200, {"totalSize": len(found), "done": True, "records": []}
        if parsed.counts:
            row: Record = {"attributes": {"type": "AggregateResult"}}
            for number, (name, alias) in enumerate(parsed.counts):
                row[alias or f"expr{number}"] = sum(
                    soql.path_value(self.records, parsed.object.name, each, tuple(name.split("."))) is not None
                    for each in found
                )
            return 200, {"totalSize": 1, "done": True, "records": [row]}
        rows = [soql.render(self.records, parsed, each, version, include_deleted) for each in found]
        size = int(self.settings["query_batch_size"])
        options = re.search(r"batchSize\s*=\s*(\d+)", headers.get("sforce-query-options", ""), re.IGNORECASE)
        if options:
            size = min(2000, max(1, int(options.group(1))))
        if len(rows) <= size:
            return 200, {"totalSize": len(rows), "done": True, "records": rows}
        cursor = "01g" + secrets.token_hex(6)
        with self._cursor_lock:
            self._cursors[cursor] = (rows, size)
            while len(self._cursors) > 20:
                self._cursors.popitem(last=False)
        return 200, self._page(kind, cursor, rows, size, 0, version)

    @staticmethod
    def _page(kind: str, cursor: str, rows: list[Record], size: int, start: int, version: str) -> dict[str, Any]:
        done = start + size >= len(rows)
        result: dict[str, Any] = {"totalSize": len(rows), "done": done}
        if not done:
            result["nextRecordsUrl"] = f"/services/data/{version}/{kind}/{cursor}-{start + size}"
        return {**result, "records": rows[start : start + size]}

    def _query_more(self, kind: str, text: str, version: str) -> Answer:
        cursor, _, start = text.rpartition("-")
        with self._cursor_lock:
            found = self._cursors.get(cursor)
        if found is None or not start.isdigit():
            raise SfError("INVALID_QUERY_LOCATOR", "invalid query locator")
        return 200, self._page(kind, cursor, found[0], found[1], int(start), version)

    # -- several in one call

    def _part(
        self, change: Transaction, call: Call, method: str, url: str, body: Any, headers: dict[str, str]
    ) -> Answer:
        """One part of a composite; its changes are undone when it fails."""
        path, _, query = url.partition("?")
        mark = change.mark()
        try:
            return self.dispatch(
                change,
                call,
                method,
                path,
                dict(parse_qsl(query, keep_blank_values=True)),
                "" if body is None else json.dumps(body),
                headers,
            )
        except SfError as error:
            change.rollback_to(mark)
            return error.status, error.body()

    def _composite(self, change: Transaction, call: Call, wanted: Any, headers: dict[str, str]) -> Answer:
        parts = wanted.get("compositeRequest") if isinstance(wanted, dict) else None
        if not isinstance(parts, list) or not parts:
            raise SfError("JSON_PARSER_ERROR", "compositeRequest is missing")
        if len(parts) > 25:
            raise SfError("LIMIT_EXCEEDED", "The number of subrequests exceeds the limit of 25.")
        all_or_none = bool(wanted.get("allOrNone"))
        mark = change.mark()
        results: list[dict[str, Any]] = []
        bodies: dict[str, Any] = {}
        failed_at: int | None = None
        for number, part in enumerate(parts):
            reference = part.get("referenceId", "")
            if failed_at is not None and all_or_none:
                break
            try:
                url = fill_in(part["url"], bodies)
                body = fill_in(part.get("body"), bodies)
            except SfError as error:
                status, answer = error.status, error.body()
            else:
                more = {key.lower(): value for key, value in (part.get("httpHeaders") or {}).items()}
                status, answer = self._part(change, call, part.get("method", "GET"), url, body, {**headers, **more})
            if status < 400:
                bodies[reference] = answer
            elif failed_at is None:
                failed_at = number
            results.append({"body": answer, "httpHeaders": {}, "httpStatusCode": status, "referenceId": reference})
        if failed_at is not None and all_or_none:
            change.rollback_to(mark)
            halted = [{"errorCode": "PROCESSING_HALTED", "message": HALTED}]
            results = [
                results[number]
                if number == failed_at
                else {
                    "body": halted,
                    "httpHeaders": {},
                    "httpStatusCode": 400,
                    "referenceId": part.get("referenceId", ""),
                }
                for number, part in enumerate(parts)
            ]
        return 200, {"compositeResponse": results}

    def _batch(self, change: Transaction, call: Call, wanted: Any, version: str, headers: dict[str, str]) -> Answer:
        results: list[dict[str, Any]] = []
        halted = False
        for part in wanted.get("batchRequests", [])[:25]:
            if halted:
                results.append({"statusCode": 412, "result": [{"errorCode": "PROCESSING_HALTED", "message": HALTED}]})
                continue
            url = part["url"] if part["url"].startswith("/") else f"/services/data/{part['url']}"
            status, answer = self._part(change, call, part["method"], url, part.get("richInput"), headers)
            halted = status >= 400 and bool(wanted.get("haltOnError"))
            results.append({"statusCode": status, "result": answer})
        return 200, {"hasErrors": any(each["statusCode"] >= 400 for each in results), "results": results}

    def _tree(self, change: Transaction, call: Call, target: SObject, wanted: Any, raw: str) -> Answer:
        records = wanted.get("records") if isinstance(wanted, dict) else None
        if not isinstance(records, list) or not records:
            raise SfError("JSON_PARSER_ERROR", "records is missing")
        if raw.count('"referenceId"') > 200:
            raise SfError("INVALID_INPUT", "The number of records exceeds the limit of 200.")
        mark = change.mark()
        created: list[dict[str, str]] = []
        errors: list[dict[str, Any]] = []
        seen: set[str] = set()

        def add(kind: SObject, record: Record, parent: tuple[str, str] | None) -> None:
            about = record.get("attributes") or {}
            reference = str(about.get("referenceId", ""))
            if not reference or reference in seen:
                raise SfError("INVALID_INPUT", f"Duplicate or missing ReferenceId provided in the request: {reference}")
            seen.add(reference)
            own = {
                key: value
                for key, value in record.items()
                if key != "attributes" and not (isinstance(value, dict) and "records" in value)
            }
            if parent is not None:
                own[parent[0]] = parent[1]
            try:
                self._maybe_fail(call, reference, str(own.get("Portal_Reference__c", "")))
                key = self.records.create(change, kind, own, raw)
            except SfError as error:
                errors.append({"referenceId": reference, "errors": [error.in_collection()]})
                return
            created.append({"referenceId": reference, "id": key})
            for name, value in record.items():
                if isinstance(value, dict) and "records" in value:
                    child = next((each for each in kind.children if each.lower() == name.lower()), None)
                    if child is None:
                        raise SfError("INVALID_FIELD", f"No such column '{name}' on sobject of type {kind.name}")
                    child_name, field = kind.children[child]
                    for each in value["records"]:
                        add(self.records.schema[child_name], each, (field, key))

        for record in records:
            add(target, record, None)
        if errors:
            change.rollback_to(mark)
            return 400, {"hasErrors": True, "results": errors}
        return 201, {"hasErrors": False, "results": created}

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
                self._maybe_fail(call, name)
                results.append(act(record))
            except SfError as error:
                change.rollback_to(inner)
                results.append({"success": False, "errors": [error.in_collection()]})
        if all_or_none and not all(each["success"] for each in results):
            change.rollback_to(mark)
            results = [{"success": False, "errors": [ROLLED_BACK]} if each["success"] else each for each in results]
        return 200, results

    def _collection(self, change: Transaction, call: Call, method: str, query: dict[str, str], text: str) -> Answer:
        if method == "DELETE":

            def remove(key: str) -> dict[str, Any]:
                name = self._object_of(key)
                record = self.records.existing(name, key, in_body=True)
                self.records.delete(change, self.records.schema[name], record)
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
        found = next((each.name for each in self.records.schema.values() if each.prefix == key[:3]), None)
        if found is None:
            raise SfError("MALFORMED_ID", f"malformed id {key}", ["Id"])
        return found

    def _collection_upsert(self, change: Transaction, call: Call, target: SObject, field: str, text: str) -> Answer:
        wanted = parse_object(text)
        name = self._external_field(target, field)

        def act(record: Record) -> dict[str, Any]:
            data = {key: value for key, value in record.items() if key not in (name, "attributes")}
            created, key = self.upsert(change, target, field, str(record.get(name, "")), data, text)
            return {"id": key, "success": True, "errors": [], "created": created}

        return self._each(
            change,
            call,
            wanted.get("records") or [],
            bool(wanted.get("allOrNone")),
            act,
            lambda record: str(record.get(name, "")),
        )

    def _collection_get(self, target: SObject, method: str, query: dict[str, str], text: str, version: str) -> Answer:
        wanted = (
            parse_object(text)
            if method == "POST"
            else {"ids": query.get("ids", "").split(","), "fields": query.get("fields", "").split(",")}
        )
        results: list[Record | None] = []
        for key in wanted["ids"]:
            try:
                results.append(
                    self._get(target, self.records.existing(target.name, key), ",".join(wanted["fields"]), version)
                )
            except SfError as error:
                if error.code == "INVALID_FIELD":
                    raise
                results.append(None)
        return 200, results


def parse(text: str) -> Any:
    """JSON, or the real org's complaint."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise SfError("JSON_PARSER_ERROR", f"Unexpected character or end of input: {error}") from None


def parse_object(text: str) -> Record:
    """A JSON object, or the real org's complaint."""
    found = parse(text)
    if not isinstance(found, dict):
        raise SfError("JSON_PARSER_ERROR", "The HTTP entity body is required, but this request has no entity body.")
    return found


def fill_in(value: Any, bodies: dict[str, Any]) -> Any:
    """`@{ref.path}` replaced in texts, lists and objects."""
    if isinstance(value, list):
        return [fill_in(each, bodies) for each in value]
    if isinstance(value, dict):
        return {key: fill_in(each, bodies) for key, each in value.items()}
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> Any:
        here = bodies.get(match.group(1))
        for name, index in re.findall(r"\.([A-Za-z0-9_]+)|\[(\d+)\]", match.group(2)):
            try:
                here = here[name] if name else here[int(index)]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                here = None
        if here is None:
            raise SfError(
                "PROCESSING_HALTED",
                f"Invalid reference specified. No value for {match.group()[2:-1]} found in {match.group(1)}",
            )
        return here

    whole = REFERENCE.fullmatch(value)
    return found(whole) if whole else REFERENCE.sub(lambda match: str(found(match)), value)
