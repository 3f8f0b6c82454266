"""What the receivers refuse, in the contract's order, and what a refusal costs."""

from __future__ import annotations

import gzip
import io
import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient
from redis.backoff import NoBackoff
from redis.retry import Retry

from portal.domain.model import State
from portal.ledger import fulfillments
from portal.ledger.schema import counters, outbox
from portal.ledger.schema import deliveries as deliveries_table
from portal.ledger.schema import fulfillments as table
from portal.settings import Settings
from portal.web import context
from portal.webhooks.receivers import Receivers
from portal.webhooks.security_events import COUNTER, SECRET_COUNTER
from tests.webhooks.callout import Call, Event, signature
from tests.webhooks.in_process import NO_PAYMENT, Portal, application, code, count, finish, post


def test_the_guides_first_security_test(client: FlaskClient) -> None:
    answer = client.post("/orders/test-order-id/fulfill", json={"orderId": "test-order-id"})
    assert code(answer) == (401, "invalid_signature")
    assert json.loads(answer.data)["title"] == "Invalid signature"
    assert answer.headers["WWW-Authenticate"]


def test_the_guides_second_security_test(client: FlaskClient) -> None:
    old = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 600))
    body = json.dumps({"orderId": "test-order-id", "timestamp": old}, separators=(",", ":")).encode()
    headers = {"X-SF-Signature": signature(body), "X-SF-Timestamp": old, "Content-Type": "application/json"}
    answer = client.post("/orders/test-order-id/fulfill", data=body, headers=headers)
    assert code(answer) == (401, "stale_timestamp")


def test_a_replay_is_refused(client: FlaskClient, portal: Portal, store: redis.Redis) -> None:
    call = Call()
    assert post(client, call).status_code == 202
    answer = post(client, call)
    assert code(answer) == (401, "nonce_already_used")
    assert json.loads(answer.data)["title"] == "Nonce already used"
    store.flushall()  # Redis is only the fast refusal
    assert code(post(client, replace(call, key="other"))) == (401, "nonce_already_used")
    assert count(portal, deliveries_table) == 1


def test_the_checks_come_in_the_contracts_order(portal: Portal) -> None:
    """Each request is wrong in everything from its step on; repairing one thing shows the next."""
    portal.settings = replace(
        portal.settings,
        sf_webhook_ip_allowlist=Settings.__dataclass_fields__["trusted_proxies"].metadata["parse"]("10.0.0.0/8"),
    )
    client = application(portal).test_client()
    inside = {"environ_base": {"REMOTE_ADDR": "10.1.2.3"}}
    used = Call()
    assert post(client, used, **inside).status_code == 202
    old = "2001-01-01T00:00:00Z"

    big = b"x" * 17_000
    forged = {"headers": {"X-SF-Signature": "0" * 64}}
    assert code(post(client, Call(), body=big, **forged)) == (403, "address_not_allowed")
    assert code(post(client, Call(), body=big, **forged, **inside)) == (413, "body_too_large")
    assert code(post(client, Call(), body=b"{", **forged, **inside)) == (401, "invalid_signature")
    assert code(post(client, Call(), body=b"{", **inside)) == (400, "unreadable_body")
    stale = Call(timestamp=old, nonce="")
    assert code(post(client, stale, without=["X-SF-Nonce"], **inside)) == (401, "stale_timestamp")
    assert code(post(client, Call(nonce=""), without=["X-SF-Nonce"], **inside)) == (400, "missing_fields")
    other = Call(key=None)
    assert code(post(client, other, path=used.path, **inside)) == (400, "field_mismatch")
    assert code(post(client, other, **inside)) == (400, "missing_idempotency_key")
    assert code(post(client, Call(nonce=used.nonce, key=used.key), **inside)) == (422, "idempotency_key_reused")
    assert code(post(client, Call(nonce=used.nonce), **inside)) == (401, "nonce_already_used")
    assert count(portal, table) == 1
    assert count(portal, deliveries_table) == 1


def test_refused_requests_burn_neither_nonce_nor_key(client: FlaskClient) -> None:
    call = Call()
    assert code(post(client, call, without=["Idempotency-Key"])) == (400, "missing_idempotency_key")
    assert code(post(client, call, headers={"X-SF-Signature": "0" * 64})) == (401, "invalid_signature")
    assert code(post(client, call, headers={"X-SF-Nonce": "other"})) == (400, "field_mismatch")
    assert code(post(client, call, path=Call().path)) == (400, "field_mismatch")
    assert post(client, call).status_code == 202


def test_refusals_are_counted_and_told_on_either_database(portal: Portal) -> None:
    portal.settings = replace(portal.settings, security_alert_webhook="https://alerts.example", security_alert_events=3)
    app = application(portal)
    for _ in range(2):
        post(app.test_client(), Call(secret="forged"))
    context.portal_of(app).part(Receivers).security.flush()
    assert count(portal, outbox) == 0
    post(app.test_client(), Call(timestamp=5))
    post(app.test_client(), Call())
    context.portal_of(app).part(Receivers).security.flush()
    with portal.ledger.read() as connection:
        ours = counters.c.name.in_((COUNTER, SECRET_COUNTER))
        counted = {row.label: row.value for row in connection.execute(sa.select(counters).where(ours))}
        alerts = connection.execute(sa.select(outbox.c.payload)).scalars().all()
    assert counted == {"invalid_signature": 2, "stale_timestamp": 1, "sf:current": 1}
    assert [each["body"]["events"] for each in alerts] == [{"invalid_signature": 2, "stale_timestamp": 1}]


