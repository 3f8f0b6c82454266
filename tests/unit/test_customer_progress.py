"""What an order's page says for everything the ledger can hold: plain words, true stages, nothing of the inside."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from portal.customers.progress import AHEAD, CURRENT, DONE, STOPPED, Progress, duration, tell
from portal.domain.model import FINAL_STATUSES, CustomerStatus, ErrorCode, State, Step
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.orders import PLACED, PLACING, REFUSED, UNWANTED, WITHDRAWN, Order

NOW = 1_700_000_000.0

ORDER = Order(
    reference="PO-AAAA-BBBB",
    sf_order_id="801000000000001AAA",
    order_number="00000100",
    account_id="001A",
    email="ada@lovelace.example",
    checkout_key="k",
    placing=PLACED,
    place_due_at=None,
    place_tries=1,
    status=CustomerStatus.PENDING_REVIEW,
    sf_status="Pending Review",
    items=[],
    currency="USD",
    total="5.00",
    error_code=None,
    created_at=NOW - 100,
    updated_at=NOW - 100,
)

RUN = Fulfillment(
    **{
        **dict.fromkeys(Fulfillment.__dataclass_fields__),
        "sf_order_id": ORDER.sf_order_id,
        "state": State.RUNNING,
        "attempt": 1,
        "tries": 0,
        "due_at": NOW - 50,
        "fence": 1,
        "history_complete": True,
        "add_attempts": 0,
        "accept_attempts": 0,
        "audits": 0,
        "service_ids": [],
        "requested_at": NOW - 50,
        "created_at": NOW - 50,
        "updated_at": NOW - 40,
    }
)


def steps(*names: Step) -> dict[str, float]:
    """These are done, a second apart."""
    return {name.value: NOW - 40 + index for index, name in enumerate(names)}


def told(
    order: Order,
    fulfillment: Fulfillment | None = None,
    done_at: dict[str, float] | None = None,
    lead_time: float | None = None,
) -> Progress:
    return tell(order, fulfillment, done_at or {}, now=NOW, lead_time_seconds=lead_time, review_time="one working day")


def states(progress: Progress) -> list[str]:
    return [stage.state for stage in progress.stages]


ALL = list(Step)
PREPARED = ALL[:4]


@pytest.mark.parametrize(
    ("order", "fulfillment", "done_at", "expected"),
    [
        (ORDER, None, [], [DONE, CURRENT, AHEAD, AHEAD, AHEAD]),
        (replace(ORDER, status=CustomerStatus.ACTIVATING), RUN, [], [DONE, DONE, CURRENT, AHEAD, AHEAD]),
        (replace(ORDER, status=CustomerStatus.ACTIVATING), RUN, steps(*PREPARED), [DONE, DONE, DONE, CURRENT, AHEAD]),
        (replace(ORDER, status=CustomerStatus.ACTIVATING), RUN, steps(*ALL[:6]), [DONE, DONE, DONE, DONE, CURRENT]),
        (
            replace(ORDER, status=CustomerStatus.PROVISIONED),
            replace(RUN, state=State.PROVISIONED, finished_at=NOW),
            steps(*ALL),
            [DONE] * 5,
        ),
        (replace(ORDER, status=CustomerStatus.PROVISIONED), None, [], [DONE] * 5),
        (
            replace(ORDER, status=CustomerStatus.FAILED),
            replace(RUN, state=State.FAILED),
            steps(*PREPARED),
            [DONE, DONE, DONE, STOPPED, AHEAD],
        ),
        (replace(ORDER, status=CustomerStatus.FAILED, placing=REFUSED), None, [], [DONE, STOPPED, AHEAD, AHEAD, AHEAD]),
        (replace(ORDER, status=CustomerStatus.CANCELLED), None, [], [DONE, STOPPED, AHEAD, AHEAD, AHEAD]),
    ],
)
def test_five_stages_are_drawn_from_the_seven_steps(
    order: Order, fulfillment: Fulfillment | None, done_at: dict[str, float], expected: list[str]
) -> None:
    assert states(told(order, fulfillment, done_at)) == expected


def test_a_stage_has_the_moment_its_last_step_ended() -> None:
    order = replace(ORDER, status=CustomerStatus.PROVISIONED)
    progress = told(order, replace(RUN, state=State.PROVISIONED, finished_at=NOW - 1), steps(*ALL))
    assert [stage.at for stage in progress.stages] == [
        ORDER.created_at,
        RUN.created_at,
        NOW - 40 + 3,
        NOW - 40 + 5,
        NOW - 1,
    ]


INNER = re.compile(r"[A-Z]+_[A-Z_]+|whmcs|salesforce|ledger|fulfil|queue|webhook|\bstep\b|error code|null|none", re.I)


#: What customers call the API's statuses, where nobody waits for them.
WORDS = {
    CustomerStatus.PENDING_REVIEW: "In review",
    CustomerStatus.ACTIVATING: "Being set up",
    CustomerStatus.PROVISIONED: "Ready",
    CustomerStatus.FAILED: "Not possible",
    CustomerStatus.CANCELLED: "Cancelled",
}


def test_nothing_of_the_inside_is_told_whatever_happened() -> None:
    """Every status × placing × error × state of a fulfillment: no code, no inner name, always a way on."""
    codes = [None, WITHDRAWN, UNWANTED, *(code.value for code in ErrorCode)]
    seen = 0
    for status, placing, code, state in itertools.product(
        CustomerStatus, (PLACING, PLACED, REFUSED), codes, (None, *State)
    ):
        order = replace(ORDER, status=status, placing=placing, error_code=code)
        run = None if state is None else replace(RUN, state=state, error_code=code, error_message="SQL went boom")
        progress = told(order, run, steps(*PREPARED), 120.0)
        words = " ".join(
            (
                progress.tag,
                progress.headline,
                *progress.sentences,
                progress.lead_time,
                *(stage.name for stage in progress.stages),
            )
        )
        assert not INNER.search(words), words
        assert "boom" not in words
        assert progress.headline
        assert progress.sentences
        assert progress.tag == ("Needs you" if progress.needs_payment_method else WORDS[status])
        assert progress.final == (status in FINAL_STATUSES)
        seen += 1
    assert seen == 5 * 3 * len(codes) * 7


def test_a_decision_that_is_pending_is_only_late_to_the_customer() -> None:
    progress = told(replace(ORDER, status=CustomerStatus.ACTIVATING), replace(RUN, state=State.NEEDS_DECISION))
    assert progress.tag == "Being set up"  # customers' own word
    assert progress.late
    assert not progress.final
    assert "longer than usual" in progress.headline


@pytest.mark.parametrize(
    ("requested_ago", "tries", "lead_time", "late"),
    [
        (50, 0, None, False),
        (50, 2, None, False),
        (61, 1, None, True),
        (599, 0, None, False),
        (601, 0, None, True),
        (601, 0, 300.0, False),
        (901, 0, 300.0, True),
    ],
)
def test_late_is_said_when_it_is_late(requested_ago: float, tries: int, lead_time: float | None, late: bool) -> None:
    run = replace(RUN, requested_at=NOW - requested_ago, tries=tries)
    assert told(replace(ORDER, status=CustomerStatus.ACTIVATING), run, {}, lead_time).late is late


@pytest.mark.parametrize(
    ("state", "due_ago", "late"),
    [
        (State.QUEUED, 29, False),
        (State.QUEUED, 31, True),
        (State.WAITING, 31, True),
        (State.WAITING, -300, False),  # it waits for its own time
        (State.RUNNING, 31, False),  # somebody is at it
    ],
)
def test_an_order_that_nobody_takes_up_is_late(state: State, due_ago: float, late: bool) -> None:
    run = replace(RUN, state=state, due_at=NOW - due_ago, requested_at=NOW - 40)
    progress = told(replace(ORDER, status=CustomerStatus.ACTIVATING), run)
    assert progress.late is late
    assert ("longer than usual" in progress.headline) is late


def test_the_usual_time_is_told_only_while_it_means_something() -> None:
    activating = replace(ORDER, status=CustomerStatus.ACTIVATING)
    assert told(activating, RUN, {}, 90.0).lead_time == "Usually done in 2 minutes."
    assert told(activating, RUN, {}, None).lead_time == ""
    assert told(activating, replace(RUN, requested_at=NOW - 5000), {}, 90.0).lead_time == ""
    assert told(ORDER, None, {}, 90.0).lead_time == ""
    assert told(replace(ORDER, status=CustomerStatus.PROVISIONED), RUN, {}, 90.0).lead_time == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "a minute"),
        (60, "a minute"),
        (61, "2 minutes"),
        (3300, "55 minutes"),
        (3400, "an hour"),
        (3700, "2 hours"),
        (23 * 3600, "23 hours"),
        (23 * 3600 + 1, "a day"),
        (24 * 3600 + 1, "2 days"),
    ],
)
def test_durations_are_rounded_up(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_version_changes_exactly_when_the_page_would() -> None:
    activating = replace(ORDER, status=CustomerStatus.ACTIVATING)
    base = told(activating, RUN, steps(*PREPARED)).version
    assert told(activating, replace(RUN, fence=9, updated_at=NOW), steps(*PREPARED)).version == base
    assert told(activating, RUN, steps(*ALL[:6])).version != base
    assert told(activating, replace(RUN, state=State.NEEDS_DECISION), steps(*PREPARED)).version != base
    assert told(replace(ORDER, status=CustomerStatus.FAILED), RUN, steps(*PREPARED)).version != base


def test_withdrawing_is_offered_while_nobody_has_begun() -> None:
    assert told(ORDER).can_withdraw
    assert told(replace(ORDER, placing=PLACING)).can_withdraw
    assert not told(ORDER, RUN).can_withdraw
    for status in set(CustomerStatus) - {CustomerStatus.PENDING_REVIEW}:
        assert not told(replace(ORDER, status=status)).can_withdraw


def test_only_a_missing_payment_method_asks_something_of_the_customer() -> None:
    for code in ErrorCode:
        progress = told(replace(ORDER, status=CustomerStatus.FAILED, error_code=code.value))
        assert progress.needs_payment_method == (code is ErrorCode.PAYMENT_METHOD_MISSING)
        asks_us = any("quote the reference" in sentence for sentence in progress.sentences)
        assert asks_us != progress.needs_payment_method
