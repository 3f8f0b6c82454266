"""How operators' pages write moments, durations and states: short, exact, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from portal.domain.model import State
from portal.ledger.statistics import HANDLED
from portal.web.context import services

_STATES: Final[dict[str, str]] = {
    State.QUEUED: "Queued",
    State.WAITING: "Waiting",
    State.RUNNING: "Running",
    State.PROVISIONED: "Provisioned",
    State.FAILED: "Failed",
    State.NEEDS_DECISION: "Needs a decision",
    HANDLED: "Handled",
}


def state(value: State | str) -> str:
    """A state in plain words; what is none (a customer's status) stays as it is."""
    return _STATES.get(str(value), str(value))


def bulk_act(name: str) -> str:
    """An act on many orders, as it is called on its page."""
    return {"retry": "Retry", "try_now": "Try now", "write_back": "Tell Salesforce again"}[name]


def utc(moment: float | None) -> str:
    """ "2026-11-21 18:04:05" of seconds since 1970, in UTC; "" for none."""
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


def seconds(length: float | None) -> str:
    """A length of time in two units at most: "340 ms", "4.2 s", "3 min 5 s", "2 h 10 min", "3 d 4 h"; "" for none."""
    if length is None:
        return ""
    length = max(0.0, length)
    if length < 0.9995:
        return f"{length * 1000:.0f} ms"
    if length < 10:
        return f"{length:.1f} s"
    whole = round(length)
    if whole < 60:
        return f"{whole} s"
    for unit, big, small, name in ((3600, 60, 1, "min s"), (86_400, 3600, 60, "h min"), (10**12, 86_400, 3600, "d h")):
        if whole < unit:
            first, second = name.split()
            rest = whole % big // small
            return f"{whole // big} {first}" + (f" {rest} {second}" if rest else "")
    return f"{whole} s"


def ago(moment: float | None) -> str:
    """How long ago, or in how long, a moment (seconds since 1970) is: "4.2 s ago", "in 3 min"; "" for none."""
    if moment is None:
        return ""
    length = services().now() - moment
    return f"{seconds(length)} ago" if length >= 0 else f"in {seconds(-length)}"
