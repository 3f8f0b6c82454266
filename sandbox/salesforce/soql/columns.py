"""What a query's columns are (`?columns=true`): how the CLI knows the shape of rows before it shows them."""

from __future__ import annotations

from typing import Any

from sandbox.salesforce.schema import SObject
from sandbox.salesforce.soql.query import Path, Query, Source
from sandbox.salesforce.soql.values import NUMBER_TYPES, TEXT_TYPES

Column = dict[str, Any]


def column_metadata(source: Source, query: Query) -> Column:
    """The answer to a query of columns: fields one by one, parents with the fields that are joined, child queries and
    counts as aggregates."""
    columns = [_path(source, query.object, path) for path in query.fields]
    columns += [_joined(name, child.object, _columns(source, child), aggregate=True) for name, child in query.children]
    columns += [_count(alias or f"expr{number}") for number, (_, alias) in enumerate(query.counts)]
    return {
        "columnMetadata": columns,
        "entityName": query.object.name,
        "groupBy": False,
        "idSelected": ("Id",) in query.fields,
        "keyPrefix": query.object.prefix,
    }


def _columns(source: Source, query: Query) -> list[Column]:
    return [_path(source, query.object, path) for path in query.fields]


def _path(source: Source, target: SObject, path: Path) -> Column:
    if len(path) == 1:
        what = target.fields[path[0]]
        return {
            "aggregate": False,
            "apexType": what.type.capitalize(),
            "booleanType": what.type == "boolean",
            "columnName": what.name,
            "custom": what.name.endswith("__c"),
            "displayName": what.name,
            "foreignKeyName": None,
            "insertable": not what.read_only,
            "joinColumns": [],
            "numberType": what.type in NUMBER_TYPES,
            "textType": what.type in TEXT_TYPES,
            "updatable": not what.read_only and not what.create_only,
        }
    reference = target.parent(path[0])
    assert reference is not None
    assert reference.refers_to is not None
    parent = source.schema[reference.refers_to]
    return _joined(path[0], parent, [_path(source, parent, path[1:])], aggregate=False)


def _joined(name: str, target: SObject, columns: list[Column], *, aggregate: bool) -> Column:
    return {**_count(name), "aggregate": aggregate, "apexType": target.name, "joinColumns": columns}


def _count(name: str) -> Column:
    return {
        "aggregate": True,
        "apexType": "Integer",
        "booleanType": False,
        "columnName": name,
        "custom": False,
        "displayName": name,
        "foreignKeyName": None,
        "insertable": False,
        "joinColumns": [],
        "numberType": True,
        "textType": False,
        "updatable": False,
    }
