"""The sandboxes keep state and journal across restarts and kills, and leave no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import requests

from sandbox.control import Mailbox, Process, SalesforceSandbox, SandboxError, WhmcsSandbox
from sandbox.demo_data import seed_demo
from tests.sandbox.conftest import (
    IDENTIFIER,
    SECRET,
    Keys,
    assertion,
    start_org,
    start_whmcs,
    token_answer,
)


def test_state_journal_and_settings_survive_a_kill(tmp_path: Path, keys: Keys) -> None:
    with start_org(tmp_path, keys) as org, start_whmcs(tmp_path) as whmcs:
        ids = seed_demo(org, whmcs)
        token = token_answer(org, assertion(keys)).json()["access_token"]
        org.settings(query_batch_size=7, webhook_secret="only in memory " * 3)
        form = {
            "identifier": IDENTIFIER,
            "secret": SECRET,
            "action": "AddOrder",
            "clientid": 1,
            "paymentmethod": "stripe",
            "pid[0]": 1,
            "billingcycle[0]": "monthly",
        }
        assert requests.post(whmcs.api_url, data=form, timeout=30).json()["orderid"] == "1"
        addresses, last = (org.url, whmcs.url), whmcs.last_entry()
        for side in (org, whmcs):
            side.kill()
            assert not side.alive
        for side in (org, whmcs):
            side.restart()
        assert (org.url, whmcs.url) == addresses
        assert seed_demo(org, whmcs) == ids, "seeding again changes nothing"
        answer = requests.get(
            f"{org.url}/services/data/v67.0/query?q=SELECT+COUNT()+FROM+Account",
            timeout=30,
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.json()["totalSize"] == 4, "a session outlives the restart"
        assert org.settings()["query_batch_size"] == 7
        (entry,) = whmcs.journal(action="AddOrder")
        assert entry["effect"] is not None
        assert entry["outcome"]["orderid"] == "1"
        assert requests.post(whmcs.api_url, data=form, timeout=30).json()["orderid"] == "2"
        assert whmcs.last_entry() > last, "journal ids go on"
        assert "only in memory" not in "".join(
            path.read_bytes().decode("latin-1") for path in tmp_path.iterdir() if path.is_file()
        )


def test_rotating_the_journal(tmp_path: Path) -> None:
    with start_whmcs(tmp_path) as whmcs:
        requests.get(f"{whmcs.url}/", timeout=30)
        last = whmcs.rotate_journal()
        assert whmcs.journal() == []
        assert last == 1
        requests.get(f"{whmcs.url}/", timeout=30)
        assert [entry["id"] for entry in whmcs.journal()] == [2]


def test_mailbox_keeps_its_ports_and_mails(tmp_path: Path) -> None:
    with Mailbox.start(tmp_path) as mailbox:
        before = (mailbox.url, mailbox.smtp_url)
        mailbox.restart()
        assert (mailbox.url, mailbox.smtp_url) == before
        assert mailbox.messages() == []


def test_attach(tmp_path: Path) -> None:
    with start_whmcs(tmp_path) as whmcs:
        assert WhmcsSandbox.attach(whmcs.url + "/").state("orders") == {"orders": []}


def test_a_process_that_cannot_start_says_so(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="did not start"):
        WhmcsSandbox.start(tmp_path, "--notes", "nonsense", log=tmp_path / "log")
    assert "invalid choice" in (tmp_path / "log").read_text(encoding="utf-8")


def gone(pid: int) -> bool:
    """True when no process has that id any more (or only its remains)."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return True


@pytest.mark.parametrize("kind", [SalesforceSandbox, WhmcsSandbox, Mailbox])
def test_sigterm_and_the_end_of_the_parent(tmp_path: Path, kind: type[Process]) -> None:
    with kind.start(tmp_path) as running:
        assert running.process is not None
        running.process.terminate()
        assert running.process.wait(20) == 0
    program = textwrap.dedent(f"""
        import sys, time
        from sandbox.control import {kind.__name__}
        print({kind.__name__}.start(sys.argv[1]).process.pid, flush=True)
        time.sleep(600)
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert not gone(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while not gone(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)
