"""Reads Apex: the words, statements and expressions of the classes this package ships.

Only the part of the language that these use. Whatever it doesn't know raises `Unsupported`; nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<string>'(?:[^'\\\n]|\\.)*')
      | (?P<number>\d+(?:\.\d+)?[Ll]?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<op>\?\?|\?\.|=>|===|!==|==|!=|<=|>=|&&|\|\||\+\+|--|\+=|-=|\*=|/=|[-+*/%(){}\[\];,.:?<>=!&|^~@])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "'": "'", '"': '"', "\\": "\\"}
_MODIFIERS = frozenset(
    [
        *("public", "private", "protected", "global", "static", "final", "virtual", "abstract", "override"),
        *("with", "without", "inherited", "sharing", "transient"),
    ]
)


class Unsupported(Exception):
    """Something of the language or the platform that the re-enactment doesn't know."""


@dataclass(frozen=True)
class Token:
    """One word of the source: kind is string, number, name or op; strings are already unescaped."""

    kind: str
    text: str
    start: int
    end: int


@dataclass
class Method:
    """A method or constructor; the body is a list of statements."""

    name: str
    parameters: list[str]
    body: list[Any]
    static: bool
    annotations: frozenset[str] = frozenset()  # lower case


@dataclass
class Class:
    """A class: static values are filled in when it is first used."""

    name: str
    methods: dict[str, list[Method]] = field(default_factory=dict)
    constructors: list[Method] = field(default_factory=list)
    static_fields: dict[str, Any] = field(default_factory=dict)  # name → initialiser or None
    instance_fields: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, Any] = field(default_factory=dict)
    parent: str | None = None
    outer: Class | None = None
    values: dict[str, Any] | None = None


@dataclass(frozen=True)
class EnumValue:
    """A value of an enum."""

    enum: str
    name: str


def tokens_of(source: str) -> list[Token]:
    """The source's words, without spaces and comments. Raises Unsupported for what is no Apex."""
    found, at = [], 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise Unsupported(f"can't read {source[at : at + 20]!r}")
        kind = match.lastgroup or ""
        if kind == "string":
            found.append(Token(kind, _unescape(match.group()[1:-1]), at, match.end()))
        elif kind != "space":
            found.append(Token(kind, match.group(), at, match.end()))
        at = match.end()
    return found


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match.group(1)
        if code.startswith("u"):
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise Unsupported(f"no such escape: \\{code}")
        return _ESCAPES[code]

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", one, text)


