"""The crash matrix (`make matrix`): any call, any moment, any end: one Active WHMCS order comes of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.crash.cells import Cell, all_cells
from tests.crash.harness import CrashStack
from tests.crash.matrix import MAX_REQUEST_SECONDS, PROCESSES, SLOTS, Matrix

#: PORTAL_TEST_MATRIX=3/10: the third tenth of the cells, each tenth with some of every strike and moment.
_PART, _, _PARTS = os.environ.get("PORTAL_TEST_MATRIX", "1/1").partition("/")
CELLS = all_cells()[int(_PART) - 1 :: int(_PARTS)]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Cell]]:
    """Every cell, run."""
    points = tmp_path_factory.mktemp("points")
    settings = {
        "FULFILLMENT_SLOTS": str(SLOTS + 2),
        "FULFILLMENT_PROCESSES": str(PROCESSES),
        "WHMCS_MAX_REQUEST_SECONDS": str(MAX_REQUEST_SECONDS),
        "WHMCS_MAX_IN_FLIGHT": "500",
    }
    stack = CrashStack(
        tmp_path_factory.mktemp("matrix"),
        workers=2,
        settings=settings,
        worker=("tests.crash.worker_under_test", str(points)),
    )
    with stack:
        stack.start()
        cells = all_cells()[int(_PART) - 1 :: int(_PARTS)]
        Matrix(stack, points, lambda text: print(text, file=sys.stderr, flush=True)).run(cells)
        yield {cell.name: cell for cell in cells}


@pytest.mark.parametrize("name", [cell.name for cell in CELLS])
def test_cell(matrix: dict[str, Cell], name: str) -> None:
    """The strike fell into its window, and the order became exactly one Active WHMCS order that Salesforce shows."""
    assert matrix[name].trouble == ""


def test_every_cell_was_run(matrix: dict[str, Cell], capfd: pytest.CaptureFixture[str]) -> None:
    """None was skipped: each has a process that was struck."""
    run = [cell for cell in matrix.values() if cell.struck_at]
    with capfd.disabled():
        print(f"\ncrash matrix: {len(CELLS)} cells expected, {len(run)} run", flush=True)
    assert len(run) == len(CELLS) == len(matrix)