def test_events_of_whmcs_on_either_database(portal: Portal) -> None:
    client = application(portal).test_client()
    call, event = Call(), Event("paymethod.added", {"clientId": "9"}, dated=True)
    post(client, call)
    finish(portal, call.order_id, client_id="9", **NO_PAYMENT)
    answer = client.post(event.path, data=event.body(), headers=event.headers())
    assert (answer.status_code, answer.json) == (202, {"status": "accepted"})
    with portal.ledger.read() as connection:
        row = fulfillments.get(connection, call.order_id)
        # A hint: an audit is due, which asks WHMCS.
        assert row is not None
        assert row.state == State.FAILED
        assert row.audit_due_at is not None
        assert row.audit_due_at <= time.time()
    again = Event("paymethod.added", {"clientId": "9"}, id=event.id)
    assert client.post(again.path, data=again.body(), headers=again.headers()).json == {"status": "duplicate"}
    replay = client.post(event.path, data=event.body(), headers=event.headers())
    assert code(replay) == (401, "nonce_already_used")


def test_without_redis_production_refuses_and_development_goes_on(
    portal: Portal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    portal.redis = redis.Redis(unix_socket_path=str(tmp_path / "nobody"), retry=Retry(NoBackoff(), 0))
    call = Call()
    answer = post(application(portal).test_client(), call)
    assert code(answer) == (503, "nonce_store_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert count(portal, table) == 0
    assert count(portal, deliveries_table) == 0

    portal.settings = replace(portal.settings, portal_env="development")
    client = application(portal).test_client()
    with caplog.at_level(logging.WARNING, "portal.webhooks"):
        assert post(client, call).status_code == 202
    assert "in memory" in caplog.text
    assert code(post(client, call)) == (401, "nonce_already_used")


def test_forgeries_are_limited_without_harm_to_honest_senders_of_the_same_address(portal: Portal) -> None:
    portal.settings = replace(portal.settings, webhook_forgery_limit="3/hour", webhook_rate_limit="4/hour")
    client = application(portal).test_client()
    forged = {"headers": {"X-SF-Signature": "0" * 64}}
    codes = [code(post(client, Call(), **forged)) for _ in range(5)]
    assert codes == [(401, "invalid_signature")] * 3 + [(429, "rate_limited")] * 2
    assert [post(client, Call()).status_code for _ in range(4)] == [202] * 4
    answer = post(client, Call())
    assert code(answer) == (429, "rate_limited")
    assert int(answer.headers["Retry-After"]) > 0
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.9"}}
    assert post(client, Call(), **elsewhere).status_code == 202


def test_all_addresses_together_have_a_limit_too(portal: Portal) -> None:
    portal.settings = replace(portal.settings, webhook_global_limit="2/hour")
    client = application(portal).test_client()
    codes = [post(client, Call(), environ_base={"REMOTE_ADDR": f"192.0.2.{n}"}).status_code for n in range(3)]
    assert codes == [202, 202, 429]


def test_the_old_name_and_other_methods(client: FlaskClient) -> None:
    call = Call()
    answer = post(client, call, path=f"/orders/{call.order_id}/provision")
    assert code(answer) == (410, "endpoint_renamed")
    assert "/fulfill" in json.loads(answer.data)["detail"]
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        refused = client.open(call.path, method=method)
        assert code(refused) == (405, "method_not_allowed")
        assert refused.headers["Allow"] == "POST"


def test_chunked_bodies_are_limited_as_well(client: FlaskClient) -> None:
    call = Call()
    body = call.body() + b" " * 20_000
    chunked = {"input_stream": io.BytesIO(body), "environ_base": {"wsgi.input_terminated": True}}
    answer = client.post(call.path, headers=call.headers(body), **chunked)
    assert code(answer) == (413, "body_too_large")


def test_a_body_in_another_coding_is_refused(client: FlaskClient) -> None:
    """Its signature is over what the sender wrote, and so is what is read."""
    call = Call()
    packed = gzip.compress(call.body())
    answer = post(client, call, body=packed, headers={"Content-Encoding": "gzip"})
    assert code(answer) == (415, "unsupported_media_type")
    assert post(client, call, headers={"Content-Encoding": "Identity"}).status_code == 202


class Torn(io.BytesIO):
    """A stream whose sender goes away, or breaks its chunks: what the server then raises is its own."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Nothing."""
        raise RuntimeError("bad chunk")


def test_a_body_that_cant_be_read_to_its_end_burns_nothing(client: FlaskClient) -> None:
    call = Call()
    torn = {"input_stream": Torn(), "environ_base": {"wsgi.input_terminated": True}}
    answer = client.post(call.path, headers=call.headers(), **torn)
    assert code(answer) == (400, "unreadable_body")
    assert post(client, call).status_code == 202
