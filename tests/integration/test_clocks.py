"""Orders are due by the database's clock: a host whose own is ahead or behind delays and hurries none."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.ledger.clock import LedgerClock
from portal.ledger.engine import Ledger
from tests.postgres import Postgres, sqlalchemy_url
from tests.stack import Stack

AHEAD = 20.0

#: gunicorn on a host whose clock is ahead.
WEB = f"""
import time
real = time.time
time.time = lambda: real() + {AHEAD}
import sys
from gunicorn.app.wsgiapp import run
sys.argv[0] = "gunicorn"
run()
"""


class WebAhead(Stack):
    """The web server's clock is ahead of everybody else's."""

    def _product_argv(self, port: int) -> dict[str, list[str]]:
        argv = super()._product_argv(port)
        gunicorn = argv["web"].index("gunicorn")
        argv["web"] = [sys.executable, "-c", WEB, *argv["web"][gunicorn + 1 :]]
        return argv


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Ledger]:
    ledger = Ledger(sqlalchemy_url(postgres.ledger()))
    yield ledger
    ledger.dispose()


@pytest.mark.parametrize("ahead", [AHEAD, -AHEAD, 0.0])
def test_the_difference_is_measured_and_allowed_for(database: Ledger, ahead: float) -> None:
    clock = LedgerClock(database, own=lambda: time.time() + ahead)
    assert clock.measure() == pytest.approx(-ahead, abs=0.5)
    assert clock() == pytest.approx(time.time(), abs=0.5)


def test_a_clock_whose_database_is_away_goes_on_with_what_it_knew(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.ledger()
    ledger = Ledger(sqlalchemy_url(url))
    monkeypatch.setattr("portal.ledger.clock.EVERY_SECONDS", 0.0)  # each look measures anew
    clock = LedgerClock(ledger, own=lambda: time.time() + AHEAD)
    clock.measure()
    postgres.drop(url)
    with caplog.at_level("DEBUG", "portal.ledger.clock"):
        assert clock() == pytest.approx(time.time(), abs=0.5)
        for thread in threading.enumerate():
            if thread.name == "clock":
                thread.join(60)
        assert clock() == pytest.approx(time.time(), abs=0.5)
    assert "The clock couldn't be compared" in caplog.text
    for thread in threading.enumerate():
        if thread.name == "clock":
            thread.join(60)
    ledger.dispose()


def test_one_host_has_one_clock(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    clock = LedgerClock(ledger, own=lambda: 1234.5)
    assert clock.measure() == 0.0
    assert clock() == 1234.5


def test_an_order_is_not_delayed_by_a_web_server_whose_clock_is_ahead(postgres: Postgres, tmp_path: Path) -> None:
    """2026: one 2 s ahead delayed every order by 2 s."""
    with WebAhead(tmp_path, settings={"DATABASE_URL": postgres.database()}) as shop:
        first = shop.order("starter")
        shop.fulfill(first)
        assert shop.finished(first)["state"] == "provisioned"
        order = shop.order("starter")
        begun = time.time()
        assert shop.fulfill(order).status == 200
        assert time.time() - begun < AHEAD / 2
        row = shop.finished(order)
        assert row["created_at"] == pytest.approx(begun, abs=AHEAD / 2)
        told = [line for line in (shop.logs / "web.log").read_text().splitlines() if "clock differs" in line]
        assert told
        assert '"databaseAheadSeconds":-20' in told[0].replace(": ", ":")