class Parser:
    """Recursive descent over the tokens of one file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = tokens_of(source)
        self.at = 0

    # small steps

    def peek(self, ahead: int = 0) -> Token:
        index = self.at + ahead
        return self.tokens[index] if index < len(self.tokens) else Token("end", "", len(self.source), len(self.source))

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def is_op(self, text: str, ahead: int = 0) -> bool:
        token = self.peek(ahead)
        return token.kind == "op" and token.text == text

    def is_word(self, *words: str) -> bool:
        token = self.peek()
        return token.kind == "name" and token.text.lower() in words

    def take(self, text: str) -> bool:
        if self.is_op(text):
            self.at += 1
            return True
        return False

    def take_word(self, word: str) -> bool:
        if self.is_word(word):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text) and not self.take_word(text):
            self.fail(f"expected {text!r}")

    def name(self) -> str:
        token = self.next()
        if token.kind != "name":
            self.at -= 1
            self.fail("expected a name")
        return token.text

    def fail(self, why: str) -> None:
        token = self.peek()
        line = self.source.count("\n", 0, token.start) + 1
        raise Unsupported(f"line {line}: {why}, found {token.text!r}")

    # declarations

    def modifiers(self) -> set[str]:
        """Modifiers in lower case, annotations with their @."""
        found: set[str] = set()
        while True:
            if self.take("@"):
                found.add(f"@{self.name().lower()}")
                if self.is_op("("):
                    self._skip_parentheses()
            elif self.is_word(*_MODIFIERS):
                found.add(self.next().text.lower())
            else:
                return found

    def _skip_parentheses(self) -> None:
        depth = 0
        while True:
            token = self.next()
            depth += (token.text == "(") - (token.text == ")") if token.kind == "op" else 0
            if depth == 0:
                return
            if token.kind == "end":
                self.fail("unbalanced parentheses")

    def type(self) -> str:
        words = [self.name()]
        while self.is_op(".") and self.peek(1).kind == "name":
            self.next()
            words.append(self.name())
        if self.take("<"):
            self.type()
            while self.take(","):
                self.type()
            self.expect(">")
        while self.is_op("[") and self.is_op("]", 1):
            self.at += 2
            words.append("[]")
        return ".".join(words)

    def declaration(self, outer: Class | None = None) -> Any:
        self.modifiers()
        if self.take_word("enum"):
            name = self.name()
            self.expect("{")
            values = [self.name()]
            while self.take(","):
                values.append(self.name())
            self.expect("}")
            return name, {value.lower(): EnumValue(name, value) for value in values}
        self.expect("class")
        made = Class(self.name(), outer=outer)
        if self.take_word("extends"):
            made.parent = self.type()
        if self.take_word("implements"):
            self.type()
            while self.take(","):
                self.type()
        self.expect("{")
        while not self.take("}"):
            self._member(made)
        return made.name, made

    def _member(self, made: Class) -> None:
        before = self.at
        modifiers = self.modifiers()
        if self.is_word("class", "enum"):
            self.at = before
            name, inner = self.declaration(made)
            made.inner[name.lower()] = inner
            return
        if self.peek().text.lower() == made.name.lower() and self.is_op("(", 1):
            self.next()
            made.constructors.append(Method(made.name, self._parameters(), self.block(), False))
            return
        self.type()
        name = self.name()
        if self.is_op("("):
            annotations = frozenset(each[1:] for each in modifiers if each.startswith("@"))
            method = Method(name, self._parameters(), self.block(), "static" in modifiers, annotations)
            made.methods.setdefault(name.lower(), []).append(method)
            return
        initial = self.expression() if self.take("=") else None
        fields = made.static_fields if "static" in modifiers else made.instance_fields
        fields[name.lower()] = initial
        if self.is_op("{"):
            self.block_text()  # { get; private set; }
        else:
            self.expect(";")

    def block_text(self) -> None:
        depth = 0
        while True:
            token = self.next()
            depth += (token.text == "{") - (token.text == "}") if token.kind == "op" else 0
            if depth == 0:
                return

    def _parameters(self) -> list[str]:
        self.expect("(")
        names: list[str] = []
        while not self.take(")"):
            self.modifiers()
            self.type()
            names.append(self.name().lower())
            self.take(",")
        return names

    # statements: tuples whose first member says what they are

    def block(self) -> list[Any]:
        self.expect("{")
        found = []
        while not self.take("}"):
            found.append(self.statement())
        return found

    def statement(self) -> Any:
        if self.is_op("{"):
            return ("block", self.block())
        if self.take_word("if"):
            self.expect("(")
            condition = self.expression()
            self.expect(")")
            then = self.statement()
            return ("if", condition, then, self.statement() if self.take_word("else") else None)
        if self.take_word("for"):
            return self._for()
        if self.take_word("while"):
            self.expect("(")
            condition = self.expression()
            self.expect(")")
            return ("while", condition, self.statement())
        if self.take_word("switch"):
            return self._switch()
        if self.take_word("try"):
            return self._try()
        if self.take_word("return"):
            value = None if self.is_op(";") else self.expression()
            self.expect(";")
            return ("return", value)
        if self.take_word("throw"):
            value = self.expression()
            self.expect(";")
            return ("throw", value)
        for word in ("break", "continue"):
            if self.take_word(word):
                self.expect(";")
                return (word,)
        if self.is_word("insert", "update", "delete", "upsert") and self.peek(1).kind == "name":
            verb = self.next().text.lower()
            if self.take_word("as"):
                self.name()
            value = self.expression()
            self.expect(";")
            return ("dml", verb, value)
        declared = self._local()
        if declared is None:
            declared = ("do", self.expression())
        self.expect(";")
        return declared

    def _local(self) -> Any:
        """A local variable's declaration; None (and nothing read) when it is something else."""
        before = self.at
        self.modifiers()
        if self.peek().kind != "name":
            self.at = before
            return None
        try:
            self.type()
        except Unsupported:
            self.at = before
            return None
        if self.peek().kind != "name" or not (self.is_op("=", 1) or self.is_op(";", 1) or self.is_op(":", 1)):
            self.at = before
            return None
        name = self.name().lower()
        return ("local", name, self.expression() if self.take("=") else None)

    def _for(self) -> Any:
        self.expect("(")
        start = self._local()
        if start is not None and self.take(":"):
            values = self.expression()
            self.expect(")")
            return ("each", start[1], values, self.statement())
        self.expect(";")
        condition = self.expression()
        self.expect(";")
        step = self.expression()
        self.expect(")")
        return ("for", start, condition, step, self.statement())

    def _switch(self) -> Any:
        self.expect("on")
        subject = self.expression()
        self.expect("{")
        branches: list[tuple[list[Any] | None, list[Any]]] = []
        while not self.take("}"):
            self.expect("when")
            if self.take_word("else"):
                branches.append((None, self.block()))
                continue
            values = [self.expression()]
            while self.take(","):
                values.append(self.expression())
            branches.append((values, self.block()))
        return ("switch", subject, branches)

    def _try(self) -> Any:
        body = self.block()
        catches = []
        while self.take_word("catch"):
            self.expect("(")
            kind = self.type()
            name = self.name().lower()
            self.expect(")")
            catches.append((kind.lower().removeprefix("system."), name, self.block()))
        return ("try", body, catches, self.block() if self.take_word("finally") else [])

    # expressions

    def expression(self) -> Any:
        left = self._ternary()
        for op in ("=", "+=", "-="):
            if self.take(op):
                return ("assign", op, left, self.expression())
        return left

    def _ternary(self) -> Any:
        condition = self._binary(0)
        if self.take("?"):
            then = self.expression()
            self.expect(":")
            return ("ternary", condition, then, self.expression())
        return condition

    _LEVELS = (("??",), ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!=", "===", "!=="), ("<", ">", "<=", ">="))

    def _binary(self, level: int) -> Any:
        if level == len(self._LEVELS):
            return self._shift()
        left = self._binary(level + 1)
        while True:
            if level == len(self._LEVELS) - 1 and self.take_word("instanceof"):
                left = ("instanceof", left, self.type())
                continue
            op = next((each for each in self._LEVELS[level] if self.is_op(each)), None)
            if op is None:
                return left
            self.next()
            left = ("binary", op, left, self._binary(level + 1))

    def _shift(self) -> Any:
        left = self._sum()
        while any(self.is_op(op) and self.is_op(op, 1) and self.peek().end == self.peek(1).start for op in "<>"):
            op = self.next().text * 2
            self.next()
            left = ("binary", op, left, self._sum())
        return left

    def _sum(self) -> Any:
        left = self._product()
        while self.is_op("+") or self.is_op("-"):
            op = self.next().text
            left = ("binary", op, left, self._product())
        return left

    def _product(self) -> Any:
        left = self._unary()
        while self.is_op("*") or self.is_op("/"):
            op = self.next().text
            left = ("binary", op, left, self._unary())
        return left

    def _unary(self) -> Any:
        for op in ("!", "-", "++", "--"):
            if self.take(op):
                return ("unary", op, self._unary())
        if self.is_op("("):
            before = self.at
            self.next()
            try:
                kind = self.type()
                casts = self.take(")") and not self.is_word("instanceof")
                if casts and (self.peek().kind in ("name", "string", "number") or self.is_op("(")):
                    return ("cast", kind, self._unary())
            except Unsupported:
                pass
            self.at = before
        return self._postfix()

    def _postfix(self) -> Any:
        value = self._primary()
        while True:
            if self.is_op(".") or self.is_op("?."):
                safe = self.next().text == "?."
                name = self.name()
                if self.is_op("("):
                    value = ("call", value, name, self._arguments(), safe)
                else:
                    value = ("get", value, name, safe)
            elif self.take("["):
                value = ("index", value, self.expression())
                self.expect("]")
            elif self.is_op("++") or self.is_op("--"):
                value = ("step", self.next().text, value)
            else:
                return value

    def _arguments(self) -> list[Any]:
        self.expect("(")
        found = []
        while not self.take(")"):
            found.append(self.expression())
            self.take(",")
        return found

    def _primary(self) -> Any:
        token = self.next()
        if token.kind == "string":
            return ("literal", token.text)
        if token.kind == "number":
            return ("literal", int(token.text.rstrip("Ll")) if "." not in token.text else float(token.text))
        if token.kind == "op" and token.text == "(":
            value = self.expression()
            self.expect(")")
            return value
        if token.kind == "op" and token.text == "[":
            start = token.end
            while not self.is_op("]"):
                self.next()
            text = self.source[start : self.next().start]
            return ("soql", " ".join(text.split()))
        if token.kind != "name":
            self.at -= 1
            self.fail("expected an expression")
        word = token.text.lower()
        if word in ("true", "false"):
            return ("literal", word == "true")
        if word == "null":
            return ("literal", None)
        if word == "new":
            return self._new()
        if self.is_op("("):
            return ("call", None, token.text, self._arguments(), False)
        return ("name", token.text)

    def _new(self) -> Any:
        kind = self.type()
        if self.is_op("("):
            return ("new", kind, self._arguments())
        self.expect("{")
        pairs, values = [], []
        while not self.take("}"):
            value = self.expression()
            if self.take("=>"):
                pairs.append((value, self.expression()))
            else:
                values.append(value)
            self.take(",")
        return ("map", pairs) if kind.lower().startswith("map") else ("list", values)
