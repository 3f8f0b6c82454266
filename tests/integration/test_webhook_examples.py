"""Every example of docs/webhooks.md, run as it stands there against the running doors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.ledger.deliveries import DELIVERY_SECONDS, KEY_SECONDS
from portal.settings import Settings
from portal.web import server
from portal.webhooks import strict, verifier
from tests.webhooks.callout import SF_SECRET, WHMCS_SECRET, fresh_id, signature
from tests.webhooks.running import ROOT, RunningPortal

PAGE = (ROOT / "docs/webhooks.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(bash|apex|javascript|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [match.groups() for match in FENCED.finditer(PAGE)]

#: What runs an example, and the programs it needs.
RUNNERS = {
    "bash": (["bash", "-euo", "pipefail", "-s"], ("bash", "openssl", "curl")),
    "apex": (["node", str(ROOT / "tests/webhooks/apex_stub.mjs")], ("node", "curl")),
    "javascript": (["node", "--input-type=module", "-"], ("node",)),
    "python": ([sys.executable, "-"], ()),
}


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    folder = tmp_path_factory.mktemp("portal")
    with RunningPortal(folder, WEB_CONCURRENCY="1", FULFILLMENT_WAIT_SECONDS="0") as running:
        yield running


def test_the_page_has_an_example_in_every_language() -> None:
    assert [language for language, _ in EXAMPLES] == ["bash", "apex", "javascript", "python", "bash"]


@pytest.mark.example
@pytest.mark.parametrize("number", range(5))
def test_an_example_runs_as_it_stands_on_the_page(portal: RunningPortal, number: int) -> None:
    language, code = EXAMPLES[number]
    command, programs = RUNNERS[language]
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} isn't installed: the {language} example isn't run")
    order_id = fresh_id()
    done = subprocess.run(
        command,
        input=code,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "PORTAL_BASE_URL": f"http://127.0.0.1:{portal.port}",
            "ORDER_ID": order_id,
            "SF_WEBHOOK_SECRET": SF_SECRET,
            "WHMCS_WEBHOOK_SECRET": WHMCS_SECRET,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "202" in done.stdout, done.stdout + done.stderr
    if "webhooks/whmcs" in code:
        assert portal.query("SELECT count(*) FROM events WHERE kind = 'whmcs:order.accepted'") == [(1,)]
    else:
        assert portal.query("SELECT state FROM fulfillments WHERE sf_order_id = ?", order_id) == [("queued",)]


def test_the_command_for_installers_signs_what_it_shows(portal: RunningPortal) -> None:
    order_id = fresh_id()
    done = portal.flask("send-fulfillment", order_id[:15], "--wait", "0", "--verbose")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "202 ACCEPTED" in done.stdout, done.stdout + done.stderr
    body = re.search(r"^Signed with HMAC-SHA256 \(SF_WEBHOOK_SECRET, (\d+) bytes\):\n(.*)$", done.stdout, re.M)
    shown = re.search(r"^X-SF-Signature: ([0-9a-f]{64})$", done.stdout, re.M)
    assert body
    assert shown
    assert len(body[2].encode()) == int(body[1])
    assert signature(body[2].encode()) == shown[1]
    assert SF_SECRET not in done.stdout + done.stderr
    assert portal.query("SELECT state FROM fulfillments WHERE sf_order_id = ?", order_id) == [("queued",)]

    refused = portal.flask("send-fulfillment", order_id, SF_WEBHOOK_SECRET="not-the-portals-" + "x" * 32)
    assert refused.returncode == 1
    assert "401" in refused.stdout
    assert "invalid_signature" in refused.stdout
    assert portal.flask("send-fulfillment", "test-order-id").returncode == 1
    nobody = portal.flask("send-fulfillment", order_id, "--url", "http://127.0.0.1:9")
    assert nobody.returncode == 1
    assert "No answer" in nobody.stderr
    elsewhere = portal.flask("send-fulfillment", order_id, "--url", "portal.example")
    assert elsewhere.returncode == 1
    assert "must start with http:// or https://" in elsewhere.stderr


def test_what_the_page_says_of_numbers_is_so() -> None:
    secret, body, shown = re.search(r"body `(.*?)` and the secret\n`(.*?)` it is\n`([0-9a-f]{64})`", PAGE).group(
        2, 1, 3
    )  # type: ignore[union-attr]
    assert signature(body.encode(), secret) == shown == verifier.sign(body.encode(), secret)
    assert KEY_SECONDS == 7 * 86_400
    assert "Keys are kept for 7 days" in PAGE
    assert DELIVERY_SECONDS == 86_400
    assert "at least a day" in PAGE
    assert strict.MAX_BODY_BYTES == 16 * 1024
    assert strict.MAX_DEPTH == 8
    assert "at most 8 deep" in PAGE
    assert server.REQUEST_SECONDS == 10
    assert server.MAX_INCOMPLETE == 512
    assert "beyond 512" in PAGE
    defaults = Settings()
    for name in ("webhook_rate_limit", "webhook_global_limit", "webhook_forgery_limit"):
        assert f"| `{name.upper()}` | {getattr(defaults, name)} |" in PAGE
    for name in ("security_alert_events", "security_alert_window_seconds", "security_alert_cooldown_seconds"):
        assert f"`{name.upper()}` ({getattr(defaults, name)})" in PAGE
    assert f"`FULFILLMENT_WAIT_SECONDS` ({defaults.fulfillment_wait_seconds:g})" in PAGE


def test_every_refusal_of_the_verifier_is_on_the_page() -> None:
    for reason in verifier.Reason:
        assert f"`{reason.value}`" in PAGE
    assert Path(ROOT / "integrations/whmcs/INSTALL.md").exists()
