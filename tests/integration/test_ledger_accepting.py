"""Deliveries taken together are taken as if each had come alone; who doesn't belong in the batch is taken alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import CustomerStatus
from portal.ledger import acceptor, fulfillments, group_commit, orders, placements
from portal.ledger.accepting import Accepted, Delivery, KeyReused, NonceUsed, accept
from portal.ledger.acceptor import Acceptor, Overtaken, accept_new
from portal.ledger.engine import CommitUnknown, Ledger, LedgerUnavailable
from portal.ledger.group_commit import GroupCommit
from portal.ledger.schema import deliveries, idempotency_keys, metadata
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.ledger.schema import orders as orders_table
from tests.postgres import Postgres, sqlalchemy_url

NOW = 1_764_107_000.123456


def delivery(number: int, **changes: Any) -> Delivery:
    made = Delivery(
        sf_order_id=f"801{number:012d}AAA",
        idempotency_key=f"click-{number}",
        nonce_id=f"sf:{number}",
        nonce_seconds=660.0,
        requested_at=NOW - 0.654321,
        requested_by="Ada Löwe 'O\"Hara' 😀",
    )
    return replace(made, **changes)


def placed(connection: Connection, number: int) -> None:
    """An order that was placed here, in review."""
    reference = f"P-{number}"
    orders.insert_placed_here(
        connection,
        reference=reference,
        checkout_key=f"checkout-{number}",
        account_id="001000000000001AAA",
        email="a@example.com",
        items=[],
        currency="USD",
        total="1.00",
        now=NOW - 100,
    )
    placements.settle_placed(connection, reference, delivery(number).sf_order_id, now=NOW - 90)


def everything(connection: Connection) -> dict[str, list[Any]]:
    """All rows of all tables, but for ids that count up."""
    return {
        table.name: sorted(
            repr([value for column, value in zip(table.c, row, strict=True) if column.name != "id"])
            for row in connection.execute(sa.select(table))
        )
        for table in metadata.sorted_tables
    }


def test_together_is_as_alone(each_ledger: Ledger) -> None:
    batch = [delivery(1), delivery(2, requested_by=None), delivery(3, resync_at=NOW + 30.25)]
    rows: list[Any] = []
    for together in (False, True):
        with pytest.raises(InterruptedError), each_ledger.write() as connection:
            placed(connection, 2)
            if together:
                taken: list[Accepted | None] = list(accept_new(connection, [(each, NOW) for each in batch]))
            else:
                taken = [accept(connection, each, now=NOW) for each in batch]
            assert [each is not None and each.resync is not None for each in taken] == [False, False, True]
            read_back = [fulfillments.get(connection, each.sf_order_id) for each in batch]
            assert [each and each.row for each in taken] == read_back
            rows.append(([each and (replace(each.key, attempt=1), each.row) for each in taken], everything(connection)))
            raise InterruptedError  # rolled back: the second way begins where the first did
    assert rows[0] == rows[1]


def test_only_what_is_new_in_every_way_is_taken_together(each_ledger: Ledger) -> None:
    with each_ledger.write() as connection:
        accept(connection, delivery(1), now=NOW)
    batch = [
        delivery(1),  # a replay
        delivery(2, idempotency_key="click-1"),  # a known key
        delivery(3, nonce_id="sf:1"),  # a known nonce
        delivery(4, sf_order_id=delivery(1).sf_order_id),  # a known order
        delivery(5),
        delivery(6, nonce_id="sf:5"),  # the nonce of one before it in this batch
        delivery(7, idempotency_key="click-5"),
        delivery(8, sf_order_id=delivery(5).sf_order_id),
        delivery(9),
    ]
    with each_ledger.write() as connection:
        taken = accept_new(connection, [(each, NOW) for each in batch])
        assert [each is not None for each in taken] == [False] * 4 + [True] + [False] * 3 + [True]
        assert connection.execute(sa.select(sa.func.count()).select_from(deliveries)).scalar() == 3


def test_many_at_once_get_what_is_theirs(each_ledger: Ledger) -> None:
    taker = Acceptor(each_ledger)
    with each_ledger.write() as connection:
        accept(connection, delivery(1), now=NOW)
    asked = [delivery(number) for number in range(2, 32)]
    asked += [delivery(40, nonce_id="sf:1"), delivery(41, idempotency_key="click-1")]
    asked += [replace(delivery(50), nonce_id=f"sf:again-{number}") for number in range(10)]  # one click, sent ten times
    start = threading.Barrier(len(asked))

    def take(each: Delivery) -> Accepted | Exception:
        start.wait(60)
        (taken,) = taker.accept([(each, NOW)])
        return taken

    with ThreadPoolExecutor(len(asked)) as threads:
        taken = list(threads.map(take, asked))
    for each, got in zip(asked[:30], taken[:30], strict=True):
        assert isinstance(got, Accepted)
        assert (got.key.key, got.row.sf_order_id, got.key.new) == (each.idempotency_key, each.sf_order_id, True)
    assert isinstance(taken[30], NonceUsed)
    assert isinstance(taken[31], KeyReused)
    clicks = [each for each in taken[32:] if isinstance(each, Accepted)]
    assert len(clicks) == 10
    assert [each.key.new for each in clicks].count(True) == 1
    assert {each.row.attempt for each in clicks} == {1}
    with each_ledger.read() as connection:
        count = {t.name: connection.execute(sa.select(sa.func.count()).select_from(t)).scalar() for t in COUNTED}
    assert count == {"deliveries": 41, "idempotency_keys": 32, "fulfillments": 32}


COUNTED = (deliveries, idempotency_keys, fulfillments_table)


def test_who_was_overtaken_writes_nothing(each_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's other writers may come between the look and the writing: as if the look had seen nothing."""
    with each_ledger.write() as connection:
        accept(connection, delivery(1), now=NOW)
    monkeypatch.setattr(acceptor, "_known", lambda *_: set())
    late = delivery(2, sf_order_id=delivery(1).sf_order_id)
    with pytest.raises(Overtaken), each_ledger.write() as connection:
        accept_new(connection, [(late, NOW)])
    (taken,) = Acceptor(each_ledger).accept([(late, NOW)])  # alone, by the rules
    assert isinstance(taken, Accepted)
    assert (taken.row.attempt, taken.key.new) == (1, True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_batch_that_gives_way_to_another_writer_is_taken_one_by_one(postgres: Postgres) -> None:
    """The sweep writes the orders that Salesforce shows changed, in Salesforce's order: those whose buttons were
    pressed just now. Two that wait for each other for a second are a deadlock, and PostgreSQL ends one of them."""
    ledger = Ledger(sqlalchemy_url(postgres.ledger()))
    asked = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    touch = sa.update(orders_table).values(updated_at=NOW)
    first, second = (orders_table.c.sf_order_id == delivery(number).sf_order_id for number in (1, 2))

    def waits() -> bool:
        with ledger.read() as connection:
            return bool(connection.execute(asked).scalar_one())

    with ledger.write() as connection:
        placed(connection, 1)
        placed(connection, 2)
    with ThreadPoolExecutor(1) as thread, ledger.write() as connection:
        connection.execute(touch.where(second))
        taken = thread.submit(Acceptor(ledger).accept, [(delivery(1), NOW), (delivery(2), NOW)])
        wait_for(waits)
        connection.execute(touch.where(first))  # which the batch has, while it waits for the second
        connection.commit()
        assert [type(each) for each in taken.result(60)] == [Accepted, Accepted]
    with ledger.read() as connection:
        shown = connection.execute(sa.select(orders_table.c.status)).scalars().all()
    assert list(shown) == [CustomerStatus.ACTIVATING.value] * 2
    ledger.dispose()


class Crowd:
    """A group commit whose first transaction is held open until the others have come."""

    def __init__(self, ledger: Ledger, **options: Any) -> None:
        self.batches: list[list[int]] = []
        self.held = threading.Event()
        self.go_on = threading.Event()
        self.fails: BaseException | None = None
        self.group: GroupCommit[int, int] = GroupCommit(ledger, self.work, **options)

    def work(self, _connection: Connection, numbers: Any) -> list[int | None]:
        self.batches.append(list(numbers))
        if len(self.batches) == 1:
            self.held.set()
            assert self.go_on.wait(60)
        elif self.fails is not None:
            raise self.fails
        return [None if number == 13 else number * 10 for number in numbers]

    def commit(self, number: int) -> int | None | BaseException:
        try:
            (outcome,) = self.group.commit([number])
            return outcome
        except BaseException as error:
            return error

    def run(self, numbers: list[int], *, patient: bool = True) -> dict[int, Any]:
        """Number 0 first, alone; the others while it is being written, which goes on once all have come or given up."""
        with ThreadPoolExecutor(len(numbers) + 1) as threads:
            first = threads.submit(self.commit, 0)
            assert self.held.wait(60)
            rest = {number: threads.submit(self.commit, number) for number in numbers}
            if patient:
                wait_for(lambda: len(self.group._waiting) == len(numbers))
                self.go_on.set()
            found = {number: each.result(60) for number, each in rest.items()}
            self.go_on.set()
            return {0: first.result(60), **found}


def test_who_comes_meanwhile_is_written_in_one_transaction(ledger: Ledger) -> None:
    crowd = Crowd(ledger)
    assert crowd.run([1, 2, 13, 4]) == {0: 0, 1: 10, 2: 20, 13: None, 4: 40}
    assert sorted(map(sorted, crowd.batches)) == [[0], [1, 2, 4, 13]]
    assert crowd.commit(5) == 50  # nobody leads any more: the next one does


@pytest.mark.parametrize("kind", [LedgerUnavailable, CommitUnknown])
def test_a_ledger_that_is_away_is_away_for_all_of_them(ledger: Ledger, kind: type[Exception]) -> None:
    crowd = Crowd(ledger)
    crowd.fails = kind("gone")
    found = crowd.run([1, 2, 3])
    assert found.pop(0) == 0
    assert {type(each) for each in found.values()} == {kind}
    assert len({id(each) for each in found.values()}) == 3


def test_what_one_of_them_breaks_is_written_alone_by_each(ledger: Ledger) -> None:
    crowd = Crowd(ledger)
    crowd.fails = ValueError("one of them")
    assert crowd.run([1, 2]) == {0: 0, 1: None, 2: None}


def test_nobody_waits_for_ever(ledger: Ledger) -> None:
    crowd = Crowd(ledger, patience=0.2)
    found = crowd.run([1], patient=False)
    assert found[0] == 0
    assert isinstance(found[1], LedgerUnavailable)
    assert crowd.commit(2) == 20
    assert crowd.batches == [[0], [2]]  # who gave up isn't written behind its back


class Signal:
    """A thread's lock while it waits for its turn or its outcome: how such a wait ends is the test's to say."""

    def __init__(self, wait: Callable[[Any], bool]) -> None:
        self._lock = threading.Lock()
        self._wait = wait
        self.locked, self.release = self._lock.locked, self._lock.release

    def acquire(self, timeout: float | None = None) -> bool:
        """As a lock's; with a `timeout` (seconds), as the test has it."""
        return self._lock.acquire() if timeout is None else self._wait(self._lock)


def test_who_gives_up_as_the_turn_or_the_outcome_comes_has_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def a_moment_too_late(lock: Any) -> bool:
        assert lock.acquire(timeout=60)
        lock.release()
        return False

    crowd = Crowd(ledger)
    monkeypatch.setattr(group_commit, "threading", SimpleNamespace(Lock=lambda: Signal(a_moment_too_late)))
    assert crowd.run([1, 2, 3]) == {0: 0, 1: 10, 2: 20, 3: 30}
    assert crowd.commit(5) == 50


def test_whose_transaction_takes_too_long_doesnt_know_its_outcome(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, gave_up = threading.Event(), threading.Event()

    class Slow(Crowd):
        """Its second transaction lasts until one of those in it has given up."""

        def work(self, connection: Connection, numbers: Any) -> list[int | None]:
            outcomes = super().work(connection, numbers)
            if len(self.batches) == 2:
                writing.set()
                assert gave_up.wait(60)
            return outcomes

        def commit(self, number: int) -> int | None | BaseException:
            outcome = super().commit(number)
            if isinstance(outcome, CommitUnknown):
                gave_up.set()
            return outcome

    def until_it_is_written(lock: Any) -> bool:
        while not writing.is_set():
            if lock.acquire(timeout=0.01):
                return True
        return False

    crowd = Slow(ledger)
    monkeypatch.setattr(group_commit, "threading", SimpleNamespace(Lock=lambda: Signal(until_it_is_written)))
    found = crowd.run([1, 2])
    (unknown,) = [each for each in found.values() if isinstance(each, CommitUnknown)]
    assert str(unknown) == "the ledger's transaction takes too long"
    (led,) = [number for number in (1, 2) if found[number] == number * 10]
    assert [len(batch) for batch in crowd.batches] == [1, 2], f"{led} wrote for both"
    assert crowd.commit(5) == 50


def test_a_thread_that_ends_while_it_writes_tells_who_waits_for_it(ledger: Ledger) -> None:
    crowd = Crowd(ledger)
    crowd.fails = SystemExit("the process ends")
    found = crowd.run([1, 2, 3])
    assert found.pop(0) == 0
    (own,) = [each for each in found.values() if isinstance(each, SystemExit)]
    assert own is crowd.fails
    told = [each for each in found.values() if isinstance(each, CommitUnknown)]
    assert [str(each) for each in told] == ["the writing thread ended: SystemExit"] * 2
    crowd.fails = None
    assert crowd.commit(5) == 50


def test_a_batch_has_a_limit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MOST_AT_ONCE", 2)
    crowd = Crowd(ledger)
    assert crowd.run([1, 2, 3]) == {0: 0, 1: 10, 2: 20, 3: 30}
    assert [len(each) for each in crowd.batches] == [1, 2, 1]
