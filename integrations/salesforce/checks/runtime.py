"""Carries out Apex that was read by apex.py: the part of the language that building and reading a callout needs.

No Apex runtime exists outside Salesforce. This one is for the contract tests and for the table of statuses: field
order, formats and header names come out of the shipped `.cls` files, not out of a copy of them. Whatever it doesn't
know raises `Unsupported`. The platform's own classes are in platform.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integrations.salesforce.checks.apex import Class, EnumValue, Method, Parser, Unsupported


class Thrown(Exception):
    """An Apex exception on its way; `kind` is its class' name in lower case."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class _Continue(Exception):
    pass


class _Break(Exception):
    pass


@dataclass
class Instance:
    """An object of one of the classes read."""

    of: Class
    fields: dict[str, Any]


def read_classes(*paths: Path) -> dict[str, Class]:
    """The classes of these files, by name in lower case."""
    found = {}
    for path in paths:
        name, made = Parser(path.read_text(encoding="utf-8")).declaration()
        found[name.lower()] = made
    return found


class Runtime:
    """Carries out static methods of classes that were read.

    natives    the platform's classes by name in lower case: Python objects whose methods are written in lower case
    method_of  a method of a platform value, by its name
    text_of    what `'' + value` gives
    new        makes an object of a platform class: (name in lower case, arguments) → object
    query      answers SOQL: (text, variables in scope) → list of records
    dml        (verb, record) for insert, update and so on
    """

    def __init__(
        self,
        classes: Mapping[str, Class],
        natives: Mapping[str, Any],
        method_of: Callable[[Any, str], Callable[..., Any]],
        text_of: Callable[[Any], str],
        new: Callable[[str, list[Any]], Any],
        query: Callable[[str, Mapping[str, Any]], list[Any]] | None = None,
        dml: Callable[[str, Any], None] | None = None,
    ) -> None:
        self.classes = dict(classes)
        self.natives = dict(natives)
        self.method_of = method_of
        self.text_of = text_of
        self._new_native = new
        self._query = query
        self._dml = dml

    def call(self, class_name: str, method: str, *arguments: Any) -> Any:
        """`Class.method(arguments)`, private ones too. Raises Thrown for an Apex exception nobody caught."""
        return self._static(self.classes[class_name.lower()], method, list(arguments))

    # classes

    def _values(self, of: Class) -> dict[str, Any]:
        if of.values is None:
            of.values = {}
            for name, initial in of.static_fields.items():
                of.values[name] = None if initial is None else _Frame(self, of, None, {}).value(initial)
        return of.values

    def _static(self, of: Class, name: str, arguments: list[Any]) -> Any:
        return self._invoke(of, None, self._choose(of, name, arguments), arguments)

    def _choose(self, of: Class, name: str, arguments: list[Any]) -> Method:
        fitting = [each for each in of.methods.get(name.lower(), []) if len(each.parameters) == len(arguments)]
        if len(fitting) != 1:
            raise Unsupported(f"{len(fitting)} methods {of.name}.{name} take {len(arguments)} arguments")
        return fitting[0]

    def _invoke(self, of: Class, this: Instance | None, method: Method, arguments: list[Any]) -> Any:
        frame = _Frame(self, of, this, dict(zip(method.parameters, arguments, strict=True)))
        try:
            frame.run(method.body)
        except _Return as result:
            return result.value
        return None

    def make(self, kind: str, arguments: list[Any], around: Class) -> Any:
        """`new Kind(arguments)`."""
        of = self.find(kind, around)
        if not isinstance(of, Class):
            return self._new_native(kind.lower().removeprefix("system."), arguments)
        if (of.parent or "").lower() == "exception":
            return Thrown(of.name.lower(), arguments[0] if arguments else "")
        made = Instance(of, {})
        for name, initial in of.instance_fields.items():
            made.fields[name] = None if initial is None else _Frame(self, of, made, {}).value(initial)
        fitting = [each for each in of.constructors if len(each.parameters) == len(arguments)]
        if fitting:
            self._invoke(of, made, fitting[0], arguments)
        elif arguments:
            raise Unsupported(f"no constructor of {of.name} takes {len(arguments)} arguments")
        return made

    def find(self, name: str, around: Class | None) -> Any:
        """A class, enum or native class by its name as seen from a class; None when there is none."""
        first, _, rest = name.lower().removeprefix("system.").partition(".")
        found: Any = None
        place = around
        while place is not None and found is None:
            found = place.inner.get(first)
            place = place.outer
        found = found if found is not None else self.classes.get(first)
        if found is None:
            found = self.natives.get(first)
        return found.inner.get(rest) if rest and isinstance(found, Class) else found


