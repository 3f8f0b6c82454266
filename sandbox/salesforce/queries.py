"""/query and /queryAll: results page by page, the rows of a cursor as they were when it was asked."""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from typing import Any

from sandbox.salesforce import soql
from sandbox.salesforce.errors import SfError
from sandbox.salesforce.records import Records
from sandbox.salesforce.schema import Record
from sandbox.salesforce.sobjects import Answer


class Queries:
    """Runs queries and keeps the last cursors."""

    def __init__(self, records: Records, settings: dict[str, Any]):
        self.records = records
        self.settings = settings
        self._cursors: OrderedDict[str, tuple[list[Record], int]] = OrderedDict()
        self._cursor_lock = threading.Lock()

    def first(self, kind: str, query: dict[str, str], version: str, headers: dict[str, str]) -> Answer:
        """The first page of a query."""
        if "q" not in query:
            raise SfError("MALFORMED_QUERY", "The request is missing the 'q' parameter")
        include_deleted = kind == "queryAll"
        source = self.records.seen()
        parsed = soql.Parser(query["q"], source, include_deleted).parse()
        if query.get("columns", "").lower() == "true":
            return 200, soql.column_metadata(source, parsed)
        found = soql.matching(source, parsed, include_deleted)
        if parsed.count_rows:
            return 200, {"totalSize": len(found), "done": True, "records": []}
        if parsed.counts:
            row: Record = {"attributes": {"type": "AggregateResult"}}
            for number, (name, alias) in enumerate(parsed.counts):
                row[alias or f"expr{number}"] = sum(
                    soql.path_value(source, parsed.object.name, each, tuple(name.split("."))) is not None
                    for each in found
                )
            return 200, {"totalSize": 1, "done": True, "records": [row]}
        rows = [soql.render(source, parsed, each, version, include_deleted) for each in found]
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

    def more(self, kind: str, text: str, version: str) -> Answer:
        """The next page of a query."""
        cursor, _, start = text.rpartition("-")
        with self._cursor_lock:
            found = self._cursors.get(cursor)
        if found is None or not start.isdigit():
            raise SfError("INVALID_QUERY_LOCATOR", "invalid query locator")
        return 200, self._page(kind, cursor, found[0], found[1], int(start), version)
