"""`flask doctor` against running parts: green on the demo's stack, and each planted fault named on its own line.

All faults are `make doctor-faults`; here are one or two of each kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from portal.ledger import diagnosis
from portal.ledger.engine import Ledger
from portal.ops.doctor.checks import CHECKS
from tests import doctor_faults
from tests.doctor_faults import FAULTS, Fault, examine, named
from tests.postgres import Postgres, sqlalchemy_url
from tests.stack import Stack

#: Those that leave nothing behind for other tests of the shared stack, and are quick.
HERE = {
    "a setting's name is misspelt",
    "the ledger isn't migrated",
    "Redis may evict",
    "the clock is an hour slow",
    "the wrong audience",
    "orders are read-only",
    "a product without number",
    "AddOrder isn't allowed",
    "a gateway WHMCS hasn't got",
    "no mail server listens",
}


def test_the_running_demo_is_all_right(stack: Stack) -> None:
    status, lines = examine(stack)
    assert set(lines) == {check.id for check in CHECKS}
    assert {name: line for name, line in lines.items() if line["result"] != "success"} == {}
    assert status == 0


@pytest.mark.parametrize("fault", [each for each in FAULTS if each.name in HERE], ids=lambda each: each.name)
def test_a_planted_fault_turns_its_line_red_and_no_other(stack: Stack, fault: Fault) -> None:
    assert named(stack, fault) == []


def test_enough_faults_are_planted_where_it_counts() -> None:
    """At least 25, 12 of them in Salesforce, WHMCS, Redis, the clock or the network."""
    assert len(HERE) == len([each for each in FAULTS if each.name in HERE])
    assert len(FAULTS) >= 25
    assert len({each.name for each in FAULTS}) == len(FAULTS)
    assert sum(each.line.startswith(("salesforce.", "whmcs.", "redis.", "network.")) for each in FAULTS) >= 12
    assert {each.line for each in FAULTS} <= {check.id for check in CHECKS}


SWEEPS_NOTES = {
    "alerts",
    "certificates",
    "epoch",
    "orders_followed_since",
    "orders_synced",
    "salesforce_quota",
    "sweep",
    "sweep_round",
}


def changes(stack: Stack) -> dict[str, Any]:
    """What the doctor might have changed on any side."""
    objects = "Order,OrderItem,Account,Contact,Product2,PricebookEntry"
    tables = ("fulfillments", "orders", "outbox", "events", "installation", "upstreams")
    ledger = {name: stack.ledger(f"SELECT * FROM {name}") for name in tables}
    # The sweep keeps noting how far it has read in Salesforce, and which sweep it is.
    ledger["installation"] = [row for row in ledger["installation"] if row["key"] not in SWEEPS_NOTES]
    return {
        "salesforce": stack.salesforce.get("state", objects=objects),
        "whmcs": stack.whmcs.get("state", objects="clients,orders,services,invoices"),
        "whmcs events": sorted(event["id"] for event in stack.whmcs.get("outbox")["events"]),
        "mail": len(stack.mailbox.get("messages")["messages"]),
        "ledger": {
            name: [{key: value for key, value in row.items() if not key.endswith("_at")} for row in rows]
            for name, rows in ledger.items()
        },
    }


def test_it_changes_nothing_and_prints_no_secret(stack: Stack) -> None:
    before = changes(stack)
    for arguments in (("doctor",), ("doctor", "--write-test")):
        told = stack.flask(*arguments)
        assert "0 errors" in told
        for name in ("sf_webhook_secret", "whmcs_api_secret", "whmcs_api_identifier", "secret_key"):
            assert stack.secret(name) not in told
    assert changes(stack) == before


def test_only_what_was_asked_for_and_what_it_needs(stack: Stack) -> None:
    told = json.loads(stack.flask("doctor", "--json", "--only", "redis.eviction", "--skip", "settings.names"))
    asked = [check["id"] for category in told["categories"] for check in category["checks"]]
    assert asked == ["settings.values", "redis.reachable", "redis.eviction"]
    assert told["success"] is True


def test_dependents_are_found_all_the_way_down() -> None:
    assert {"products.whmcs", "salesforce.pricebook"} <= doctor_faults.dependents("salesforce.sign-in")
    assert "whmcs.gateways" not in doctor_faults.dependents("salesforce.sign-in")


# --- a PostgreSQL that can't be written ---------------------------------------------------------------------------


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def why_read_only(url: str) -> str | None:
    """What the doctor says of the ledger at this address."""
    ledger = Ledger(sqlalchemy_url(url))
    try:
        return diagnosis.why_read_only(ledger)
    finally:
        ledger.dispose()


def test_why_a_postgresql_cant_be_written_is_seen_without_writing(own_server: Postgres) -> None:
    url = own_server.ledger()
    database = urlsplit(url).path.removeprefix("/")
    assert why_read_only(url) is None
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        as_reader = url.replace("postgres@", "reader@")
        for rights in ("SELECT", "INSERT"):  # one of the two isn't enough
            connection.execute(f"GRANT {rights} ON installation TO reader")
            assert why_read_only(as_reader) == "this user may not write the ledger's tables"
        connection.execute("GRANT UPDATE ON installation TO reader")
        assert why_read_only(as_reader) is None
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    assert why_read_only(url) == "transactions are read-only by default"


def test_a_standby_is_seen(own_server: Postgres) -> None:
    url = own_server.ledger()
    own_server.server.stop()
    signal = Path(str(own_server.server.pgdata)) / "standby.signal"
    signal.touch()
    signal.chmod(0o666)  # the server runs as another user
    own_server.server.start()
    assert why_read_only(url) == "this server is a standby"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")
    assert why_read_only(url) is None
