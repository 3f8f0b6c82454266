"""The whole portal over PostgreSQL: the main job, a crash during AddOrder, and the database going away for a while."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import InvalidatePoolError

from portal.ledger import engine, postgresql
from portal.ledger.engine import CommitUnknown, Ledger, LedgerUnavailable
from tests.fulfilling import check_failure, one, provisioned, sends, whmcs_orders
from tests.postgres import Postgres, sqlalchemy_url
from tests.stack import PRODUCTION, Stack, http


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


@pytest.fixture(scope="module")
def shop(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("postgres")
    settings = {"DATABASE_URL": postgres.database(), **PRODUCTION, "WHMCS_MAX_REQUEST_SECONDS": "2"}
    with Stack(folder, settings=settings) as running:
        yield running


def test_the_main_job(shop: Stack) -> None:
    order = shop.order("starter", ("server", 2))
    assert shop.fulfill(order).status == 200
    active = provisioned(shop, order)
    assert shop.fulfill(order).json()["whmcsOrderId"] == str(active["id"])
    faulty = shop.order("unmapped")
    assert shop.fulfill(faulty).status == 422
    check_failure(shop, faulty, "PRODUCT_MAPPING_MISSING")
    assert not shop.ledger_path.exists()


def test_many_at_once(shop: Stack) -> None:
    orders = [shop.order("starter") for _ in range(12)]
    for order in orders:
        assert shop.fulfill(order, prefer="respond-async").status == 202
    for order in orders:
        provisioned(shop, order)
        assert sends(shop, order, "AddOrder") == 1


def test_the_whole_worker_is_killed_while_addorder_is_under_way(shop: Stack) -> None:
    before, after = one(shop), one(shop)
    shop.whmcs.fault("pause_point", action="AddOrder", order=before)
    shop.whmcs.fault("pause_point", action="AddOrder", order=after, when="after")
    for order in (before, after):
        assert shop.fulfill(order, prefer="respond-async").status == 202
    held = [shop.whmcs.wait_for_call(action="AddOrder", state="held", order=order) for order in (before, after)]
    shop.kill("worker")
    for call in held:
        shop.whmcs.post("release", {"call": call["id"], "then": "drop"})
    shop.child("worker").start()
    for order in (before, after):
        provisioned(shop, order)
        assert [row["status"] for row in whmcs_orders(shop, order)] == ["Active"]
    # Dropped before its effect it is sent again, when its time is over; after it, never.
    assert (sends(shop, before, "AddOrder"), sends(shop, after, "AddOrder")) == (2, 1)


def test_while_the_database_is_away_nothing_is_accepted_and_then_everything_goes_on(
    shop: Stack, postgres: Postgres
) -> None:
    held, refused = one(shop), one(shop)
    shop.whmcs.fault("pause_point", action="AddOrder", order=held, when="after", seconds=1.5)
    assert shop.fulfill(held, prefer="respond-async").status == 202
    shop.whmcs.wait_for_call(action="AddOrder", state="held", order=held)
    body, headers = shop.signed(refused)
    address = f"{shop.urls['portal']}/orders/{refused}/fulfill"
    postgres.server.stop()
    try:
        answer = http("POST", address, body, headers)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"].startswith("application/problem+json")
        health = shop.get("/health")
        assert health.status == 503
        assert health.json()["database"] == "unavailable"
        assert shop.get("/health/live").status == 200
    finally:
        postgres.server.start()
    shop.wait_for(lambda: shop.get("/health").status == 200, "the portal to accept work again")
    assert shop.fulfillment(refused) is None
    assert http("POST", address, body, headers | {"Prefer": "respond-async"}).status == 202
    for order in (held, refused):
        provisioned(shop, order)
        assert len(whmcs_orders(shop, order)) == 1


def test_a_restart_is_noticed_by_nobody_who_comes_after_it(postgres: Postgres) -> None:
    """However many connections are left over from before."""
    ledger = Ledger(sqlalchemy_url(postgres.database()), pool_size=4)
    query, others = sa.text("SELECT pg_backend_pid()"), threading.Barrier(4)

    def backend(_number: int) -> int:
        with ledger.read() as connection:
            found = int(connection.execute(query).scalar_one())
            others.wait(60)
            return found

    with ThreadPoolExecutor(4) as threads:
        before = set(threads.map(backend, range(4)))
        postgres.server.stop()
        postgres.server.start()
        after = set(threads.map(backend, range(4)))
    assert (len(before), len(after)) == (4, 4)
    assert not before & after
    ledger.dispose()


def test_one_lost_connection_tells_of_all(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, each that is asked costs its time-out."""
    lost: list[object] = []
    still_there = engine._still_there

    def asked(connection: object, record: object, proxy: object) -> None:
        try:
            still_there(connection, record, proxy)
        except InvalidatePoolError:
            lost.append(connection)
            raise

    monkeypatch.setattr(engine, "_still_there", asked)
    ledger, query = Ledger(sqlalchemy_url(postgres.database()), pool_size=4), sa.text("SELECT 1")
    for _ in range(2):
        with ExitStack() as held:
            for _ in range(4):
                held.enter_context(ledger.read()).execute(query)
        if not lost:
            postgres.server.stop()
            postgres.server.start()
    assert len(lost) == 1
    ledger.dispose()


def test_somebodys_lock_on_the_tables_is_a_503_and_no_hang(shop: Stack) -> None:
    order = one(shop)
    with psycopg.connect(shop.settings["DATABASE_URL"]) as somebody:
        somebody.execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
        refused = shop.fulfill(order)
        assert refused.status == 503
        assert refused.json()["code"] == "ledger_unavailable"
        somebody.rollback()
    assert shop.fulfill(order).status == 200
    provisioned(shop, order)


def test_a_server_that_is_frozen_is_no_hang(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel acknowledges every packet, and its own time-outs stand still with it."""
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 0.5)
    ledger = Ledger(sqlalchemy_url(postgres.database()))
    pid = 0
    try:
        with pytest.raises(LedgerUnavailable), ledger.read() as connection:
            pid = int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())
            os.kill(pid, signal.SIGSTOP)
            connection.execute(sa.text("SELECT 1"))
        with ledger.read() as connection:
            assert connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one() != pid
    finally:
        os.kill(pid, signal.SIGCONT)
        ledger.dispose()


def test_a_connection_lost_while_committing_leaves_the_outcome_unknown(postgres: Postgres) -> None:
    """One lost before has written nothing, and says so."""
    url = postgres.database()
    with psycopg.connect(url, autocommit=True) as setup:
        setup.execute("CREATE TABLE t (a int)")
        setup.execute(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
        setup.execute(
            "CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW WHEN (NEW.a = 1) EXECUTE FUNCTION die()"
        )
    ledger = Ledger(sqlalchemy_url(url))
    try:
        with pytest.raises(CommitUnknown, match="went away while committing"), ledger.write() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        with pytest.raises(LedgerUnavailable), ledger.write() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (2)"))
            connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
        with ledger.write() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (3)"))
        with ledger.read() as connection:
            assert list(connection.execute(sa.text("SELECT a FROM t")).scalars()) == [3]
    finally:
        ledger.dispose()
