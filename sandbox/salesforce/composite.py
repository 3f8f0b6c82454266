"""/composite, its batch and its tree: several things in one call and one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from sandbox.call import Call
from sandbox.salesforce.bodies import fill_in
from sandbox.salesforce.errors import SfError
from sandbox.salesforce.schema import Record, SObject
from sandbox.salesforce.sobjects import Answer, SObjects
from sandbox.store import Transaction

HALTED = "The transaction was rolled back since another operation in the same transaction failed."

Dispatch = Callable[[Transaction, Call, str, str, dict[str, str], bytes | str, dict[str, str]], Answer]


class Composite:
    """Calls of several parts; `dispatch` answers a part as it would answer a call of its own."""

    def __init__(self, sobjects: SObjects, dispatch: Dispatch):
        self.sobjects = sobjects
        self.records = sobjects.records
        self.dispatch = dispatch

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

    def composite(self, change: Transaction, call: Call, wanted: Any, headers: dict[str, str]) -> Answer:
        """Composite: up to 25 requests, which may name each other's results."""
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

    def batch(self, change: Transaction, call: Call, wanted: Any, version: str, headers: dict[str, str]) -> Answer:
        """Composite Batch: up to 25 requests, each for itself."""
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

    def tree(self, change: Transaction, call: Call, target: SObject, wanted: Any, raw: str) -> Answer:
        """sObject Tree: records with their children, all or none."""
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
                self.sobjects.maybe_fail(call, reference, str(own.get("Portal_Reference__c", "")))
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
                        add(self.records.object(child_name), each, (field, key))

        for record in records:
            add(target, record, None)
        if errors:
            change.rollback_to(mark)
            return 400, {"hasErrors": True, "results": errors}
        return 201, {"hasErrors": False, "results": created}
