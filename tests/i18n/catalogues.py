"""The translators' catalogues: made from the source by `make i18n-update`, and what is wrong with them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from babel import Locale
from babel.messages import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from portal.web.languages import DIRECTORY, ENGLISH, LANGUAGES

ROOT = Path(__file__).resolve().parents[2]
TRANSLATED = [each for each in LANGUAGES if each != ENGLISH]

#: What is filled into a text: %(name)s, %(name)d.
_PLACEHOLDER = re.compile(r"%\((\w+)\)([a-z])")


def po(language: str) -> Path:
    """The catalogue people write."""
    return DIRECTORY / language / "LC_MESSAGES" / "messages.po"


def mo(language: str) -> Path:
    """The catalogue programs read."""
    return po(language).with_suffix(".mo")


def source() -> Catalog:
    """Every text of the source, with the files it is said in."""
    mapping, options = parse_mapping_cfg(io.StringIO((ROOT / "babel.cfg").read_text("utf-8")))  # type: ignore[no-untyped-call]
    catalog = Catalog(project="order-portal", charset="utf-8")
    found = extract_from_dir(ROOT, mapping, options, keywords=DEFAULT_KEYWORDS, comment_tags=("Translators:",))
    for file, _, message, comments, context in sorted(found, key=lambda each: (each[0], each[1])):
        catalog.add(message, None, [(file, 0)], auto_comments=comments, context=context)
    return catalog


def read(language: str) -> Catalog:
    """A language's catalogue as it is kept. Raises FileNotFoundError."""
    with po(language).open("rb") as file:
        return read_po(file, locale=language)


def texts(catalog: Catalog) -> Iterator[Message]:
    """A catalogue's messages without its header."""
    return (message for message in catalog if message.id)


def update(language: str, template: Catalog) -> None:
    """Bring a language up to date with the source: new texts come without translation, texts no longer said go."""
    catalog = read(language) if po(language).exists() else Catalog(locale=language, project="order-portal")
    catalog.update(template, no_fuzzy_matching=True, update_creation_date=False)
    catalog.obsolete.clear()
    catalog.header_comment = f"# What the portal says to customers, in {Locale.parse(language).english_name}."
    catalog.version, catalog.msgid_bugs_address = "", ""
    catalog.last_translator, catalog.language_team = "", language
    po(language).parent.mkdir(parents=True, exist_ok=True)
    po(language).write_bytes(_as_po(catalog))
    mo(language).write_bytes(_as_mo(catalog))


def faults(language: str, template: Catalog) -> tuple[list[str], list[str], list[str]]:
    """What is wrong with a language: texts it lacks, texts that aren't sure, everything else."""
    catalog = read(language)
    missing, fuzzy, other = [], [], []
    wanted = {message.id: message for message in texts(template)}
    for key in wanted:
        found = catalog.get(_first(key))
        strings = _strings(found) if found is not None else []
        complete = bool(strings) and all(each.strip() for each in strings)
        if not complete:
            missing.append(f"{language}: {_first(key)}")
        if found is not None and found.fuzzy:
            fuzzy.append(f"{language}: {_first(key)}")
        if found is not None and complete:
            other += [f"{language}: {why}: {_first(key)}" for why in _wrong(found, strings, catalog.num_plurals)]
    other += [f"{language}: no longer said: {_first(each.id)}" for each in texts(catalog) if each.id not in wanted]
    if not mo(language).exists() or mo(language).read_bytes() != _as_mo(catalog):
        other.append(f"{language}: {mo(language).name} isn't made of {po(language).name}: make i18n-update")
    return missing, fuzzy, other


def _wrong(message: Message, strings: list[str], num_plurals: int) -> Iterator[str]:
    plural = isinstance(message.id, tuple)
    if plural and len(strings) != num_plurals:
        yield "the number of plural forms"
    wanted = _placeholders(str(message.id[-1] if plural else message.id))
    for text in strings:
        found = _placeholders(text)
        # One form may say the number as a word ("a minute"); everything else has to be there.
        if found != wanted and not (plural and found == wanted - {("num", "s")}):
            yield "the placeholders differ"
        if "%" in _PLACEHOLDER.sub("", text):
            yield "a stray %"
        if re.search(r"<[a-zA-Z/]|&\w+;", text):
            yield "HTML"
        if text != text.strip():
            yield "spaces around it"


def _placeholders(text: str) -> set[tuple[str, str]]:
    return set(_PLACEHOLDER.findall(text))


def _strings(message: Message) -> list[str]:
    return list(message.string) if isinstance(message.string, (tuple, list)) else [str(message.string or "")]


def _first(key: Any) -> str:
    return str(key[0] if isinstance(key, (tuple, list)) else key)


def _as_po(catalog: Catalog) -> bytes:
    out = io.BytesIO()
    write_po(out, catalog, width=0, include_lineno=False)
    # When it was made is what Git knows: every update would differ by it.
    return re.sub(rb'"(POT-Creation-Date|PO-Revision-Date): .*\n', b"", out.getvalue())


def _as_mo(catalog: Catalog) -> bytes:
    catalog.creation_date = catalog.revision_date = datetime(2000, 1, 1, tzinfo=UTC)  # see _as_po
    out = io.BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def main() -> int:
    """Bring every language up to date, and say what its translator has to do."""
    template = source()
    for language in TRANSLATED:
        update(language, template)
        missing, fuzzy, other = faults(language, template)
        print(f"{language}: {len(missing)} to translate, {len(fuzzy)} fuzzy, {len(other)} to correct")
        for fault in [*missing, *fuzzy, *other]:
            print(f"  {fault}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
