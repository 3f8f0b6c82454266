"""What the orchestrator makes of trouble: how long an order waits, when it is given up, and under which code.

The runs and their ledger are real; the steps are replaced by one that fails as told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from portal.domain.ids import external_reference
from portal.domain.model import (
    ErrorCode,
    FulfillmentFailed,
    JsonObject,
    LeaseLost,
    NeedsDecision,
    Setup,
    State,
    Step,
    UpstreamError,
    WhmcsOrder,
)
from portal.fulfillment import orchestrator, steps
from portal.fulfillment.audit import AUDIT_CLAIM, DUPLICATE_AUDITS, audit
from portal.fulfillment.orchestrator import Ended, fulfill
from portal.fulfillment.run import Run, RunContext, WaitUntil
from portal.ledger import audits, decisions, fulfillments, installation, queueing, runs, workers
from portal.ledger.engine import Ledger
from tests.fakes import ADA, ORDER, Clock, FakeSalesforce, FakeWhmcs, run_context

SCHEDULE = (10.0, 20.0, 40.0)


@pytest.fixture
def salesforce() -> FakeSalesforce:
    return FakeSalesforce()


@pytest.fixture
def context(ledger: Ledger, clock: Clock, salesforce: FakeSalesforce) -> RunContext:
    with ledger.write() as connection:
        workers.register(connection, ADA, "fulfill", "host", 1, now=0.0)
        fulfillments.request_fulfillment(connection, ORDER, now=clock.now, requested_at=clock.now)
    return run_context(ledger, clock, salesforce, FakeWhmcs(), fulfillment_retry_schedule=SCHEDULE)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception, step: str = "validation") -> None:
    """Every step succeeds but this one."""

    def good(_run: Run) -> JsonObject:
        return {}

    def bad(_run: Run) -> JsonObject:
        raise error

    for name in Step:
        monkeypatch.setattr(steps, name.value, bad if name == step else good)


def row_of(context: RunContext) -> fulfillments.Fulfillment:
    with context.ledger.read() as connection:
        row = fulfillments.get(connection, ORDER)
    assert row is not None
    return row


def run(context: RunContext) -> Ended:
    ended = fulfill(context, ORDER)
    assert ended is not None
    return ended


def down(upstream: str = "WHMCS", **about: Any) -> UpstreamError:
    return UpstreamError(upstream, f"{upstream} answered with 503", **{"permanent": False, "code": "http_503", **about})


def test_each_pause_of_the_schedule_is_kept_and_then_the_order_fails(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, down())
    for number, pause in enumerate(SCHEDULE, 1):
        assert run(context).state is State.WAITING
        row = row_of(context)
        assert row.tries == number
        assert row.waiting_for == "WHMCS answered with 503"
        assert row.owner is None
        assert 0.8 * pause <= row.due_at - clock.now <= 1.2 * pause
        assert fulfill(context, ORDER) is None  # not before
        clock.now = row.due_at
    ended = run(context)
    assert (ended.state, ended.code) == (State.FAILED, ErrorCode.WHMCS_UNAVAILABLE)
    assert row_of(context).error_message == "Given up after 4 tries: WHMCS answered with 503"


def test_slow_calls_use_up_no_retries(context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, down())
    states = []
    for _ in range(len(SCHEDULE) + 1):
        states.append(run(context).state)
        clock.now = row_of(context).due_at + 500.0  # far more than the whole schedule
    assert states == [State.WAITING] * len(SCHEDULE) + [State.FAILED]


def test_an_open_circuit_is_no_try_but_not_for_ever(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, down(code="circuit_open", retry_after=7.0, reached=False))
    began, count = clock.now, 0
    while run(context).state is State.WAITING:
        row = row_of(context)
        assert row.tries == 0
        assert row.due_at - clock.now == 7.0
        clock.now, count = row.due_at, count + 1
    assert 1.25 * sum(SCHEDULE) < clock.now - began < 1.25 * sum(SCHEDULE) + 14.0
    assert count > len(SCHEDULE)
    assert row_of(context).error_code == "WHMCS_UNAVAILABLE"


def test_a_longer_wait_that_was_asked_for_is_kept_and_a_shorter_one_isnt_taken(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, down(retry_after=300.0))
    run(context)
    assert row_of(context).due_at - clock.now == 300.0
    clock.now = row_of(context).due_at
    fail_with(monkeypatch, down(retry_after=1.0))
    run(context)
    assert 16.0 <= row_of(context).due_at - clock.now <= 24.0


@pytest.mark.parametrize(
    ("upstream", "code"),
    [
        ("WHMCS", "WHMCS_UNAVAILABLE"),
        ("whmcs", "WHMCS_UNAVAILABLE"),
        ("Salesforce", "SALESFORCE_UNAVAILABLE"),
        ("salesforce", "SALESFORCE_UNAVAILABLE"),
        ("portal", "PROVISIONING_ERROR"),
    ],
)
def test_the_code_names_the_side_that_was_away(
    context: RunContext,
    clock: Clock,
    salesforce: FakeSalesforce,
    monkeypatch: pytest.MonkeyPatch,
    upstream: str,
    code: str,
) -> None:
    fail_with(monkeypatch, down(upstream))
    while run(context).state is State.WAITING:
        clock.now = row_of(context).due_at
    row = row_of(context)
    assert row.error_code == code
    assert salesforce.written[-1]["Provisioning_Error_Code__c"] == code


def refused(action: str, code: str = "refused", **about: Any) -> UpstreamError:
    error = UpstreamError("WHMCS", "WHMCS: no", **{"permanent": True, "code": code, **about})
    error.action = action
    return error


@pytest.mark.parametrize(
    ("step", "error", "code"),
    [
        ("validation", refused("describe"), "PROVISIONING_ERROR"),
        ("validation", refused("GetPayMethods", "client_not_found"), "CLIENT_NOT_MAPPED"),
        ("validation", refused("fetch_order", "order_without_account"), "CLIENT_NOT_MAPPED"),
        ("validation", refused("fetch_order", "FRACTIONAL_QUANTITY"), "PRODUCT_MAPPING_MISSING"),
        ("whmcs_create", refused("AddOrder"), "WHMCS_ADD_ORDER_FAILED"),
        ("whmcs_create", refused("GetOrders"), "PROVISIONING_ERROR"),
        ("whmcs_accept", refused("AcceptOrder"), "WHMCS_ACCEPT_ORDER_FAILED"),
        ("whmcs_accept", refused("GetClientsProducts", "client_not_found"), "CLIENT_NOT_MAPPED"),
        ("whmcs_accept", refused("GetOrders"), "PROVISIONING_ERROR"),
        ("sf_success_update", refused("update_order"), "PROVISIONING_ERROR"),
    ],
)
def test_a_refusal_fails_at_once_under_the_code_of_what_was_refused(
    context: RunContext, monkeypatch: pytest.MonkeyPatch, step: str, error: UpstreamError, code: str
) -> None:
    fail_with(monkeypatch, error, step)
    ended = run(context)
    assert (ended.state, ended.code) == (State.FAILED, code)
    assert row_of(context).tries == 0


@pytest.mark.parametrize(
    ("action", "code", "tries", "ends"),
    [
        ("AddOrder", "unknown_words", 2, "WHMCS_ADD_ORDER_FAILED"),
        ("AddOrder", "trouble_of_the_moment", 3, "WHMCS_UNAVAILABLE"),
        ("GetOrders", "unknown_words", 3, "WHMCS_UNAVAILABLE"),
    ],
)
def test_words_nobody_knows_are_tried_again_and_end_under_the_code_of_what_was_asked(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch, action: str, code: str, tries: int, ends: str
) -> None:
    monkeypatch.setattr(orchestrator, "REFUSED_TRIES", 2)
    fail_with(monkeypatch, refused(action, code, permanent=False), "whmcs_create")
    for _ in range(tries):
        assert run(context).state is State.WAITING
        clock.now = row_of(context).due_at
    ended = run(context)
    assert (ended.state, ended.code) == (State.FAILED, ends)
    assert ended.message == f"Given up after {tries + 1} tries: WHMCS: no"


def test_a_fault_of_the_set_up_keeps_an_order_waiting_without_end_and_costs_it_no_try(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = UpstreamError("Salesforce", "field X is gone; deploy it", permanent=False, setup=Setup.ACTION, code="I_F")
    circuit = UpstreamError(
        "Salesforce",
        "field X is gone; deploy it",
        permanent=False,
        setup=Setup.ACTION,
        code="circuit_open",
        retry_after=7.0,
        reached=False,
    )
    for number in range(60):
        fail_with(monkeypatch, circuit if number % 2 else gone)
        assert run(context).state is State.WAITING
        row = row_of(context)
        assert (row.waiting_code, row.waiting_for) == ("SALESFORCE_UNAVAILABLE", "field X is gone; deploy it")
        assert (row.tries, row.first_failed_at) == (0, None)
        assert row.due_at - clock.now == 7.0 if number % 2 else 1.2 <= row.due_at - clock.now <= 1.8
        clock.now = row.due_at + 86_400.0
    fail_with(monkeypatch, down())  # and the trouble after it has its whole schedule
    assert run(context).state is State.WAITING
    assert row_of(context).tries == 1


def test_an_error_of_ours_is_passing_trouble_and_never_shows_its_text(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_with(monkeypatch, KeyError("ada@lovelace.example"))
    assert run(context).state is State.WAITING
    assert row_of(context).waiting_for == "an unexpected error in the portal, see its log"
    clock.now = row_of(context).due_at
    while run(context).state is State.WAITING:
        clock.now = row_of(context).due_at
    row = row_of(context)
    assert row.error_code == "PROVISIONING_ERROR"
    assert "ada@" not in str(row.error_message)
    assert "Fulfillment step raised an unexpected error" in caplog.text


def test_failing_needing_a_decision_and_waiting_end_a_run_as_they_are_called(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, WaitUntil(clock.now + 5, "still being built"), "whmcs_create")
    assert run(context).state is State.WAITING
    row = row_of(context)
    assert (row.tries, row.first_failed_at, row.due_at) == (0, None, clock.now + 5)
    clock.now += 5
    fail_with(monkeypatch, NeedsDecision("two are active"), "whmcs_create")
    assert run(context).state is State.NEEDS_DECISION
    assert fulfill(context, ORDER) is None  # nothing runs it until a person has decided
    with context.ledger.write() as connection:
        decisions.create_afresh(connection, ORDER, now=clock.now, actor="ada")
    fail_with(monkeypatch, FulfillmentFailed(ErrorCode.ORDER_HAS_NO_ITEMS, "no items"), "order_details")
    ended = run(context)
    assert (ended.state, ended.code, row_of(context).attempt) == (State.FAILED, ErrorCode.ORDER_HAS_NO_ITEMS, 2)


def test_after_the_election_a_step_with_a_good_outcome_isnt_done_again_in_its_attempt(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, down(), "whmcs_create")
    run(context)
    clock.now = row_of(context).due_at
    with context.ledger.write() as connection:
        connection.execute(sa.text("UPDATE fulfillments SET add_attempts = 1, elected_whmcs_id = '7'"))
    fail_with(monkeypatch, AssertionError("validation was done already"), "validation")
    assert run(context).state is State.PROVISIONED


def test_before_the_election_what_was_checked_is_checked_again(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, down(), "whmcs_create")
    run(context)
    clock.now = row_of(context).due_at
    cancelled = FulfillmentFailed(ErrorCode.ORDER_NOT_FULFILLABLE, "cancelled meanwhile")
    fail_with(monkeypatch, cancelled, "validation")
    assert run(context).state is State.FAILED


def test_trouble_that_is_over_shortens_no_later_wait(
    context: RunContext, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, down())
    run(context)
    clock.now = row_of(context).due_at
    fail_with(monkeypatch, WaitUntil(clock.now + 86_400, "an operator has paused fulfillments"), "whmcs_create")
    run(context)
    clock.now = row_of(context).due_at
    fail_with(monkeypatch, down(code="circuit_open", retry_after=7.0, reached=False), "whmcs_create")
    assert run(context).state is State.WAITING


@pytest.fixture
def audited(context: RunContext, clock: Clock) -> tuple[RunContext, FakeWhmcs]:
    """An order that ended well after a second AddOrder, whose first audit is due."""
    with context.ledger.write() as connection:
        runs.claim(connection, ORDER, "ada", now=clock.now)
        runs.update(
            connection,
            runs.Lease(ORDER, 1, "ada"),
            now=clock.now,
            state=State.PROVISIONED,
            owner=None,
            elected_whmcs_id="1",
            duplicate_possible=True,
            plan={"clientId": "5", "lines": []},
            finished_at=clock.now,
            service_ids=[],
            audit_due_at=clock.now,
        )
    whmcs = FakeWhmcs()
    for status in ("Active", "Pending"):
        whmcs.add(status, external_reference(ORDER))
    clock.now += 1000
    return replace(context, whmcs=whmcs), whmcs


def test_an_audit_cancels_the_stray_and_plans_the_next(audited: tuple[RunContext, FakeWhmcs], clock: Clock) -> None:
    context, whmcs = audited
    assert audit(context, ORDER)
    assert whmcs.status_of("2") == "Cancelled"
    row = row_of(context)
    assert (row.state, row.audits) == (State.PROVISIONED, 1)
    assert row.audit_due_at is not None
    assert 3600 - 1000 <= row.audit_due_at - clock.now <= 3600
    assert not audit(context, ORDER)  # not before


def test_an_audit_writes_nothing_while_paused(audited: tuple[RunContext, FakeWhmcs], clock: Clock) -> None:
    context, whmcs = audited
    with context.ledger.write() as connection:
        installation.pause(connection, actor="ada", why="maintenance", now=clock.now)
    assert audit(context, ORDER)
    assert whmcs.status_of("2") == "Pending"
    row = row_of(context)
    assert row.audits == 0
    assert row.audit_due_at == clock.now + 5.0
    with context.ledger.write() as connection:
        installation.resume(connection, actor="ada", why="", now=clock.now)
    clock.now += 5.0
    assert audit(context, ORDER)
    assert whmcs.status_of("2") == "Cancelled"


def test_an_audit_that_whmcs_cant_serve_is_put_off(audited: tuple[RunContext, FakeWhmcs], clock: Clock) -> None:
    context, whmcs = audited
    whmcs.on_cancel = [down(retry_after=40.0)]
    assert audit(context, ORDER)
    row = row_of(context)
    assert row.audits == 0
    assert row.audit_due_at == clock.now + 40.0


def test_an_audit_that_another_process_takes_at_this_moment_isnt_done_twice(
    audited: tuple[RunContext, FakeWhmcs], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the row and its claim, as PostgreSQL allows it."""
    context, whmcs = audited
    claim = audits.claim_audit

    def second(connection: sa.Connection, row: fulfillments.Fulfillment, *, due_again_at: float) -> bool:
        assert claim(connection, row, due_again_at=clock.now + 77.0)
        return claim(connection, row, due_again_at=due_again_at)

    monkeypatch.setattr(audits, "claim_audit", second)
    assert not audit(context, ORDER)
    assert whmcs.status_of("2") == "Pending"
    assert row_of(context).audit_due_at == clock.now + 77.0  # the other's, who comes again if that one dies