class _Frame:
    """One method on its way: its local variables."""

    def __init__(self, runtime: Runtime, of: Class, this: Instance | None, variables: dict[str, Any]) -> None:
        self.runtime = runtime
        self.of = of
        self.this = this
        self.variables = variables

    # statements

    def run(self, statements: list[Any]) -> None:
        for statement in statements:
            self.one(statement)

    def one(self, statement: Any) -> None:
        kind, *parts = statement
        if kind == "block":
            self.run(parts[0])
        elif kind == "local":
            self.variables[parts[0]] = None if parts[1] is None else self.value(parts[1])
        elif kind == "do":
            self.value(parts[0])
        elif kind == "if":
            if self.value(parts[0]) is True:
                self.one(parts[1])
            elif parts[2] is not None:
                self.one(parts[2])
        elif kind in ("while", "for", "each"):
            self._loop(kind, parts)
        elif kind == "switch":
            self._switch(*parts)
        elif kind == "try":
            self._try(*parts)
        elif kind == "return":
            raise _Return(None if parts[0] is None else self.value(parts[0]))
        elif kind == "throw":
            raise self.value(parts[0])
        elif kind == "continue":
            raise _Continue
        elif kind == "break":
            raise _Break
        elif kind == "dml" and self.runtime._dml is not None:
            self.runtime._dml(parts[0], self.value(parts[1]))
        else:
            raise Unsupported(f"statement {kind}")

    def _loop(self, kind: str, parts: list[Any]) -> None:
        if kind == "each":
            turns = iter(list(self.value(parts[1])))
            body = parts[2]
        elif kind == "for":
            self.one(parts[0])
            body = parts[3]
        else:
            body = parts[1]
        while True:
            if kind == "each":
                try:
                    self.variables[parts[0]] = next(turns)
                except StopIteration:
                    return
            elif self.value(parts[1] if kind == "for" else parts[0]) is not True:
                return
            try:
                self.one(body)
            except _Continue:
                pass
            except _Break:
                return
            if kind == "for":
                self.value(parts[2])

    def _switch(self, subject: Any, branches: list[tuple[list[Any] | None, list[Any]]]) -> None:
        value = self.value(subject)
        for choices, body in branches:
            if choices is None or any(self._fits(value, choice) for choice in choices):
                self.run(body)
                return

    def _fits(self, value: Any, choice: Any) -> bool:
        if isinstance(value, EnumValue) and choice[0] == "name":
            return bool(value.name.lower() == choice[1].lower())
        return bool(value == self.value(choice))

    def _try(self, body: list[Any], catches: list[tuple[str, str, list[Any]]], last: list[Any]) -> None:
        try:
            self.run(body)
        except Thrown as thrown:
            for kind, name, handler in catches:
                if kind in (thrown.kind, "exception"):
                    self.variables[name] = thrown
                    self.run(handler)
                    return
            raise
        finally:
            self.run(last)

    # expressions

    def value(self, node: Any) -> Any:
        kind, *parts = node
        if kind == "literal":
            return parts[0]
        return getattr(self, f"_{kind}")(*parts)

    def _name(self, name: str) -> Any:
        lower = name.lower()
        if lower == "this":
            return self.this
        if lower in self.variables:
            return self.variables[lower]
        if self.this is not None and lower in self.this.fields:
            return self.this.fields[lower]
        place: Class | None = self.of
        while place is not None:
            if lower in place.static_fields:
                return self.runtime._values(place)[lower]
            place = place.outer
        found = self.runtime.find(name, self.of)
        if found is None:
            raise Unsupported(f"{name} in {self.of.name}")
        return found

    def _get(self, target: Any, name: str, safe: bool) -> Any:
        owner = self.value(target)
        if owner is None:
            if safe:
                return None
            raise Thrown("nullpointerexception", f"Attempt to de-reference a null object: {name}")
        lower = name.lower()
        if isinstance(owner, Instance):
            return owner.fields[lower]
        if isinstance(owner, Class):
            return owner.inner[lower] if lower in owner.inner else self.runtime._values(owner)[lower]
        if isinstance(owner, dict) and all(isinstance(each, EnumValue) for each in owner.values()) and owner:
            return owner[lower]
        return getattr(owner, lower)

    def _call(self, target: Any, name: str, arguments: list[Any], safe: bool) -> Any:
        given = [self.value(each) for each in arguments]
        if target is None:
            place: Class | None = self.of
            while place is not None and name.lower() not in place.methods:
                place = place.outer
            if place is None:
                raise Unsupported(f"{self.of.name}.{name}()")
            method = self.runtime._choose(place, name, given)
            return self.runtime._invoke(place, None if method.static else self.this, method, given)
        owner = self.value(target)
        if owner is None:
            if safe:
                return None
            raise Thrown("nullpointerexception", f"Attempt to de-reference a null object: {name}()")
        if isinstance(owner, Class):
            return self.runtime._static(owner, name, given)
        if isinstance(owner, Instance):
            return self.runtime._invoke(owner.of, owner, self.runtime._choose(owner.of, name, given), given)
        if isinstance(owner, Thrown) and name.lower() == "getmessage":
            return owner.message
        return self.runtime.method_of(owner, name)(*given)

    def _index(self, target: Any, index: Any) -> Any:
        values, at = self.value(target), self.value(index)
        if not 0 <= at < len(values):
            raise Thrown("listexception", f"List index out of bounds: {at}")
        return values[at]

    def _new(self, kind: str, arguments: list[Any]) -> Any:
        return self.runtime.make(kind, [self.value(each) for each in arguments], self.of)

    def _map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        return {self.value(key): self.value(value) for key, value in pairs}

    def _list(self, values: list[Any]) -> list[Any]:
        return [self.value(each) for each in values]

    def _soql(self, text: str) -> list[Any]:
        if self.runtime._query is None:
            raise Unsupported(f"SOQL: {text}")
        return self.runtime._query(text, self.variables)

    def _cast(self, kind: str, node: Any) -> Any:
        return self.value(node)

    def _instanceof(self, node: Any, kind: str) -> bool:
        value, kind = self.value(node), kind.lower()
        known = {"map": dict, "list": list, "string": str}
        if kind not in known:
            raise Unsupported(f"instanceof {kind}")
        return isinstance(value, known[kind])

    def _ternary(self, condition: Any, then: Any, otherwise: Any) -> Any:
        return self.value(then if self.value(condition) is True else otherwise)

    def _unary(self, op: str, node: Any) -> Any:
        value = self.value(node)
        if op == "!":
            return not value
        if op == "-":
            return -value
        raise Unsupported(f"prefix {op}")

    def _step(self, op: str, node: Any) -> Any:
        value = self.value(node)
        self._put(node, value + (1 if op == "++" else -1))
        return value

    def _assign(self, op: str, target: Any, node: Any) -> Any:
        value = self.value(node)
        if op != "=":
            value = self._calculate(op[0], self.value(target), value)
        self._put(target, value)
        return value

    def _put(self, target: Any, value: Any) -> None:
        kind, *parts = target
        if kind == "name":
            lower = parts[0].lower()
            if lower in self.variables:
                self.variables[lower] = value
            elif self.this is not None and lower in self.this.fields:
                self.this.fields[lower] = value
            elif lower in self.of.static_fields:
                self.runtime._values(self.of)[lower] = value
            else:
                raise Unsupported(f"{parts[0]} isn't declared")
        elif kind == "get":
            owner = self.value(parts[0])
            if isinstance(owner, Instance):
                owner.fields[parts[1].lower()] = value
            else:
                setattr(owner, parts[1].lower(), value)
        else:
            raise Unsupported(f"assignment to {kind}")

    def _binary(self, op: str, left: Any, right: Any) -> Any:
        first = self.value(left)
        if op == "&&":
            return first and self.value(right)
        if op == "||":
            return first or self.value(right)
        if op == "??":
            return self.value(right) if first is None else first
        return self._calculate(op, first, self.value(right))

    def _calculate(self, op: str, first: Any, second: Any) -> Any:
        if op == "+" and (isinstance(first, str) or isinstance(second, str)):
            return self.runtime.text_of(first) + self.runtime.text_of(second)
        if op == "==" and isinstance(first, str) and isinstance(second, str):
            return first.lower() == second.lower()  # Apex compares texts without regard to case
        if op == "!=" and isinstance(first, str) and isinstance(second, str):
            return first.lower() != second.lower()
        operations: dict[str, Callable[[Any, Any], Any]] = {
            "+": lambda a, b: a + b,
            "-": lambda a, b: a - b,
            "*": lambda a, b: a * b,
            "/": lambda a, b: int(a / b) if isinstance(a, int) and isinstance(b, int) else a / b,
            "==": lambda a, b: a == b,
            "!=": lambda a, b: a != b,
            "<": lambda a, b: a < b,
            ">": lambda a, b: a > b,
            "<=": lambda a, b: a <= b,
            ">=": lambda a, b: a >= b,
            "&": lambda a, b: a & b,
            "|": lambda a, b: a | b,
            ">>": lambda a, b: a >> b,
            "<<": lambda a, b: a << b,
        }
        if op not in operations:
            raise Unsupported(f"operator {op}")
        return operations[op](first, second)
