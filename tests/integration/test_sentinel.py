"""Redis behind Sentinels: a failover that loses the last writes loses and doubles no order, and is over in 10 s."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.fulfilling import sends, whmcs_orders
from tests.sentinel import PASSWORD, SentinelHouse
from tests.stack import PRODUCTION, Answer, Stack, http

pytestmark = pytest.mark.long

#: From the master's death until orders are accepted and fulfilled again.
FAILOVER_SECONDS = 10.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelHouse]:
    with SentinelHouse(tmp_path_factory.mktemp("sentinel")) as running:
        yield running


@pytest.fixture(scope="module")
def shop(house: SentinelHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {**PRODUCTION, "REDIS_URL": house.url, "WHMCS_MAX_REQUEST_SECONDS": "3"}
    with Stack(tmp_path_factory.mktemp("shop"), settings=settings) as running:
        yield running


def accepted(shop: Stack, order: str) -> Answer:
    """Send one click of an order, again and again as Salesforce would, until it is accepted."""
    body, headers = shop.signed(order, key=f"click-{order}")
    while True:
        answer = http("POST", f"{shop.urls['portal']}/orders/{order}/fulfill", body, {**headers, "Prefer": "wait=0"})
        if answer.status in (200, 202):
            return answer
        assert answer.status == 503, f"{answer.status}: {answer.text}"
        assert int(answer.headers["retry-after"]) > 0
        time.sleep(0.1)
        body, headers = shop.signed(order, key=f"click-{order}")


def replay(shop: Stack, order: str, recorded: tuple[bytes, dict[str, str]]) -> Answer:
    """Send these very bytes."""
    body, headers = recorded
    headers = {**headers, "Prefer": "respond-async"}
    return http("POST", f"{shop.urls['portal']}/orders/{order}/fulfill", body, headers)


def test_a_failover_loses_and_doubles_nothing(shop: Stack, house: SentinelHouse) -> None:
    orders = [shop.order("starter") for _ in range(24)]
    for order in orders[:8]:
        accepted(shop, order)
    house.part_replica()
    for order in orders[8:15]:  # their nonces and jobs are lost
        accepted(shop, order)
    recorded = shop.signed(orders[15])
    assert replay(shop, orders[15], recorded).status == 202
    old = house.kill_master()
    died = time.monotonic()
    senders = [threading.Thread(target=accepted, args=(shop, order)) for order in orders[16:]]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    took_orders = time.monotonic() - died
    assert house.master() != old
    assert took_orders <= FAILOVER_SECONDS
    shop.finished(orders[-1], 30)
    assert time.monotonic() - died <= FAILOVER_SECONDS
    refused = replay(shop, orders[15], recorded)  # the ledger has its nonce
    assert (refused.status, refused.json()["code"]) == (401, "nonce_already_used")
    for order in orders:
        assert shop.finished(order, 60)["state"] == "provisioned"
        assert len(whmcs_orders(shop, order)) == 1
        assert sends(shop, order, "AddOrder") == 1


def test_no_password_is_in_a_log(shop: Stack) -> None:
    for log in shop.logs.iterdir():
        text = log.read_text(encoding="utf-8", errors="replace")
        assert PASSWORD not in text
        assert "p%40ss" not in text
