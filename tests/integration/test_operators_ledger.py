"""What operators' pages ask the ledger, on either database: lists and pages, whatever is quoted, bulk acts, figures."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.engine import Connection

from portal.domain.model import NotFound, State, Step
from portal.domain.names import to_ascii
from portal.ledger import (
    bulk,
    decisions,
    deliveries,
    fulfillments,
    hourly,
    operator_sessions,
    order_record,
    orders,
    outbox,
    payment_hints,
    placements,
    search,
    statistics,
    totals,
)
from portal.ledger.engine import Ledger
from portal.ledger.schema import fulfillments as fulfillments_table

NOW = 1_800_000_000.0


def order_id(number: int) -> str:
    """A well-formed id: digits only, so the check characters are all A."""
    return f"801{number:012d}AAA"


def make(connection: Connection, number: int, **values: Any) -> str:
    """An order of the shop that was asked to be fulfilled."""
    sf_order_id, reference = order_id(number), f"PO-{number:04d}-TEST"
    orders.insert_placed_here(
        connection,
        reference=reference,
        checkout_key=reference,
        account_id="001000000000001AAA",
        email="ada@example.com",
        items=[
            orders.Item(
                name="Hosting",
                quantity=1,
                unitPrice="5.00",
                cycle="Monthly",
                domain=f"Site{number}.Example",
                hostname=to_ascii(f"www.café{number}.example"),
                entryId=None,
            )
        ],
        currency="USD",
        total="5.00",
        now=NOW,
    )
    placements.settle_placed(connection, reference, sf_order_id, now=NOW)
    fulfillments.request_fulfillment(connection, sf_order_id, now=NOW + number // 3, requested_at=NOW)
    connection.execute(
        fulfillments_table.update().where(fulfillments_table.c.sf_order_id == sf_order_id).values(**values)
    )
    return sf_order_id


def test_lists_are_paged_by_key(each_ledger: Ledger) -> None:
    with each_ledger.write() as c:
        for number in range(10):
            make(c, number, state=State.FAILED, error_code="CLIENT_NOT_MAPPED")
        for number in range(10, 14):
            make(c, number, state=State.WAITING, waiting_code="CLIENT_NOT_MAPPED")
        make(c, 14, state=State.NEEDS_DECISION, error_code="OUTCOME_UNCERTAIN")
    with each_ledger.read() as c:
        for wanted, most in ((search.Filter(code="CLIENT_NOT_MAPPED"), 14), (search.Filter(State.FAILED), 10)):
            seen: list[str] = []
            before = None
            while page := search.page(c, wanted, limit=3, before=before):
                seen += [each.sf_order_id for each in page]
                before = (page[-1].created_at, page[-1].sf_order_id)
            assert seen == search.ids(c, wanted, limit=100)
            assert len(set(seen)) == search.count(c, wanted, most=100) == most
        assert search.count(c, search.Filter(State.FAILED), most=4) == 5
        waiting = search.Filter(State.WAITING, code="CLIENT_NOT_MAPPED")
        assert search.ids(c, waiting, limit=9) == [order_id(number) for number in (13, 12, 11, 10)]
        assert search.ids(c, search.Filter(State.WAITING, code="OUTCOME_UNCERTAIN"), limit=9) == []
        assert search.count(c, search.Filter(since=NOW + 4), most=100) == 3
        assert search.count(c, search.Filter(until=NOW), most=100) == 3
        assert [each.sf_order_id for each in search.oldest(c, State.WAITING, limit=1)] == [order_id(10)]


def test_an_order_is_found_by_each_of_its_names(each_ledger: Ledger) -> None:
    with each_ledger.write() as c:
        mine = make(c, 1, elected_whmcs_id="71", client_id="72")
        make(c, 2, state=State.QUEUED)
        deliveries.claim_key(c, "the-key", mine, now=NOW)
        deliveries.record(c, "sf:1", now=NOW, keep=9, sf_order_id=mine, idempotency_key="the-key", requested_by="Rita")
    with each_ledger.read() as c:
        for word in (
            *(mine, mine[:15], f"https://sf.example/lightning/r/Order/{mine}/view", f"sfOrderId={mine}"),
            *("po-0001-test", "71", "#72", "the-key", "SITE1.example", "www.site1.example"),
            *("https://site1.example:8443/login", "café1.example", "http://WWW.CAFÉ1.example/", "xn--caf1-dpa.example"),
        ):
            assert [each.name for each in search.find(c, word)] == [mine], word
        assert {each.name for each in search.find(c, "ADA@example.com")} == {mine, order_id(2)}
        for word in ("", " ", "x" * 300, "%", "'; DROP TABLE orders", "801000000000001AAB", "0", "9" * 40):
            assert search.find(c, word) == [], word
        (came,) = order_record.clicks(c, mine)
        assert (came.key, came.requested_by, came.attempt) == ("the-key", "Rita", 0)


def test_a_bulk_act_takes_what_was_frozen_and_leaves_alone_what_changed(each_ledger: Ledger) -> None:
    with each_ledger.write() as c:
        failed = [make(c, number, state=State.FAILED, error_code="CLIENT_NOT_MAPPED") for number in range(5)]
        wanted = search.Filter(State.FAILED)
        number = bulk.freeze(c, "retry", wanted, shown={"state": "failed"}, actor="olga", why="mended", now=NOW)
        make(c, 9, state=State.FAILED)
        with pytest.raises(ValueError, match="choose the state failed first"):
            bulk.freeze(c, "retry", search.Filter(State.NEEDS_DECISION), shown={}, actor="o", why="w", now=NOW)
    with each_ledger.write() as c:
        assert bulk.advance(c, now=NOW) == []  # nobody has begun it
        assert bulk.begin(c, number, actor="olga", now=NOW)
        c.execute(
            fulfillments_table.update()
            .where(fulfillments_table.c.sf_order_id == failed[0])
            .values(state=State.NEEDS_DECISION)
        )
        assert sorted(bulk.advance(c, now=NOW)) == sorted(failed[1:])
        assert bulk.advance(c, now=NOW) == []
    with each_ledger.read() as c:
        act = bulk.get(c, number)
        assert act is not None
        assert (act.state, act.total, act.done, act.refused) == ("done", 5, 5, 1)
        states = {each: fulfillments.get(c, each) for each in [*failed, order_id(9)]}
        assert [row.state.value for row in states.values() if row] == ["needs_decision", *["queued"] * 4, "failed"]


def test_a_bulk_act_has_a_most_and_needs_an_order(each_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST_ORDERS", 2)
    about: dict[str, Any] = {"shown": {}, "actor": "olga", "why": "mended", "now": NOW}
    with each_ledger.write() as c:
        with pytest.raises(ValueError, match="the filter has no order"):
            bulk.freeze(c, "retry", search.Filter(State.FAILED), **about)
        for number in range(3):
            make(c, number, state=State.FAILED)
        with pytest.raises(bulk.TooMany, match="more than 2 orders: narrow the filter"):
            bulk.freeze(c, "retry", search.Filter(State.FAILED), **about)
        assert bulk.newest(c, limit=9) == []
        last = make(c, 3, state=State.FAILED)
        number = bulk.freeze(c, "retry", search.Filter(State.FAILED, since=NOW + 1), **about)
        assert [each for each, _ in bulk.some_orders(c, number, limit=9)] == [last]


def test_where_an_order_may_be_retried_from(each_ledger: Ledger) -> None:
    begin = "an attempt begins with validation: what is created is what Salesforce has approved now"
    with each_ledger.write() as c:
        rows = [
            make(c, 1, state=State.FAILED),
            make(c, 2, state=State.FAILED, elected_whmcs_id="7", plan={"clientId": "9"}),
            make(c, 3, state=State.FAILED, elected_whmcs_id="8", plan={"lines": [{"pid": "7"}]}),
        ]
        points = [decisions.restart_points(row) for each in rows if (row := fulfillments.get(c, each))]
        assert [each[Step.WHMCS_ACCEPT] for each in points] == [
            "no WHMCS order is elected yet: there is nothing to accept",
            "what was ordered isn't known to the ledger: begin with validation",
            "",
        ]
        assert [each[Step.WHMCS_CREATE] for each in points] == [
            begin,
            begin,
            "WHMCS order 8 is elected: a second one is never made",
        ]
        assert {each[Step.VALIDATION] for each in points} == {""}
        with pytest.raises(NotFound, match=f"no fulfillment of {order_id(9)} in the ledger"):
            decisions.retry_from(c, order_id(9), Step.VALIDATION, now=NOW, actor="olga", why="x")
        assert decisions.retry_from(c, rows[2], Step.WHMCS_ACCEPT, now=NOW, actor="olga", why="x").attempt == 2


def test_handled_orders_leave_the_list_until_something_new_happens(each_ledger: Ledger) -> None:
    with each_ledger.write() as c:
        mine = make(c, 1, state=State.NEEDS_DECISION, error_code="OUTCOME_UNCERTAIN", elected_whmcs_id="7", plan={})
        decisions.mark_handled(c, mine, now=NOW, actor="olga", why="by hand")
        assert search.oldest(c, State.NEEDS_DECISION, limit=9) == []
        assert statistics.oldest(c) == {}
        row = fulfillments.get(c, mine)
        assert row is not None
        assert set(decisions.restart_points(row).values()) == {
            "it needs a decision: adopt its WHMCS order, or order a fresh one"
        }
        again = decisions.adopt(c, mine, "7", now=NOW, actor="olga")
        assert again.handled_at is None
        assert search.ids(c, search.Filter(handled=True), limit=9) == []
        with pytest.raises(ValueError, match="not from whmcs_accept: it is queued already"):
            decisions.retry_from(c, mine, Step.WHMCS_ACCEPT, now=NOW, actor="olga", why="x")


def test_handled_orders_are_counted_and_listed_apart(each_ledger: Ledger) -> None:
    undecided = {"state": State.NEEDS_DECISION, "error_code": "OUTCOME_UNCERTAIN"}
    failed = {"state": State.FAILED, "error_code": "CLIENT_NOT_MAPPED"}
    with each_ledger.write() as c:
        rows = [make(c, number, **values) for number, values in enumerate((undecided, undecided, failed, failed))]
        totals.moved(c, State.QUEUED, State.NEEDS_DECISION, 2)
        totals.moved(c, State.QUEUED, State.FAILED, 2)
    with each_ledger.write() as c:
        frozen = bulk.freeze(c, "retry", search.Filter(State.FAILED), shown={}, actor="o", why="w", now=NOW)
        for each in (rows[0], rows[2]):
            decisions.mark_handled(c, each, now=NOW, actor="olga", why="by hand")
    with each_ledger.write() as c:
        counted = statistics.standings(c)
        assert (counted["needs_decision"], counted["failed"], counted["handled"]) == (1, 1, 2)
        assert sum(counted.values()) == 4
        assert statistics.oldest(c)[State.NEEDS_DECISION][0] == rows[1]
        for wanted, listed in (
            (search.filter_of("needs_decision"), [rows[1]]),
            (search.filter_of("failed"), [rows[3]]),
            (search.filter_of("failed", code="CLIENT_NOT_MAPPED"), [rows[3]]),
            (search.filter_of("handled"), [rows[2], rows[0]]),
            (search.filter_of("handled", code="CLIENT_NOT_MAPPED"), [rows[2]]),
            (search.filter_of(None, code="CLIENT_NOT_MAPPED"), [rows[3], rows[2]]),
            (search.filter_of(""), rows[::-1]),
        ):
            assert search.ids(c, wanted, limit=9) == listed
            assert [each.sf_order_id for each in search.page(c, wanted, limit=9)] == listed
        assert [each.handled for each in search.find(c, rows[0])] == [True]
        # Marked after the list was frozen: a person has seen to it elsewhere, and a retry might undo that.
        assert bulk.begin(c, frozen, actor="o", now=NOW)
        assert bulk.advance(c, now=NOW) == [rows[3]]
        outcomes = dict(bulk.some_orders(c, frozen, limit=9))
        assert outcomes[rows[2]] == "left alone: it is marked as handled now"


def test_a_handled_order_doesnt_go_on_because_its_customer_can_pay_now(each_ledger: Ledger) -> None:
    unpaid = {"state": State.FAILED, "error_code": "PAYMENT_METHOD_MISSING", "client_id": "7"}
    with each_ledger.write() as c:
        waits, handled = make(c, 1, **unpaid), make(c, 2, **unpaid)
        decisions.mark_handled(c, handled, now=NOW, actor="olga", why="set up by hand")
        assert payment_hints.hear(c, "7", now=NOW) == [waits]
        again = fulfillments.request_fulfillment(c, handled, now=NOW, requested_at=NOW)
        assert (again.state, again.handled_at) == (State.QUEUED, None), "a click in Salesforce takes it up again"


def test_figures_sessions_and_mails(each_ledger: Ledger) -> None:
    with each_ledger.write() as c:
        for number in range(10):
            hourly.note(c, State.PROVISIONED, float(number), now=NOW)
        hourly.note(c, State.FAILED, 1.0, now=NOW - 3600)
        operator_sessions.insert(c, "id", "olga@ops.example", now=NOW, expires_at=NOW + 9)
        message = outbox.put(c, "mail", "PO-1", {"template": "received", "message_id": "a"}, now=NOW)
        assert message is not None
    with each_ledger.write() as c:
        before, present = hourly.last(c, 2, now=NOW)
        assert (before.ended, present.ended) == ({"failed": 1}, {"provisioned": 10})
        half, most = present.percentile(0.5), present.percentile(1.0)
        assert half is not None
        assert 2 <= half <= 5
        assert most is not None
        assert 5 <= most <= 10
        assert before.percentile(0.5) is None
        (earlier,) = hourly.last(c, 1, now=NOW - 3600)  # by a host whose clock is behind: it has no hour for the later
        assert (earlier.start, earlier.ended) == (before.start, {"failed": 1})
        assert operator_sessions.email_of(c, "id", now=NOW) == "olga@ops.example"
        assert operator_sessions.email_of(c, "id", now=NOW + 9) is None
        assert order_record.mail_again(c, message, ["PO-1"], now=NOW, name="b")
        assert not order_record.mail_again(c, message, ["PO-2"], now=NOW, name="b")
        assert [each.payload["message_id"] for each in order_record.messages(c, "mail", ["PO-1"])] == ["b", "a"]
        assert order_record.unsent(c, "mail", most=9)[0] == 2
        hourly.forget_old(c, now=NOW + 9 * 86_400)
        assert all(not hour.ended for hour in hourly.last(c, 2, now=NOW))
