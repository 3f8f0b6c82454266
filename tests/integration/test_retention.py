"""RETENTION_DAYS: what goes, what stays, and that deleting keeps pace with 12,000 deliveries a minute."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from portal.domain.model import State
from portal.ledger import deliveries, events, housekeeping, outbox, workers
from portal.ledger.engine import Ledger
from portal.ledger.fulfillments import new_row
from portal.ledger.schema import deliveries as deliveries_table
from portal.ledger.schema import events as events_table
from portal.ledger.schema import fulfillments, idempotency_keys, steps
from portal.ledger.schema import outbox as outbox_table
from portal.ledger.schema import workers as workers_table
from tests.stack import Stack

DAY = 86_400.0
NOW = 1_000 * DAY
RETENTION = 100 * DAY


def order_id(number: int) -> str:
    return f"801{number:012d}AAA"


def fulfillment(number: int, state: State, finished_at: float | None) -> dict[str, Any]:
    row = new_row(order_id(number), now=0.0, requested_at=0.0, requested_by=None, history_complete=True)
    return row | {"state": state.value, "fence": 1, "finished_at": finished_at}


def step(number: int, at: float) -> dict[str, Any]:
    """A step of an order, begun at `at` (seconds since 1970)."""
    row = {"sf_order_id": order_id(number), "attempt": 1, "name": "validation", "state": "done", "fence": 1}
    return {**row, "started_at": at, "ended_at": at}


def tidy(ledger: Ledger, *, now: float = NOW, retention: float = RETENTION) -> int:
    """A whole round, as the sweep does it; returns how many rows it deleted. Times are in seconds."""
    round_ = housekeeping.Round(now=now, retention=retention)
    more = True
    while more:
        with ledger.write() as connection:
            more = round_.batch(connection)
    return round_.deleted


def values(ledger: Ledger, column: sa.Column[Any]) -> list[Any]:
    with ledger.read() as connection:
        return sorted(connection.execute(sa.select(column)).scalars())


def test_steps_go_once_their_order_ended_long_ago(each_ledger: Ledger) -> None:
    old, young = NOW - RETENTION - 1, NOW - 1
    rows = [
        fulfillment(1, State.PROVISIONED, old),
        fulfillment(2, State.FAILED, old),
        fulfillment(3, State.PROVISIONED, young),  # began long ago, ended lately
        fulfillment(4, State.WAITING, None),
        fulfillment(5, State.NEEDS_DECISION, old),
    ]
    with each_ledger.write() as connection:
        connection.execute(sa.insert(fulfillments), rows)
        connection.execute(sa.insert(steps), [step(number, old) for number in range(1, 7)])  # 6: of no order
        connection.execute(sa.insert(steps), [step(1, young)])
    assert tidy(each_ledger) == 3
    assert values(each_ledger, steps.c.sf_order_id) == [order_id(number) for number in (1, 3, 4, 5)]
    assert tidy(each_ledger) == 0
    assert len(values(each_ledger, fulfillments.c.sf_order_id)) == 5


def test_old_rows_behind_those_that_must_stay_go_too(each_ledger: Ledger) -> None:
    """More of them than one batch looks at, and a clock that once was wrong."""
    old = NOW - RETENTION - 1
    with each_ledger.write() as connection:
        connection.execute(sa.insert(fulfillments), [fulfillment(1, State.WAITING, None)])
        connection.execute(sa.insert(steps), [step(1, old)] * (housekeeping.BATCH + 1))
        connection.execute(sa.insert(steps), [step(2, NOW + DAY), step(2, old)])
    assert tidy(each_ledger) == 1
    assert len(values(each_ledger, steps.c.id)) == housekeeping.BATCH + 2


def test_messages_go_when_sent_and_never_before(each_ledger: Ledger) -> None:
    long_ago = NOW - RETENTION - DAY
    with each_ledger.write() as connection:
        ids = [outbox.put(connection, "mail", f"P-{n}", {"to": "a@example.com"}, now=long_ago) for n in range(5)]
        sent_then, sent_lately, given_up, pending, refused = (each or 0 for each in ids)
        outbox.sent(connection, sent_then, now=long_ago)
        outbox.sent(connection, sent_lately, now=NOW - 1)
        outbox.dead(connection, given_up, error="no such mailbox")
        outbox.again(connection, refused, now=long_ago, due_at=NOW + DAY, error="try later")
    assert tidy(each_ledger) == 2
    assert values(each_ledger, outbox_table.c.id) == sorted((sent_lately, pending, refused))


def test_processes_that_died_are_kept_for_a_day(each_ledger: Ledger) -> None:
    old, young = NOW - housekeeping.DEAD_WORKERS_KEPT - 1, NOW - housekeeping.DEAD_WORKERS_KEPT + 1
    with each_ledger.write() as connection:
        for kind in ("fulfill", "relay", "sweep"):
            for name, at in (("dead", old), ("young", young), ("living", old)):
                workers.register(connection, f"{kind}-{name}", kind, "host", 1, now=at)
        connection.execute(
            sa.update(workers_table).where(workers_table.c.worker_id.not_like("%living")).values(dead=True)
        )
    assert tidy(each_ledger) == 3
    assert values(each_ledger, workers_table.c.worker_id) == [
        f"{kind}-{name}" for kind in ("fulfill", "relay", "sweep") for name in ("living", "young")
    ]


def test_what_a_person_did_stays(each_ledger: Ledger) -> None:
    old = NOW - RETENTION - 1
    with each_ledger.write() as connection:
        for kind, actor in (("adopted", "ada"), ("setup_fault", None), ("whmcs:order.accepted", "whmcs")):
            events.record(connection, kind, now=old, subject=order_id(1), actor=actor)
            events.record(connection, kind, now=NOW, subject=order_id(1), actor=actor)
    assert tidy(each_ledger) == 2
    kinds = values(each_ledger, events_table.c.kind)
    assert kinds == ["adopted", "adopted", "setup_fault", "whmcs:order.accepted"]


@pytest.mark.parametrize("retention", [DAY, RETENTION])
def test_nonces_and_keys_live_as_long_as_they_are_promised_to(each_ledger: Ledger, retention: float) -> None:
    """docs/webhooks.md: a key for 7 days, a nonce as long as its timestamp could pass; however short the retention."""
    with each_ledger.write() as connection:
        deliveries.record(connection, "sf:long", now=NOW, keep=3 * DAY, sf_order_id=order_id(1))
        deliveries.record(connection, "sf:short", now=NOW, keep=600.0, sf_order_id=order_id(1))
        deliveries.claim_key(connection, "click", order_id(1), now=NOW)
        deliveries.keep_answer(connection, "click", 200, {"success": True})
    tidy(each_ledger, now=NOW + DAY - 1, retention=retention)
    assert values(each_ledger, deliveries_table.c.nonce) == ["sf:long", "sf:short"]
    tidy(each_ledger, now=NOW + max(retention, DAY), retention=retention)
    assert values(each_ledger, deliveries_table.c.nonce) == ["sf:long"], "its timestamp could still pass"
    tidy(each_ledger, now=NOW + 2 * DAY + retention, retention=retention)
    assert values(each_ledger, deliveries_table.c.nonce) == []
    with each_ledger.write() as connection:
        deliveries.claim_key(connection, "again", order_id(1), now=NOW)
    tidy(each_ledger, now=NOW + 7 * DAY - 1, retention=retention)
    with each_ledger.read() as connection:
        assert deliveries.key_of(connection, "again", now=NOW + 7 * DAY - 1) is not None
    tidy(each_ledger, now=NOW + 7 * DAY, retention=retention)
    assert values(each_ledger, idempotency_keys.c.key) == []


def fill(ledger: Ledger, count: int) -> int:
    """What `count` provisioned deliveries leave behind, RETENTION ago; returns how many rows may go."""
    old = NOW - RETENTION - 2 * DAY
    numbers = range(count)
    tables: Sequence[tuple[sa.Table, list[dict[str, Any]]]] = (
        (fulfillments, [fulfillment(n, State.PROVISIONED, old) for n in numbers]),
        (
            deliveries_table,
            [
                {"nonce": f"sf:{n}", "sf_order_id": order_id(n), "received_at": old, "expires_at": old + DAY}
                for n in numbers
            ],
        ),
        (
            idempotency_keys,
            [
                {"key": f"k{n}", "sf_order_id": order_id(n), "attempt": 1, "created_at": old, "expires_at": old + DAY}
                for n in numbers
            ],
        ),
        (steps, [step(n, old) for n in numbers for _ in range(7)]),
        (
            outbox_table,
            [
                {
                    "kind": "salesforce",
                    "subject": order_id(n),
                    "payload": {},
                    "state": "sent",
                    "tries": 0,
                    "due_at": old,
                    "created_at": old,
                    "sent_at": old,
                }
                for n in numbers
            ],
        ),
    )
    with ledger.write() as connection:
        for table, rows in tables:
            connection.execute(sa.insert(table), rows)
    return sum(len(rows) for table, rows in tables if table is not fulfillments)


def test_deleting_keeps_pace_with_12000_deliveries_a_minute(each_ledger: Ledger) -> None:
    """A minute's rows are gone in less than half of a minute, which is the share of its time the sweep has for it."""
    rows = fill(each_ledger, 12_000)
    round_ = housekeeping.Round(now=NOW, retention=RETENTION)
    longest, began = 0.0, time.monotonic()
    more = True
    while more:
        at = time.monotonic()
        with each_ledger.write() as connection:
            more = round_.batch(connection)
        longest = max(longest, time.monotonic() - at)
    seconds = time.monotonic() - began
    print(f"{rows} rows of 12000 deliveries in {seconds:.1f} s, longest transaction {longest * 1000:.0f} ms")
    assert round_.deleted == rows
    assert seconds < 30
    assert longest < 2


def test_the_sweep_does_it(own_stack: Stack) -> None:
    own_stack.settings["RETENTION_DAYS"] = "1"
    own_stack.start()
    order = own_stack.order("starter")
    assert own_stack.fulfill(order).status == 200
    own_stack.wait_for(
        lambda: not own_stack.ledger("SELECT id FROM outbox WHERE state = 'pending'"), "Salesforce to be told"
    )
    assert own_stack.steps(order)
    for name in ("web", "worker", "sweep"):
        own_stack.child(name).stop()
    two_days = 2 * DAY
    own_stack.change("UPDATE steps SET started_at = started_at - ?", two_days)
    own_stack.change("UPDATE fulfillments SET finished_at = finished_at - ?", two_days)
    for name in ("worker", "sweep", "web"):
        own_stack.restart(name)
    own_stack.wait_for(lambda: not own_stack.steps(order), "the sweep to delete the steps", 90)
    assert own_stack.fulfillment(order) is not None
