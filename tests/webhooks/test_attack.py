"""A short run of `make attack`: every class, its least number of requests."""

from __future__ import annotations

from pathlib import Path

from tests.webhooks.attack import run
from tests.webhooks.hostile import CLASSES


def test_nothing_hostile_gets_in_and_nothing_breaks(tmp_path: Path) -> None:
    figures, faults = run(tmp_path, 20)
    assert faults == []
    assert figures["accepted"] == figures["serverErrors"] == 0
    assert figures["classes"] == len(CLASSES) >= 40
    assert figures["requests"] >= 20 * len(CLASSES) - 10
    assert figures["goodServed"] > 50


def test_the_classes_are_told_apart() -> None:
    names = [one.name for one in CLASSES]
    assert len(set(names)) == len(names)
