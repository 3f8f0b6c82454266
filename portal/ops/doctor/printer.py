"""Tells what the doctor found: lines for people, one JSON document for programs."""

from __future__ import annotations

import json
from typing import Any

from portal.ops.doctor.model import Outcome, Report, Result

SIGNS = {Result.SUCCESS: "✓", Result.WARNING: "‼", Result.ERROR: "×", Result.SKIPPED: "–"}


class Printer:
    """Writes each outcome as soon as it is there, under its category's heading."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self._category = ""

    def tell(self, outcome: Outcome) -> None:
        """Write one outcome."""
        check, finding = outcome.check, outcome.finding
        if check.category != self._category:
            self._write(("\n" if self._category else "") + check.category)
            self._write("-" * len(check.category))
            self._category = check.category
        self._write(f"{SIGNS[finding.result]} {check.id}: {check.description}")
        if finding.result is Result.SKIPPED:
            self._write(f"    skipped: {finding.message}")
        elif finding.message:
            self._write(f"    {finding.message}")
        if finding.result in (Result.WARNING, Result.ERROR):
            self._write(f"    → {check.hint}")

    def conclude(self, report: Report) -> None:
        """The one line that says how it went."""
        counts = {result: report.count(result) for result in Result}
        self._write(
            f"\n{SIGNS[Result.SUCCESS if report.success else Result.ERROR]} "
            f"{counts[Result.SUCCESS]} checks passed, {counts[Result.WARNING]} warnings, "
            f"{counts[Result.ERROR]} errors, {counts[Result.SKIPPED]} skipped"
        )


def as_json(report: Report) -> str:
    """One document: {"success", "categories": [{"categoryName", "checks": […]}]}.

    Each check: {"id", "description", "result", "error"?, "hint"?}.
    """
    categories: list[dict[str, Any]] = []
    for outcome in report.outcomes:
        name = outcome.check.category
        if not categories or categories[-1]["categoryName"] != name:
            categories.append({"categoryName": name, "checks": []})
        categories[-1]["checks"].append(_line(outcome))
    return json.dumps({"success": report.success, "categories": categories}, ensure_ascii=False, indent=2)


def _line(outcome: Outcome) -> dict[str, str]:
    check, finding = outcome.check, outcome.finding
    line = {"id": check.id, "description": check.description, "result": str(finding.result)}
    if finding.result is Result.SKIPPED:
        line["error"] = f"skipped: {finding.message}"
    elif finding.result is not Result.SUCCESS:
        line |= {"error": finding.message, "hint": check.hint}
    return line
