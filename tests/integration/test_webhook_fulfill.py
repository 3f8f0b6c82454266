"""Salesforce's door against a real ledger and a real Valkey: every clause of the contract, in its order."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.test import TestResponse

from portal import webhooks
from portal.domain.model import State
from portal.ledger import deliveries, fulfillments
from portal.ledger.engine import CommitUnknown, Ledger, LedgerUnavailable
from portal.ledger.schema import counters, idempotency_keys, outbox
from portal.ledger.schema import deliveries as deliveries_table
from portal.ledger.schema import fulfillments as table
from portal.queue.jobs import FINISHED_CHANNEL
from portal.services import Services
from portal.settings import Settings
from portal.web import context, problems
from portal.web.lifecycle import Lifecycle
from portal.webhooks.receivers import Receivers
from tests.fakes import FakeQueue
from tests.webhooks.callout import SF_SECRET, WHMCS_SECRET, Call, Event, signature


@dataclass
class Portal:
    """What the doors see of portal.services.Services."""

    settings: Settings
    ledger: Ledger
    redis: redis.Redis
    jobs: FakeQueue = field(default_factory=FakeQueue)
    now: Callable[[], float] = time.time
    apps: list[Flask] = field(default_factory=list)  # to be stopped at the end


@pytest.fixture
def portal(store: redis.Redis, each_ledger: Ledger) -> Iterator[Portal]:
    settings = Settings(
        portal_env="production",
        portal_base_url="https://portal.example/shop",
        sf_webhook_secret=SF_SECRET,
        whmcs_webhook_secret=WHMCS_SECRET,
        fulfillment_wait_seconds=20.0,
    )
    portal = Portal(settings, each_ledger, store)
    yield portal
    for app in portal.apps:
        context.portal_of(app).lifecycle.stop()
        context.portal_of(app).lifecycle.end()


def application(portal: Portal) -> Flask:
    app = Flask("receivers")
    services = cast(Services, portal)
    lifecycle = Lifecycle()
    app.extensions["portal"] = context.Portal(services, lifecycle, (webhooks.build(services, lifecycle),))
    problems.register(app)
    webhooks.register(app)
    portal.apps.append(app)
    return app


@pytest.fixture
def client(portal: Portal) -> FlaskClient:
    return application(portal).test_client()


def post(client: FlaskClient, call: Call, *, prefer: str | None = "respond-async", **changes: Any) -> TestResponse:
    body = changes.pop("body", None)
    raw = call.body() if body is None else body
    headers = call.headers(raw)
    if prefer is not None:
        headers["Prefer"] = prefer
    headers |= changes.pop("headers", {})
    for name in changes.pop("without", ()):
        headers.pop(name, None)
    return client.post(changes.pop("path", call.path), data=raw, headers=headers, **changes)


def code(answer: TestResponse) -> tuple[int, str]:
    assert answer.content_type == "application/problem+json", answer.data
    told = json.loads(answer.data)
    assert told["status"] == answer.status_code and told["title"] and told["type"].endswith(told["code"])
    return answer.status_code, told["code"]


def count(portal: Portal, of: sa.Table) -> int:
    with portal.ledger.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(of)).scalar_one())


def finish(portal: Portal, sf_order_id: str, **values: Any) -> None:
    """What a worker does at a run's end."""
    with portal.ledger.write() as connection:
        connection.execute(sa.update(table).where(table.c.sf_order_id == sf_order_id).values(**values))
    portal.redis.publish(FINISHED_CHANNEL, sf_order_id)


def soon(portal: Portal, **values: Any) -> Callable[[str], None]:
    """A worker in a thread of its own."""
    return lambda sf_order_id: threading.Thread(target=finish, args=(portal, sf_order_id), kwargs=values).start()


PROVISIONED = {"state": State.PROVISIONED, "elected_whmcs_id": "4711"}
NO_PAYMENT = {
    "state": State.FAILED,
    "error_code": "PAYMENT_METHOD_MISSING",
    "error_message": "The client has no payment method.",
}


# --- the way it should go ------------------------------------------------------------------------------------