def test_the_audits_of_an_order_that_failed_end_with_the_last_that_a_late_addorder_asks_for(
    audited: tuple[RunContext, FakeWhmcs], clock: Clock
) -> None:
    context, whmcs = audited
    whmcs.placed = whmcs.rows = []
    begin = clock.now - 1000.0 + context.settings.whmcs_max_request_seconds
    with context.ledger.write() as connection:
        connection.execute(sa.text("UPDATE fulfillments SET state = 'failed', elected_whmcs_id = NULL"))
    for done, pause in enumerate(DUPLICATE_AUDITS[1:], 1):
        assert audit(context, ORDER)
        row = row_of(context)
        assert row.audits == done
        assert row.audit_due_at == begin + pause
        clock.now = begin + pause
    assert audit(context, ORDER)
    row = row_of(context)
    assert (row.audits, row.audit_due_at) == (3, None)
    with context.ledger.write() as connection:
        audits.hint(connection, ORDER, now=clock.now)  # and one that nobody has planned brings on no others
    assert audit(context, ORDER)
    row = row_of(context)
    assert (row.audits, row.audit_due_at) == (3, None)


def test_a_mistake_of_ours_in_an_audit_ends_no_process_and_is_tried_again(
    audited: tuple[RunContext, FakeWhmcs],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its process runs other orders, too, which would all be looked for in WHMCS if it ended."""
    context, whmcs = audited

    def mistake(_client_id: str) -> list[WhmcsOrder]:
        raise KeyError("id")

    with monkeypatch.context() as patch:
        patch.setattr(whmcs, "orders_of", mistake)
        assert audit(context, ORDER)
    assert "Audit raised an unexpected error" in caplog.text
    assert not audit(context, ORDER)
    row = row_of(context)
    assert (row.state, row.audits, row.audit_due_at) == (State.PROVISIONED, 0, clock.now + AUDIT_CLAIM)
    clock.now += AUDIT_CLAIM
    assert audit(context, ORDER)
    assert whmcs.status_of("2") == "Cancelled"


def test_an_audit_gives_way_to_a_new_click(
    audited: tuple[RunContext, FakeWhmcs], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, whmcs = audited
    listing = whmcs.orders_of

    def click(client_id: str) -> list[WhmcsOrder]:
        with context.ledger.write() as connection:
            fulfillments.start_again(connection, row_of(context), now=clock.now)
        return listing(client_id)

    monkeypatch.setattr(whmcs, "orders_of", click)
    assert audit(context, ORDER)  # and this process lives on
    assert whmcs.status_of("2") == "Pending"
    row = row_of(context)
    assert (row.state, row.attempt, row.audit_due_at) == (State.QUEUED, 2, None)


def test_who_lost_the_order_writes_nothing(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(run: Run) -> JsonObject:
        with run.context.ledger.write() as connection:
            queueing.take_over(connection, "ada", now=1.0)
        return {}

    fail_with(monkeypatch, AssertionError("never reached"), "sf_status_update")
    monkeypatch.setattr(steps, "validation", lose)
    with pytest.raises(LeaseLost):
        fulfill(context, ORDER)
    row = row_of(context)
    assert (row.state, row.fence, row.error_code) == (State.QUEUED, 2, None)
