"""When a worker process ends itself, and when only a run of it is over: its runs, its heartbeat and its slots.

Ledger and Valkey are real, and so are the runs; a process that would end tells its exit code instead.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from jobs import fulfill
from jobs.process import (
    EXIT_DECLARED_DEAD,
    EXIT_LEDGER,
    EXIT_STUCK,
    ON_ITS_WAY_SECONDS,
    TTL_SECONDS,
    WorkerProcess,
)
from jobs.slots import Slots, SlotsWorker, run_slots
from jobs.worker import Supervisor
from portal.domain.model import SalesforceOrder, State, UpstreamError
from portal.ledger import fulfillments, queueing, restored, workers
from portal.ledger.engine import Ledger
from portal.ledger.schema import outbox
from portal.services import Services
from tests.fakes import ADA, ORDER, Clock, FakeSalesforce, FakeWhmcs

OTHER = "801000000000002AAA"
AWAY = "sqlite:////nowhere/ledger.sqlite3"


class Exit(SystemExit):
    """Stands for the end of the process; a thread that is ended by it says nothing."""


@pytest.fixture(autouse=True)
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes with which the process would have ended."""
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise Exit(code)

    monkeypatch.setattr(os, "_exit", end)
    return codes


class Org(FakeSalesforce):
    """Something happens while it is asked for an order."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = lambda: None

    def fetch_order(self, sf_order_id: str) -> SalesforceOrder | None:
        """The order, afterwards."""
        self.meanwhile()
        return super().fetch_order(sf_order_id)


@pytest.fixture
def org() -> Org:
    return Org()


@pytest.fixture
def process(services: Services, org: Org, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    """A registered one that doesn't beat by itself, with an order to run."""
    services.salesforce, services.whmcs = cast(Any, org), cast(Any, FakeWhmcs())
    services.now = clock
    made = WorkerProcess(services, ADA)
    with services.ledger.write() as connection:
        workers.register(connection, ADA, "fulfill", "host", 1, now=clock.now)
        fulfillments.request_fulfillment(connection, ORDER, now=clock.now, requested_at=clock.now)
    monkeypatch.setattr(fulfill, "_process", made)
    yield made
    assert made._runs == {}, "a run is over, and its slot holds it still"


def state_of(services: Services) -> tuple[str, int]:
    """The order's state and fence."""
    with services.ledger.read() as connection:
        row = fulfillments.get(connection, ORDER)
    assert row is not None
    return row.state, row.fence


def corrections(ledger: Ledger, order: str = ORDER) -> list[float]:
    """When Salesforce is to be told again how an order stands."""
    query = sa.select(outbox.c.due_at).where(outbox.c.subject == order, outbox.c.kind == "salesforce")
    with ledger.read() as connection:
        return sorted(connection.execute(query.where(outbox.c.claimed_by.is_(None))).scalars())


# --- runs ----------------------------------------------------------------------------------------------


def test_another_rq_worker_is_told_that_it_cant_run_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fulfill, "_process", None)
    with pytest.raises(RuntimeError, match="python -m jobs.worker"):
        fulfill.fulfill_order(ORDER)


def test_a_restored_ledger_ends_the_run_and_not_the_process(
    process: WorkerProcess, org: Org, clock: Clock, exits: list[int]
) -> None:
    services = process.services

    def restore() -> None:
        with services.ledger.write() as connection:
            restored.mark(connection, now=clock.now, max_request_seconds=120.0)
        clock.now += 1.0

    org.meanwhile = restore
    fulfill.fulfill_order(ORDER)
    assert exits == []
    assert state_of(services) == (State.QUEUED, 2)
    assert clock.now in corrections(services.ledger)  # this run may have told Salesforce what isn't true any more


def test_a_process_declared_dead_ends_and_has_corrected_what_it_may_have_told(
    process: WorkerProcess, org: Org, clock: Clock, exits: list[int]
) -> None:
    services = process.services

    def take_over() -> None:
        with services.ledger.write() as connection:
            assert queueing.take_over(connection, ADA, now=clock.now) == [ORDER]

    org.meanwhile = take_over
    with pytest.raises(Exit):
        fulfill.fulfill_order(ORDER)
    assert exits == [EXIT_DECLARED_DEAD]
    assert state_of(services) == (State.QUEUED, 2)
    # Now, and once more when whatever it has on its way must have arrived.
    assert {clock.now, clock.now + ON_ITS_WAY_SECONDS} <= set(corrections(services.ledger))


