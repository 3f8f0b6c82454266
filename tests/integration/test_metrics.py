"""GET /metrics: for those it is for, with figures out of the ledger."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.webhooks.attack import exchange
from tests.webhooks.callout import SF_SECRET, Call
from tests.webhooks.hostile import right
from tests.webhooks.running import RunningPortal

TOKEN = "a-token-for-prometheus"
OLD_SECRET = "the-secret-before-the-rotation-0123456789"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    folder = tmp_path_factory.mktemp("portal")
    with RunningPortal(
        folder, METRICS_TOKEN=TOKEN, METRICS_ALLOWLIST="127.0.0.3", SF_WEBHOOK_SECRET_PREVIOUS=OLD_SECRET
    ) as running:
        yield running


def ask(portal: RunningPortal, source: str = "127.0.0.1", **headers: str) -> tuple[int, str]:
    with closing(
        http.client.HTTPConnection("127.0.0.1", portal.port, timeout=30, source_address=(source, 0))
    ) as connection:
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def figures(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_only_token_and_allowlist_open_it(portal: RunningPortal) -> None:
    assert ask(portal, Authorization=f"Bearer {TOKEN}")[0] == ask(portal, source="127.0.0.3")[0] == 200
    refusals: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer \xe9"},
        {"X-Forwarded-For": "127.0.0.3"},
    ]
    for headers in refusals:
        assert ask(portal, **headers)[0] == 403


def test_nobody_may_read_it_when_nothing_is_configured(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RunningPortal(tmp_path_factory.mktemp("closed"), WEB_CONCURRENCY="1") as closed:
        assert ask(closed)[0] == ask(closed, Authorization="Bearer ")[0] == 403


def test_it_counts_refusals_and_which_secret_was_used(portal: RunningPortal) -> None:
    def send(call: Call) -> list[int]:
        return exchange(portal.port, right(call), "127.0.0.1")

    assert [send(Call()), send(Call()), send(Call(secret=OLD_SECRET))] == [[202]] * 3
    assert send(Call(secret="forged")) == send(Call(timestamp=1)) == [401]
    wanted = {
        ("webhook_secret_matched_total", "sf:current"): 2.0,
        ("webhook_secret_matched_total", "sf:previous"): 1.0,
        ("webhook_security_events_total", "invalid_signature"): 1.0,
        ("webhook_security_events_total", "stale_timestamp"): 1.0,
        ("order_fulfillments_unsettled", "queued"): 3.0,
    }

    def told() -> dict[tuple[str, str], float]:
        return figures(ask(portal, Authorization=f"Bearer {TOKEN}")[1])

    portal.wait_for(lambda: wanted.items() <= told().items(), "the counters")
    assert SF_SECRET not in ask(portal, source="127.0.0.3")[1]
