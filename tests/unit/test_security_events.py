"""Security events on their way into the ledger: none is lost when the process ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.ledger import counters
from portal.ledger.engine import Ledger
from portal.ledger.schema import metadata
from portal.settings import Settings
from portal.webhooks.security_events import COUNTER, SecurityEvents


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    metadata.create_all(ledger.engine)
    yield ledger
    ledger.dispose()


def test_closing_waits_for_events_that_are_being_written(ledger: Ledger) -> None:
    """A flush of the timer's holds the gathered events in its own hands: the process must not end under it."""
    events = SecurityEvents(ledger, Settings(), clock=time.time)
    closing = threading.Thread(target=events.close)
    with ledger.write():  # nobody else can write now
        events.record("sf", "invalid_signature", "192.0.2.1")  # starts the timer
        deadline = time.monotonic() + 30
        while events._gathered:  # until the timer's flush has taken them
            assert time.monotonic() < deadline
            time.sleep(0.01)
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
    closing.join(30)
    assert not closing.is_alive()
    with ledger.read() as connection:
        assert counters.of(connection, COUNTER) == {"invalid_signature": 1}
