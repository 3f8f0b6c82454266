"""The REST API under /services/data: which resource answers a call."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from sandbox.call import Call
from sandbox.salesforce.bodies import parse
from sandbox.salesforce.collections import Collections
from sandbox.salesforce.composite import Composite
from sandbox.salesforce.errors import SfError, not_found
from sandbox.salesforce.queries import Queries
from sandbox.salesforce.records import Records
from sandbox.salesforce.sobjects import Answer, SObjects
from sandbox.store import Transaction

NEWEST_VERSION = 68
RESOURCES = ("composite", "limits", "query", "queryAll", "recent", "sobjects")


class Rest:
    """Answers one API call inside a transaction; `dispatch` is also used for each part of a composite."""

    def __init__(self, records: Records, settings: dict[str, Any]):
        self.records = records
        self.settings = settings
        self.sobjects = SObjects(records, settings)
        self.queries = Queries(records, settings)
        self.composite = Composite(self.sobjects, self.dispatch)
        self.collections = Collections(self.sobjects)

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
                for number in range(self.settings["oldest_version"], NEWEST_VERSION + 1)
            ]
        version, rest = parts[0], parts[1:]
        found = re.fullmatch(r"v(\d+)\.0", version)
        if found is None or int(found.group(1)) > NEWEST_VERSION:
            raise not_found()
        if int(found.group(1)) < self.settings["oldest_version"]:
            raise SfError("GONE", f"The API version {version} has been retired.", status=410)
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
        match method, rest:
            case "GET", []:
                host = f"http://{headers.get('host', '')}"
                identity = f"{host}/id/{self.records.organization_id}/{self.records.user_id}"
                return 200, {
                    **{name: f"/services/data/{version}/{name}" for name in RESOURCES},
                    "identity": identity,
                }
            case "GET", ["limits"]:
                limit = self.settings["api_limit"]
                return 200, {
                    "DailyApiRequests": {"Max": limit, "Remaining": max(0, limit - self.settings["api_used"])},
                    "DailyAsyncApexExecutions": {"Max": 250000, "Remaining": 250000},
                }
            case "GET", ["limits", "recordCount"]:
                wanted = (
                    query["sObjects"].split(",") if "sObjects" in query else list(self.records.permissions.schema())
                )
                counted = [self.records.object(name).name for name in wanted]
                return 200, {"sObjects": [{"count": len(self.records.rows(name)), "name": name} for name in counted]}
            case "GET", ["recent"]:
                kinds = [each for each in self.records.permissions.schema().values() if "Name" in each.fields]
                return 200, self.sobjects.recent(kinds, int(query.get("limit", 200)), version)
            case "GET", ["sobjects"]:
                return 200, {
                    "encoding": "UTF-8",
                    "maxBatchSize": 200,
                    "sobjects": [
                        self.sobjects.about(each, version) for each in self.records.permissions.schema().values()
                    ],
                }
            case "GET", [("query" | "queryAll") as kind]:
                return self.queries.first(kind, query, version, headers)
            case "GET", [("query" | "queryAll") as kind, cursor]:
                return self.queries.more(kind, cursor, version)
            case "POST", ["composite"]:
                return self.composite.composite(change, call, parse(text), headers)
            case "POST", ["composite", "batch"]:
                return self.composite.batch(change, call, parse(text), version, headers)
            case "POST", ["composite", "tree", name]:
                return self.composite.tree(change, call, self.records.object(name), parse(text), text)
            case (("POST" | "PATCH" | "DELETE"), ["composite", "sobjects"]):
                return self.collections.change(change, call, method, query, text)
            case "PATCH", ["composite", "sobjects", name, field]:
                return self.collections.upsert(change, call, self.records.object(name), field, text)
            case (("GET" | "POST"), ["composite", "sobjects", name]):
                return self.collections.read(self.records.object(name), method, query, text, version)
            case _, ["sobjects", name, *more]:
                return self.sobjects.answer(change, call, method, self.records.object(name), more, query, text, version)
        raise not_found()
