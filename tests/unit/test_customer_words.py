"""What customers read: money, cycles, moments, brand colours that can be read."""

from __future__ import annotations

import re

import pytest

from portal.web import theme
from portal.web.formatting import cycle_words, day, day_and_time, money
from portal.web.languages import speaking


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("1200", "USD", "$1,200.00"),
        ("5.5", "eur", "€5.50"),
        ("5000", "JPY", "¥5,000"),
        ("5000.00", "JPY", "¥5,000"),
        ("1.25", "KWD", "KWD\u00a01.250"),
        ("12.3", "CHF", "CHF\u00a012.30"),
        ("12", "XYZ", "XYZ\u00a012.00"),
        ("12", "", "12.00"),
        ("-3", "USD", "-$3.00"),
        ("1E+3", "USD", "$1,000.00"),
        (None, "USD", ""),
    ],
)
def test_money_is_written_as_people_write_it(amount: str | None, currency: str, text: str) -> None:
    assert money(amount, currency) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("0.005", "USD", "$0.005"),
        ("12.346", "CHF", "CHF\u00a012.346"),
        ("0.5", "JPY", "¥0.5"),
        ("0.0125", "KWD", "KWD\u00a00.0125"),
        ("0.00500", "USD", "$0.005"),
    ],
)
def test_a_price_finer_than_its_currency_keeps_every_digit(amount: str, currency: str, text: str) -> None:
    assert money(amount, currency) == text


@pytest.mark.parametrize("nonsense", ["NaN", "Infinity", "on request"])
def test_what_is_no_amount_stays_as_it_is(nonsense: str) -> None:
    assert money(nonsense, "USD") == nonsense


@pytest.mark.parametrize(
    ("currency", "text"),
    [("USD", "\u200f5.00\u00a0US$\u200e"), ("KWD", "\u200f5.000\u00a0د.ك.\u200f"), ("", "\u200f5.00")],
)
def test_a_latin_symbol_keeps_its_order_among_arabic_words(currency: str, text: str) -> None:
    with speaking("ar"):
        assert money("5", currency) == text


def test_another_locale_writes_it_its_own_way() -> None:
    with speaking("de"):
        assert money("1200", "EUR") == "1.200,00\u00a0€"
        assert day_and_time(1_700_000_000.0) == "14. November 2023, 22:13 UTC"
    with speaking("en_US"):
        assert day_and_time(1_700_000_000.0) == "November 14, 2023, 10:13\u202fPM UTC"


@pytest.mark.parametrize(
    ("spelling", "words"),
    [
        ("Monthly", "a month"),
        ("Semi-Annually", "every 6 months"),
        ("One-Time", "once"),
        ("annual", "a year"),
        ("Fortnightly", "fortnightly"),
        (None, ""),
        ("free", ""),
    ],
)
def test_billing_cycles_are_told_in_words(spelling: str | None, words: str) -> None:
    assert cycle_words(spelling) == words


def test_moments_name_their_zone() -> None:
    assert day_and_time(1_700_000_000.0) == "14 November 2023, 22:13 UTC"
    assert day(1_700_000_000.0) == "14 November 2023"
    assert day_and_time(None) == ""


@pytest.mark.parametrize("accent", ["#0b5fff", "#ffff00", "#000000", "#ffffff", "#808080", "#ff0000", "#00ff7f"])
def test_any_brand_colour_can_be_read_in_light_and_dark(accent: str) -> None:
    light, dark = theme.stylesheet(accent).splitlines()
    for line, surfaces in ((light, theme.LIGHT_SURFACES), (dark, theme.DARK_SURFACES)):
        shade, ink = re.findall(r"#[0-9a-f]{6}", line)
        assert all(theme.contrast(shade, surface) >= 4.5 for surface in surfaces)
        assert theme.contrast(shade, ink) >= 4.5


def test_a_colour_that_reads_is_left_as_it_was_chosen() -> None:
    assert theme.readable("#0b5fff", ("#ffffff",), "#000000") == "#0b5fff"
    assert round(theme.contrast("#000000", "#ffffff"), 1) == 21.0
