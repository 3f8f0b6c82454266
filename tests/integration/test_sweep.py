"""The sweep's rounds and chores in this process, over real ledger and Valkey, where something comes between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import redis
import sqlalchemy as sa

from jobs import sweep as module
from jobs.sweep import Chores, Sweep
from portal.domain.model import State
from portal.ledger import fulfillments, housekeeping, payment_hints, runs, workers
from portal.ledger.schema import payment_hints as hints_table
from portal.services import Services
from tests.fakes import ADA, ORDER


@pytest.fixture
def sweep(services: Services) -> Sweep:
    """One that acts."""
    made = Sweep(services)
    made.start()
    made.round()
    made.round()
    assert made.acting
    return made


def ask_for(services: Services) -> None:
    with services.ledger.write() as connection:
        fulfillments.request_fulfillment(connection, ORDER, now=services.now(), requested_at=services.now())


def test_a_worker_whose_heart_beats_again_at_this_moment_keeps_its_orders(
    services: Services, sweep: Sweep, caplog: pytest.LogCaptureFixture
) -> None:
    ask_for(services)
    with services.ledger.write() as connection:
        workers.register(connection, ADA, "fulfill", "host", 1, now=services.now())
        assert runs.claim(connection, ORDER, ADA, now=services.now())
        (seen,) = [each for each in workers.alive(connection) if each.worker_id == ADA]
        workers.count_heartbeat(connection, ADA, now=services.now())
    sweep._take_over(seen)  # as it was when this round looked
    with services.ledger.read() as connection:
        row = fulfillments.get(connection, ORDER)
    assert row is not None
    assert (row.state, row.owner, row.fence) == (State.RUNNING, ADA, 1)
    assert services.jobs.count() == 0
    assert "its orders are taken over" not in caplog.text


def test_a_flushed_redis_is_said_and_jobs_are_sent_again_at_once(
    services: Services, sweep: Sweep, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ask_for(services)
    sweep.round()
    (first,) = services.jobs.queued()
    store.flushall()
    sweep.round()
    (second,) = services.jobs.queued()
    assert second != first
    (said,) = [each for each in caplog.records if "Redis was flushed or replaced" in each.message]
    assert vars(said)["orders"] == 1


def do_chores(chores: Chores, until: Callable[[], bool]) -> None:
    """Let the thread of the chores run until that holds."""
    stopping = threading.Event()
    thread = threading.Thread(target=chores.run, args=(stopping,))
    thread.start()
    deadline = time.monotonic() + 20
    while not until() and time.monotonic() < deadline:
        stopping.wait(0.02)
    stopping.set()
    thread.join(20)
    assert until(), "it didn't come about in time"


def test_a_chore_with_a_mistake_of_ours_holds_up_no_other(
    services: Services, sweep: Sweep, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def broken() -> None:
        done.append("broken")
        raise KeyError("id")

    chores = Chores(services, sweep)
    chores._chores = [(broken, 0.0), (lambda: done.append("good"), 0.0)]
    do_chores(chores, lambda: len(done) >= 4)
    assert done[:4] == ["broken", "good"] * 2
    assert "A chore failed" in caplog.text


def test_housekeeping_that_isnt_done_in_one_go_goes_on_soon(
    services: Services, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn ends after TIDY_SECONDS, here with its first batch of one row; the next pass comes in an hour only."""
    with services.ledger.write() as connection:
        for client in ("1", "2", "3"):
            payment_hints.hear(connection, client, now=services.now() - 2 * payment_hints.KEPT_SECONDS)
    batch, passes = housekeeping.Round.batch, set()

    def slow(self: housekeeping.Round, connection: sa.Connection) -> bool:
        passes.add(self)
        more = batch(self, connection)
        time.sleep(2 * module.TIDY_SECONDS)
        return more

    monkeypatch.setattr(module, "TIDY_SECONDS", 0.01)
    monkeypatch.setattr(housekeeping, "BATCH", 1)
    monkeypatch.setattr(housekeeping.Round, "batch", slow)

    def left() -> int:
        with services.ledger.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(hints_table)).scalar_one())

    chores = Chores(services, sweep)
    chores._chores = [(chores._tidy, 3600.0)]
    do_chores(chores, lambda: left() == 0 and chores._tidying is None)
    assert len(passes) == 1
    assert chores._next[chores._tidy] > time.monotonic() + 1000.0  # and then it rests
