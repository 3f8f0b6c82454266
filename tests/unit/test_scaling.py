"""The model behind docs/scaling.md: its arithmetic, and that the page says what it says."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from bench.rows import groups
from bench.scaling import DEMANDS, LOOKS_A_DAY, ROWS, Demand, Measured, figures, plan, read_figures, table, with_figures

ROOT = Path(__file__).resolve().parents[2]
MEASURED = Measured(
    accepted=100.0,
    polled=500.0,
    fulfilled=20.0,
    own_ms=80.0,
    salesforce_calls=3.0,
    salesforce_calls_waiting=1.0,
    whmcs_calls=8.0,
)
PAGE = ROOT / "docs" / "scaling.md"


def line(**instead: float | None) -> dict[str, object]:
    """The last line of `make bench`."""
    measured = {**asdict(MEASURED), **instead}
    return {"rows": [{"name": row, "ours": measured[figure]} for figure, row in ROWS.items()]}


def test_each_figure_is_a_row_of_the_bench() -> None:
    promised = {name for group in groups() for name, _ in group.promised}
    assert set(ROWS.values()) <= promised
    assert set(ROWS) == {each.name for each in fields(Measured)}


def test_the_figures_come_from_the_line() -> None:
    assert Measured.of(line()) == MEASURED
    for figure, row in ROWS.items():
        with pytest.raises(ValueError, match=re.escape(row)):
            Measured.of(line(**{figure: None}))


def test_an_orders_time_is_its_calls_and_our_own() -> None:
    found = plan(MEASURED, Demand(900, whmcs_ms=250, salesforce_ms=100))
    assert found.orders_a_second == pytest.approx(1.0)  # 900 / 3600 × 4
    assert found.in_flight == pytest.approx(8 * 0.25 + 3 * 0.1 + 0.08)
    assert found.whmcs_in_flight == pytest.approx(2.0)
    assert found.accept_share == pytest.approx(0.01)
    assert found.order_seconds == found.in_flight
    assert found.cpu_share == pytest.approx(1 / 20)
    assert found.salesforce_share == pytest.approx((900 * 24 * 3 + LOOKS_A_DAY) / 100_000)
    assert found.salesforce_share_waiting == pytest.approx((900 * 24 * 1 + LOOKS_A_DAY) / 100_000)


def test_twice_as_many_take_twice_as_much() -> None:
    one, two = plan(MEASURED, Demand(50_000, 10_000)), plan(MEASURED, Demand(100_000, 20_000))
    for name in ("accept_share", "poll_share", "in_flight", "cpu_share", "whmcs_in_flight"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name))
    assert one.worker_hosts < two.worker_hosts <= 2 * one.worker_hosts + 1


def test_who_watches_is_the_web_servers_matter() -> None:
    found = plan(MEASURED, Demand(10, 1_000_000))
    assert found.first == "the web server"
    assert found.web_hosts == pytest.approx(1_000_000 / 5 / 500 / 0.6, rel=0.01)
    assert found.worker_hosts == 2


def test_where_calls_take_no_time_the_processors_count() -> None:
    found = plan(MEASURED, Demand(36_000, whmcs_ms=0, salesforce_ms=0))
    assert found.worker_hosts == math.ceil(40 / 20 / 0.6)


def test_the_page_shows_what_comes_of_its_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_figures(page, read_figures(page)) == page


def test_other_figures_make_another_page() -> None:
    before = PAGE.read_text(encoding="utf-8")
    page = with_figures(before, MEASURED)
    assert read_figures(page) == MEASURED
    assert figures(MEASURED) in page
    assert table(MEASURED, DEMANDS) in page
    assert with_figures(page, read_figures(before)) == before
    with pytest.raises(ValueError, match="no table"):
        with_figures("# Scaling\n", MEASURED)


def test_the_command_reads_the_line_writes_the_page_and_ends_with_one_line(tmp_path: Path) -> None:
    bench, page = tmp_path / "bench.json", tmp_path / "page.md"
    bench.write_text(json.dumps(line()), encoding="utf-8")
    shutil.copy(PAGE, page)
    words = ["-m", "bench.scaling", str(bench), "--page", str(page), "--orders", "900"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["orders_a_second"] == pytest.approx(1.0)
    assert read_figures(page.read_text(encoding="utf-8")) == MEASURED
    bench.write_text("{}", encoding="utf-8")
    assert subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=False).returncode == 2