def test_a_process_that_lost_an_order_and_cant_ask_the_ledger_whether_it_lives_ends(
    process: WorkerProcess, org: Org, clock: Clock, exits: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    services, real = process.services, process.services.ledger

    def take_over() -> None:
        with real.write() as connection:
            queueing.take_over(connection, ADA, now=clock.now)
        services.ledger = Ledger(AWAY)  # the run's own next write still gets through

    org.meanwhile = take_over
    with pytest.raises(Exit):
        fulfill.fulfill_order(ORDER)
    assert exits == [EXIT_LEDGER]
    assert "Couldn't ask for a correction in Salesforce" in caplog.text


def test_a_run_that_is_torn_off_ends_the_process_so_that_the_order_is_looked_at(
    process: WorkerProcess, org: Org, exits: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """The order stays this process's, and is freed by nothing but its end."""

    def tear() -> None:
        raise SystemExit("a library's")

    org.meanwhile = tear
    with pytest.raises(Exit):
        fulfill.fulfill_order(ORDER)
    assert exits == [EXIT_STUCK]
    assert "A run couldn't be ended" in caplog.text
    assert state_of(process.services) == (State.RUNNING, 1)


# --- the heartbeat -------------------------------------------------------------------------------------


def test_a_start_that_waits_for_the_ledger_ends_when_the_process_is_to_stop(services: Services) -> None:
    services.ledger = Ledger(AWAY)
    asked = iter([False, True])
    process = WorkerProcess(services, ADA, stopping=lambda: next(asked))
    assert not process.start("fulfill")
    assert list(asked) == []


@pytest.mark.parametrize("heard", [True, False])
def test_who_missed_its_heartbeats_takes_no_order_up_until_one_gets_through(
    process: WorkerProcess, heard: bool
) -> None:
    asked = []

    def stopping() -> bool:
        asked.append(True)
        if heard:
            process._last_heartbeat = time.monotonic()
        return not heard

    process._stopping = stopping
    process._last_heartbeat -= TTL_SECONDS
    assert process.wait_for_heartbeat() is heard
    assert asked == [True]
    if not heard:
        fulfill.fulfill_order(ORDER)
        assert state_of(process.services) == (State.QUEUED, 0)


def test_who_missed_its_heartbeats_sends_nothing(process: WorkerProcess) -> None:
    process.services.send_checks(10.0)
    process._last_heartbeat -= TTL_SECONDS
    with pytest.raises(UpstreamError) as caught:
        process.services.send_checks(10.0)
    error = caught.value
    # Nothing left, so it is neither the other side's fault nor one of the order's tries.
    assert (error.permanent, error.unknown, error.reached, error.code) == (False, False, False, "circuit_open")


def test_a_process_declared_dead_ends_with_a_correction_for_each_of_its_runs(
    process: WorkerProcess, clock: Clock, exits: list[int]
) -> None:
    ledger = process.services.ledger
    process.runs(ORDER)
    elsewhere = threading.Thread(target=process.runs, args=(OTHER,))
    elsewhere.start()
    elsewhere.join()
    with ledger.write() as connection:
        queueing.take_over(connection, ADA, now=clock.now)
    with pytest.raises(Exit):
        process._beat()
    assert exits == [EXIT_DECLARED_DEAD]
    assert corrections(ledger) == corrections(ledger, OTHER) == [clock.now + ON_ITS_WAY_SECONDS]
    process._runs.clear()


def test_a_run_without_progress_ends_the_process(process: WorkerProcess, exits: list[int]) -> None:
    process.runs(ORDER)
    (run,) = process._runs.values()
    run.progressed_at -= process._stuck_after + 1.0
    with pytest.raises(Exit):
        process._beat()
    assert exits == [EXIT_STUCK]
    process.runs(None)


def test_a_heartbeat_outlives_an_outage_of_the_ledger_and_no_fault_of_ours(
    process: WorkerProcess, clock: Clock, exits: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    services, real = process.services, process.services.ledger
    moments = iter("abc")

    def now() -> float:
        match next(moments):
            case "a":
                services.ledger = Ledger(AWAY)
            case "b":
                assert exits == []
                services.ledger = real
            case _:
                raise KeyError("a fault of ours")
        return clock.now

    services.now = now
    process.runs(ORDER)
    begun = process._last_heartbeat
    with pytest.raises(Exit):
        process._beat()
    assert exits == [EXIT_STUCK]
    assert process._last_heartbeat > begun  # the second got through
    assert "The heartbeat failed" in caplog.text
    process.runs(None)


# --- the slots, and the supervisor ---------------------------------------------------------------------


def test_a_slot_whose_bookkeeping_fails_is_free_again(exits: list[int], caplog: pytest.LogCaptureFixture) -> None:
    slots = Slots(1)

    def fail() -> None:
        raise KeyError("rq's own")

    assert slots.wait(0)
    slots.run(fail)
    assert slots.wait(10)
    slots.give_back()
    slots.wait_for_all()
    assert "RQ's bookkeeping failed" in caplog.text
    assert exits == []


def test_a_slot_that_is_ended_ends_the_process(exits: list[int]) -> None:
    slots = Slots(1)

    def end() -> None:
        raise SystemExit

    assert slots.wait(0)
    slots.run(end)
    slots.wait_for_all()
    assert exits == [EXIT_STUCK]


def test_slots_that_are_to_stop_before_the_ledger_is_back_run_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlotsWorker, "stopping", True)
    monkeypatch.setattr(fulfill, "_process", None)
    services.ledger = Ledger(AWAY)
    run_slots(services, ADA, 1, lambda _name: None)
    assert fulfill._process is None


@pytest.mark.parametrize(("stopping", "tries"), [(True, 1), (False, 2)])
def test_a_supervisor_that_stops_asks_a_ledger_that_is_away_once(
    services: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture, stopping: bool, tries: int
) -> None:
    """Each try may take its time; while it is to go on, each child's orders are worth one."""
    services.ledger = Ledger(AWAY)
    supervisor = Supervisor(services)
    supervisor._stopping = stopping
    for child in (ADA, "bob"):
        supervisor._take_over(child)
    assert caplog.text.count("Couldn't take over a dead worker's orders") == tries
