"""The ledger's conditional writes: who may claim, write, elect and take over. On a real SQLite file."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from portal.domain.model import LeaseLost, NotFound, State, Step, StepState
from portal.domain.protocol import Facts, taken_over
from portal.ledger import decisions, fulfillments, installation, outbox, queueing, runs, unheard, workers
from portal.ledger.engine import Ledger
from portal.ledger.migrate import LedgerNotMigrated, require_migrated
from portal.ledger.schema import events as events_table
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.ledger.schema import metadata

ORDER = "801000000000001AAA"
ADA, BOB = "worker-ada", "worker-bob"


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """With two workers and an order."""
    with ledger.write() as connection:
        for name in (ADA, BOB):
            workers.register(connection, name, "fulfill", "host", 1, now=0.0)
        fulfillments.request_fulfillment(connection, ORDER, now=1.0, requested_at=0.5)
    return ledger


def row_of(ledger: Ledger) -> fulfillments.Fulfillment:
    with ledger.read() as connection:
        row = fulfillments.get(connection, ORDER)
    assert row is not None
    return row


def change(ledger: Ledger, **values: Any) -> None:
    with ledger.write() as connection:
        connection.execute(sa.update(fulfillments_table).values(**values))


def claim(ledger: Ledger, who: str, *, now: float = 2.0) -> fulfillments.Fulfillment | None:
    """Claim the order at a moment (seconds)."""
    with ledger.write() as connection:
        return runs.claim(connection, ORDER, who, now=now)


def test_only_one_claims(ledger: Ledger) -> None:
    claimed = claim(ledger, ADA)
    assert claimed is not None
    assert (claimed.owner, claimed.fence, claimed.state) == (ADA, 1, State.RUNNING)
    assert claim(ledger, BOB) is None


def test_an_order_that_is_not_due_is_not_claimed(ledger: Ledger) -> None:
    change(ledger, state=State.WAITING, due_at=50.0)
    assert claim(ledger, ADA, now=49.0) is None
    assert claim(ledger, ADA, now=50.0) is not None


def test_a_worker_declared_dead_claims_nothing(ledger: Ledger) -> None:
    with ledger.write() as connection:
        assert queueing.take_over(connection, ADA, now=2.0) == []
    with pytest.raises(LeaseLost):
        claim(ledger, ADA)
    assert row_of(ledger).state is State.QUEUED


def test_nothing_is_claimed_while_fulfillments_are_paused(ledger: Ledger) -> None:
    with ledger.write() as connection:
        installation.pause(connection, actor="ada", why="maintenance", now=1.0)
    assert claim(ledger, ADA) is None
    with ledger.write() as connection:
        installation.resume(connection, actor="ada", why="", now=1.0)
    assert claim(ledger, ADA) is not None


def test_the_fence_refuses_whoever_lost_the_order(ledger: Ledger) -> None:
    mine = claim(ledger, ADA)
    assert mine is not None
    with ledger.write() as connection:
        assert queueing.take_over(connection, ADA, now=3.0) == [ORDER]
    theirs = claim(ledger, BOB, now=3.0)
    assert theirs is not None
    assert theirs.fence > mine.fence
    with pytest.raises(LeaseLost), ledger.write() as connection:
        runs.update(connection, runs.Lease(ORDER, mine.fence, ADA), now=4.0, error_message="too late")
    with pytest.raises(LeaseLost), ledger.write() as connection:
        runs.save_facts(connection, runs.Lease(ORDER, mine.fence, ADA), replace(mine.facts, add_attempts=9), now=4.0)
    with pytest.raises(LeaseLost), ledger.write() as connection:
        runs.elect(connection, runs.Lease(ORDER, mine.fence, ADA), "7", now=4.0)
    after = row_of(ledger)
    assert (after.elected_whmcs_id, after.add_attempts, after.error_message) == (None, 0, None)


def test_an_election_stands(ledger: Ledger) -> None:
    mine = claim(ledger, ADA)
    assert mine is not None
    with ledger.write() as connection:
        assert runs.elect(connection, runs.Lease(ORDER, mine.fence, ADA), "7", now=3.0) == "7"
        assert runs.elect(connection, runs.Lease(ORDER, mine.fence, ADA), "8", now=3.0) == "7"
        runs.save_facts(connection, runs.Lease(ORDER, mine.fence, ADA), replace(mine.facts, elected="9"), now=3.0)
    assert row_of(ledger).elected_whmcs_id == "7"


@pytest.mark.parametrize("open_call", [True, False])
def test_a_takeover_doubts_what_was_begun_as_the_protocol_says(ledger: Ledger, open_call: bool) -> None:
    mine = claim(ledger, ADA)
    assert mine is not None
    begun = Facts(
        add_attempts=1,
        add_open=open_call,
        add_in_doubt_until=99.0,
        accept_attempts=2,
        accept_open=True,
        accept_in_doubt_until=98.0,
    )
    with ledger.write() as connection:
        runs.save_facts(connection, runs.Lease(ORDER, mine.fence, ADA), begun, now=3.0)
        queueing.take_over(connection, ADA, now=3.0)
    assert asdict(row_of(ledger).facts) == asdict(taken_over(begun))


def test_a_takeover_needs_the_heartbeat_it_saw(ledger: Ledger) -> None:
    with ledger.write() as connection:
        assert workers.count_heartbeat(connection, ADA, now=1.0)
        assert queueing.take_over(connection, ADA, now=3.0, heartbeats=0) is None
        assert queueing.take_over(connection, ADA, now=3.0, heartbeats=1) == []
        assert not workers.count_heartbeat(connection, ADA, now=1.0)
        assert queueing.take_over(connection, ADA, now=3.0, heartbeats=1) is None


def test_a_takeover_frees_what_the_dead_was_sending_and_says_the_truth_once_more(ledger: Ledger) -> None:
    with ledger.write() as connection:
        sending = outbox.put(
            connection, "salesforce", ORDER, {"fields": {}}, now=2.0, claimed_by=ADA, claimed_until=60.0
        )
        assert outbox.due(connection, "salesforce", now=3.0, limit=9) == []
        queueing.take_over(connection, ADA, now=3.0)
        assert [message.id for message in outbox.due(connection, "salesforce", now=3.0, limit=9)] == [sending]
        later = outbox.due(connection, "salesforce", now=100.0, limit=9)
    assert [message.subject for message in later] == [ORDER, ORDER]


def test_a_new_click_starts_a_failed_order_again_and_keeps_what_is_known_of_whmcs(ledger: Ledger) -> None:
    change(ledger, state=State.FAILED, elected_whmcs_id="7", add_attempts=1, error_code="WHMCS_UNAVAILABLE")
    with ledger.write() as connection:
        again = fulfillments.request_fulfillment(connection, ORDER, now=9.0, requested_at=8.0)
    assert (again.state, again.attempt, again.elected_whmcs_id, again.add_attempts) == (State.QUEUED, 2, "7", 1)
    assert (again.error_code, again.requested_at) == (None, 8.0)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.PROVISIONED, State.NEEDS_DECISION])
def test_a_click_on_any_other_order_changes_nothing(ledger: Ledger, state: State) -> None:
    change(ledger, state=state, add_attempts=1)
    before = row_of(ledger)
    with ledger.write() as connection:
        assert fulfillments.request_fulfillment(connection, ORDER, now=9.0, requested_at=8.0) == before
    assert row_of(ledger) == before


def test_a_click_on_a_waiting_order_has_it_tried_now_with_all_its_tries(ledger: Ledger) -> None:
    change(ledger, state=State.WAITING, due_at=9_999.0, tries=7, first_failed_at=3.0, add_attempts=1)
    with ledger.write() as connection:
        hurried = fulfillments.request_fulfillment(connection, ORDER, now=9.0, requested_at=8.0)
    assert (hurried.state, hurried.due_at, hurried.tries, hurried.first_failed_at) == (State.WAITING, 9.0, 0, None)


def test_a_click_tries_again_what_needs_a_decision_before_anything_was_sent(ledger: Ledger) -> None:
    change(ledger, state=State.NEEDS_DECISION, error_code="OUTCOME_UNCERTAIN")
    with ledger.write() as connection:
        again = fulfillments.request_fulfillment(connection, ORDER, now=9.0, requested_at=8.0)
    assert (again.state, again.attempt) == (State.QUEUED, 2)


def test_a_person_adopts_or_orders_a_fresh_create_only_where_there_is_something_to_decide(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="only an order that Failed or needs a decision"), ledger.write() as connection:
        decisions.adopt(connection, ORDER, "7", now=9.0, actor="ada")
    change(ledger, state=State.NEEDS_DECISION, add_attempts=2, add_open=True, history_complete=False)
    with ledger.write() as connection:
        adopted = decisions.adopt(connection, ORDER, "7", now=9.0, actor="ada")
    assert (adopted.state, adopted.elected_whmcs_id, adopted.add_open) == (State.QUEUED, "7", False)
    change(ledger, state=State.NEEDS_DECISION)
    with ledger.write() as connection:
        fresh = decisions.create_afresh(connection, ORDER, now=10.0, actor="ada")
    assert (fresh.elected_whmcs_id, fresh.add_attempts, fresh.history_complete) == (None, 0, True)
    with pytest.raises(NotFound), ledger.write() as connection:
        decisions.adopt(connection, "801000000000002AAA", "7", now=9.0, actor="ada")


def test_an_order_found_requested_without_a_call_is_looked_for_before_it_is_made(ledger: Ledger) -> None:
    with ledger.write() as connection:
        found = unheard.request_unheard(connection, "801000000000002AAA", now=9.0)
    assert (found.state, found.history_complete) == (State.QUEUED, False)


def test_a_waiting_order_found_requested_is_tried_now(ledger: Ledger) -> None:
    change(ledger, state=State.WAITING, due_at=9_999.0, tries=7)
    with ledger.write() as connection:
        unheard.request_unheard(connection, ORDER, now=9.0)
    row = row_of(ledger)
    assert (row.state, row.attempt, row.due_at, row.tries) == (State.WAITING, 1, 9.0, 0)


def told_at(ledger: Ledger) -> float | None:
    """The moment at which Salesforce is to be told how the order stands, if it is."""
    with ledger.read() as connection:
        return outbox.longest_overdue(connection, "salesforce")


@pytest.mark.parametrize("state", [State.PROVISIONED, State.NEEDS_DECISION])
def test_of_an_ended_order_found_requested_salesforce_is_told_once_more(ledger: Ledger, state: State) -> None:
    change(ledger, state=state, add_attempts=1)
    with ledger.write() as connection:
        unheard.request_unheard(connection, ORDER, now=9.0)
    assert told_at(ledger) is None, "Salesforce hasn't taken how it ended: that is under way"
    change(ledger, salesforce_status="Activating")
    with ledger.write() as connection:
        unheard.request_unheard(connection, ORDER, now=9.0)
    assert (told_at(ledger), row_of(ledger).state) == (9.0, state)


def test_an_order_whose_attempt_was_forgotten_is_looked_for_and_run_again(ledger: Ledger) -> None:
    """Salesforce shows a later attempt than this ledger, which was restored, knows of."""
    with ledger.write() as connection:
        assert unheard.request_forgotten(connection, ORDER, now=9.0, provisioned=True) is None, "it goes on by itself"
        assert unheard.request_forgotten(connection, "801000000000002AAA", now=9.0, provisioned=True) is None
        new = unheard.request_forgotten(connection, "801000000000003AAA", now=9.0, provisioned=False)
    assert new is not None
    assert (new.state, new.history_complete) == (State.QUEUED, False)
    for attempt, state in enumerate((State.FAILED, State.NEEDS_DECISION), 2):
        change(ledger, state=state, history_complete=True)
        with ledger.write() as connection:
            again = unheard.request_forgotten(connection, ORDER, now=9.0, provisioned=True)
            told = connection.execute(
                sa.select(events_table.c.subject).where(events_table.c.kind == "attempt_forgotten")
            )
        assert again is not None
        assert (again.state, again.attempt, again.history_complete) == (State.QUEUED, attempt, False)
        assert list(told.scalars()) == [ORDER] * (attempt - 1)


def test_a_step_is_done_when_it_last_ended_well_in_whichever_attempt(ledger: Ledger) -> None:
    other = "801000000000002AAA"
    with ledger.write() as connection:
        fulfillments.request_fulfillment(connection, other, now=1.0, requested_at=0.5)
        for order, attempt, step, state, ended in (
            (ORDER, 1, Step.VALIDATION, StepState.DONE, 3.0),
            (ORDER, 1, Step.MAPPING, StepState.DONE, 4.0),
            (ORDER, 1, Step.WHMCS_CREATE, StepState.UNCERTAIN, 5.0),
            (ORDER, 2, Step.VALIDATION, StepState.DONE, 6.0),
            (other, 1, Step.VALIDATION, StepState.DONE, 7.0),
        ):
            number = runs.begin_step(connection, order, attempt, 1, step, now=2.0)
            runs.end_step(connection, number, state, None, now=ended)
        runs.begin_step(connection, ORDER, 2, 1, Step.WHMCS_ACCEPT, now=7.0)
        runs.take_step(connection, ORDER, 2, 1, Step.ORDER_DETAILS, now=8.0)
    mine = {Step.VALIDATION: 6.0, Step.MAPPING: 4.0, Step.ORDER_DETAILS: 8.0}
    with ledger.read() as connection:
        assert runs.done_at(connection, [ORDER]) == {ORDER: mine}
        both = {ORDER: mine, other: {Step.VALIDATION: 7.0}}
        assert runs.done_at(connection, [ORDER, "801000000000003AAA", other]) == both


def test_a_message_is_written_once_and_sent_by_one(ledger: Ledger) -> None:
    with ledger.write() as connection:
        first = outbox.put(connection, "salesforce", ORDER, {"n": 1}, now=1.0, once="a")
        assert outbox.put(connection, "salesforce", ORDER, {"n": 1}, now=1.0, once="a") is None
        second = outbox.put(connection, "salesforce", ORDER, {"n": 2}, now=1.0)
        assert first is not None
        assert second is not None
        assert not outbox.being_sent(connection, "salesforce", ORDER, now=1.0)
        assert outbox.claim(connection, [first], ADA, now=1.0, until=5.0) == {first}
        assert outbox.claim(connection, [first], BOB, now=2.0, until=5.0) == set()
        assert outbox.claim(connection, [first], BOB, now=6.0, until=9.0) == {first}
        assert outbox.being_sent(connection, "salesforce", ORDER, now=7.0)
        outbox.sent(connection, first, now=7.0)
        assert not outbox.being_sent(connection, "salesforce", ORDER, now=7.0)


def test_processes_refuse_an_unmigrated_ledger(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    with pytest.raises(LedgerNotMigrated, match="flask db upgrade"):
        require_migrated(ledger)
    ledger.dispose()


def test_the_migrations_make_the_tables_of_the_schema(ledger: Ledger) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with ledger.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
