"""How money, billing cycles and moments are written for customers, on pages and in mails."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from portal.domain.mapping import normalise_cycle

_SYMBOLS: Final = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "AUD": "A$", "CAD": "CA$", "NZD": "NZ$"}
_NO_CENTS: Final = frozenset({"JPY", "KRW", "VND", "CLP", "ISK", "HUF"})

_CYCLES: Final = {
    "monthly": "a month",
    "quarterly": "every 3 months",
    "semiannually": "every 6 months",
    "annually": "a year",
    "biennially": "every 2 years",
    "triennially": "every 3 years",
    "onetime": "once",
    "free": "",
}


def money(amount: str | Decimal | None, currency: str | None) -> str:
    """`money("1200", "USD")` is "$1,200.00"; an unknown currency's code follows the number; "" for no amount."""
    if amount is None:
        return ""
    try:
        number = Decimal(amount)
    except InvalidOperation:
        return str(amount)
    code = (currency or "").upper()
    text = f"{number:,.0f}" if code in _NO_CENTS else f"{number:,.2f}"
    return f"{_SYMBOLS[code]}{text}" if code in _SYMBOLS else f"{text} {code}".strip()


def cycle_words(spelling: str | None) -> str:
    """How often a price is due: "a month", "a year", "once"; as Salesforce spells it where it isn't known."""
    word = normalise_cycle(spelling)
    return _CYCLES[word] if word is not None else (spelling or "").lower()


def day_and_time(moment: float | None) -> str:
    """ "21 November 2026, 18:04 UTC"; "" for none."""
    if moment is None:
        return ""
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def day(moment: float) -> str:
    """ "21 November 2026"."""
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at.day} {at:%B %Y}"


def iso(moment: float | None) -> str:
    """For the datetime attribute of <time>."""
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
