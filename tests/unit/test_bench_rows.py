"""What `make bench` fills a ledger with: every table that grows has as many rows as there are orders."""

from __future__ import annotations

import sqlalchemy as sa

from bench.harness import at_least, at_most
from bench.pages import FILL, SMALL, fill
from portal.ledger.engine import Ledger
from portal.ledger.schema import metadata


def test_every_table_is_filled_or_stays_small(each_ledger: Ledger) -> None:
    assert FILL.keys() | SMALL == metadata.tables.keys()
    assert not FILL.keys() & SMALL
    fill(each_ledger, 40)
    with each_ledger.read() as connection:
        counts = {name: connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one() for name in FILL}
    assert set(counts.values()) == {40}, counts


def test_a_row_that_isnt_held_says_why() -> None:
    assert at_least("a", 9, 10, 1.0, note="p50", else_why="it is slow").note == "p50; it is slow (docs/performance.md)"
    assert at_most("a", 11, 10, 1.0, else_why="it is slow").note == "it is slow (docs/performance.md)"
    assert at_least("a", 10, 10, 1.0, note="p50", else_why="it is slow").note == "p50"
    assert not at_least("a", 10, 10, 1.0, also=False, else_why="it is slow").held
