"""GET /metrics while orders go through the whole portal: what it says is what happened, from whichever process."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

import portal
from portal.ledger.engine import Ledger
from portal.ledger.fulfillments import new_row
from portal.ledger.schema import fulfillments, outbox
from portal.ops.metrics import FromLedger
from tests.stack import Stack, http


def figures(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Name and labels' values → value."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(ledger: Ledger, *, now: float = 1000.0) -> str:
    """What a process with this ledger shows at a moment (seconds)."""
    registry = CollectorRegistry()
    registry.register(FromLedger(ledger, now=lambda: now))
    return generate_latest(registry).decode()


def test_orders_of_a_whole_portal_are_counted(own_stack: Stack) -> None:
    own_stack.settings["METRICS_TOKEN"] = "prometheus"
    own_stack.start()

    def told() -> dict[tuple[str, tuple[str, ...]], float]:
        answer = http("GET", f"{own_stack.urls['portal']}/metrics", headers={"Authorization": "Bearer prometheus"})
        assert answer.status == 200
        return figures(answer.text)

    before = told()
    assert before["order_provisioning_attempts_total", ("true",)] == 0.0
    assert own_stack.fulfill(own_stack.order("starter")).status == 200
    assert own_stack.fulfill(own_stack.order("starter", customer="mary")).status == 422
    own_stack.wait_for(lambda: told()["portal_messages_unsent", ("salesforce",)] == 0.0)
    after = told()
    assert after["order_provisioning_attempts_total", ("true",)] == 1.0
    assert after["order_provisioning_attempts_total", ("false",)] == 1.0
    assert after["order_provisioning_duration_seconds_count", ()] == 2.0
    assert 0.0 < after["order_provisioning_duration_seconds_sum", ()] < 60.0
    assert after["portal_fulfillments", ("provisioned",)] == after["portal_fulfillments", ("failed",)] == 1.0
    assert after["portal_fulfillments", ("queued",)] == 0.0
    assert after["portal_step_duration_seconds_count", ("whmcs_create",)] == 1.0
    assert after["portal_step_duration_seconds_count", ("validation",)] == 2.0
    assert after["portal_upstream_calls_total", ("AddOrder", "ok", "whmcs")] == 1.0
    assert after["portal_upstream_call_seconds_total", ("AddOrder", "whmcs")] > 0.0
    assert after["portal_processes", ("sweep",)] == 1.0
    assert after["portal_processes", ("relay",)] == 1.0
    assert after["portal_upstream_circuit_open", ("whmcs",)] == 0.0
    own_stack.wait_for(lambda: ("portal_salesforce_api_calls_left", ()) in told())
    own_stack.wait_for(lambda: ("portal_sweep_last_round_timestamp_seconds", ()) in told())
    # Another process over the same ledger says the same, and so does a new one after a restart.
    own_stack.restart("web")
    assert told()["order_provisioning_attempts_total", ("true",)] == 1.0


def test_an_api_error_of_whmcs_is_counted(own_stack: Stack) -> None:
    own_stack.settings["METRICS_TOKEN"] = "prometheus"
    own_stack.start()
    own_stack.whmcs.fault("error", action="AddOrder", status=500, body="broken", count=1)
    assert own_stack.fulfill(own_stack.order("starter")).status == 200
    text = http("GET", f"{own_stack.urls['portal']}/metrics", headers={"Authorization": "Bearer prometheus"}).text
    errors = {labels: value for (name, labels), value in figures(text).items() if name == "whmcs_api_errors_total"}
    assert errors == {("AddOrder", "unknown"): 1.0}


def test_names_and_help_are_as_prometheus_wants_them(ledger: Ledger) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool isn't there (Debian: prometheus)")
    text = scrape(ledger)
    said = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, timeout=60)
    assert (said.returncode, said.stderr) == (0, ""), said.stderr
    assert "_created" not in text


def test_every_label_has_few_values(ledger: Ledger) -> None:
    assert len(figures(scrape(ledger))) < 200


def test_the_build_is_named() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{portal.__version__}"' in pyproject


def statements_of(ledger: Ledger) -> int:
    """How many statements a scrape runs, with the ledger as it is."""
    ran: list[object] = []

    @sa.event.listens_for(ledger.engine, "after_cursor_execute")
    def _count(_c: object, cursor: object, *_: object) -> None:
        ran.append(cursor)

    scrape(ledger)
    sa.event.remove(ledger.engine, "after_cursor_execute", _count)
    return len(ran)


def test_a_scrape_costs_the_same_whatever_the_number_of_rows(each_ledger: Ledger) -> None:
    """As many statements, each through an index (test_query_plans), and as long an answer."""
    few = statements_of(each_ledger), len(scrape(each_ledger).splitlines())
    with each_ledger.write() as connection:
        for start in range(0, 3000, 500):
            connection.execute(
                sa.insert(fulfillments),
                [
                    new_row(
                        f"801{number:012d}AAA",
                        now=1.0,
                        requested_at=float(number),
                        requested_by=None,
                        history_complete=True,
                    )
                    | {"state": ("queued", "waiting", "needs_decision", "provisioned")[number % 4]}
                    for number in range(start, start + 500)
                ],
            )
            connection.execute(
                sa.insert(outbox),
                [
                    {
                        "kind": "salesforce",
                        "subject": str(number),
                        "payload": {},
                        "state": "pending",
                        "tries": 0,
                        "due_at": 1.0,
                        "created_at": 1.0,
                    }
                    for number in range(start, start + 500)
                ],
            )
    assert (statements_of(each_ledger), len(scrape(each_ledger).splitlines())) == few
    told = figures(scrape(each_ledger, now=4000.0))
    assert told["portal_fulfillments_oldest_age_seconds", ("waiting",)] == 3999.0
    assert told["portal_queue_age_seconds", ()] == 3999.0


def test_the_application_serves_what_the_ledger_says(app: Flask) -> None:
    answer = app.test_client().get("/metrics")  # the sandbox's settings let this machine read
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    assert "portal_build_info" in answer.text
