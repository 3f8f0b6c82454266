"""Who wins when several want the same: claims, election, takeover, jobs, keys kept once. Threads with connections of
their own, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa

from portal.domain.model import LeaseLost, State
from portal.ledger import circuits, fulfillments, installation, order_sync, outbox, queueing, runs, workers
from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.ledger.schema import orders as orders_table
from tests.database import DATABASES
from tests.fakes import salesforce_order
from tests.postgres import Postgres, sqlalchemy_url

T = TypeVar("T")

ORDER = "801000000000001AAA"
CROWD = 6
ROUNDS = 8


@pytest.fixture(scope="module", params=DATABASES)
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("races")
        ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite3'}")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        ledger = Ledger(sqlalchemy_url(server.database()), pool_size=CROWD)
    upgrade(ledger)
    yield ledger
    ledger.dispose()


def order(number: int) -> str:
    """A Salesforce id of a test's own."""
    return f"801{number:012d}AAA"


_numbers = iter(range(1, 10_000))


@pytest.fixture
def fresh() -> str:
    return order(next(_numbers))


def together(*acts: Callable[[], T]) -> list[T | BaseException]:
    """Do all of these at the same moment; what each gave, or raised."""
    start = threading.Barrier(len(acts))
    results: list[T | BaseException] = [RuntimeError("never ran")] * len(acts)

    def run(place: int) -> None:
        start.wait()
        try:
            results[place] = acts[place]()
        except BaseException as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def register(ledger: Ledger, *names: str) -> None:
    with ledger.write() as connection:
        for name in names:
            workers.register(connection, name, "fulfill", "host", 1, now=0.0)


def request(ledger: Ledger, sf_order_id: str) -> fulfillments.Fulfillment:
    with ledger.write() as connection:
        return fulfillments.request_fulfillment(connection, sf_order_id, now=1.0, requested_at=1.0)


def claim(ledger: Ledger, sf_order_id: str, who: str) -> fulfillments.Fulfillment | None:
    with ledger.write() as connection:
        return runs.claim(connection, sf_order_id, who, now=2.0)


def take_over(ledger: Ledger, who: str, heartbeats: int | None = None) -> list[str] | None:
    with ledger.write() as connection:
        return queueing.take_over(connection, who, now=3.0, heartbeats=heartbeats)


def elect(ledger: Ledger, sf_order_id: str, who: str, candidate: str) -> str:
    with ledger.write() as connection:
        return runs.elect(connection, runs.Lease(sf_order_id, 1, who), candidate, now=3.0)


def count_heartbeat(ledger: Ledger, who: str) -> bool:
    with ledger.write() as connection:
        return workers.count_heartbeat(connection, who, now=3.0)


def row_of(ledger: Ledger, sf_order_id: str) -> fulfillments.Fulfillment:
    with ledger.read() as connection:
        row = fulfillments.get(connection, sf_order_id)
    assert row is not None
    return row


def names(prefix: str, fresh: str) -> list[str]:
    return [f"{prefix}-{fresh[3:15]}-{number}" for number in range(CROWD)]


def test_one_order_however_many_ask_for_it(ledger: Ledger, fresh: str) -> None:
    rows = together(*[lambda: request(ledger, fresh)] * CROWD)
    assert {row.attempt for row in rows if isinstance(row, fulfillments.Fulfillment)} == {1}
    assert len(rows) == CROWD
    assert all(isinstance(row, fulfillments.Fulfillment) for row in rows)


def test_one_new_attempt_however_many_click_on_a_failed_order(ledger: Ledger, fresh: str) -> None:
    request(ledger, fresh)
    with ledger.write() as connection:
        connection.execute(
            sa.update(fulfillments_table).where(fulfillments_table.c.sf_order_id == fresh).values(state=State.FAILED)
        )
    rows = together(*[lambda: request(ledger, fresh)] * CROWD)
    assert all(isinstance(row, fulfillments.Fulfillment) and row.attempt == 2 for row in rows)
    assert row_of(ledger, fresh).fence == 1


def test_one_claims(ledger: Ledger) -> None:
    for _ in range(ROUNDS):
        fresh = order(next(_numbers))
        crowd = names("claims", fresh)
        register(ledger, *crowd)
        request(ledger, fresh)
        results = together(*[partial(claim, ledger, fresh, who) for who in crowd])
        won = [each for each in results if each is not None]
        assert len(won) == 1
        assert isinstance(won[0], fulfillments.Fulfillment)
        row = row_of(ledger, fresh)
        assert (row.owner, row.fence, row.state) == (won[0].owner, 1, State.RUNNING)