def test_the_order_is_in_the_ledger_and_ticketed_before_the_202(client: FlaskClient, portal: Portal) -> None:
    call = Call(extra={"requestedBy": "Ada"})
    answer = post(client, call)
    assert (answer.status_code, answer.json) == (202, {"status": "Activating"})
    assert answer.headers["Location"] == f"/shop/api/orders/{call.order_id}"
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert portal.jobs.sent == [call.order_id]
    with portal.ledger.read() as connection:
        row = fulfillments.get(connection, call.order_id)
        assert row is not None and row.state == State.QUEUED and row.requested_by == "Ada"


def test_by_default_the_request_waits_and_tells_the_outcome(client: FlaskClient, portal: Portal) -> None:
    portal.jobs.on_send = soon(portal, **PROVISIONED)
    answer = post(client, Call(), prefer=None)
    assert (answer.status_code, answer.json) == (
        200,
        {"success": True, "status": "Provisioned", "whmcsOrderId": "4711"},
    )


@pytest.mark.parametrize(
    ("error_code", "status"),
    [
        ("PAYMENT_METHOD_MISSING", 409),
        ("ORDER_NOT_FOUND", 404),
        ("PRODUCT_MAPPING_MISSING", 422),
        ("WHMCS_ADD_ORDER_FAILED", 422),
        ("PROVISIONING_ERROR", 422),
    ],
)
def test_failures_are_told_in_the_runbooks_words(
    client: FlaskClient, portal: Portal, error_code: str, status: int
) -> None:
    portal.jobs.on_send = soon(portal, state=State.FAILED, error_code=error_code, error_message="Why it failed.")
    answer = post(client, Call(), prefer=None)
    assert code(answer) == (status, error_code.lower())
    assert json.loads(answer.data)["detail"] == "Why it failed."


def test_one_that_needs_a_decision_is_409(client: FlaskClient, portal: Portal) -> None:
    portal.jobs.on_send = soon(portal, state=State.NEEDS_DECISION, error_message="Two are active.")
    call = Call()
    assert code(post(client, call, prefer=None)) == (409, "needs_decision")
    # the decision isn't the key's answer: once taken, the same key is told what came of it
    finish(portal, call.order_id, **PROVISIONED)
    assert post(client, replace(call, nonce="another")).status_code == 200


def test_prefer_wait_shortens_the_wait(client: FlaskClient, portal: Portal) -> None:
    answer = post(client, Call(), prefer="wait=0")
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=0")
    portal.jobs.on_send = soon(portal, **PROVISIONED)
    assert post(client, Call(), prefer='foo; x=1, WAIT="15", bar="a"').status_code == 200


def test_an_order_put_off_for_longer_than_the_wait_is_answered_at_once(client: FlaskClient, portal: Portal) -> None:
    portal.jobs.on_send = soon(portal, state=State.WAITING, due_at=time.time() + 3600)
    assert post(client, Call(), prefer=None).status_code == 202


def test_with_too_many_waiters_nobody_else_waits(portal: Portal) -> None:
    portal.settings = replace(portal.settings, fulfillment_max_waiters=0)
    assert post(application(portal).test_client(), Call(), prefer=None).status_code == 202


def test_stopping_wakes_everybody(client: FlaskClient, portal: Portal) -> None:
    waiting = context.portal_of(client.application).part(Receivers).waiting
    portal.jobs.on_send = lambda sf_order_id: waiting.stop()
    assert post(client, Call(), prefer=None).status_code == 202


def test_a_queue_that_is_away_loses_nothing(client: FlaskClient, portal: Portal) -> None:
    def broken(_sf_order_id: str) -> None:
        raise redis.ConnectionError("gone")

    portal.jobs.on_send = broken
    assert post(client, Call()).status_code == 202
    assert count(portal, table) == 1


# --- idempotency ---------------------------------------------------------------------------------------------


def test_the_same_key_again_joins_and_then_repeats_the_final_answer(client: FlaskClient, portal: Portal) -> None:
    call = Call()
    assert post(client, call).status_code == 202
    assert post(client, replace(call, nonce="second")).status_code == 202  # a 202 is the present state, never kept
    finish(portal, call.order_id, **NO_PAYMENT)
    failed = post(client, replace(call, nonce="third"))
    assert code(failed) == (409, "payment_method_missing")
    finish(portal, call.order_id, **PROVISIONED)  # by another way
    again = post(client, replace(call, nonce="fourth"))
    assert (again.status_code, again.data) == (failed.status_code, failed.data)
    assert count(portal, table) == 1 and count(portal, idempotency_keys) == 1 and count(portal, deliveries_table) == 4


