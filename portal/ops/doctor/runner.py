"""Runs checks in order, each within its own deadline; one that depends on a failed one is skipped and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

from portal.errors import PortalError
from portal.ops.doctor.model import Check, Context, Finding, Outcome, Report, Result, error

PAUSE_SECONDS = 1.0


def choose(checks: Sequence[Check], only: Collection[str] = (), skip: Collection[str] = ()) -> list[Check]:
    """The checks to run, in their order. `only` and `skip`: ids or categories; `only` brings what it depends on.

    Raises ValueError for a word that is neither.
    """
    known = {check.id for check in checks} | {check.category for check in checks}
    unknown = sorted((set(only) | set(skip)) - known)
    if unknown:
        raise ValueError(f"no check or category is called {', '.join(unknown)}")

    def named(check: Check, words: Collection[str]) -> bool:
        return check.id in words or check.category in words

    wanted = {check.id for check in checks if not only or named(check, only)}
    for check in reversed(checks):  # what is needed stands before what needs it
        if check.id in wanted:
            wanted.update(check.needs)
    return [check for check in checks if check.id in wanted and not named(check, skip)]


def run_checks(
    checks: Sequence[Check],
    context: Context,
    *,
    wait: float = 0.0,
    tell: Callable[[Outcome], None] = lambda outcome: None,
    pause: Callable[[float], None] = time.sleep,
) -> Report:
    """Run them all. `wait`: for so many seconds in all, checks that may come right by waiting are tried again."""
    report = Report()
    failed: dict[str, Finding] = {}
    give_up_at = time.monotonic() + wait
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        if missing:
            finding = Finding(Result.SKIPPED, f"depends on {', '.join(missing)}")
        else:
            finding = _bounded(check, context)
            while finding.result is Result.ERROR and check.retry and time.monotonic() < give_up_at:
                pause(min(PAUSE_SECONDS, max(0.0, give_up_at - time.monotonic())))
                finding = _bounded(check, context)
        if finding.result in (Result.ERROR, Result.SKIPPED):
            failed[check.id] = finding
        outcome = Outcome(check, finding)
        report.outcomes.append(outcome)
        tell(outcome)
    return report


def _bounded(check: Check, context: Context) -> Finding:
    """What the check finds, or that it found nothing in its time: its thread is left behind, and ends with us."""
    found: list[Finding] = []
    thread = threading.Thread(target=lambda: found.append(_attempt(check, context)), name=check.id, daemon=True)
    thread.start()
    thread.join(check.seconds)
    return found[0] if found else error(f"hung: no result within the {check.seconds:g} s this check may take")


def _attempt(check: Check, context: Context) -> Finding:
    try:
        return check.run(context)
    except PortalError as problem:
        return error(str(problem))
    except Exception as problem:
        # Nothing of its text: other libraries' exceptions hold addresses with passwords in them.
        return error(f"the check itself failed ({type(problem).__name__})")
