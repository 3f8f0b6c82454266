"""`make i18n-check` finds nothing; and it would find what is planted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages import Catalog
from babel.messages.mofile import read_mo

from portal.web.languages import LANGUAGES
from tests.i18n import catalogues, check, pseudo
from tests.i18n.catalogues import ROOT, TRANSLATED


def test_everything_is_said_in_every_language() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.i18n.check"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["locales"] == len(LANGUAGES) == 6
    assert figures["messages"] >= 150
    assert (figures["missing"], figures["fuzzy"], figures["hardCoded"]) == (0, 0, 0)


@pytest.fixture
def german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the German catalogue that may be spoilt."""
    monkeypatch.setattr(catalogues, "DIRECTORY", tmp_path)
    catalogues.po("de").parent.mkdir(parents=True)
    catalogues.po("de").write_bytes((ROOT / "portal/translations/de/LC_MESSAGES/messages.po").read_bytes())
    catalogues.update("de", catalogues.source())
    return catalogues.po("de")


def spoil(path: Path, old: str, new: str) -> tuple[list[str], list[str], list[str]]:
    text = path.read_text("utf-8")
    assert text.count(old) == 1, text.count(old)
    path.write_text(text.replace(old, new), "utf-8")
    return catalogues.faults("de", catalogues.source())


def test_a_whole_catalogue_has_no_faults(german: Path) -> None:
    assert catalogues.faults("de", catalogues.source()) == ([], [], [])


def test_a_missing_text_is_found(german: Path) -> None:
    assert spoil(german, 'msgstr "In Prüfung"', 'msgstr ""')[0] == ["de: In review"]


def test_a_fuzzy_text_is_found(german: Path) -> None:
    assert spoil(german, 'msgid "In review"', '#, fuzzy\nmsgid "In review"')[1] == ["de: In review"]


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("Menge von 1 bis %(viel)s", "the placeholders differ"),
        ("Menge von 1 bis viel", "the placeholders differ"),
        ("%(most)s % mehr", "a stray %"),
        ("Menge bis <b>%(most)s</b>", "HTML"),
        (" Menge bis %(most)s", "spaces around it"),
    ],
)
def test_a_wrong_text_is_found(german: Path, new: str, why: str) -> None:
    faults = spoil(german, "Geben Sie eine Menge von 1 bis %(most)s ein", new)[2]
    assert f"de: {why}: Enter a quantity from 1 to %(most)s" in faults


def test_a_text_that_is_no_longer_said_is_found(german: Path) -> None:
    template = catalogues.source()
    template.delete("In review")
    assert "de: no longer said: In review" in catalogues.faults("de", template)[2]


def test_a_text_that_is_new_is_found(german: Path) -> None:
    template = catalogues.source()
    template.add("Something new")
    assert catalogues.faults("de", template)[0] == ["de: Something new"]


def test_a_stale_compiled_catalogue_is_found(german: Path) -> None:
    assert "isn't made of messages.po" in " ".join(spoil(german, 'msgstr "In Prüfung"', 'msgstr "Wird geprüft"')[2])


@pytest.mark.parametrize("language", TRANSLATED)
def test_what_programs_read_is_what_people_wrote(language: str) -> None:
    with catalogues.mo(language).open("rb") as file:
        compiled: Catalog = read_mo(file)
    for message in catalogues.texts(catalogues.read(language)):
        found = compiled.get(message.id if isinstance(message.id, str) else message.id[0])
        assert found is not None
        assert list(found.string) == list(message.string)


def test_plain_words_are_found_and_data_is_not() -> None:
    page = """<html><head><title>ＯＫ – Shop</title><meta name="description" content="ｄｅｓｃ"></head>
    <body><p>ｈｅｌｌｏ PO-AAAA-BBBB</p><img alt="A picture"><a aria-label="ｇｏ">Starter Hosting</a>
    <script>var words = "never seen";</script></body></html>"""
    found = [word for text in pseudo.said(page) for word in pseudo.plain_words(text, ["Shop", "Starter Hosting"])]
    assert found == ["picture"]


def test_every_letter_is_disguised_but_no_placeholder() -> None:
    assert pseudo.disguised("Write to %(address)s now") == "Ｗｒｉｔｅ ｔｏ %(address)s ｎｏｗ"


def test_hard_coded_texts_of_templates_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "one.html").write_text(
        '<p class="never seen">{% if some %}{{ _("said") }}{% else %}Hard coded{% endif %}</p><b title="A title"></b>'
    )
    monkeypatch.setattr(check, "ROOT", tmp_path)
    assert sorted(check.in_templates()) == ["templates/one.html: '0Hard coded'", "templates/one.html: 'A title'"]
