"""How /ops writes lengths of time, an order's story, its time line and its charts."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from portal.domain.model import ErrorCode, State
from portal.ledger import fulfillments, runs
from portal.ledger.engine import Ledger
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.hourly import Hour
from portal.ops.console import charts, story, words

NOW = 1_800_000_000.0


@pytest.fixture
def row(ledger: Ledger) -> Fulfillment:
    """An order that was just asked for."""
    with ledger.write() as connection:
        return fulfillments.request_fulfillment(connection, "801000000000001AAA", now=NOW, requested_at=NOW)


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (None, ""),
        (-5, "0 ms"),
        (0.34, "340 ms"),
        (4.2, "4.2 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (86_400 * 3 + 3600 * 4, "3 d 4 h"),
    ],
)
def test_lengths_of_time(length: float | None, said: str) -> None:
    assert words.seconds(length) == said


def test_what_happens_next(row: Fulfillment) -> None:
    def said(**changes: object) -> str:
        return story.happens_next(replace(row, **changes), paused=False, now=NOW)

    assert said() == "It is run as soon as a worker is free."
    assert said(state=State.RUNNING) == "A worker runs it now."
    assert said(state=State.WAITING, due_at=NOW + 185).endswith("UTC, in 3 min 5 s.")
    assert said(state=State.WAITING, due_at=NOW - 1) == "It is run as soon as a worker is free."
    undecided = {"state": State.NEEDS_DECISION, "add_attempts": 1}
    assert said(**undecided).startswith("Nothing is sent to WHMCS until somebody decides: adopt the right WHMCS order")
    assert "set the service up again" in said(
        **undecided, elected_whmcs_id="7", error_code=ErrorCode.WHMCS_SERVICE_NOT_ACTIVE
    )
    assert "retry it here" in said(state=State.NEEDS_DECISION)
    assert said(state=State.NEEDS_DECISION, handled_at=NOW).startswith("It was marked as handled at 2")
    assert "until somebody acts" in said(state=State.FAILED, handled_at=NOW)
    assert said(state=State.FAILED).startswith("Nothing happens by itself")
    assert said(state=State.PROVISIONED) == "Nothing is left to do."
    assert story.happens_next(row, paused=True, now=NOW).startswith("WHMCS writes are paused")


@pytest.mark.parametrize(
    ("login", "address"),
    [
        ("https://login.salesforce.com", "https://login.salesforce.com/?startURL=%2F801000000000001AAA"),
        ("https://nw--uat.sandbox.my.salesforce.com", "https://nw--uat.sandbox.my.salesforce.com/801000000000001AAA"),
    ],
)
def test_where_an_order_is_in_salesforce(login: str, address: str) -> None:
    assert story.in_salesforce(login, "801000000000001AAA") == address


def test_the_elections_story(row: Fulfillment) -> None:
    said = story.election(row, now=NOW)
    assert said == ["AddOrder was never sent.", "No WHMCS order is elected yet: none is accepted until one is."]
    doubtful = replace(row, add_attempts=2, add_open=True, add_in_doubt_until=NOW + 60, duplicate_possible=True)
    said = story.election(doubtful, now=NOW)
    assert said[0] == "AddOrder was sent 2 times."
    assert "The last AddOrder has no answer: it may have made an order all the same." in said
    assert any("may still take effect" in each for each in said)
    elected = replace(row, add_attempts=1, elected_whmcs_id="7", accept_attempts=1, active=True)
    said = story.election(elected, now=NOW)
    assert said[0] == "AddOrder was sent 1 time."
    assert said[1].startswith("WHMCS order 7 is the elected one")
    assert said[-1] == "The elected order was seen Active with all its services."
    named = replace(row, adopt_whmcs_id="7", confirmed=True)
    assert story.election(named, now=NOW)[0] == "A person named WHMCS order 7 as this order."


def test_the_time_line_has_waits_and_durations() -> None:
    def step(number: int, attempt: int, begun: float, ended: float | None) -> runs.StepRow:
        return runs.StepRow(number, "x", attempt, "mapping", "done", 1, begun, ended, None)

    rows = story.timeline([step(1, 1, 10, 11), step(2, 1, 13, None), step(3, 2, 20, 20.5)], requested_at=4)
    assert [(each.waited, each.took, each.first_of_attempt) for each in rows] == [
        (6, 1, True),
        (2, None, False),
        (7, 0.5, True),
    ]
    assert story.timeline([], requested_at=4) == []


def test_charts_are_well_formed_and_right() -> None:
    hours = [
        Hour(NOW, {"provisioned": 3, "failed": 1}, {5: 3}),
        Hour(NOW + 3600, {"needs_decision": 2}, {}),
        Hour(NOW + 7200),
    ]
    bars = ElementTree.fromstring(charts.ended_by_hour(hours))
    heights = {each.attrib["class"]: float(each.attrib["height"]) for each in bars.iter("rect")}
    assert heights == {"bar-provisioned": 90.0, "bar-failed": 30.0, "bar-needs_decision": 60.0}
    assert bars.attrib["aria-label"] == "Orders ended in each of the last 3 hours: 6 in all, 4 at most"
    lines = ElementTree.fromstring(charts.percentiles(hours))
    assert len(list(lines.iter("circle"))) == 2  # one hour has provisioned ones: its half, and its 95 %
    assert charts.rows(hours)[1][1:] == ([3, 1, 0], ["3.5 s", "4.8 s"])
    assert len(charts.rows(hours)) == 2
    for nothing in ([], [Hour(NOW)]):
        ElementTree.fromstring(charts.ended_by_hour(nothing))
        ElementTree.fromstring(charts.percentiles(nothing))