def test_a_new_key_on_a_failed_order_is_a_new_attempt(client: FlaskClient, portal: Portal) -> None:
    call = Call()
    post(client, call)
    finish(portal, call.order_id, **NO_PAYMENT)
    assert post(client, replace(call, nonce="n2", key="click-2")).status_code == 202
    with portal.ledger.read() as connection:
        row = fulfillments.get(connection, call.order_id)
        assert row is not None and (row.attempt, row.state) == (2, State.QUEUED)
        key = deliveries.key_of(connection, "click-2", now=time.time())
        assert key is not None and key.attempt == 2


def test_a_new_key_on_a_provisioned_order_gets_the_same_whmcs_id(client: FlaskClient, portal: Portal) -> None:
    call = Call()
    post(client, call)
    finish(portal, call.order_id, **PROVISIONED)
    answer = post(client, replace(call, nonce="n2", key="click-2"))
    assert answer.json == {"success": True, "status": "Provisioned", "whmcsOrderId": "4711"}


def test_a_key_of_another_order_is_refused_and_burns_no_nonce(client: FlaskClient, portal: Portal) -> None:
    first, second = Call(key="shared"), Call(key="shared")
    post(client, first)
    assert code(post(client, second)) == (422, "idempotency_key_reused")
    assert post(client, replace(second, key="own")).status_code == 202


def test_an_expired_key_is_free_again(client: FlaskClient, portal: Portal) -> None:
    assert deliveries.KEY_SECONDS >= 86_400
    call, other = Call(key="old"), Call(key="old")
    post(client, call)
    with portal.ledger.write() as connection:
        connection.execute(sa.update(idempotency_keys).values(expires_at=time.time() - 1))
    assert post(client, other).status_code == 202


def test_concurrent_duplicates_join_one_fulfillment(portal: Portal) -> None:
    app = application(portal)
    call = Call()
    answers: list[tuple[int, bytes]] = []

    def send(number: int) -> None:
        answer = post(app.test_client(), replace(call, nonce=f"n{number}"), prefer=None)
        answers.append((answer.status_code, answer.data))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while count(portal, deliveries_table) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    finish(portal, call.order_id, **PROVISIONED)
    for thread in threads:
        thread.join(30)
    assert len(answers) == 6 and {status for status, _ in answers} == {200} and len({body for _, body in answers}) == 1
    assert count(portal, table) == 1 and count(portal, idempotency_keys) == 1


# --- refusals, in the contract's order -----------------------------------------------------------------------


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
    assert count(portal, table) == 1 and count(portal, deliveries_table) == 1


def test_refused_requests_burn_neither_nonce_nor_key(client: FlaskClient) -> None:
    call = Call()
    assert code(post(client, call, without=["Idempotency-Key"])) == (400, "missing_idempotency_key")
    assert code(post(client, call, headers={"X-SF-Signature": "0" * 64})) == (401, "invalid_signature")
    assert code(post(client, call, headers={"X-SF-Nonce": "other"})) == (400, "field_mismatch")
    assert code(post(client, call, path=Call().path)) == (400, "field_mismatch")
    assert post(client, call).status_code == 202


