"""The catalogue costs Salesforce nothing per visitor and stays on show without it; the usual duration is measured."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.customers import lead_time
from portal.customers.catalogue import FRESH_SECONDS, CatalogueCache, CatalogueUnavailable
from portal.customers.lead_time import FEWEST, SAMPLE, LeadTime, lead_time_seconds, review_seconds
from portal.customers.visitor import ACCOUNT_COOKIE
from portal.domain.model import UpstreamError
from portal.ledger import fulfillments, orders, placements
from portal.ledger.engine import Ledger
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.ledger.statistics import recent_review_times
from portal.services import Services
from tests.customers import application, make_order, make_session
from tests.customers_in_process import base_url, browser
from tests.fulfilling import queue_of
from tests.stack import Stack, http


@pytest.fixture
def app(stack: Stack) -> Iterator[Flask]:
    """Each test's own: they change its clock and its clients."""
    with application(stack) as made:
        yield made


def queries(stack: Stack, since: int) -> int:
    entries = stack.salesforce.journal(since=since, action="query")
    return sum("PricebookEntry" in str(entry["params"]) for entry in entries)


def test_fifty_visitors_cost_salesforce_nothing(stack: Stack) -> None:
    portal = stack.urls["portal"]
    with queue_of(stack) as store:

        def fresh() -> bool:
            """The stack is others' as well: the catalogue may be just about to be read anew."""
            assert http("GET", f"{portal}/").status == 200
            kept = store.get("portal:catalogue")
            return kept is not None and time.time() - json.loads(kept)["readAt"] < FRESH_SECONDS - 60

        stack.wait_for(fresh, "a catalogue that stays fresh", 120)
    since = stack.salesforce.last()
    for _ in range(50):
        assert "Starter Hosting" in http("GET", f"{portal}/").text
    assert queries(stack, since) == 0


def test_an_old_catalogue_is_shown_while_one_of_all_processes_reads_it_anew(app: Flask, stack: Stack) -> None:
    services: Services = app.extensions["portal"].services
    services.redis.delete("portal:catalogue", "portal:catalogue:refreshing")  # whoever visited the shop before
    caches = [CatalogueCache(services) for _ in range(4)]
    read_at = {cache.current().read_at for cache in caches}
    assert len(read_at) == 1
    later = time.time() + FRESH_SECONDS + 1
    services.now = lambda: later
    since = stack.salesforce.last()
    assert caches[0].current().read_at in read_at, "nobody waits for Salesforce"
    stack.wait_for(lambda: all(cache.current().read_at == later for cache in caches), "the new catalogue")
    assert queries(stack, since) == 1
    services.redis.delete("portal:catalogue", "portal:catalogue:refreshing")


def test_without_salesforce_the_last_known_catalogue_stays(app: Flask) -> None:
    services: Services = app.extensions["portal"].services
    cache = CatalogueCache(services)
    known = cache.current()

    def away(_: float) -> None:
        raise UpstreamError("Salesforce", "away", permanent=False, reached=False)

    services.send_checks.add(away)
    services.now = lambda: time.time() + 10 * FRESH_SECONDS
    assert cache.current() == known
    assert CatalogueCache(services).current().products == known.products, "a new process finds it in Redis"
    services.redis.delete("portal:catalogue", "portal:catalogue:refreshing")
    with pytest.raises(CatalogueUnavailable):
        CatalogueCache(services).current()


def test_what_another_version_left_in_redis_is_read_anew(app: Flask) -> None:
    services: Services = app.extensions["portal"].services
    for nonsense in (b"{", b"[]", b'{"readAt": 1, "products": [{"colour": "red"}]}'):
        services.redis.set("portal:catalogue", nonsense)
        assert CatalogueCache(services).current().product("nothing") is None
        assert len(CatalogueCache(services).current().products) >= 5


# --- how long it usually takes --------------------------------------------------------------------------------


