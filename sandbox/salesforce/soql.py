"""The part of SOQL that integrations use: parsed and checked like the real org's, then run over the store.

Supported: SELECT of fields, parent paths, child subqueries, COUNT(), COUNT(field), FIELDS(ALL|STANDARD|CUSTOM); WHERE
with = != <> < > <= >= LIKE, IN, NOT IN (lists and semi-joins), AND, OR, NOT, parentheses, null, text, numbers,
booleans, dates, datetimes and some date literals; ORDER BY … ASC|DESC NULLS FIRST|LAST; LIMIT; OFFSET.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sandbox.salesforce.errors import SfError
from sandbox.salesforce.ids import to_18
from sandbox.salesforce.schema import Field, SObject

Record = dict[str, Any]
Path = tuple[str, ...]

TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<text>'(?:[^'\\]|\\.)*')
  | (?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))
  | (?P<date>\d{4}-\d\d-\d\d)
  | (?P<number>[+-]?\d+(?:\.\d+)?)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
  | (?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,|:)
""",
    re.VERBOSE,
)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "'": "'", '"': '"', "\\": "\\"}
TEXT_TYPES = {"string", "textarea", "picklist", "email", "phone", "url"}
NUMBER_TYPES = {"currency", "double", "int"}
HELP = (
    "If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please "
    "reference your WSDL or the describe call for the appropriate names."
)


class Source(Protocol):
    """Where the rows come from."""

    schema: dict[str, SObject]

    def rows(self, name: str) -> list[Record]: ...
    def find(self, name: str, field_name: str, value: Any) -> list[Record] | None: ...
    def value(self, name: str, record: Record, field_name: str) -> Any: ...
    def record(self, name: str, key: str) -> Record | None: ...


@dataclass
class Literal:
    """A value in the text: `kind` is text, number, boolean, null, date, datetime."""

    kind: str
    value: Any
    pattern: str = ""


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


def unescape(raw: str, wildcards: bool = False) -> str:
    """The value of a quoted text; with `wildcards`, escaped % and _ stay escaped for LIKE."""
    result = []
    position = 0
    while position < len(raw):
        letter = raw[position]
        if letter != "\\":
            result.append(letter)
            position += 1
            continue
        following = raw[position + 1]
        if following in "uU":
            digits = raw[position + 2 : position + 6]
            if not re.fullmatch(r"[0-9A-Fa-f]{4}", digits):
                raise SfError("MALFORMED_QUERY", "Invalid string literal. Illegal unicode sequence")
            result.append(chr(int(digits, 16)))
            position += 6
            continue
        if following in "%_":
            result.append(f"\\{following}" if wildcards else following)
        elif following.lower() in ESCAPES:
            result.append(ESCAPES[following.lower()])
        else:
            raise SfError(
                "MALFORMED_QUERY",
                f"Invalid string literal '{raw}'. Illegal character sequence '\\{following}' in string literal.",
            )
        position += 2
    return "".join(result)


