"""SIGTERM ends a sweep within the time that docs/deployment/upgrade.md says, whatever its database does; and whoever
starts the processes waits at least as long before it kills them.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from portal.settings import Settings
from sandbox.processes import ROOT
from tests.integration.test_own_valkey import process, wait_for
from tests.postgres import Postgres

#: What the page says of each process, with the settings' defaults; seconds.
DEFAULTS: dict[str, Any] = {setting.name: setting.default for setting in fields(Settings)}
AT_MOST = {
    "web": DEFAULTS["fulfillment_wait_seconds"] + 15,
    "worker": DEFAULTS["whmcs_max_request_seconds"] + 25,
    "sweep": 30,
}
SLACK = 10.0  # of a machine that does other things, too


@pytest.fixture
def environ(lonely: dict[str, str], valkey: object, postgres: Postgres, tmp_path: Path) -> dict[str, str]:
    """A development portal's settings, its ledger PostgreSQL's."""
    return {
        **lonely,
        "DATABASE_URL": postgres.ledger(),
        "REDIS_URL": f"unix://{valkey.unix_socket_path}",  # type: ignore[attr-defined]
        "PORTAL_VAR_DIR": str(tmp_path),
    }


def test_a_sweep_ends_with_its_round(environ: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "sweep.log"
    with process(environ, "jobs.sweep", log) as sweep:
        wait_for(lambda: "This sweep acts now" in log.read_text())
        began = time.monotonic()
        sweep.terminate()
        assert sweep.wait(60) == 0
        assert time.monotonic() - began < 1 + SLACK


def test_a_sweep_whose_database_is_frozen_ends_in_time(environ: dict[str, str], tmp_path: Path) -> None:
    """Its kernel acknowledges every packet; nothing that the sweep asks is answered."""
    log = tmp_path / "sweep.log"
    with process(environ, "jobs.sweep", log) as sweep:
        wait_for(lambda: "This sweep acts now" in log.read_text())
        name = urlsplit(environ["DATABASE_URL"]).path.removeprefix("/")
        with psycopg.connect(environ["DATABASE_URL"]) as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", (name,)
            )
            frozen = [int(row[0]) for row in found]
        assert frozen
        try:
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(2)  # longer than a sweep rests between two rounds: it has asked, and waits
            began = time.monotonic()
            sweep.terminate()
            assert sweep.wait(90) == 0
            assert time.monotonic() - began < AT_MOST["sweep"] + SLACK
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)


def test_the_page_says_how_long_each_takes() -> None:
    page = (ROOT / "docs" / "deployment" / "upgrade.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| (web server|worker|sweep) \| .* \| (.*) \|$", page, re.MULTILINE))
    assert told == {
        "web server": "`FULFILLMENT_WAIT_SECONDS` + 15 s",
        "worker": "`WHMCS_MAX_REQUEST_SECONDS` + 25 s",
        "sweep": f"{AT_MOST['sweep']} s",
    }


@pytest.mark.parametrize("name", AT_MOST)
def test_whoever_starts_them_waits_as_long(name: str) -> None:
    deploy = ROOT / "deploy"
    compose = (deploy / "compose.yaml").read_text(encoding="utf-8")
    unit = "order-portal-web@" if name == "web" else f"order-portal-{name}"
    waits = {
        "compose.yaml": re.findall(
            rf"^  {name}:\n(?:(?:    .*)?\n)*?    stop_grace_period: (\d+)s$", compose, re.MULTILINE
        ),
        "systemd": re.findall(
            r"^TimeoutStopSec=(\d+)s$",
            (deploy / "systemd" / f"{unit}.service").read_text(encoding="utf-8"),
            re.MULTILINE,
        ),
        "kubernetes": re.findall(
            r"terminationGracePeriodSeconds: (\d+)$",
            (deploy / "kubernetes" / "run" / f"{name}.yaml").read_text(encoding="utf-8"),
            re.MULTILINE,
        ),
    }
    for where, found in waits.items():
        assert len(found) == 1, where
        assert int(found[0]) >= AT_MOST[name], f"{where} kills the {name} after {found[0]} s"
