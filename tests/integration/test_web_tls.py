"""TLS in the web server itself: gunicorn's own threads do it, and the patient worker says that it doesn't."""

from __future__ import annotations

import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sandbox.processes import ROOT
from tests.certificates import tls_server
from tests.deploy.tools import free_port
from tests.integration.test_own_valkey import wait_for


@pytest.fixture
def environ(lonely: dict[str, str], valkey: object, tmp_path: Path) -> dict[str, str]:
    """A development portal's settings, its ledger migrated; gunicorn is told of a certificate."""
    tls_server(tmp_path)
    settings = {
        **lonely,
        "REDIS_URL": f"unix://{valkey.unix_socket_path}",  # type: ignore[attr-defined]
        "PORTAL_VAR_DIR": str(tmp_path),
        "WEB_CONCURRENCY": "1",
        "WEB_BIND": f"127.0.0.1:{free_port()}",
        "GUNICORN_CMD_ARGS": f"--certfile {tmp_path}/server.pem --keyfile {tmp_path}/server.pem",
    }
    subprocess.run([sys.executable, "-m", "flask", "db", "upgrade"], cwd=ROOT, env=settings, check=True, timeout=120)
    return settings


GUNICORN = [sys.executable, "-m", "gunicorn", "wsgi:app"]


def test_the_patient_worker_says_that_it_does_none(environ: dict[str, str]) -> None:
    ended = subprocess.run(GUNICORN, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert "let a proxy in front do TLS" in ended.stderr


def test_gunicorns_own_threads_do(environ: dict[str, str], tmp_path: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    log = tmp_path / "web.log"
    with log.open("wb") as output:
        web = subprocess.Popen(
            GUNICORN, cwd=ROOT, env={**environ, "WEB_SERVER": "gthread"}, stdout=output, stderr=output
        )
    try:
        wait_for(lambda: "Booting worker" in log.read_text())
        url = f"https://{environ['WEB_BIND']}/health/live"
        with urllib.request.urlopen(url, timeout=30, context=trusting) as answer:
            assert answer.status == 200
    finally:
        web.terminate()
        web.wait(60)
    assert web.returncode == 0
