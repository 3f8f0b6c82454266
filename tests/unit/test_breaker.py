"""The circuit breaker: when it opens, who may probe, how long the pauses are, and that all processes share it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from portal.clients import circuit_breaker as module
from portal.clients.circuit_breaker import LONGEST_PAUSE, OPENS_AT, Breaker
from portal.domain.model import Setup, UpstreamError
from portal.ledger import circuits, events
from portal.ledger.engine import Ledger
from tests.fakes import Clock


@pytest.fixture(autouse=True)
def always_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others found out is known at once, instead of within a second."""
    monkeypatch.setattr(module, "LOOK_EVERY", 0.0)


DOWN = UpstreamError("WHMCS", "WHMCS answered with 503", permanent=False, code="http_503")


def broken(ledger: Ledger, clock: Clock) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(ledger, "whmcs", now=clock)
    for _ in range(OPENS_AT):
        breaker.check()
        breaker.note(DOWN)
    return breaker


def state(ledger: Ledger) -> circuits.Upstream:
    with ledger.read() as connection:
        row = circuits.get(connection, "whmcs")
    assert row is not None
    return row


def refusal(breaker: Breaker) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        breaker.check()
    return raised.value


def test_it_opens_after_failures_in_a_row_only(ledger: Ledger) -> None:
    clock = Clock()
    breaker = Breaker(ledger, "whmcs", now=clock)
    for _ in range(3):
        for _ in range(OPENS_AT - 1):
            breaker.check()
            breaker.note(DOWN)
        breaker.note(None)
    breaker.check()
    assert state(ledger).failures == 0
    assert state(ledger).opened_at is None


@pytest.mark.parametrize(
    "answer",
    [
        UpstreamError("WHMCS", "no such client", permanent=True, code="refused"),
        UpstreamError("Salesforce", "row locked", permanent=False, code="UNABLE_TO_LOCK_ROW"),
        UpstreamError("WHMCS", "listing", permanent=False, code="listing_unstable"),
    ],
)
def test_a_refusal_is_an_answer_and_closes_it(ledger: Ledger, answer: UpstreamError) -> None:
    clock = Clock()
    breaker = broken(ledger, clock)
    clock.now += 60
    breaker.check()
    breaker.note(answer)
    breaker.check()
    assert state(ledger).opened_at is None


def test_while_open_nothing_is_sent_and_the_refusal_says_when_to_ask_again(ledger: Ledger) -> None:
    clock = Clock()
    breaker = broken(ledger, clock)
    error = refusal(breaker)
    assert (error.code, error.permanent, error.unknown, error.reached) == ("circuit_open", False, False, False)
    assert error.retry_after is not None
    assert 0.5 <= error.retry_after <= 1.2 + 1.0
    assert str(error) == "WHMCS doesn't answer; the order waits until it does"


def test_its_own_refusals_count_for_nothing(ledger: Ledger) -> None:
    clock = Clock()
    breaker = broken(ledger, clock)
    before = state(ledger)
    for _ in range(10):
        breaker.note(refusal(breaker))
    assert state(ledger) == before


def test_one_probe_at_a_time_over_all_processes(ledger: Ledger) -> None:
    clock = Clock()
    broken(ledger, clock)
    clock.now += 5
    crowd = [Breaker(ledger, "whmcs", now=clock) for _ in range(8)]
    start = threading.Barrier(len(crowd))
    let_through: list[int] = []

    def ask(number: int) -> None:
        start.wait()
        try:
            crowd[number].check()
        except UpstreamError:
            return
        let_through.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(crowd))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(let_through) == 1
    # It fails: again nobody may. It is good: everybody may.
    crowd[let_through[0]].note(DOWN)
    assert all(refusal(breaker) for breaker in crowd)
    clock.now += LONGEST_PAUSE * 2
    prober, *others = crowd
    prober.check()
    assert all(refusal(breaker) for breaker in others)
    prober.note(None)
    for breaker in crowd:
        breaker.check()


def test_pauses_grow_to_a_limit(ledger: Ledger) -> None:
    clock = Clock()
    breaker = broken(ledger, clock)
    pauses = []
    for _ in range(10):
        probe_at = state(ledger).probe_at
        assert probe_at is not None
        pauses.append(probe_at - clock.now)
        clock.now = probe_at
        breaker.check()
        breaker.note(DOWN)
    assert pauses[0] <= 1.2 < pauses[2]
    assert max(pauses) <= LONGEST_PAUSE * 1.2
    assert pauses[-1] >= LONGEST_PAUSE * 0.8


def test_what_the_other_side_asks_for_is_kept(ledger: Ledger) -> None:
    clock = Clock()
    breaker = broken(ledger, clock)
    clock.now += 5
    breaker.check()
    breaker.note(UpstreamError("WHMCS", "busy", permanent=False, code="http_429", retry_after=120.0))
    probe_at = state(ledger).probe_at
    assert probe_at is not None
    assert probe_at - clock.now >= 120.0


def test_a_prober_that_died_keeps_it_closed_to_others_for_one_pause_only(ledger: Ledger) -> None:
    clock = Clock()
    breaker = broken(ledger, clock)
    clock.now += 5
    breaker.check()  # and nothing is heard of it any more
    other = Breaker(ledger, "whmcs", now=clock)
    assert refusal(other)
    clock.now += LONGEST_PAUSE * 1.2
    other.check()


