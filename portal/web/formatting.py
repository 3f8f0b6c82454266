"""How money, billing cycles and moments are written for customers, on pages and in mails.

Currencies' decimal places, symbols and the words of dates are the Unicode CLDR's, by Babel; our own words are the
catalogues'. Everything is written in the current language (portal.web.languages).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from babel.dates import format_date, format_time, get_datetime_format
from babel.lists import format_list
from babel.numbers import format_currency, get_currency_symbol

from portal.domain.mapping import normalise_cycle
from portal.web.languages import ENGLISH, current, direction, gettext

#: How a locale writes days and times where we differ from it: English of no region, which not only Americans read.
_DAYS: Final = {ENGLISH: "d MMMM y"}
_TIMES: Final = {ENGLISH: "HH:mm"}

#: Cycles that recur, the shortest first.
_RECURRING: Final = ("monthly", "quarterly", "semiannually", "annually", "biennially", "triennially")
_ONCE: Final = ("onetime", "free")


def money(amount: str | Decimal | None, currency: str | None) -> str:
    """`money("1200", "USD")` is "$1,200.00", `money("1.25", "KWD")` "KWD 1.250"; "" for no amount.

    `amount`: decimal text; what is no number comes back as it is. `currency`: its ISO 4217 code, which says how many
    decimal places there are; of an unknown one two. A price with more of them is shown with all its digits: 0.005 must
    not read as nothing, and nothing here may say another price than Salesforce's.
    """
    if amount is None:
        return ""
    try:
        number = Decimal(amount)
    except InvalidOperation:
        return str(amount)
    if not number.is_finite():
        return str(amount)
    code, locale = (currency or "").upper(), current()
    text = format_currency(number, code, locale=locale, decimal_quantization=False)
    symbol = get_currency_symbol(code, locale=locale)
    if symbol[-1:].isalpha():  # the CLDR's currencySpacing, which Babel leaves out: "KWD 1.250", not "KWD1.250"
        text = re.sub(rf"{re.escape(symbol)}(?=\d)", f"{symbol}\u00a0", text, count=1)
    if symbol and symbol[0].isascii() and direction() == "rtl":  # else "US$" is read as "$US" among Arabic words
        text = text.replace(symbol, f"{symbol}\u200e", 1)
    return text.strip()


def recurring(items: Iterable[Mapping[str, Any]], currency: str | None) -> str:
    """What comes after the first payment, by cycle: "$15.00 a month and $120.00 a year"; "" for nothing.

    items: each with unitPrice (decimal text), quantity and cycle (as Salesforce spells it).
    """
    sums: dict[str, Decimal] = {}
    for item in items:
        cycle = normalise_cycle(item["cycle"]) or (item["cycle"] or "").lower()
        if cycle and cycle not in _ONCE:
            sums[cycle] = sums.get(cycle, Decimal(0)) + line_total(item)
    cycles = sorted(sums, key=lambda cycle: _RECURRING.index(cycle) if cycle in _RECURRING else len(_RECURRING))
    amounts = [f"{money(sums[cycle], currency)} {cycle_words(cycle)}" for cycle in cycles if sums[cycle]]
    return format_list(amounts, locale=current())


def line_total(item: Mapping[str, Any]) -> Decimal:
    """Price times quantity of an order's line; what is no number costs nothing."""
    try:
        price = Decimal(item["unitPrice"])
    except (InvalidOperation, TypeError):
        return Decimal(0)
    return price * int(item["quantity"]) if price.is_finite() else Decimal(0)


def cycle_words(spelling: str | None) -> str:
    """How often a price is due: "a month", "a year", "once"; as Salesforce spells it where it isn't known."""
    match normalise_cycle(spelling):
        case "monthly":
            return gettext("a month")
        case "quarterly":
            return gettext("every 3 months")
        case "semiannually":
            return gettext("every 6 months")
        case "annually":
            return gettext("a year")
        case "biennially":
            return gettext("every 2 years")
        case "triennially":
            return gettext("every 3 years")
        case "onetime":
            return gettext("once")
        case "free":
            return ""
        case _:
            return (spelling or "").lower()


def day_and_time(moment: float | None) -> str:
    """ "21 November 2026, 18:04 UTC" of seconds since 1970; "" for none."""
    if moment is None:
        return ""
    locale = current()
    time = format_time(datetime.fromtimestamp(moment, UTC), _TIMES.get(locale, "short"), locale=locale)
    both = str(get_datetime_format("medium", locale=locale)).replace("'", "")
    return both.replace("{1}", day(moment)).replace("{0}", f"{time} UTC")


def day(moment: float) -> str:
    """ "21 November 2026" of seconds since 1970, by UTC."""
    locale = current()
    return format_date(datetime.fromtimestamp(moment, UTC), _DAYS.get(locale, "long"), locale=locale)


def iso(moment: float | None) -> str:
    """For the datetime attribute of <time>: "2026-11-21T18:04:00+00:00" of seconds since 1970; "" for none."""
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def review_time(words: str) -> str:
    """How long a review usually takes, of BRAND_REVIEW_TIME: its default in every language, others as they are."""
    return gettext("one working day") if words == "one working day" else words
