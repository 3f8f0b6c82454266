"""The security digest on its whole way: refused by the receiver, gathered in the ledger, carried until it is taken."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from portal.domain.model import UpstreamError
from portal.settings import Settings
from portal.webhooks.alerts import alert_secret, send_alert
from tests.listeners import receiving
from tests.stack import Stack


def send(url: str | None, **settings: str) -> None:
    services = SimpleNamespace(settings=Settings(security_alert_webhook=url, secret_key="k" * 32, **settings))
    send_alert(services, {"url_setting": "security_alert_webhook", "body": {"text": "hello"}})  # type: ignore[arg-type]


def test_an_alert_is_signed() -> None:
    with receiving(204) as server:
        send(server.url, security_alert_secret="shared")
        send(server.url)
    for (headers, body), key in zip(
        server.received,
        ("shared", hmac.new(b"k" * 32, b"security alerts", hashlib.sha256).hexdigest()),  # as docs/webhooks.md has it
        strict=True,
    ):
        assert headers["x-portal-signature"] == hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {"text": "hello"}
    assert alert_secret(Settings(security_alert_secret="shared")) == "shared"


@pytest.mark.parametrize(
    ("status", "permanent"), [(500, False), (503, False), (429, False), (404, True), (400, True), (302, True)]
)
def test_an_alert_that_is_not_taken_says_whether_trying_again_can_help(status: int, permanent: bool) -> None:
    with receiving(status) as server, pytest.raises(UpstreamError) as caught:
        send(server.url)
    assert caught.value.permanent is permanent
    assert caught.value.status == status
    assert len(server.received) == 1  # redirects aren't followed: the signature is for this receiver


def test_errors_never_name_the_address() -> None:
    with pytest.raises(UpstreamError) as caught:
        send("http://127.0.0.1:9/secret-path")
    assert not caught.value.permanent
    assert "secret-path" not in str(caught.value)
    with pytest.raises(UpstreamError) as caught:
        send(None)
    assert caught.value.permanent


def test_a_flood_of_forgeries_becomes_one_digest_that_is_tried_until_taken(tmp_path: Path) -> None:
    with receiving(500, 503, 200) as server:
        settings = {"SECURITY_ALERT_WEBHOOK": server.url, "SECURITY_ALERT_EVENTS": "10"}
        with Stack(tmp_path, settings=settings) as stack:
            order = stack.order("starter")
            for _ in range(25):
                assert stack.fulfill(order, secret="forged").status == 401
            stack.wait_for(lambda: len(server.received) >= 3, "the digest to be taken", 60)
            assert stack.fulfill(order).status == 200  # honest requests never minded
            stack.wait_for(
                lambda: stack.ledger("SELECT state FROM outbox WHERE kind = 'alert'") == [{"state": "sent"}],
                "the outbox to know",
            )
            counted = (
                "SELECT SUM(value) AS value FROM counters WHERE name = 'webhook_security_events_total' AND label = ?"
            )
            assert stack.ledger(counted, "invalid_signature") == [{"value": 25.0}]
            secret = hmac.new(stack.secret("secret_key").encode(), b"security alerts", hashlib.sha256).hexdigest()
        bodies = {body for _, body in server.received}
        assert len(server.received) == 3
        assert len(bodies) == 1
        headers, body = server.received[-1]
        assert headers["x-portal-signature"] == hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        told = json.loads(body)
        assert told["events"]["invalid_signature"] >= 10
        assert "127.0.0.1" in told["text"]
