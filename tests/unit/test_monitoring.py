"""Prometheus' rules and Grafana's dashboard pass their checks, and the checks find what they are there for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy import monitoring
from tests.deploy.tools import ROOT, Unchecked, tool

RULES, TESTS = "deploy/prometheus/order-portal-rules.yaml", "deploy/prometheus/order-portal-rules-test.yaml"
DASHBOARD = "deploy/grafana/order-portal-dashboard.json"
Check = Callable[[Path, Path, Path], list[str]]


@pytest.fixture(autouse=True)
def _promtool() -> None:
    try:
        tool("promtool", "prometheus")
    except Unchecked as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "check"), [(RULES, monitoring.rules), (TESTS, monitoring.rules), (DASHBOARD, monitoring.dashboard)]
)
def test_the_files_are_right(name: str, check: Check, tmp_path: Path) -> None:
    assert check(ROOT / name, ROOT, tmp_path) == []


@pytest.mark.parametrize(
    ("name", "check", "stands", "instead", "said"),
    [
        (RULES, monitoring.rules, "for: 2m", "for: soon", "not a valid duration"),
        (
            RULES,
            monitoring.rules,
            "portal_queue_age_seconds",
            "portal_queue_ages",
            "/metrics shows no portal_queue_ages",
        ),
        (
            RULES,
            monitoring.rules,
            "#alert-quota",
            "#alert-quotum",
            "SalesforceQuotaLow: docs/runbook.md#alert-quotum isn't",
        ),
        (TESTS, monitoring.rules, "3x400", "0x400", "OrdersNeedDecision"),
        (TESTS, monitoring.rules, "  - {eval_time: 1h30m, alertname: OrderStuck}\n", "", "OrderStuck is never silent"),
        (DASHBOARD, monitoring.dashboard, "max(portal_paused)", "max(portal_paused", "unclosed left parenthesis"),
        (DASHBOARD, monitoring.dashboard, "max(portal_paused)", "max(portal_pause)", "/metrics shows no portal_pause"),
        (DASHBOARD, monitoring.dashboard, '"id": 2\n', '"id": 3\n', "two panels have the same id"),
    ],
)
def test_what_is_wrong_is_told(name: str, check: Check, stands: str, instead: str, said: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for folder in ("deploy/prometheus", "deploy/grafana", "docs"):
        shutil.copytree(ROOT / folder, copy / folder)
    text = (copy / name).read_text(encoding="utf-8")
    assert stands in text
    (copy / name).write_text(text.replace(stands, instead), encoding="utf-8")
    (tmp_path / "scratch").mkdir()
    faults = check(copy / name, copy, tmp_path / "scratch")
    assert any(said in fault for fault in faults), faults


def test_the_documentation_names_every_metric(tmp_path: Path) -> None:
    documented = set(re.findall(r"`((?:order|portal|webhook|whmcs)_[a-z_]+)`", (ROOT / "docs/metrics.md").read_text()))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in monitoring.shown(tmp_path)}
    assert shown == documented
