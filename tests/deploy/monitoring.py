"""Prometheus' rules and Grafana's dashboard: held against promtool, and against what /metrics really shows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry
from sqlalchemy.engine import Connection

from portal.ledger import circuits, counters, installation, totals, workers
from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade
from portal.ops.alerts import certificates
from portal.ops.metrics import FromLedger
from tests.deploy.tools import run, said, tool

#: Names in a rule's expression that are no metrics of ours.
OTHERS = frozenset({"up"})
_NAME = re.compile(r"\b(?:order|portal|webhook|whmcs)_[a-z0-9_]+\b")


def rules(path: Path, _root: Path, scratch: Path) -> list[str]:
    """By `promtool check rules` and `test rules`; each alert is tested silent and firing, and has a paragraph."""
    promtool = tool("promtool", "prometheus")
    for each in path.parent.iterdir():
        shutil.copy(each, scratch)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "tests" in document:
        faults = said(run([promtool, "test", "rules", path.name], cwd=scratch))
        return faults + untested(document, path.parent)
    faults = said(run([promtool, "check", "rules", path.name], cwd=scratch))
    expressions = [rule["expr"] for group in document["groups"] for rule in group["rules"]]
    return faults + unknown_names(expressions, scratch) + without_paragraph(document, _root)


def untested(document: dict[str, Any], folder: Path) -> list[str]:
    """Alerts of the rule files that no test sees silent, or none sees firing."""
    cases = [case for test in document["tests"] for case in test.get("alert_rule_test", [])]
    firing = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    alerts = {
        rule["alert"]
        for name in document["rule_files"]
        for group in yaml.safe_load((folder / name).read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    return [
        f"{alert} is never {word}"
        for word, seen in (("firing", firing), ("silent", silent))
        for alert in sorted(alerts - seen)
    ]


def without_paragraph(document: dict[str, Any], root: Path) -> list[str]:
    """Alerts whose runbook_url leads nowhere."""
    faults = []
    for rule in (rule for group in document["groups"] for rule in group["rules"] if "alert" in rule):
        file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        place = root / file
        text = place.read_text(encoding="utf-8") if place.is_file() else ""
        heading = re.sub(r"-", " ", anchor)
        if f'<a id="{anchor}">' not in text and f"\n## {heading.capitalize()}\n" not in text:
            faults.append(f"{rule['alert']}: {file}#{anchor} isn't there")
    return faults


def dashboard(path: Path, root: Path, scratch: Path) -> list[str]:
    """Every panel's expressions can be read by promtool, and name what there is; each id and place is a panel's own."""
    board = json.loads(path.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    groups = [{"name": "dashboard", "rules": [{"record": f"a:{n}", "expr": e} for n, e in enumerate(expressions)]}]
    (scratch / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    faults = said(run([tool("promtool", "prometheus"), "check", "rules", scratch / "rules.yaml"]))
    for what, values in (
        ("id", [panel["id"] for panel in board["panels"]]),
        ("place", [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]),
        ("title", [panel["title"] for panel in board["panels"]]),
    ):
        if len(set(values)) != len(values):
            faults.append(f"two panels have the same {what}")
    return faults + unknown_names(expressions, scratch)


def unknown_names(expressions: Iterable[str], scratch: Path) -> list[str]:
    """Metrics that an expression names and /metrics doesn't show."""
    known = shown(scratch)
    named = {
        name for expression in expressions for name in _NAME.findall(re.sub(r"portal:[a-z0-9_:]+", "", expression))
    }
    return [f"/metrics shows no {name}" for name in sorted(named - known - OTHERS)]


def shown(scratch: Path) -> set[str]:
    """The names /metrics shows, of a ledger that has something of everything."""
    ledger = Ledger(f"sqlite:///{scratch / 'ledger.sqlite3'}")
    try:
        upgrade(ledger)
        with ledger.write() as connection:
            _fill(connection)
        registry = CollectorRegistry()
        registry.register(FromLedger(ledger, now=lambda: 1.0))
        text = generate_latest(registry).decode()
    finally:
        ledger.dispose()
    return {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}


def _fill(connection: Connection) -> None:
    """A moment of everything that is shown only once there is something to show."""
    workers.register(connection, "ada", "fulfill", "host", 1, now=0.0)
    circuits.note_ok(connection, "whmcs", now=0.0)
    installation.put(connection, totals.QUOTA, {"used": 1, "total": 2}, now=0.0)
    installation.put(connection, totals.SWEEP_ROUND, True, now=0.0)
    installation.put(connection, certificates.KEY, {"PORTAL_BASE_URL": 1.0}, now=0.0)
    counters.add(connection, totals.CALLS, "whmcs|AddOrder|unknown")
    counters.add(connection, totals.CALL_SECONDS, "whmcs|AddOrder")
    counters.add(connection, "webhook_security_events_total", "invalid_signature")
    counters.add(connection, "webhook_secret_matched_total", "sf:current")
    for name in (totals.SENT, totals.REFUSED, totals.GIVEN_UP):
        counters.add(connection, name, "mail")
