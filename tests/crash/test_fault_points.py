"""Fault points stop nobody outside of tests: the product's worker has none, whatever it is told from outside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from jobs import process, worker
from portal.settings import Settings
from tests.crash.harness import CrashStack, Wanted, seed_orders, wait_until_settled
from tests.crash.judge import judge

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[CrashStack]:
    """The product's own worker, told to stop in every way a test or an attacker might think of."""
    words = dict.fromkeys(
        ("FAULT_POINT", "FAULT_POINTS", "PORTAL_FAULT_POINT", "JOBS_FAULT_POINT", "FULFILLMENT_FAULT_POINT"),
        "add_order:intended",
    )
    stack = CrashStack(
        tmp_path, worker=("jobs.worker", "--fault-point", "add_order:intended", str(tmp_path)), settings=words
    )
    with stack:
        stack.start()
        yield stack


def test_the_product_runs_through_every_fault_point(told: CrashStack) -> None:
    """Neither environment nor arguments, files, headers or the request's body can stop it."""
    order = Wanted(1, 8001, [("starter", 1)])
    seed_orders(told, [order])
    (told.var.parent / f"{order.order}.stop").write_text("add_order:intended 1")
    (told.var / f"{order.order}.stop").write_text("add_order:intended 1")
    answer = told.fulfill(
        order.order,
        headers={"X-Fault-Point": "add_order:intended", "Fault-Point": "claimed"},
        extra={"faultPoint": "claimed", "fault_point": "claimed"},
    )
    assert (answer.status, answer.json()["status"]) == (200, "Provisioned")
    assert wait_until_settled(told, [order.order], 60) == []
    assert judge(told, [order]).exactly_once == 1


def test_only_an_argument_of_main_can_bring_one_in() -> None:
    """`python -m jobs.worker` passes none, and the function that stands for none does nothing."""
    assert worker.main.__defaults__ == (process.nothing,)
    tree = ast.parse((ROOT / "jobs" / "worker.py").read_text())
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "main"
    ]
    assert [(call.args, call.keywords) for call in calls] == [([], [])]
    assert process.nothing.__code__.co_names == ()


def test_no_setting_and_no_look_up_speaks_of_fault_points() -> None:
    """The words appear in the product as an argument's name and as a call, never as text to be looked up."""
    assert not [setting.name for setting in fields(Settings) if "fault" in setting.name or "crash" in setting.name]
    for folder in ("portal", "jobs"):
        for path in (ROOT / folder).rglob("*.py"):
            texts = [
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            named = [text for text in texts if re.fullmatch(r"\S*fault[_-]?point\S*", text, re.IGNORECASE)]
            assert not named, f"{path} could look a fault point up by {named}"
