"""While the database is away nobody is started again and again: the worker's children wait for it, and go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fulfilling import log_lines, provisioned
from tests.postgres import Postgres
from tests.stack import Stack

SLOTS = 2


@pytest.fixture
def shop(postgres: Postgres, tmp_path: Path) -> Iterator[Stack]:
    settings = {"DATABASE_URL": postgres.database(), "FULFILLMENT_SLOTS": str(SLOTS)}
    with Stack(tmp_path, settings=settings) as running:
        yield running


def ended(shop: Stack) -> int:
    return len([line for line in log_lines(shop, "worker") if line.get("message") == "Worker process ended"])


def test_no_child_is_started_again_and_again(shop: Stack, postgres: Postgres) -> None:
    """2026: 542 starts in ten minutes, each of which opened a connection to a database that took none."""
    before = shop.order("starter")
    shop.fulfill(before, prefer="respond-async")
    provisioned(shop, before)
    waits = shop.order("starter")
    shop.fulfill(waits, prefer="respond-async")
    name = urlsplit(shop.settings["DATABASE_URL"]).path.removeprefix("/")
    postgres.server.psql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        postgres.server.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        worker = shop.child("worker").pid
        time.sleep(12)
        assert ended(shop) <= SLOTS + 1, "each child may end once, over what it couldn't tell the ledger"
        assert shop.child("worker").alive
        assert shop.child("worker").pid == worker
    finally:
        postgres.server.psql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    provisioned(shop, waits)
    after = shop.order("starter")
    shop.wait_for(lambda: shop.fulfill(after, prefer="respond-async").status in (200, 202), "the web server")
    provisioned(shop, after)
    assert ended(shop) <= SLOTS + 1


def test_a_worker_that_waits_for_the_database_ends_when_it_is_told_to(shop: Stack, postgres: Postgres) -> None:
    name = urlsplit(shop.settings["DATABASE_URL"]).path.removeprefix("/")
    postgres.server.psql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        postgres.server.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        time.sleep(2)
        begun = time.monotonic()
        shop.child("worker").stop()
        assert time.monotonic() - begun < 8
    finally:
        postgres.server.psql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
