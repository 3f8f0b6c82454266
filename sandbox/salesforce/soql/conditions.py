"""WHERE: conditions checked against the schema while they are parsed, as functions of a record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.salesforce.errors import SfError
from sandbox.salesforce.ids import to_18
from sandbox.salesforce.schema import Field, Record, SObject
from sandbox.salesforce.soql.query import Path, Query, Source, matching, path_value
from sandbox.salesforce.soql.tokens import Tokens
from sandbox.salesforce.soql.values import NUMBER_TYPES, TEXT_TYPES, Literal, comparable, like, to_utc, unescape

HELP = (
    "If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please "
    "reference your WSDL or the describe call for the appropriate names."
)


class Conditions(Tokens):
    """The part of the parser that reads names and conditions."""

    def __init__(self, text: str, source: Source, include_deleted: bool = False):
        super().__init__(text)
        self.source = source
        self.include_deleted = include_deleted

    def query(self, parent: SObject | None) -> Query:
        """SELECT …, for semi-joins."""
        raise NotImplementedError

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
        """Read `field operator value`."""
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
        """Read `(a, b, …)` or a semi-join, `(SELECT field FROM …)`."""
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