def test_a_claim_and_its_claimers_death_leave_no_order_owned_by_the_dead(ledger: Ledger) -> None:
    for _ in range(ROUNDS):
        fresh = order(next(_numbers))
        (who, *_) = names("dying", fresh)
        register(ledger, who)
        request(ledger, fresh)

        claimed, taken = together(partial(claim, ledger, fresh, who), partial(take_over, ledger, who))
        row = row_of(ledger, fresh)
        assert (row.state, row.owner) == (State.QUEUED, None)
        if isinstance(claimed, LeaseLost):
            assert taken == []
            assert row.fence == 0
            assert row.history_complete
        else:
            assert taken == [fresh]
            assert row.fence == 2


def test_one_takes_over(ledger: Ledger) -> None:
    for _ in range(ROUNDS):
        fresh = order(next(_numbers))
        (who, *_) = names("taken", fresh)
        register(ledger, who)
        request(ledger, fresh)
        claim(ledger, fresh, who)

        results = together(*[partial(take_over, ledger, who)] * CROWD)
        assert sorted(map(repr, results)) == sorted([repr([fresh])] + ["None"] * (CROWD - 1))
        assert row_of(ledger, fresh).fence == 2


def test_a_heartbeat_and_a_takeover_exclude_each_other(ledger: Ledger) -> None:
    for number in range(ROUNDS):
        who = f"beating-{ledger.sqlite}-{number}"
        register(ledger, who)

        beaten, taken = together(partial(count_heartbeat, ledger, who), partial(take_over, ledger, who, 0))
        assert beaten is (taken is None)  # exactly one came first, and the other knows


def test_one_is_elected_and_all_are_told_which(ledger: Ledger) -> None:
    for _ in range(ROUNDS):
        fresh = order(next(_numbers))
        (who, *_) = names("electing", fresh)
        register(ledger, who)
        request(ledger, fresh)
        claim(ledger, fresh, who)

        results = together(
            *[partial(elect, ledger, fresh, who, f"{fresh[3:15]}{candidate}") for candidate in range(CROWD)]
        )
        assert len({*results}) == 1
        assert isinstance(results[0], str)
        with pytest.raises(LeaseLost), ledger.write() as connection:
            runs.elect(connection, runs.Lease(fresh, 2, who), "99", now=3.0)


def test_an_election_and_a_takeover_keep_either_order(ledger: Ledger) -> None:
    for _ in range(ROUNDS):
        fresh = order(next(_numbers))
        (who, *_) = names("torn", fresh)
        register(ledger, who)
        request(ledger, fresh)
        claim(ledger, fresh, who)

        elected, taken = together(partial(elect, ledger, fresh, who, fresh[3:15]), partial(take_over, ledger, who))
        assert taken == [fresh]
        row = row_of(ledger, fresh)
        assert row.elected_whmcs_id == (None if isinstance(elected, LeaseLost) else fresh[3:15])
        assert row.fence == 2


def test_what_is_kept_once_is_kept_once(ledger: Ledger, fresh: str) -> None:
    def message() -> int | None:
        with ledger.write() as connection:
            return outbox.put(connection, "mail", fresh, {}, now=1.0, once=f"mail:{fresh}")

    sent = together(*[message] * CROWD)
    assert len([each for each in sent if each is not None]) == 1

    def value() -> None:
        with ledger.write() as connection:
            installation.put(connection, f"key-{fresh}", 1, now=1.0)

    assert together(*[value] * CROWD) == [None] * CROWD

    def failure() -> bool:
        with ledger.write() as connection:
            return circuits.note_failure(connection, fresh[:20], now=1.0, error="x", opens_at=CROWD, pause=1.0)

    assert sorted(map(str, together(*[failure] * CROWD))) == ["False"] * (CROWD - 1) + ["True"]

    def probe() -> bool:
        with ledger.write() as connection:
            return circuits.claim_probe(connection, fresh[:20], now=9.0, next_at=19.0)

    assert sorted(map(str, together(*[probe] * CROWD))) == ["False"] * (CROWD - 1) + ["True"]


def test_an_order_is_learnt_of_once(ledger: Ledger, fresh: str) -> None:
    snapshot = salesforce_order(fresh)

    def learn() -> None:
        with ledger.write() as connection:
            order_sync.sync(connection, snapshot, now=time.time())

    assert together(*[learn] * CROWD) == [None] * CROWD
    with ledger.read() as connection:
        known = connection.execute(sa.select(orders_table.c.reference).where(orders_table.c.sf_order_id == fresh)).all()
    assert len(known) == 1
