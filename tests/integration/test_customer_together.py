"""Polls that come together are answered as if each had come alone, from one reading of the ledger."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.customers import order_pages
from portal.ledger import sessions
from portal.ledger.engine import Ledger, LedgerUnavailable
from portal.web import batch
from portal.web.context import portal_of
from portal.web.signing import digest
from tests.customers import SITUATIONS, application, make_order, make_session
from tests.stack import Stack


@pytest.fixture
def app(stack: Stack) -> Iterator[Flask]:
    with application(stack) as app:
        yield app


class Browser:
    """Somebody with an order's page open."""

    def __init__(self, app: Flask, session: str) -> None:
        self.client: FlaskClient = app.test_client()
        self.root = portal_of(app).services.settings.portal_base_url
        self.client.set_cookie("portal_session", session, domain=self.root.split("//")[1].split(":")[0])

    def open(self, reference: str) -> str:
        """The page's own address for its polls."""
        page = self.client.get(f"/orders/{reference}", base_url=self.root)
        found = re.search(r'hx-get="([^"]+/status[^"]*)"', page.text)
        assert found is not None, page.text
        return found[1].replace("&amp;", "&")

    def poll(self, address: str) -> Callable[[], TestResponse]:
        """One poll, to be run."""
        return lambda: self.client.get(address, base_url=self.root)


def together(*polls: Callable[[], TestResponse]) -> list[TestResponse]:
    answers: list[Any] = batch.run(polls)
    for each in answers:
        if isinstance(each, BaseException):
            raise each
    return answers


def test_each_gets_its_own_answer_from_one_reading(app: Flask, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, grace = (Browser(app, make_session(app, stack, who)) for who in ("ada", "grace"))
    mine = make_order(app, stack, SITUATIONS["pending-review"])
    running = make_order(app, stack, SITUATIONS["activating"])
    other = make_order(app, stack, SITUATIONS["pending-review"], customer="grace")
    polls = [
        ada.poll(ada.open(mine.reference)),
        ada.poll(ada.open(running.reference)),
        grace.poll(grace.open(other.reference)),
        ada.poll(f"/orders/{other.reference}/status?v=x"),  # somebody else's
        ada.poll("/orders/PO-0000-0000/status?v=x"),  # nobody's
        Browser(app, "nobody's").poll(f"/orders/{mine.reference}/status?v=x"),
        ada.poll(f"/orders/{mine.reference}/status?v=older"),  # which has changed meanwhile
    ]
    read: list[object] = []
    reading = Ledger.read

    @contextmanager
    def counted(self: Ledger) -> Iterator[Any]:
        read.append(self)
        with reading(self) as connection:
            yield connection

    monkeypatch.setattr(Ledger, "read", counted)
    answers = together(*polls)
    assert [each.status_code for each in answers] == [204, 204, 204, 404, 404, 303, 200]
    assert len(read) == 1
    assert "In review" in answers[6].text
    assert other.reference not in answers[3].text


def test_many_are_read_in_as_many_statements_as_one(app: Flask, stack: Stack) -> None:
    ada, grace = (Browser(app, make_session(app, stack, who)) for who in ("ada", "grace"))
    names = ("activating", "late", "pending-review")
    polls = [
        who.poll(who.open(make_order(app, stack, SITUATIONS[name], customer=customer).reference))
        for who, customer in ((ada, "ada"), (grace, "grace"))
        for name in names
    ]
    together(*polls)  # usual times are read once in a while
    sent: list[str] = []

    def keep(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        sent.append(statement)

    engine = portal_of(app).services.ledger.engine
    sa.event.listen(engine, "before_cursor_execute", keep)
    try:
        assert together(polls[0])[0].status_code == 204
        alone = sent.copy()
        sent.clear()
        assert {each.status_code for each in together(*polls)} == {204}
    finally:
        sa.event.remove(engine, "before_cursor_execute", keep)
    assert len(alone) == 4, "who asks, the order, its fulfillment, its steps"
    assert sent == alone


def test_each_order_is_found_by_whatever_it_is_called_and_only_by_who_may_see_it(app: Flask, stack: Stack) -> None:
    ada = Browser(app, make_session(app, stack))
    mine, other = make_order(app, stack), make_order(app, stack, customer="grace")
    services = portal_of(app).services
    with services.ledger.write() as connection:
        now = services.now()
        link = sessions.Session(
            digest("session", "of a link"), "", None, stack.ids["account:grace"], other.reference, now, now + 60
        )
        sessions.insert(connection, link)
        ended = sessions.Session(
            digest("session", "ended"), "", None, stack.ids["account:ada"], None, now - 60, now - 1
        )
        sessions.insert(connection, ended)
    linked = Browser(app, "nobody's")
    linked.client.set_cookie("portal_order_1", "of a link", domain=linked.root.split("//")[1].split(":")[0])
    version = ada.open(mine.reference).partition("?")[2]
    names = (mine.reference, mine.reference.lower(), mine.sf_order_id, mine.sf_order_id[:15])
    asked = [(ada, name, 204) for name in names]
    asked += [(linked, name, 303) for name in names]  # it is asked who it is
    asked += [(linked, other.reference.lower(), 200), (linked, other.sf_order_id[:15], 200)]
    asked += [(ada, other.sf_order_id, 404), (ada, "a.b", 404), (Browser(app, "ended"), mine.reference, 303)]
    polls = [
        who.poll(f"/orders/{name}/status?{version if who is ada else 'v=older'}") for who, name, _expected in asked
    ]
    assert [each.status_code for each in together(*polls)] == [expected for *_of, expected in asked]


def test_without_the_ledger_all_are_told_at_once(app: Flask, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = Browser(app, make_session(app, stack))
    address = ada.open(make_order(app, stack, SITUATIONS["pending-review"]).reference)
    tried: list[object] = []

    @contextmanager
    def away(self: Ledger) -> Iterator[Any]:
        tried.append(self)
        raise LedgerUnavailable("the ledger's database can't be used: gone")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "read", away)
        answers = together(*[ada.poll(address)] * 8)
    assert [each.status_code for each in answers] == [503] * 8
    assert len(tried) == 1, "eight polls would have waited eight times for it"
    assert [each.status_code for each in together(*[ada.poll(address)] * 2)] == [204, 204]


def test_only_polls_are_run_together() -> None:
    def taken(line: str) -> bool:
        return order_pages.comes_with_others(f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert taken("GET /orders/PO-1234-ABCD/status?v=1")
    assert taken("GET /shop/orders/PO-1234-ABCD/status")
    for line in (
        "GET /orders/PO-1234-ABCD",
        "GET /orders/PO-1234-ABCD/status/x",
        "POST /orders/PO-1234-ABCD/status",
        "GET /orders/rows?x=/orders/a/status",
        "GET /orders?q= /orders/a/status?",
    ):
        assert not taken(line), line
