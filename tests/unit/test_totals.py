"""Totals in rows of their own: right in the transaction of what they count, and only then, on both databases."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from portal.domain.model import State, Step, StepState
from portal.ledger import counters, decisions, fulfillments, outbox, queueing, runs, totals, workers
from portal.ledger.engine import Ledger, LedgerUnavailable
from portal.ledger.schema import counters as counters_table
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.ledger.schema import outbox as outbox_table

IDS = [f"80100000000000{number}AAA" for number in range(1, 7)]


def counted(ledger: Ledger) -> dict[State, int]:
    """The states as the totals have them; they are what a scan finds."""
    with ledger.read() as connection:
        found = totals.states(connection)
        scanned = connection.execute(
            sa.select(fulfillments_table.c.state, sa.func.count()).group_by(fulfillments_table.c.state)
        )
        assert {state: count for state, count in found.items() if count} == {State(s): n for s, n in scanned}
        unsent = connection.execute(
            sa.select(outbox_table.c.kind, sa.func.count())
            .where(outbox_table.c.state == "pending")
            .group_by(outbox_table.c.kind)
        )
        assert {kind: count for kind, count in outbox.unsent(connection).items() if count} == {
            row[0]: row[1] for row in unsent
        }
    return {state: count for state, count in found.items() if count}


def request(ledger: Ledger, *ids: str) -> None:
    with ledger.write() as connection:
        for sf_order_id in ids:
            fulfillments.request_fulfillment(connection, sf_order_id, now=1.0, requested_at=0.0)


def end(ledger: Ledger, sf_order_id: str, state: State, *, now: float) -> None:
    """Run an order to its end, from 2.0 to `now` (seconds)."""
    with ledger.write() as connection:
        row = runs.claim(connection, sf_order_id, "ada", now=2.0)
        assert row is not None
        step = runs.begin_step(connection, sf_order_id, 1, row.fence, Step.VALIDATION, now=2.0)
    with ledger.write() as connection:
        runs.end_step(connection, step, StepState.DONE, {}, now=now)
        runs.finish(
            connection,
            runs.Lease(sf_order_id, row.fence, "ada"),
            state,
            now=now,
            error_code=None,
            error_message=None,
            service_ids=[],
            audit_due_at=None,
            hints=0,
            requested_at=0.0,
        )


def test_every_way_through_the_states_is_counted(each_ledger: Ledger) -> None:
    ledger = each_ledger
    with ledger.write() as connection:
        for name in ("ada", "bob"):
            workers.register(connection, name, "fulfill", "host", 1, now=0.0)
    request(ledger, *IDS)
    request(ledger, IDS[0])  # known already
    assert counted(ledger) == {State.QUEUED: 6}
    end(ledger, IDS[0], State.PROVISIONED, now=5.5)
    end(ledger, IDS[1], State.FAILED, now=20.0)
    end(ledger, IDS[2], State.NEEDS_DECISION, now=90_000.0)
    with ledger.write() as connection:
        runs.claim(connection, IDS[3], "bob", now=2.0)
        runs.claim(connection, IDS[4], "bob", now=2.0)
    assert counted(ledger) == {
        State.QUEUED: 1,
        State.RUNNING: 2,
        State.PROVISIONED: 1,
        State.FAILED: 1,
        State.NEEDS_DECISION: 1,
    }
    with ledger.write() as connection:
        runs.update(connection, runs.Lease(IDS[3], 1, "bob"), now=3.0, state=State.WAITING, owner=None)
        queueing.take_over(connection, "bob", now=3.0)
        decisions.resume(connection, IDS[1], now=3.0, actor="ada", why="x")
        decisions.create_afresh(connection, IDS[2], now=3.0, actor="ada")
    assert counted(ledger) == {State.QUEUED: 4, State.WAITING: 1, State.PROVISIONED: 1}
    with ledger.write() as connection:
        runs.claim(connection, IDS[3], "ada", now=4.0)
        queueing.doubt_unfinished(connection, now=4.0, until=9.0)
        message = fulfillments.plan_resync(connection, IDS[0], now=4.0, due_at=4.0)
        for kind in ("mail", "mail", "alert"):
            outbox.put(connection, kind, "x", {}, now=4.0)
    assert counted(ledger) == {State.QUEUED: 5, State.PROVISIONED: 1}
    with ledger.write() as connection:
        outbox.again(connection, message, now=5.0, due_at=6.0, error="no", refused=True)
        outbox.again(connection, message, now=7.0, due_at=8.0, error="no", refused=True)
        assert outbox.longest_refused(connection, "salesforce") == 5.0
        assert outbox.longest_overdue(connection, "salesforce") == 8.0
        outbox.sent(connection, message, now=9.0)
        outbox.sent(connection, message, now=9.0)
        assert outbox.longest_refused(connection, "salesforce") is None
    with ledger.read() as connection:
        assert outbox.unsent(connection) == {"salesforce": 0, "mail": 2, "alert": 1}
        assert counters.of(connection, totals.SENT) == {"salesforce": 1}
        assert counters.of(connection, totals.REFUSED) == {"salesforce": 2}
        assert counters.of(connection, totals.ATTEMPTS) == {"true": 1, "false": 2}
        attempts = totals.histograms(connection, totals.ATTEMPT_SECONDS, totals.ATTEMPT_BOUNDS)[""]
        assert dict(attempts.buckets)["5.0"] == 0
        assert dict(attempts.buckets)["10.0"] == 1
        assert dict(attempts.buckets)["86400.0"] == 2
        assert dict(attempts.buckets)["+Inf"] == 3
        assert attempts.sum == 5.5 + 20.0 + 90_000.0
        steps = totals.histograms(connection, totals.STEP_SECONDS, totals.STEP_BOUNDS, [step.value for step in Step])
        assert steps["validation"].buckets[-1] == ("+Inf", 3.0)
        assert steps["mapping"].buckets[-1] == ("+Inf", 0.0)


def test_messages_that_are_deleted_wait_no_more(each_ledger: Ledger) -> None:
    with each_ledger.write() as connection:
        ids = [outbox.put(connection, "mail", "x", {}, now=1.0) for _ in range(3)]
        assert ids[0] is not None
        outbox.sent(connection, ids[0], now=2.0)
    with each_ledger.write() as connection:
        assert outbox.forget(connection, outbox_table.c.subject == "x") == 3
    counted(each_ledger)
    with each_ledger.read() as connection:
        assert outbox.unsent(connection) == {"mail": 0}


def test_what_is_rolled_back_is_not_counted(each_ledger: Ledger) -> None:
    each_ledger.gathered.add("calls", "x")
    with pytest.raises(ZeroDivisionError), each_ledger.write() as connection:
        counters.add(connection, "name", "label")
        raise ZeroDivisionError
    with each_ledger.write() as connection:
        counters.add(connection, "name", "other")
    with each_ledger.read() as connection:
        assert counters.of(connection, "name") == {"other": 1}
        assert counters.of(connection, "calls") == {"x": 1}  # with the transaction that came through


def test_counts_that_cannot_be_written_are_kept_for_the_next_transaction(ledger: Ledger) -> None:
    ledger.gathered.add("calls", "x", 2)

    @sa.event.listens_for(ledger.engine, "before_cursor_execute")
    def fail(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO counters"):
            raise sa.exc.OperationalError(statement, None, Exception("disk full"))

    with pytest.raises(LedgerUnavailable), ledger.write():
        pass
    sa.event.remove(ledger.engine, "before_cursor_execute", fail)
    with ledger.write():
        pass
    with ledger.read() as connection:
        assert counters.of(connection, "calls") == {"x": 2}


def test_many_transactions_at_once_lose_nothing_and_wait_for_nobody(each_ledger: Ledger) -> None:
    """Each adds to the same counters in another order: rows locked in the order of adding would deadlock."""
    failures: list[BaseException] = []

    def add(order: int) -> None:
        try:
            for _ in range(20):
                with each_ledger.write() as connection:
                    for label in sorted("abcdef", reverse=bool(order % 2)):
                        counters.add(connection, "name", label)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with each_ledger.read() as connection:
        assert counters.of(connection, "name") == dict.fromkeys("abcdef", 120.0)


def test_shards_are_summed(ledger: Ledger) -> None:
    with ledger.write() as connection:
        rows = [{"name": "name", "label": "a", "shard": shard, "value": 1.5} for shard in range(counters.SHARDS)]
        connection.execute(sa.insert(counters_table).values(rows))
    with ledger.read() as connection:
        assert counters.of(connection, "name") == {"a": 12.0}
