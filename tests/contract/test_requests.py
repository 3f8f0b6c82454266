"""What the shipped Apex sends, and that the portal takes it: field order, formats and header names from both ends."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from integrations.salesforce.checks.apex import Parser, Unsupported, tokens_of
from integrations.salesforce.checks.platform import Org, Response, hmac_sha256, named_credential, package_class
from portal.webhooks.verifier import FulfillCall, Refused, Secrets, verify_fulfill
from tests.contract.record import CASES, CLASSES, FOLDER, MOMENT, SECRET, Case, key_of, record
from tests.webhooks.callout import SF_SECRET, fresh_id
from tests.webhooks.running import ROOT, RunningPortal

pytestmark = [
    pytest.mark.example,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl isn't installed: nothing here can be signed"),
]
SENDING = (*CLASSES, "OrderProvisioningCallout", "OrderProvisioningAnswer", "OrderProvisioningConnection")
PAGE = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """The real door, with nobody behind it: orders stay queued."""
    with RunningPortal(tmp_path_factory.mktemp("portal"), WEB_CONCURRENCY="1", FULFILLMENT_WAIT_SECONDS="0") as running:
        yield running


def send(portal: RunningPortal, path: str, headers: dict[str, str], body: bytes) -> Response:
    connection = HTTPConnection("127.0.0.1", portal.port, timeout=60)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return Response(answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()})
    finally:
        connection.close()


def on(portal: RunningPortal, **about: Any) -> Org:
    """An org whose callouts reach the running portal."""
    org = Org(SF_SECRET, **about)
    base = ""

    def callout(request: Any) -> Response:
        return send(portal, *org.on_the_wire(request, base))

    org.send = callout
    return org


def recorded(case: Case) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((FOLDER / f"{case.name}.json").read_text(encoding="utf-8"))
    return told


# --- from the Apex' end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_apex_still_sends_what_is_recorded(case: Case) -> None:
    assert record(case) == recorded(case), "if it is meant to: python -m tests.contract.record"


def test_nothing_else_is_recorded() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {case.name for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_request_is_as_the_contract_has_it(case: Case) -> None:
    told = recorded(case)
    body = json.loads(told["body"])
    headers = told["headers"]
    assert list(body) == ["orderId", "timestamp", "nonce", "requestedBy"][: len(body)]
    assert told["path"] == f"/orders/{body['orderId']}/fulfill"
    assert told["method"] == "POST"
    assert body["timestamp"] == headers["X-SF-Timestamp"] == MOMENT.strftime("%Y-%m-%dT%H:%M:%SZ"), "GMT in any zone"
    digits = 16 if case.guide else 32
    assert body["nonce"] == headers["X-SF-Nonce"] == case.nonce[:digits]
    assert body.get("requestedBy") == case.user, "nothing of the name is lost"
    assert told["body"].isascii()
    assert headers["Idempotency-Key"] == key_of(case)
    assert headers["X-SF-Signature"] == hmac_sha256(told["body"].encode(), SECRET.encode()).hex()


def test_java_computes_the_recorded_signatures_too(tmp_path: Path) -> None:
    """A third implementation, for openssl's answers are otherwise only held against themselves."""
    if shutil.which("javac") is None:
        pytest.skip("no Java compiler is installed: the signatures are checked by openssl only")
    source = tmp_path / "Sign.java"
    source.write_text(
        """
        import javax.crypto.Mac;
        import javax.crypto.spec.SecretKeySpec;
        import java.util.HexFormat;
        class Sign {
            public static void main(String[] words) throws Exception {
                Mac mac = Mac.getInstance("HmacSHA256");
                mac.init(new SecretKeySpec(words[0].getBytes("UTF-8"), "HmacSHA256"));
                for (String body : new String(System.in.readAllBytes(), "UTF-8").split("\\n")) {
                    System.out.println(HexFormat.of().formatHex(mac.doFinal(body.getBytes("UTF-8"))));
                }
            }
        }
        """
    )
    bodies = [recorded(case)["body"] for case in CASES]
    done = subprocess.run(
        ["java", str(source), SECRET], input="\n".join(bodies), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [recorded(case)["headers"]["X-SF-Signature"] for case in CASES]


def test_both_ways_to_sign_make_the_same_signature() -> None:
    def signature(mode: str) -> str:
        org = Org(SECRET, now=MOMENT, nonce="00" * 16, mode=mode)
        runtime = org.runtime(*map(package_class, CLASSES))
        request = runtime.call("OrderProvisioningRequest", "build", "801000000000001AAA", "key", "Zoë 😀")
        return org.on_the_wire(request, "")[1]["X-SF-Signature"]

    assert signature("Platform") == signature("Apex")


def test_in_the_platforms_way_no_apex_sees_the_secret() -> None:
    org = Org("never-in-apex-0123456789abcdef-0123456789", now=MOMENT, mode="Platform")
    runtime = org.runtime(*map(package_class, CLASSES))
    request = runtime.call("OrderProvisioningRequest", "build", "801000000000001AAA", "key", "Ada")
    assert org.secret not in repr(request)
    assert request.headers["X-SF-Signature"].startswith("{!HEX(HMAC('SHA-256', $Credential.Portal_Webhook.Body")
    assert named_credential("Portal_BFF").external == "Portal_Webhook"


def test_the_documented_example_is_signed_as_documented() -> None:
    body, secret, shown = re.search(r"body `(.*?)` and the secret\n`(.*?)` it is\n`([0-9a-f]{64})`", PAGE).groups()  # type: ignore[union-attr]
    runtime = Org(secret, mode="Apex").runtime(*map(package_class, CLASSES))
    assert runtime.call("OrderProvisioningSignature", "hexHmac", body) == shown


def test_what_the_reader_of_apex_does_not_know_it_says() -> None:
    with pytest.raises(Unsupported):
        tokens_of("String a = `x`;")
    with pytest.raises(Unsupported):
        Parser("public class A { public void m() { synchronized (x) { } } }").declaration()
    runtime = Org(SECRET).runtime(*map(package_class, CLASSES))
    with pytest.raises(Unsupported):
        runtime.call("OrderProvisioningRequest", "noSuchMethod")


# --- from the portal's end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_receiver_accepts_a_recorded_request_byte_for_byte(case: Case) -> None:
    """As it would have at that moment: the running door's clock can't be set back."""
    told = recorded(case)
    headers = {name.lower(): value for name, value in told["headers"].items()}

    def judge(body: str) -> FulfillCall | Refused:
        return verify_fulfill(
            body.encode("ascii"),
            headers,
            told["path"].split("/")[2],
            secrets=Secrets(SECRET),
            now=MOMENT.timestamp() + 1,
            tolerance=300,
        )

    call = judge(told["body"])
    assert isinstance(call, FulfillCall), call
    assert (call.sf_order_id, call.sent_at) == (case.order_id, MOMENT.timestamp())
    assert call.nonce == told["headers"]["X-SF-Nonce"]
    assert call.idempotency_key == key_of(case)
    assert call.requested_by == (None if case.user is None else " ".join(case.user.split()))
    changed = judge(told["body"].replace('"nonce"', '"Nonce"'))
    assert isinstance(changed, Refused)
    assert changed.reason == "invalid_signature"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_running_portal_takes_the_same_request_made_now(portal: RunningPortal, case: Case) -> None:
    order = fresh_id()
    now = datetime.now(UTC).replace(microsecond=0)
    told = record(replace(case, order_id=order), now=now)
    answer = send(portal, told["path"], told["headers"], told["body"].encode("ascii"))
    assert (answer.status, json.loads(answer.text)) == (202, {"status": "Activating"})
    rows = portal.query("SELECT state, requested_at, requested_by FROM fulfillments WHERE sf_order_id = ?", order)
    assert rows == [("queued", now.timestamp(), None if case.user is None else " ".join(case.user.split()))]


@pytest.mark.parametrize("mode", ["Platform", "Apex"])
def test_a_click_and_its_retry(portal: RunningPortal, mode: str) -> None:
    """Each attempt has a nonce of its own and the click's key: the portal takes both and makes one fulfillment."""
    order = fresh_id()
    runtime = on(portal, mode=mode).runtime(*map(package_class, SENDING))
    key = f"provision_{order}_{'0f' * 16}"
    for _ in range(2):
        answer = runtime.call("OrderProvisioningCallout", "send", order, key, "Ada Lovelace")
        assert (answer.fields["kind"].name, answer.fields["message"]) == ("ACCEPTED", "Activating")
    assert portal.query("SELECT attempt, requested_by FROM fulfillments WHERE sf_order_id = ?", order) == [
        (1, "Ada Lovelace")
    ]
    nonces = portal.query("SELECT count(*) FROM deliveries WHERE idempotency_key = ?", key)
    assert nonces == [(2,)]


def test_the_connection_test_asks_for_nothing_and_knows_a_right_secret(portal: RunningPortal) -> None:
    before = portal.query("SELECT count(*) FROM fulfillments")
    for mode in ("Platform", "Apex"):
        runtime = on(portal, mode=mode).runtime(*map(package_class, SENDING))
        assert runtime.call("OrderProvisioningConnection", "check") == "OK: the portal knows our signature."
    assert portal.query("SELECT count(*) FROM fulfillments") == before


def test_the_connection_test_says_what_is_wrong(portal: RunningPortal) -> None:
    org = on(portal)
    org.secret = "another-secret-0123456789abcdef0123456789"
    runtime = org.runtime(*map(package_class, SENDING))
    assert runtime.call("OrderProvisioningConnection", "check").startswith(
        "INVALID_SIGNATURE: HTTP 401 Invalid signature"
    )
    runtime = on(portal, mode="Apex").runtime(*map(package_class, SENDING))
    runtime.natives["portal_secret__c"] = type(
        "Empty", (), {"getorgdefaults": staticmethod(lambda: type("Record", (), {"webhook_secret__c": None})())}
    )
    assert runtime.call("OrderProvisioningConnection", "check").startswith("NOT_SET_UP: The webhook secret is missing")
