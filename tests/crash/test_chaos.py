"""A short `make chaos`: enough kills, stops and late commits to matter, few enough orders for every test run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.figures import NAMES
from tests.crash.plan import make_plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("orders", "seed", "database"),
    [
        pytest.param(110, 1, "sqlite", marks=pytest.mark.sqlite),
        (30, 2, "postgresql"),
    ],
)
def test_chaos(orders: int, seed: int, database: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every order exactly once, on both databases; the long runs are in docs/reliability.md."""
    command = [
        sys.executable,
        "-m",
        "tests.crash.chaos",
        "--orders",
        str(orders),
        "--seed",
        str(seed),
        "--database",
        database,
        "--keep",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stderr, file=sys.stderr)
    figures = json.loads(done.stdout.splitlines()[-1])
    with capfd.disabled():
        print(f"\nchaos ({database}): {json.dumps(figures)}", flush=True)
    assert tuple(figures) == NAMES
    assert done.returncode == 0
    wrong = {name: figures[name] for name in ("duplicates", "lost", "stuck", "strays", "inconsistent")}
    assert wrong == dict.fromkeys(wrong, 0)
    assert figures["exactlyOnce"] + figures["needsDecision"] == figures["orders"] == orders
    if database == "sqlite":
        assert figures["killsWhileHolding"] >= 15
        assert figures["killsDuringAddOrder"] >= 5
        assert figures["lateCommits"] >= 5
        assert figures["restores"] == 2
        assert min(figures[name] for name in ("refusedWriteBacks", "changedMeanwhile", "incompleteAnswers")) > 0


def test_the_same_seed_plans_the_same_run() -> None:
    """What happens to which order is the seed's; other seeds do otherwise."""
    assert make_plan(50, 7, 0.0) == make_plan(50, 7, 0.0)
    assert make_plan(50, 7, 0.0) != make_plan(50, 8, 0.0)