def test_a_ledger_that_fails_gives_the_nonce_back(
    client: FlaskClient, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Call()
    with monkeypatch.context() as patch:

        def away(*_args: object, **_kwargs: object) -> None:
            raise LedgerUnavailable("gone")

        patch.setattr(fulfillments, "request_fulfillment", away)
        answer = post(client, call)
        assert code(answer) == (503, "ledger_unavailable") and int(answer.headers["Retry-After"]) > 0
    assert count(portal, deliveries_table) == 0
    assert post(client, call).status_code == 202


class LostAtCommit:
    """A ledger whose connection is lost while a transaction commits: before it took effect, or after."""

    def __init__(self, ledger: Ledger, *, committed: bool) -> None:
        self.ledger = ledger
        self.committed = committed
        self.read = ledger.read

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        try:
            with self.ledger.write() as connection:
                yield connection
                if not self.committed:
                    raise CommitUnknown("lost")
        finally:
            if self.committed:
                raise CommitUnknown("lost")


def test_a_commit_of_unknown_outcome_is_looked_up(portal: Portal) -> None:
    real, call = portal.ledger, Call()
    portal.ledger = LostAtCommit(real, committed=False)  # type: ignore[assignment]
    client = application(portal).test_client()
    assert code(post(client, call)) == (503, "ledger_unavailable")
    assert count(Portal(portal.settings, real, portal.redis), table) == 0
    portal.ledger = LostAtCommit(real, committed=True)  # type: ignore[assignment]
    assert post(client, call).status_code == 202  # the nonce had been given back, and the order is there
    assert portal.jobs.sent == [call.order_id]
    portal.ledger = real
    assert count(portal, table) == 1
    assert code(post(client, call)) == (401, "nonce_already_used")


class LostAfterwards:
    """A ledger that goes away once `writes` transactions have been committed."""

    def __init__(self, ledger: Ledger, *, writes: int) -> None:
        self.ledger = ledger
        self.writes = writes

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        if self.writes == 0:
            raise LedgerUnavailable("gone")
        with self.ledger.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        if self.writes == 0:
            raise LedgerUnavailable("gone")
        with self.ledger.write() as connection:
            yield connection
        self.writes -= 1


@pytest.mark.parametrize("prefer", ["respond-async", "wait=1", None])
def test_a_ledger_that_fails_after_acceptance_is_no_refusal(portal: Portal, prefer: str | None) -> None:
    real, call = portal.ledger, Call()
    portal.settings = replace(portal.settings, fulfillment_wait_seconds=1.0)
    client = application(portal).test_client()  # what is counted in the background goes to the real one
    portal.ledger = LostAfterwards(real, writes=1)  # type: ignore[assignment]
    answer = post(client, call, prefer=prefer)
    assert (answer.status_code, answer.json) == (202, {"status": "Activating"})
    assert answer.headers["Location"].endswith(f"/api/orders/{call.order_id}")
    portal.ledger = real
    assert count(portal, table) == 1


def test_a_known_outcome_is_told_though_it_cant_be_kept(portal: Portal) -> None:
    real, call = portal.ledger, Call()
    client = application(portal).test_client()
    assert post(client, replace(call, key="an-earlier-click")).status_code == 202
    finish(portal, call.order_id, **PROVISIONED)
    call = replace(call, nonce="another-nonce")
    portal.ledger = LostAfterwards(real, writes=1)  # type: ignore[assignment]
    answer = post(client, call)
    assert (answer.status_code, answer.json["status"]) == (200, "Provisioned")


def test_a_commit_whose_outcome_cant_be_asked_is_called_unknown(portal: Portal) -> None:
    real, call = portal.ledger, Call()

    class Lost(LostAfterwards):
        @contextmanager
        def write(self) -> Iterator[sa.Connection]:
            with super().write() as connection:
                yield connection
            raise CommitUnknown("lost")

    client = application(portal).test_client()
    portal.ledger = Lost(real, writes=1)  # type: ignore[assignment]
    answer = post(client, call)
    assert code(answer) == (503, "outcome_unknown") and int(answer.headers["Retry-After"]) > 0
    assert "may have been taken" in answer.json["detail"]
    portal.ledger = real
    again = Call(order_id=call.order_id, key=call.key)
    assert post(client, again).status_code == 202
    assert count(portal, table) == 1


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
        counted = {row.label: row.value for row in connection.execute(sa.select(counters))}
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
        assert row is not None and row.state == State.FAILED and row.audit_due_at is not None
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
    assert code(answer) == (503, "nonce_store_unavailable") and int(answer.headers["Retry-After"]) > 0
    assert count(portal, table) == 0 and count(portal, deliveries_table) == 0

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
    assert code(answer) == (429, "rate_limited") and int(answer.headers["Retry-After"]) > 0
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
    assert code(answer) == (410, "endpoint_renamed") and "/fulfill" in json.loads(answer.data)["detail"]
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        refused = client.open(call.path, method=method)
        assert code(refused) == (405, "method_not_allowed") and refused.headers["Allow"] == "POST"


def test_chunked_bodies_are_limited_as_well(client: FlaskClient) -> None:
    call = Call()
    body = call.body() + b" " * 20_000
    chunked = {"input_stream": io.BytesIO(body), "environ_base": {"wsgi.input_terminated": True}}
    answer = client.post(call.path, headers=call.headers(body), **chunked)
    assert code(answer) == (413, "body_too_large")
