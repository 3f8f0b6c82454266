"""`make i18n-check`: is every text a customer reads said in every language? Ends with one JSON line.

missing and fuzzy count entries of the catalogues; hardCoded counts words of pages and mails that no catalogue was asked
for: seen by walking through all of them in a disguised language, and texts of templates that weren't reached.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from jinja2 import Environment, nodes

from portal.mail.composer import FOR_THE_MERCHANT
from portal.web.languages import LANGUAGES
from tests.customers import application
from tests.i18n import catalogues, pseudo, walk
from tests.i18n.catalogues import ROOT, TRANSLATED
from tests.stack import Stack

#: How long the portal and its other sides may take to come up on a busy machine.
START_SECONDS = 300.0
#: What a merchant may say on pages, in their own words.
NOTES = {
    "WITHDRAWAL": "1",
    "ACCESSIBILITY_NOTE": "How accessible the shop is.",
    "TAX_NOTE": "Taxes of the merchant.",
    "REVIEW_TIME_NOTE": "Reviews of the merchant.",
}
#: Folders of templates for operators: theirs are English.
_OPERATORS = ("ops", "rq_dashboard")
#: Words of templates that nobody reads: examples, and the classes that `{% block width %}` chooses.
_UNREAD = ("example.com", "server1.example.com", "wide", "narrow")


def main() -> int:
    """Check everything; the exit status is 1 when something is to be done."""
    template = catalogues.source()
    messages = len(list(catalogues.texts(template)))
    missing: list[str] = []
    fuzzy: list[str] = []
    other: list[str] = []
    for language in TRANSLATED:
        for found, all_of_them in zip(catalogues.faults(language, template), (missing, fuzzy, other), strict=True):
            all_of_them += found
    hard_coded = [*in_templates(), *in_source()]
    with tempfile.TemporaryDirectory(prefix="i18n-check-") as folder, Stack(Path(folder), start=False) as stack:
        stack.start(START_SECONDS)
        found, not_walked = walked(stack)
        hard_coded += found
        other += not_walked
    for title, some in (
        ("not translated", missing),
        ("fuzzy", fuzzy),
        ("wrong", other),
        ("hard-coded", hard_coded),
    ):
        for each in dict.fromkeys(some):
            print(f"{title}: {each}", file=sys.stderr)
    figures = {
        "locales": len(LANGUAGES),
        "messages": messages,
        "missing": len(missing),
        "fuzzy": len(fuzzy),
        "hardCoded": len(hard_coded),
    }
    print(json.dumps(figures))
    return int(bool(missing or fuzzy or other or hard_coded))


def walked(stack: Stack) -> tuple[list[str], list[str]]:
    """Words in plain letters on any page or mail, and pages that weren't looked at."""
    with application(stack) as app, pseudo.spoken():
        visit = walk.Walk(app, stack, pseudo.STANDS_FOR)
        visit.everything()
        found = plain([*visit.pages, *walk.mails(app, pseudo.STANDS_FOR)], visit.data())
        pages, visited = walk.pages_of(app), visit.visited
    with application(stack, **NOTES) as app, pseudo.spoken():
        visit = walk.Walk(app, stack, pseudo.STANDS_FOR)
        visit.withdrawing()
        found += plain([*visit.pages, *walk.mails(app, pseudo.STANDS_FOR)], visit.data())
    return found, [f"no page of {each} was looked at" for each in sorted(pages - visited - visit.visited)]


def plain(seen: Iterable[walk.Seen], data: set[str]) -> list[str]:
    """Every word in plain letters that is no data, and where it stands."""
    found = []
    for each in seen:
        texts = pseudo.said(each.html) if "</" in each.html else [each.html]
        found += [f"{each.name}: {word!r} in {text!r}" for text in texts for word in pseudo.plain_words(text, data)]
    return found


def in_templates() -> Iterator[str]:
    """Texts of templates outside of `_()` and `{% trans %}`, on branches nobody walked through, too."""
    environment = Environment(extensions=["jinja2.ext.i18n"])
    for path in sorted((ROOT / "templates").rglob("*.*")):
        if path.parent.name in _OPERATORS or path.stem in FOR_THE_MERCHANT:
            continue
        parsed = environment.parse(path.read_text("utf-8"))
        html = ""
        for output in parsed.find_all(nodes.Output):
            for node in output.nodes:
                # A value is a figure, or the name of an element.
                value = "b" if html.endswith(("<", "</")) else "0"
                html += node.data if isinstance(node, nodes.TemplateData) else value
        texts = pseudo.said(html) if path.suffix == ".html" else [html]
        name = path.relative_to(ROOT)
        yield from (f"{name}: {text!r}" for text in texts if pseudo.plain_words(text, _UNREAD))


def in_source() -> Iterator[str]:
    """Texts that Python hands to a customer as they stand: flash("…"), LineFault(field, "…")."""
    for path in sorted((ROOT / "portal" / "customers").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("flash", "LineFault")
            ):
                said = node.args[-1]
                if isinstance(said, (ast.Constant, ast.JoinedStr)) and re.search("[a-z]", ast.unparse(said)):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(said)}"


if __name__ == "__main__":
    sys.exit(main())