# --- faults of the set-up --------------------------------------------------------------------------------------


def fault(setup: Setup, code: str = "auth") -> UpstreamError:
    return UpstreamError("WHMCS", f"WHMCS refused: {code}", permanent=False, setup=setup, code=code)


def told(ledger: Ledger, row: str) -> list[object]:
    with ledger.read() as connection:
        return [event.detail for event in events.of_subject(connection, row) if event.kind == "setup_fault"]


def stopped(breaker: Breaker, action: str) -> UpstreamError | None:
    try:
        breaker.check(action)
    except UpstreamError as error:
        return error
    return None


def test_a_fault_of_one_action_stops_that_action_at_once_until_it_is_mended(ledger: Ledger) -> None:
    clock = Clock()
    woken: list[object] = []
    breaker = Breaker(ledger, "whmcs", now=clock, recovered=woken.append)
    other_process = Breaker(ledger, "whmcs", now=clock)
    breaker.note(fault(Setup.ACTION), "AddOrder")
    for each in (breaker, other_process):
        error = stopped(each, "AddOrder")
        assert error is not None
        assert (error.code, error.setup, error.permanent) == ("circuit_open", Setup.ACTION, False)
        assert str(error) == "WHMCS refused: auth"
        assert error.retry_after is not None
        assert not error.reached
        assert stopped(each, "GetOrders") is None
    breaker.note(None, "GetOrders")  # the side answers, and isn't mended for all that
    assert stopped(breaker, "AddOrder") is not None
    assert not woken
    clock.now += 5
    assert stopped(breaker, "AddOrder") is None
    assert stopped(other_process, "AddOrder") is not None
    breaker.note(None, "AddOrder")
    assert len(woken) == 1
    assert stopped(other_process, "AddOrder") is None


def test_a_fault_of_the_whole_side_stops_every_action_and_any_good_answer_ends_it(ledger: Ledger) -> None:
    clock = Clock()
    breaker = Breaker(ledger, "whmcs", now=clock)
    breaker.note(fault(Setup.SIDE), "GetPayMethods")
    assert stopped(breaker, "AddOrder") is not None
    assert stopped(breaker, "GetPayMethods") is not None
    clock.now += 5
    assert stopped(breaker, "GetOrders") is None
    breaker.note(UpstreamError("WHMCS", "no such client", permanent=True, code="refused"), "GetOrders")
    assert stopped(breaker, "AddOrder") is None


def test_a_fault_of_some_records_stops_nothing(ledger: Ledger) -> None:
    breaker = Breaker(ledger, "salesforce", now=Clock())
    for _ in range(2 * OPENS_AT):
        breaker.note(fault(Setup.RECORDS, "STORAGE_LIMIT_EXCEEDED"), "create_order")
    assert stopped(breaker, "create_order") is None
    assert len(told(ledger, "sa:create_order")) == 1


def test_operators_are_told_of_a_fault_once_and_of_the_next_one_again(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    breaker = Breaker(ledger, "whmcs", now=clock)
    for _ in range(20):
        clock.now += 75
        breaker.check("AddOrder")
        breaker.note(fault(Setup.ACTION), "AddOrder")
    expected = {"upstream": "whmcs", "action": "AddOrder", "code": "auth", "error": "WHMCS refused: auth"}
    assert told(ledger, "wh:AddOrder") == [expected]
    assert caplog.text.count("The set-up needs mending") == 1
    breaker.note(None, "AddOrder")
    breaker.note(fault(Setup.ACTION), "AddOrder")  # it comes and goes
    assert len(told(ledger, "wh:AddOrder")) == 1
    breaker.note(None, "AddOrder")
    breaker.note(fault(Setup.ACTION, "other"), "AddOrder")
    assert len(told(ledger, "wh:AddOrder")) == 2
    breaker.note(None, "AddOrder")
    clock.now += module.TELL_EVERY
    breaker.note(fault(Setup.ACTION, "other"), "AddOrder")
    assert len(told(ledger, "wh:AddOrder")) == 3


def test_pauses_between_probes_of_the_set_up_grow_to_a_minute(ledger: Ledger) -> None:
    clock = Clock()
    breaker = Breaker(ledger, "whmcs", now=clock)
    pauses = []
    for _ in range(10):
        breaker.check("AddOrder")
        breaker.note(fault(Setup.ACTION), "AddOrder")
        with ledger.read() as connection:
            row = circuits.of_side(connection, "whmcs")["wh:AddOrder"]
        assert row.probe_at is not None
        pauses.append(row.probe_at - clock.now)
        clock.now = row.probe_at
    assert pauses[0] <= 1.2
    assert 48 <= pauses[-1] <= 72


@pytest.mark.parametrize("action", ["GetClientsProducts", "GetClientsDetails", "find_order_by_reference"])
def test_every_action_has_a_row_of_its_own(action: str) -> None:
    others = ["GetPayMethods", "GetPaymentMethods", "GetProducts", "accounts_with_email", "*"]
    names = [circuits.setup_name("salesforce", each) for each in (action, *others)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 20


def test_a_ledger_that_cant_be_used_breaks_no_call_that_has_been_made(tmp_path: Path) -> None:
    unmigrated = Ledger(f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    try:
        Breaker(unmigrated, "whmcs", now=Clock()).note(DOWN)
        Breaker(unmigrated, "whmcs", now=Clock()).note(None)
    finally:
        unmigrated.dispose()