def placed_here(ledger: Ledger, number: int, at: float) -> None:
    """The checkout of the order that `provisioned` takes up, at that moment (seconds since 1970)."""
    with ledger.write() as connection:
        orders.insert_placed_here(
            connection,
            reference=f"PO-{number}",
            checkout_key=str(number),
            account_id="001",
            email="",
            items=[],
            currency="USD",
            total="5.00",
            now=at,
        )
        placements.settle_placed(connection, f"PO-{number}", f"801{number:015d}", now=at)


def provisioned(ledger: Ledger, number: int, took: float, state: str = "provisioned") -> None:
    with ledger.write() as connection:
        sf_order_id = f"801{number:015d}"
        at = 1000.0 + number
        fulfillments.request_fulfillment(connection, sf_order_id, now=at, requested_at=at)
        connection.execute(
            fulfillments_table.update()
            .where(fulfillments_table.c.sf_order_id == sf_order_id)
            .values(state=state, finished_at=at + took, add_attempts=1)
        )


def test_nothing_is_said_where_too_few_are_known(ledger: Ledger) -> None:
    for number in range(FEWEST - 1):
        provisioned(ledger, number, 10)
    provisioned(ledger, 500, 10, state="failed")
    with ledger.read() as connection:
        assert lead_time_seconds(connection) is None
    provisioned(ledger, FEWEST, 10)
    with ledger.read() as connection:
        assert lead_time_seconds(connection) == 10


def test_three_of_four_recent_orders_were_done_within_it(ledger: Ledger) -> None:
    for number in range(100):
        provisioned(ledger, number, number)
    with ledger.read() as connection:
        found = lead_time_seconds(connection)
    assert found is not None
    assert 73 <= found <= 77


def test_only_recent_orders_count_and_no_more_are_read(ledger: Ledger) -> None:
    for number in range(SAMPLE + 50):
        provisioned(ledger, number, 1000 if number < 50 else 20)
    with ledger.read() as connection:
        assert lead_time_seconds(connection) == 20


def test_the_review_is_measured_from_the_checkout_to_the_click(ledger: Ledger) -> None:
    for number in range(100):
        placed_here(ledger, number, 1000.0 + number - 10 * number)  # clicked on after 0, 10, 20 … seconds
        provisioned(ledger, number, 5)
    for number in range(100, 300):
        provisioned(ledger, number, 5)  # placed elsewhere: nobody knows since when they were reviewed
    with ledger.read() as connection:
        assert review_seconds(connection) is None, "only of the newest orders"
        assert len(recent_review_times(connection, limit=1000)) == 100
    for number in range(300, 300 + SAMPLE):
        placed_here(ledger, number, 1000.0 + number - (number - 299))
        provisioned(ledger, number, 5)
    with ledger.read() as connection:
        found = review_seconds(connection)
    assert found is not None
    assert 148 <= found <= 152


def test_the_calendar_says_what_was_measured_beside_the_merchants_words(
    app: Flask, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead_time, "recent_review_times", lambda connection, limit: [7100.0] * FEWEST)
    monkeypatch.setattr(lead_time, "recent_lead_times", lambda connection, limit: [90.0] * FEWEST)
    made = make_order(app, stack)
    client = browser(app, **{ACCOUNT_COOKIE: make_session(app, stack)})
    page = client.get(f"/orders/{made.reference}/placed", base_url=base_url(app)).text
    for words in ("usually takes one working day", "usually checked in 2 hours", "Usually done in 2 minutes"):
        assert words in page, words


def test_the_figure_is_kept_for_a_minute(ledger: Ledger, app: Flask) -> None:
    services: Services = app.extensions["portal"].services
    moment = [1000.0]
    services.now = lambda: moment[0]
    lead_time = LeadTime(services)
    asked: list[str] = []
    sa.event.listen(ledger.engine, "before_cursor_execute", lambda *args: asked.append(str(args[2])))
    with ledger.read() as connection:
        for _ in range(10):
            lead_time.seconds(connection)
        assert len(asked) == 1
        moment[0] += 61
        lead_time.seconds(connection)
        assert len(asked) == 2
