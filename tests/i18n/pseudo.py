"""A language in which every text is written with other letters: what a reader still sees in plain ones is hard-coded.

Its letters are ｆｕｌｌｗｉｄｔｈ ones. Whatever else is on a page is data: products and accounts of Salesforce, the
installation's own settings, what was typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any, Final

from babel.support import NullTranslations

from portal.web import languages

#: The language whose place it takes: dates and money of it have no Latin letters.
STANDS_FOR: Final = "ja"

_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]")
_WORD = re.compile(r"[A-Za-z]{2,}")
#: What isn't text although it has letters: addresses, our references, the one time zone that is the same everywhere.
_NO_TEXT = re.compile(r"https?://\S+|PO-[0-9A-Z]{4}-[0-9A-Z]{4}|\bUTC\b")
_SAID = ("alt", "title", "placeholder", "aria-label", "data-spoken", "data-tag")


def disguised(text: str) -> str:
    """The text in other letters, its placeholders as they are."""
    done, at = "", 0
    for match in _PLACEHOLDER.finditer(text):
        done += _wide(text[at : match.start()]) + match[0]
        at = match.end()
    return done + _wide(text[at:])


def _wide(text: str) -> str:
    return "".join(chr(ord(each) + 0xFEE0) if each.isascii() and each.isalpha() else each for each in text)


class _Pseudo(NullTranslations):
    def gettext(self, message: str) -> str:
        return disguised(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return disguised(msgid1 if n == 1 else msgid2)

    ugettext = gettext
    ungettext = ngettext


@contextmanager
def spoken() -> Iterator[None]:
    """STANDS_FOR is the disguised language inside, in this process."""
    real = languages.translations
    disguise = _Pseudo()
    languages.translations = lambda language: disguise if language == STANDS_FOR else real(language)  # type: ignore[assignment]
    try:
        yield
    finally:
        languages.translations = real


def plain_words(text: str, data: Iterable[str]) -> list[str]:
    """The words of a text in plain letters that are no data."""
    for known in sorted(set(data), key=len, reverse=True):
        if known:
            text = text.replace(known, " ")
    return _WORD.findall(_NO_TEXT.sub(" ", text))


def said(html: str) -> list[str]:
    """Every text of a page that a reader sees or hears."""
    reader = _Reader()
    reader.feed(html)
    return reader.said


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.said: list[str] = []
        self._silent = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._silent = tag
        found: dict[str, Any] = {name: value or "" for name, value in attrs}
        self.said += [found[name] for name in _SAID if found.get(name)]
        if tag == "meta" and found.get("name") == "description":
            self.said.append(found["content"])
        if tag == "input" and found.get("type") in ("submit", "button"):
            self.said.append(found.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._silent:
            self._silent = ""

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.said.append(data.strip())
