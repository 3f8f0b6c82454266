"""A parsed query, and what it selects from the store: rows in order, rendered as the API answers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sandbox.salesforce.schema import Record, SObject

Path = tuple[str, ...]


class Source(Protocol):
    """Where the rows come from."""

    schema: dict[str, SObject]

    def rows(self, name: str) -> list[Record]:
        """All records of an object."""

    def find(self, name: str, field_name: str, value: Any) -> list[Record] | None:
        """The records with a value, where an index knows; else None."""

    def value(self, name: str, record: Record, field_name: str) -> Any:
        """A field's value, formulas included."""

    def record(self, name: str, key: str) -> Record | None:
        """A record by its id."""


@dataclass
class Query:
    """A parsed query."""

    object: SObject
    fields: list[Path] = field(default_factory=list)
    children: list[tuple[str, Query]] = field(default_factory=list)
    counts: list[tuple[str, str | None]] = field(default_factory=list)
    count_rows: bool = False
    where: Callable[[Record], bool] | None = None
    hints: list[tuple[str, list[Any]]] = field(default_factory=list)
    order_by: list[tuple[Path, bool, bool]] = field(default_factory=list)
    limit: int | None = None
    offset: int = 0


def path_value(source: Source, name: str, record: Record | None, path: Path) -> Any:
    """The value at the end of a path of relationships; None when a parent is missing."""
    for relationship in path[:-1]:
        if record is None:
            return None
        reference = source.schema[name].parent(relationship)
        assert reference is not None
        assert reference.refers_to is not None
        key = source.value(name, record, reference.name)
        name = reference.refers_to
        record = source.record(name, key) if key else None
    return None if record is None else source.value(name, record, path[-1])


def matching(
    source: Source, query: Query, include_deleted: bool, candidates: list[Record] | None = None
) -> list[Record]:
    """The records a query selects, in its order, after OFFSET and LIMIT."""
    name = query.object.name
    rows = candidates
    if rows is None:
        for field_name, values in query.hints:
            found: list[Record] | None = []
            for value in values:
                part = source.find(name, field_name, value) if value is not None else None
                if part is None:
                    found = None
                    break
                found.extend(part)  # type: ignore[union-attr]
            if found is not None:
                rows = sorted({row["Id"]: row for row in found}.values(), key=lambda row: row.get("_number", 0))
                break
    if rows is None:
        rows = source.rows(name)
    kept = [
        row
        for row in rows
        if (include_deleted or not row.get("IsDeleted")) and (query.where is None or query.where(row))
    ]
    for path, descending, nulls_last in reversed(query.order_by):

        def value_of(row: Record, path: Path = path) -> Any:
            found = path_value(source, name, row, path)
            return found.casefold() if isinstance(found, str) else found

        present = [row for row in kept if value_of(row) is not None]
        absent = [row for row in kept if value_of(row) is None]
        present.sort(key=value_of, reverse=descending)
        kept = present + absent if nulls_last else absent + present
    kept = kept[query.offset :]
    return kept if query.limit is None else kept[: query.limit]


def render(source: Source, query: Query, record: Record, version: str, include_deleted: bool = False) -> Record:
    """One result record, with `attributes`, nested parents and nested child results."""
    name = query.object.name
    result: Record = {"attributes": attributes(name, record["Id"], version)}
    for path in query.fields:
        _place(source, name, record, path, result, version)
    for relationship, child in query.children:
        child_name, reference = query.object.children[relationship]
        rows = source.find(child_name, reference, record["Id"])
        if rows is None:
            rows = [row for row in source.rows(child_name) if row.get(reference) == record["Id"]]
        rows = sorted(rows, key=lambda row: row.get("_number", 0))
        found = matching(source, child, include_deleted, rows)
        result[relationship] = (
            None
            if not found
            else {
                "totalSize": len(found),
                "done": True,
                "records": [render(source, child, row, version, include_deleted) for row in found],
            }
        )
    return result


def _place(source: Source, name: str, record: Record, path: Path, into: Record, version: str) -> None:
    if len(path) == 1:
        into[path[0]] = source.value(name, record, path[0])
        return
    reference = source.schema[name].parent(path[0])
    assert reference is not None
    assert reference.refers_to is not None
    key = source.value(name, record, reference.name)
    parent = source.record(reference.refers_to, key) if key else None
    if parent is None:
        into.setdefault(path[0], None)
        return
    nested = into.setdefault(path[0], {"attributes": attributes(reference.refers_to, parent["Id"], version)})
    _place(source, reference.refers_to, parent, path[1:], nested, version)


def attributes(name: str, key: str, version: str) -> dict[str, str]:
    """The `attributes` object of a record."""
    return {"type": name, "url": f"/services/data/{version}/sobjects/{name}/{key}"}
