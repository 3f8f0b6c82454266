"""The words and signs of a SOQL text, taken one by one, and the complaints about them."""

from __future__ import annotations

import re

from sandbox.salesforce.errors import SfError

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


class Tokens:
    """A text as tokens (kind, text, position), and the place up to which they are taken."""

    def __init__(self, text: str):
        self.text = text
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

    def whole_number(self) -> int:
        """Takes a number without sign or fraction."""
        kind, text, position = self.peek()
        if kind != "number" or not text.isdigit():
            raise self.malformed(f"unexpected token: '{text}'", position)
        self.at += 1
        return int(text)
