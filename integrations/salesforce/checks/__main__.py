"""`make check-salesforce`: runs every check over the project, then over a copy with planted faults, which it must find.

Prints a line for each and ends with one JSON line: checks run, checks passed, faults planted, faults caught.
A check whose programs can't be had is skipped with a plain message (PORTAL_TEST_NO_SKIPS=1 makes that a failure).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from integrations.salesforce.checks.catalogue import CHECKS, Check, Plant
from integrations.salesforce.checks.platform import PROJECT
from integrations.salesforce.checks.tools import MODULES, Missing, Result, Tools


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when every check passed and every planted fault was caught."""
    parser = argparse.ArgumentParser(prog="make check-salesforce", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these checks", metavar="CHECK")
    parser.add_argument("--no-plants", action="store_true", help="don't plant faults")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {check.name for check in CHECKS}
    if unknown:
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    tools = Tools()
    counts = {"checks": 0, "passed": 0, "planted": 0, "caught": 0}
    skipped = 0
    try:
        for check in CHECKS:
            if options.names and check.name not in options.names:
                continue
            try:
                _one(check, tools, counts, plants=not options.no_plants)
            except Missing as missing:
                skipped += 1
                print(f"- {check.name} is skipped: {missing}", flush=True)
    finally:
        shutil.rmtree(tools.home, ignore_errors=True)
    print(json.dumps(counts), flush=True)
    good = counts["passed"] == counts["checks"] and counts["caught"] == counts["planted"]
    strict = os.environ.get("PORTAL_TEST_NO_SKIPS") == "1"
    return 0 if good and counts["checks"] and not (strict and skipped) else 1


def _one(check: Check, tools: Tools, counts: dict[str, int], *, plants: bool) -> None:
    start = time.monotonic()
    result = check.run(tools, PROJECT)
    counts["checks"] += 1
    counts["passed"] += result.passed
    _say(result.passed, f"{check.name}: {check.about}", start)
    if not result.passed:
        print(_indented(result.output), flush=True)
    if not plants:
        return
    start = time.monotonic()
    caught, told = _planted(check, tools)
    counts["planted"] += len(check.plants)
    counts["caught"] += len(caught)
    missed = [plant.what for plant in check.plants if plant not in caught]
    words = f"missed: {'; '.join(missed)}" if missed else f"{len(caught)} planted faults found"
    _say(not missed, f"  {words}", start)
    if missed:
        print(_indented(told.output), flush=True)


def _planted(check: Check, tools: Tools) -> tuple[list[Plant], Result]:
    """The check over a copy with all of its faults in it; which of them it spoke of."""
    with tempfile.TemporaryDirectory(prefix=f"planted-{check.name}-") as folder:
        copy = Path(folder) / "salesforce"
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
        if MODULES.exists():
            (copy / "node_modules").symlink_to(MODULES)
        for plant in check.plants:
            _plant(copy, plant)
        result = check.run(tools, copy)
    caught = [plant for plant in check.plants if plant.expects in result.output]
    return (caught if not result.passed else []), result


def _plant(project: Path, plant: Plant) -> None:
    file = project / plant.file
    if plant.old is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(plant.new, encoding="utf-8")
        return
    text = file.read_text(encoding="utf-8")
    if plant.old not in text:
        raise LookupError(f"{plant.file} has no {plant.old!r} to plant {plant.what!r} at")
    file.write_text(text.replace(plant.old, plant.new, 1), encoding="utf-8")


def _say(good: bool, text: str, start: float) -> None:
    print(f"{'✓' if good else '✗'} {text} ({time.monotonic() - start:.0f} s)", flush=True)


def _indented(text: str) -> str:
    lines = text.strip().splitlines()
    return "\n".join(f"    {line}" for line in lines[-60:])


if __name__ == "__main__":
    sys.exit(main())
