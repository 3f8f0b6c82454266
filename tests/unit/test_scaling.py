"""The model behind docs/scaling.md: its arithmetic, and that the page says what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.rows import groups
from bench.scaling import ACCEPTED, DEMANDS, POLLED, Demand, Measured, plan, table

ROOT = Path(__file__).resolve().parents[2]
MEASURED = Measured(accepted=100.0, polled=500.0, own_ms=80.0, salesforce_calls=3.0, whmcs_calls=8.0)


def lines(accepted: float | None = 100.0) -> tuple[dict[str, object], dict[str, object]]:
    rows = [{"name": ACCEPTED, "ours": accepted}, {"name": POLLED, "ours": 500.0}]
    return {"rows": rows}, {"ownMsP50": 80, "salesforceCalls": 3, "whmcsCalls": 8}


def test_the_rows_are_those_of_the_bench() -> None:
    promised = {name for group in groups() for name, _ in group.promised}
    assert {ACCEPTED, POLLED} <= promised


def test_the_figures_come_from_the_two_lines() -> None:
    assert Measured.of(*lines()) == MEASURED
    with pytest.raises(ValueError, match="deliveries accepted"):
        Measured.of(*lines(None))


def test_an_orders_time_is_its_calls_and_our_own() -> None:
    found = plan(MEASURED, Demand(900, whmcs_ms=250, salesforce_ms=100))
    assert found.orders_a_second == pytest.approx(1.0)  # 900 / 3600 × 4
    assert found.in_flight == pytest.approx(8 * 0.25 + 3 * 0.1 + 0.08)
    assert found.whmcs_in_flight == pytest.approx(2.0)
    assert found.accept_share == pytest.approx(0.01)
    assert found.salesforce_share == pytest.approx(900 * 24 * 3 / 100_000)


def test_twice_as_many_take_twice_as_much() -> None:
    one, two = plan(MEASURED, Demand(50_000, 10_000)), plan(MEASURED, Demand(100_000, 20_000))
    for name in ("accept_share", "poll_share", "in_flight", "cpu_share", "whmcs_in_flight", "salesforce_share"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name))
    assert one.worker_hosts < two.worker_hosts <= 2 * one.worker_hosts + 1


def test_who_watches_is_the_web_servers_matter() -> None:
    found = plan(MEASURED, Demand(10, 1_000_000))
    assert found.first == "the web server"
    assert found.web_hosts == pytest.approx(1_000_000 / 5 / 500 / 0.6, rel=0.01)
    assert found.worker_hosts == 2


def test_the_page_shows_what_the_script_says() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    told = next(line for line in text.splitlines() if line.startswith('    {"accepted"'))
    assert table(Measured(**json.loads(told)), DEMANDS) in text


def test_the_command_reads_the_files_and_ends_with_one_line(tmp_path: Path) -> None:
    for name, line in zip(("bench", "smoke"), lines(), strict=True):
        (tmp_path / name).write_text(json.dumps(line), encoding="utf-8")
    words = ["-m", "bench.scaling", str(tmp_path / "bench"), str(tmp_path / "smoke"), "--orders", "900"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["orders_a_second"] == pytest.approx(1.0)
    (tmp_path / "bench").write_text("{}", encoding="utf-8")
    assert subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=False).returncode == 2