class Parser:
    """Recursive descent over the tokens; names are checked against the schema while parsing."""

    def __init__(self, text: str, source: Source, include_deleted: bool = False):
        self.text = text
        self.source = source
        self.include_deleted = include_deleted
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        while position < len(text):
            found = TOKEN.match(text, position)
            if found is None:
                raise self.malformed(f"unexpected token: '{text[position]}'", position)
            if found.lastgroup != "space":
                self.tokens.append((found.lastgroup or "", found.group(), position))
            position = found.end()
        self.at = 0

    # -- small helpers

    def malformed(self, message: str, position: int | None = None) -> SfError:
        """MALFORMED_QUERY with the place, as the real org shows it."""
        return SfError("MALFORMED_QUERY", self.placed(message, position) if position is not None else message)

    def placed(self, message: str, position: int) -> str:
        """A message under the piece of query it is about."""
        row = self.text.count("\n", 0, position) + 1
        column = position - (self.text.rfind("\n", 0, position) + 1)
        start = max(0, position - 25)
        piece = self.text[start : position + 25].replace("\n", " ")
        return f"\n{piece}\n{' ' * (position - start)}^\nERROR at Row:{row}:Column:{column + 1}\n{message}"

    def peek(self, ahead: int = 0) -> tuple[str, str, int]:
        """The token `ahead`, or an end marker."""
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ("end", "<EOF>", len(self.text))

    def word(self, *words: str) -> bool:
        """Takes a keyword when it is next."""
        kind, text, _ = self.peek()
        if kind == "word" and text.upper() in words:
            self.at += 1
            return True
        return False

    def sign(self, *signs: str) -> str | None:
        """Takes a sign when it is next."""
        kind, text, _ = self.peek()
        if kind == "sign" and text in signs:
            self.at += 1
            return text
        return None

    def expect(self, *wanted: str) -> None:
        """Takes a keyword or sign, or complains."""
        kind, text, position = self.peek()
        if kind in ("word", "sign") and text.upper() in wanted:
            self.at += 1
            return
        if kind == "end":
            raise self.malformed("unexpected token: <EOF>")
        raise self.malformed(f"unexpected token: '{text}'", position)

    def name(self) -> tuple[str, int]:
        """Takes a name."""
        kind, text, position = self.peek()
        if kind != "word" or text.upper() in ("SELECT", "FROM", "WHERE"):
            raise self.malformed(f"unexpected token: {'<EOF>' if kind == 'end' else repr(text)}", position)
        self.at += 1
        return text, position

    # -- grammar

    def parse(self) -> Query:
        """A whole query."""
        query = self.query(None)
        kind, text, position = self.peek()
        if kind != "end":
            raise self.malformed(f"unexpected token: '{text}'", position)
        return query

    def query(self, parent: SObject | None) -> Query:
        """SELECT … ; `parent` is set for a child subquery, whose FROM names a child relationship."""
        if not self.word("SELECT"):
            _, text, position = self.peek()
            raise self.malformed(f"unexpected token: '{text}'", position)
        start = self.at
        self._skip_select()
        self.expect("FROM")
        from_name, position = self.name()
        if parent is not None:
            match = next((value for key, value in parent.children.items() if key.lower() == from_name.lower()), None)
            if match is None:
                raise SfError(
                    "INVALID_TYPE",
                    self.placed(
                        f"Didn't understand relationship '{from_name}' in FROM part of query call. If you are "
                        "attempting to use a custom relationship, be sure to append the '__r' after the custom "
                        "relationship name. Please reference your WSDL or the describe call for the appropriate names.",
                        position,
                    ),
                )
            target = self.source.schema[match[0]]
        else:
            found = next((value for key, value in self.source.schema.items() if key.lower() == from_name.lower()), None)
            if found is None:
                raise SfError(
                    "INVALID_TYPE",
                    self.placed(
                        f"sObject type '{from_name}' is not supported. "
                        f"{HELP.replace('custom field', 'custom object', 1)}",
                        position,
                    ),
                )
            target = found
        kind, text, _ = self.peek()
        if kind == "word" and text.upper() not in (
            "WHERE",
            "ORDER",
            "LIMIT",
            "OFFSET",
            "USING",
            "WITH",
            "GROUP",
            "HAVING",
            "FOR",
            "ALL",
        ):
            self.at += 1
        after_from, self.at = self.at, start
        query = Query(target)
        self._select(query, parent is not None)
        self.at = after_from
        if self.word("WHERE"):
            query.where = self.any_of(query, top=True)
        if self.word("ORDER"):
            self.expect("BY")
            while True:
                path_text, position = self.name()
                path, _ = self.resolve(query.object, path_text, position)
                descending = not self.word("ASC") and self.word("DESC")
                nulls_last = False
                if self.word("NULLS"):
                    nulls_last = self.word("LAST")
                    if not nulls_last:
                        self.expect("FIRST")
                query.order_by.append((path, descending, nulls_last))
                if not self.sign(","):
                    break
        if self.word("LIMIT"):
            query.limit = self.whole_number()
        if self.word("OFFSET"):
            query.offset = self.whole_number()
            if query.offset > 2000:
                raise SfError("NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000")
        return query

    def whole_number(self) -> int:
        """Takes a number without sign or fraction."""
        kind, text, position = self.peek()
        if kind != "number" or not text.isdigit():
            raise self.malformed(f"unexpected token: '{text}'", position)
        self.at += 1
        return int(text)

    def _skip_select(self) -> None:
        depth = 0
        while True:
            kind, text, position = self.peek()
            if kind == "end":
                raise self.malformed("unexpected token: <EOF>", position)
            if depth == 0 and kind == "word" and text.upper() == "FROM":
                return
            depth += {"(": 1, ")": -1}.get(text, 0) if kind == "sign" else 0
            self.at += 1

    def _select(self, query: Query, is_child: bool) -> None:
        seen: set[Path] = set()
        while True:
            if self.sign("("):
                if is_child:
                    raise self.malformed("nesting of child subqueries is not supported here", self.peek()[2])
                before = self.at
                child = self.query(query.object)
                relationship = self._from_name(before)
                query.children.append((relationship, child))
                self.expect(")")
            else:
                text, position = self.name()
                if self.peek()[1] == "(" and text.upper() in ("COUNT", "FIELDS"):
                    self._function(query, text.upper(), position)
                else:
                    path, _ = self.resolve(query.object, text, position)
                    if path in seen:
                        raise SfError("MALFORMED_QUERY", f"duplicate field selected: {text}")
                    seen.add(path)
                    query.fields.append(path)
            if not self.sign(","):
                break
        kind, text, position = self.peek()
        if not (kind == "word" and text.upper() == "FROM"):
            raise self.malformed(f"unexpected token: '{text}'", position)

    def _from_name(self, start: int) -> str:
        depth = 0
        for kind, text, _ in self.tokens[start:]:
            depth += {"(": 1, ")": -1}.get(text, 0) if kind == "sign" else 0
            if depth == 0 and kind == "word" and text.upper() == "FROM":
                break
            start += 1
        wanted = self.tokens[start + 1][1].lower()
        return next(key for each in self.source.schema.values() for key in each.children if key.lower() == wanted)

    def _function(self, query: Query, function: str, position: int) -> None:
        self.expect("(")
        if function == "FIELDS":
            which, _ = self.name()
            self.expect(")")
            if which.upper() not in ("ALL", "STANDARD", "CUSTOM"):
                raise self.malformed(f"unexpected token: '{which}'", position)
            query.fields.extend(
                (each,)
                for each in query.object.fields
                if which.upper() == "ALL" or each.endswith("__c") == (which.upper() == "CUSTOM")
            )
            return
        if self.sign(")"):
            query.count_rows = True
            return
        text, at = self.name()
        path, _ = self.resolve(query.object, text, at)
        self.expect(")")
        alias = None
        kind, text, _ = self.peek()
        if kind == "word" and text.upper() != "FROM":
            alias, _ = self.name()
        query.counts.append((".".join(path), alias))

    def resolve(self, target: SObject, text: str, position: int) -> tuple[Path, Field]:
        """A dotted name to the schema's spelling; INVALID_FIELD when it doesn't exist."""
        parts = text.split(".")
        if len(parts) > 1 and parts[0].lower() == target.name.lower() and target.parent(parts[0]) is None:
            parts = parts[1:]
        here, spelled = target, []
        for relationship in parts[:-1]:
            reference = here.parent(relationship)
            if reference is None or reference.refers_to not in self.source.schema:
                raise SfError(
                    "INVALID_FIELD",
                    self.placed(
                        f"Didn't understand relationship '{relationship}' in field path. If you are attempting to use "
                        "a custom relationship, be sure to append the '__r' after the custom relationship name. Please "
                        "reference your WSDL or the describe call for the appropriate names.",
                        position,
                    ),
                )
            spelled.append(reference.relationship or relationship)
            here = self.source.schema[reference.refers_to]
        found = here.field(parts[-1])
        if found is None:
            raise SfError(
                "INVALID_FIELD", self.placed(f"No such column '{parts[-1]}' on entity '{here.name}'. {HELP}", position)
            )
        return (*spelled, found.name), found

    def any_of(self, query: Query, top: bool = False) -> Callable[[Record], bool]:
        """Conditions joined by one of AND, OR; mixing them without parentheses is an error, as in the real org."""
        hints: list[tuple[str, list[Any]]] = []
        conditions = [self.negated(query, hints)]
        joiner = ""
        while True:
            kind, text, position = self.peek()
            if kind != "word" or text.upper() not in ("AND", "OR"):
                break
            if joiner and text.upper() != joiner:
                raise self.malformed(f"unexpected token: '{text}'", position)
            joiner = text.upper()
            self.at += 1
            conditions.append(self.negated(query, hints))
        if top and joiner != "OR":
            query.hints = hints
        if len(conditions) == 1:
            return conditions[0]
        if joiner == "OR":
            return lambda record: any(condition(record) for condition in conditions)
        return lambda record: all(condition(record) for condition in conditions)

    def negated(self, query: Query, hints: list[tuple[str, list[Any]]]) -> Callable[[Record], bool]:
        """NOT condition, (conditions) or one comparison."""
        if self.word("NOT"):
            inner = self.negated(query, [])
            return lambda record: not inner(record)
        if self.sign("("):
            condition = self.any_of(query)
            self.expect(")")
            return condition
        return self.comparison(query, hints)

    def comparison(self, query: Query, hints: list[tuple[str, list[Any]]]) -> Callable[[Record], bool]:
        """field operator value"""
        text, position = self.name()
        path, what = self.resolve(query.object, text, position)
        source, name = self.source, query.object.name

        def read(record: Record) -> Any:
            return path_value(source, name, record, path)

        operator = self.sign("=", "!=", "<>", "<", ">", "<=", ">=")
        if operator is None:
            if self.word("LIKE"):
                operator = "LIKE"
            elif self.word("IN"):
                operator = "IN"
            elif self.word("NOT"):
                self.expect("IN")
                operator = "NOT IN"
            else:
                kind, wrong, at = self.peek()
                raise self.malformed(f"unexpected token: '{wrong}'" if kind != "end" else "unexpected token: <EOF>", at)
        if operator in ("IN", "NOT IN"):
            wanted = self.value_list(what, position)
            if len(path) == 1 and operator == "IN":
                hints.append((path[0], list(wanted)))
            return (
                (lambda record: comparable(what, read(record)) in wanted)
                if operator == "IN"
                else (lambda record: comparable(what, read(record)) not in wanted)
            )
        literal = self.literal()
        if operator == "LIKE":
            if literal.kind != "text":
                raise self.wrong_type(what, literal, position)
            pattern = like(literal.pattern)
            return lambda record: (found := read(record)) is not None and pattern.fullmatch(str(found)) is not None
        wanted_value = self.checked(what, literal, position)
        if operator == "=":
            if len(path) == 1 and wanted_value is not None:
                hints.append((path[0], [wanted_value]))
            return lambda record: comparable(what, read(record)) == wanted_value
        if operator in ("!=", "<>"):
            return lambda record: comparable(what, read(record)) != wanted_value
        if wanted_value is None or what.type in ("boolean", "reference"):
            raise SfError(
                "INVALID_OPERATOR" if wanted_value is not None else "MALFORMED_QUERY",
                self.placed(
                    f"invalid operator on {what.type} field"
                    if wanted_value is not None
                    else "unexpected token: 'null'",
                    position,
                ),
            )
        compare: dict[str, Callable[[Any, Any], bool]] = {
            "<": lambda a, b: a < b,
            ">": lambda a, b: a > b,
            "<=": lambda a, b: a <= b,
            ">=": lambda a, b: a >= b,
        }
        test = compare[operator]
        if what.type == "id":  # `Id > last` is how people page; in the same order as ORDER BY Id below
            return lambda record: test(str(read(record)).casefold(), str(wanted_value).casefold())
        return lambda record: (found := comparable(what, read(record))) is not None and test(found, wanted_value)

    def value_list(self, what: Field, position: int) -> set[Any]:
        """(a, b, …) or a semi-join (SELECT field FROM …)"""
        self.expect("(")
        if self.peek()[1].upper() == "SELECT":
            inner = self.query(None)
            self.expect(")")
            if len(inner.fields) != 1:
                raise SfError("MALFORMED_QUERY", "inner select must select exactly one field")
            return {
                comparable(what, path_value(self.source, inner.object.name, row, inner.fields[0]))
                for row in matching(self.source, inner, self.include_deleted)
            }
        values = set()
        while True:
            values.add(self.checked(what, self.literal(), position))
            if not self.sign(","):
                break
        self.expect(")")
        return values

    def literal(self) -> Literal:
        """A value."""
        kind, text, position = self.peek()
        self.at += 1
        if kind == "text":
            return Literal("text", unescape(text[1:-1]), unescape(text[1:-1], wildcards=True))
        if kind == "number":
            return Literal("number", float(text))
        if kind in ("date", "datetime"):
            return Literal(kind, text)
        if kind == "word":
            upper = text.upper()
            if upper in ("TRUE", "FALSE"):
                return Literal("boolean", upper == "TRUE")
            if upper == "NULL":
                return Literal("null", None)
            today = datetime.now(UTC)
            days = {"TODAY": 0, "YESTERDAY": -1, "TOMORROW": 1}.get(upper)
            if upper in ("LAST_N_DAYS", "NEXT_N_DAYS") and self.sign(":"):
                days = self.whole_number() * (-1 if upper == "LAST_N_DAYS" else 1)
            if days is not None:
                return Literal("date", (today + timedelta(days=days)).strftime("%Y-%m-%d"))
        raise self.malformed("unexpected token: <EOF>" if kind == "end" else f"unexpected token: '{text}'", position)

    def wrong_type(self, what: Field, literal: Literal, position: int) -> SfError:
        """A value whose kind doesn't fit the field."""
        if what.type in TEXT_TYPES | {"id", "reference"}:
            return SfError(
                "INVALID_FIELD",
                self.placed(
                    f"value of filter criterion for field '{what.name}' must be of type string and should be enclosed "
                    "in quotes",
                    position,
                ),
            )
        should = "should not be enclosed in quotes" if literal.kind == "text" else "has the wrong type"
        return SfError(
            "INVALID_FIELD",
            self.placed(
                f"value of filter criterion for field '{what.name}' must be of type {what.type} and {should}", position
            ),
        )

    def checked(self, what: Field, literal: Literal, position: int) -> Any:
        """The value in the form in which `comparable` gives the field's."""
        if literal.kind == "null":
            return None
        if what.type in ("id", "reference"):
            if literal.kind != "text":
                raise self.wrong_type(what, literal, position)
            found = to_18(literal.value)
            if found is None:
                if literal.value == "":
                    return None
                raise SfError(
                    "INVALID_QUERY_FILTER_OPERATOR", self.placed(f"invalid ID field: {literal.value}", position)
                )
            return found
        fits = (
            literal.kind == "text"
            if what.type in TEXT_TYPES
            else literal.kind == "number"
            if what.type in NUMBER_TYPES
            else literal.kind == "boolean"
            if what.type == "boolean"
            else literal.kind in ("date", "datetime")
            if what.type == "datetime"
            else literal.kind == what.type
        )
        if not fits:
            raise self.wrong_type(what, literal, position)
        if what.type == "datetime":
            return to_utc(literal.value if "T" in literal.value else f"{literal.value}T00:00:00Z")
        if literal.kind == "text" and literal.value == "":
            return None
        return comparable(what, literal.value)


