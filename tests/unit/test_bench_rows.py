"""What `make bench` fills a ledger with: every table that grows has as many rows as there are orders."""

from __future__ import annotations

import sqlalchemy as sa

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
