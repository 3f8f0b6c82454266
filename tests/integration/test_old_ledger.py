"""A ledger that the code before the rearrangement filled is upgraded, and every order in it goes on, on SQLite and on
PostgreSQL. tests/old_ledger/fill.py says how the ledgers were filled."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sandbox.seeds import seed
from sandbox.visitor import Visitor
from tests.customers import email_of, in_salesforce, last_mail, link_in, mails_to, salesforce_id
from tests.database import DATABASES
from tests.fulfilling import check_nothing_told, client_of, provisioned, statuses, until
from tests.old_ledger import fill
from tests.stack import Stack, http

HERE = Path(fill.__file__).parent

#: Columns of moments; a ledger that lay in the repository for long is as one whose host was off for a minute.
MOMENTS = ("_at", "_until")


class Restored:
    """Brings the other sides to where the old ledger knew them, after the upgrade and before any process starts."""

    known: dict[str, Any]

    def _accept_moved_sides(self: Any, deadline: float) -> None:
        """In the middle of a start (to be over by `deadline`, in seconds): only the pretend sides run yet."""
        for name in ("salesforce", "whmcs"):
            self.children[name].ready_line(deadline)
        seed(self.urls["salesforce"], self.urls["whmcs"])
        self.salesforce.post("seed", {"records": self.known["salesforce"]})
        self.whmcs.post("seed", self.known["whmcs"])
        self.run("installation", ["flask", "installation", "accept"], deadline)


class OldSqlite(Restored, Stack):
    """Over the old SQLite file."""


class OldPostgres(Restored, Stack):
    """Over the old PostgreSQL database."""


def later(columns: dict[str, list[str]], seconds: float) -> list[str]:
    """Statements that move every moment of these tables."""
    return [
        f"UPDATE {table} SET {', '.join(f'{name} = {name} + {seconds}' for name in moments)}"
        for table, names in columns.items()
        if (moments := [name for name in names if name.endswith(MOMENTS)])
    ]


def restore_sqlite(path: Path, filled_at: float) -> None:
    path.parent.mkdir(parents=True)
    shutil.copy(HERE / "ledger.sqlite3", path)
    with closing(sqlite3.connect(path)) as ledger:
        tables = [name for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {table: [row[1] for row in ledger.execute(f"PRAGMA table_info({table})")] for table in tables}
        for statement in later(columns, time.time() - filled_at - 60):
            ledger.execute(statement)
        ledger.commit()


def restore_postgresql(url: str, filled_at: float) -> None:
    with psycopg.connect(url) as ledger:
        ledger.execute((HERE / "ledger.postgresql.sql").read_bytes())
        columns: dict[str, list[str]] = {}
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        for table, column in ledger.execute(query):
            columns.setdefault(table, []).append(column)
        for statement in later(columns, time.time() - filled_at - 60):
            ledger.execute(statement.encode())


@pytest.fixture(scope="module", params=DATABASES)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The present processes over the old ledger."""
    known = json.loads((HERE / f"{request.param}.json").read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("old")
    if request.param == "sqlite":
        stack: Any = OldSqlite(folder / "var", start=False, settings=fill.SETTINGS)
        restore_sqlite(stack.ledger_path, known["filled_at"])
    else:
        url = request.getfixturevalue("postgres").database()
        stack = OldPostgres(folder / "var", start=False, settings={**fill.SETTINGS, "DATABASE_URL": url})
        restore_postgresql(url, known["filled_at"])
    stack.known = known
    with stack:
        stack.start()
        yield stack


@pytest.fixture
def orders(shop: Any) -> dict[str, str]:
    """Salesforce ids by what had become of the order."""
    known: dict[str, str] = shop.known["orders"]
    return known


@pytest.mark.parametrize(
    "name",
    [
        "queued",
        "to be said again",
        "AddOrder lost",
        "AddOrder commits late",
        "running before AddOrder",
        "running after AddOrder",
        "running before AcceptOrder",
    ],
)
def test_an_unfinished_order_goes_on(shop: Stack, orders: dict[str, str], name: str) -> None:
    provisioned(shop, orders[name])
    assert statuses(shop, orders[name]) == ["Active"]


def test_a_provisioned_order_stays_as_it_is(shop: Stack, orders: dict[str, str]) -> None:
    made = provisioned(shop, orders["provisioned"])
    answer = shop.fulfill(orders["provisioned"], key="click-of-provisioned")
    assert answer.status == 200
    assert answer.json()["whmcsOrderId"] == str(made["id"])
    assert statuses(shop, orders["provisioned"]) == ["Active"]


def test_a_failed_order_is_resumed_by_a_new_click(shop: Stack, orders: dict[str, str]) -> None:
    order = orders["failed"]
    row = shop.fulfillment(order)
    assert row is not None
    assert (row["state"], row["error_code"]) == ("failed", "PAYMENT_METHOD_MISSING")
    assert shop.fulfill(order, key="click-of-failed").status == 409
    shop.whmcs.post("seed", {"paymethods": [{"userid": client_of(shop, order)}]})
    assert shop.fulfill(order).status == 200
    provisioned(shop, order)


def test_one_that_needs_a_decision_is_decided(shop: Stack, orders: dict[str, str]) -> None:
    order = orders["needs decision"]
    row = shop.fulfillment(order)
    assert row is not None
    assert (row["state"], row["error_code"]) == ("needs_decision", "OUTCOME_UNCERTAIN")
    shop.flask("fulfillments", "create", order, "--i-looked-in-whmcs")
    until(shop, order, lambda row: row["state"] == "provisioned")
    assert statuses(shop, order) == ["Cancelled", "Active"]


def test_what_was_to_be_told_is_told(shop: Stack, orders: dict[str, str]) -> None:
    pending = "SELECT kind FROM outbox WHERE state = 'pending' AND kind <> 'alert' AND due_at < ?"
    shop.wait_for(lambda: not shop.ledger(pending, time.time()), "the outbox to be carried")
    assert shop.salesforce_order(orders["withdrawn"])["Provisioning_Status__c"] == "Cancelled"
    # The oldest one: this version has conditions of its own to tell of.
    alert = shop.ledger("SELECT tries FROM outbox WHERE kind = 'alert' AND state = 'pending' ORDER BY id")[0]
    assert alert["tries"] > 0  # nobody listens at its address


def test_the_sign_in_link_that_was_asked_for_works(shop: Stack) -> None:
    (mail,) = mails_to(shop, email_of("ada"), subject="Sign in", wait=30)
    assert last_mail(shop) >= mail["id"]
    assert http("GET", link_in(mail, "/sign-in/link/")).status == 200


def test_an_order_that_salesforce_had_not_taken_is_placed_once(shop: Stack, orders: dict[str, str]) -> None:
    reference = orders["placing reference"]
    placed = salesforce_id(shop, reference)
    assert [row["Id"] for row in in_salesforce(shop, reference)] == [placed]


def test_a_signed_in_customer_stays_signed_in_and_sees_her_orders(shop: Stack, orders: dict[str, str]) -> None:
    session = {"Cookie": "portal_session=" + orders["ada's session"]}
    with Visitor() as ada:
        page = ada.get(f"{shop.urls['portal']}/orders", session)
    assert page.status == 200
    assert orders["ada's reference"] in page.text
    assert orders["withdrawn reference"] in page.text


def test_nothing_was_told_that_nobody_may_know(shop: Stack) -> None:
    check_nothing_told(shop)
