"""WHMCS' events that come together are taken in one transaction, each as if it had come alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from werkzeug.test import TestResponse

from portal.ledger.engine import Ledger, LedgerUnavailable
from portal.ledger.schema import events as table
from portal.web import context
from portal.webhooks import whmcs
from portal.webhooks.receivers import Receivers
from tests.webhooks.callout import Event
from tests.webhooks.in_process import Portal, application, code, count, use_ledger


class Door:
    """The receiver, with a hand on the ledger's lock."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.app = application(portal)

    def post(self, event: Event) -> TestResponse:
        return self.app.test_client().post(event.path, data=event.body(), headers=event.headers())

    def together(self, *sent: Event) -> list[TestResponse]:
        """All of them while another transaction holds up the first of them."""
        group = context.portal_of(self.app).part(Receivers).events
        held, go_on = threading.Event(), threading.Event()
        work = group._work

        def hold(connection: Connection, batch: Any) -> Any:
            if not held.is_set():
                held.set()
                assert go_on.wait(60)
            return work(connection, batch)

        group._work = hold
        with ThreadPoolExecutor(len(sent)) as threads:
            first = threads.submit(self.post, sent[0])
            assert held.wait(60)
            others = [threads.submit(self.post, each) for each in sent[1:]]
            while len(group._waiting) < len(others):
                threading.Event().wait(0.002)
            go_on.set()
            answers = [each.result() for each in (first, *others)]
        group._work = work
        return answers


def test_each_gets_its_own_answer_from_two_transactions(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(portal)
    written: list[object] = []
    write = Ledger.write
    monkeypatch.setattr(Ledger, "write", lambda self: (written.append(self), write(self))[1])
    before = Event(dated=True)
    assert door.post(before).status_code == 202
    written.clear()
    twice = Event()
    unknown = Event(event="invoice.paid")
    answers = door.together(Event(), Event(dated=True), twice, twice, unknown, Event(event="service.active"))
    assert [each.status_code for each in answers] == [202] * 6
    told = sorted(each.get_json()["status"] for each in answers)
    assert told == ["accepted"] * 4 + ["duplicate", "ignored"]
    assert len(written) == 2
    assert count(portal, table) == 5


def test_a_replay_among_others_is_refused_alone(portal: Portal) -> None:
    door = Door(portal)
    replayed = Event(dated=True)
    assert door.post(replayed).status_code == 202
    portal.redis.flushdb()  # the ledger remembers
    answers = door.together(Event(), replayed, Event())
    assert sorted(each.status_code for each in answers) == [202, 202, 401]
    (refused,) = (each for each in answers if each.status_code == 401)
    assert code(refused) == (401, "nonce_already_used")


def test_what_fails_for_one_event_fails_for_it_alone(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(portal)
    bad = Event(dated=True)
    real = whmcs._remember

    def remember(connection: Connection, event: Any, *args: Any, **kwargs: Any) -> None:
        if event.id == bad.id:
            connection.execute(sa.text("INSERT INTO events (id) VALUES (NULL)"))
        real(connection, event, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(whmcs, "_remember", remember)
        answers = door.together(Event(), bad, Event(), Event())
        assert sorted(each.status_code for each in answers) == [202, 202, 202, 500]
    assert door.post(bad).status_code == 202, "its nonce was given back"


def test_without_the_ledger_each_is_told_and_may_come_again(portal: Portal) -> None:
    door = Door(portal)
    ledger, event = portal.ledger, Event(dated=True)

    class Away:
        def write(self) -> None:
            raise LedgerUnavailable("the ledger's database can't be used: gone")

        read = write

    use_ledger(portal, Away())
    assert door.post(event).status_code == 503
    use_ledger(portal, ledger)
    assert door.post(event).status_code == 202