def to_utc(text: str) -> str:
    """ISO 8601 with an offset → `2026-11-21T16:38:52.000+0000`; ValueError otherwise."""
    when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if when.tzinfo is None:
        raise ValueError("no offset")
    when = when.astimezone(UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}+0000"


def like(text: str) -> re.Pattern[str]:
    """A LIKE pattern (with escaped wildcards still escaped) as a regular expression."""
    parts = re.split(r"(\\[%_]|[%_])", text)
    table = {"%": ".*", "_": ".", "\\%": "%", "\\_": "_"}
    return re.compile("".join(table.get(part, re.escape(part)) for part in parts), re.IGNORECASE | re.DOTALL)


def comparable(what: Field, value: Any) -> Any:
    """A value in the form in which it is compared: text without regard to case."""
    if value is None:
        return None
    if what.type in TEXT_TYPES:
        return str(value).casefold()
    if what.type in NUMBER_TYPES:
        return float(value)
    return value


def path_value(source: Source, name: str, record: Record | None, path: Path) -> Any:
    """The value at the end of a path of relationships; None when a parent is missing."""
    for relationship in path[:-1]:
        if record is None:
            return None
        reference = source.schema[name].parent(relationship)
        assert reference is not None and reference.refers_to is not None
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
    assert reference is not None and reference.refers_to is not None
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
