"""Fills a ledger as commit 8eb033a did (revision 0002), for tests/integration/test_old_ledger.py to upgrade.

Its files stand beside this one: the ledger as SQLite's file and as SQL for PostgreSQL, and for each a JSON file with
what the other sides had then, and which order is in which state. They needn't be made again; this is how they were,
with the code of then and real processes:

    git worktree add /tmp/old 8eb033a && cp -r tests/old_ledger tests/postgres.py /tmp/old/tests/ && cd /tmp/old
    python -m tests.old_ledger.fill tests/old_ledger
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from sandbox.seeds import CUSTOMERS
from sandbox.visitor import Visitor
from tests.customers import email_of, in_salesforce, place_order, salesforce_id, sign_in
from tests.fulfilling import customer, until, whmcs_orders, whmcs_services
from tests.postgres import Postgres
from tests.stack import Stack, http

HERE = Path(__file__).parent

#: Sign-in links and mails in the ledger are sealed with it.
SECRET_KEY = "a-key-for-the-old-ledger-only-0123456789abcdef"
SETTINGS = {
    "SECRET_KEY": SECRET_KEY,
    "WHMCS_MAX_REQUEST_SECONDS": "10",
    "FULFILLMENT_RETRY_SCHEDULE": "1,2,5,10,20",
    "FULFILLMENT_SLOTS": "6",
    "SECURITY_ALERT_WEBHOOK": "http://127.0.0.1:9/alerts",
    "SECURITY_ALERT_EVENTS": "5",
}

#: What of the other sides an order needs to go on.
SALESFORCE = ("Account", "Contact", "Order", "OrderItem")
SYSTEM = {"CreatedDate", "CreatedById", "LastModifiedDate", "LastModifiedById", "SystemModstamp", "IsDeleted"}
WHMCS = ("clients", "paymethods", "orders", "services", "invoices")


def one(stack: Stack, **about: Any) -> str:
    """An order of a customer who has no other."""
    who, _ = customer(stack, **about)
    return stack.order("starter", customer=who)


def click(stack: Stack, order: str) -> str:
    """Ask for it without waiting."""
    answer = stack.fulfill(order, prefer="respond-async")
    assert answer.status == 202, answer.text
    return order


def held(stack: Stack, order: str, action: str) -> dict[str, Any]:
    """The call of an order that WHMCS holds."""
    return stack.whmcs.wait_for_call(action=action, state="held", order=order)


def while_all_runs(stack: Stack, ada: Visitor) -> dict[str, str]:
    """Orders in every state that takes a worker; the last of them are under way when this returns."""
    orders: dict[str, str] = {}
    orders["provisioned"] = one(stack)
    assert stack.fulfill(orders["provisioned"], key="click-of-provisioned").status == 200
    orders["failed"] = one(stack, card=False)
    assert stack.fulfill(orders["failed"], key="click-of-failed").status == 409
    orders["needs decision"] = one(stack)
    stack.whmcs.fault("pause_point", action="AcceptOrder", order=orders["needs decision"])
    click(stack, orders["needs decision"])
    call = held(stack, orders["needs decision"], "AcceptOrder")
    (made,) = whmcs_orders(stack, orders["needs decision"])
    changes = [{"kind": "orders", "id": made["id"], "status": "Cancelled"}]
    changes += [{"kind": "services", "id": s["id"], "status": "Cancelled"} for s in whmcs_services(stack, made["id"])]
    stack.whmcs.post("seed", {"update": changes})
    stack.whmcs.post("release", {"call": call["id"]})
    assert stack.finished(orders["needs decision"])["state"] == "needs_decision"
    sign_in(stack, ada)
    orders["ada's reference"] = place_order(stack, ada)
    orders["ada's"] = salesforce_id(stack, orders["ada's reference"])
    orders["withdrawn reference"] = place_order(stack, ada)
    orders["withdrawn"] = salesforce_id(stack, orders["withdrawn reference"])
    orders["ada's session"] = ada.cookie(stack.urls["portal"], "portal_session")
    # Those whose AddOrder has no known outcome, with and without a process that runs them.
    faults: dict[str, dict[str, Any]] = {
        "AddOrder lost": {"kind": "drop_before", "action": "AddOrder"},
        "AddOrder commits late": {"kind": "late_commit", "action": "AddOrder", "seconds": 4},
        "running before AddOrder": {"kind": "pause_point", "action": "AddOrder"},
        "running after AddOrder": {"kind": "pause_point", "action": "AddOrder", "when": "after"},
        "running before AcceptOrder": {"kind": "pause_point", "action": "AcceptOrder"},
    }
    for name, fault in faults.items():
        orders[name] = one(stack)
        stack.whmcs.fault(**fault, order=orders[name])
        click(stack, orders[name])
        if name.startswith("running"):
            held(stack, orders[name], fault["action"])
    for name in ("AddOrder lost", "AddOrder commits late"):
        until(stack, orders[name], lambda row: bool(row["state"] == "waiting" and row["add_open"]))
    return orders


def with_the_web_alone(stack: Stack, ada: Visitor, orders: dict[str, str]) -> None:
    """What needs nobody but the web server: queued orders, and everything that is to be told to somebody."""
    orders["queued"] = click(stack, one(stack))
    orders["to be said again"] = one(stack)
    assert stack.fulfill(orders["to be said again"], prefer="wait=1", key="click-of-queued").status == 202
    portal = stack.urls["portal"]
    ask = ada.get(f"{portal}/orders/{orders['withdrawn reference']}/withdraw")
    assert ada.submit(ask.form("/withdraw")).status == 200
    stack.salesforce.post("settings", {"maintenance": True})
    orders["placing reference"] = place_order(stack, ada)
    stack.salesforce.post("settings", {"maintenance": False})
    assert in_salesforce(stack, orders["placing reference"]) == []
    with Visitor() as guest:
        guest.submit(guest.get(f"{portal}/sign-in").form("/sign-in"), email=email_of("ada"))
    for _ in range(8):
        body, headers = stack.signed(orders["queued"], secret="forged")
        assert http("POST", f"{portal}/orders/{orders['queued']}/fulfill", body, headers).status == 401
    pending = "SELECT DISTINCT kind FROM outbox WHERE state = 'pending'"
    wanted = {"salesforce", "assertion", "mail", "alert"}
    stack.wait_for(lambda: {row["kind"] for row in stack.ledger(pending)} == wanted, "a message of each kind")


def fill(stack: Stack) -> dict[str, Any]:
    """Fill the ledger of a running stack, and kill what works on it. Returns what the test must know."""
    seeded = set(stack.ids.values())
    with Visitor() as ada:
        orders = while_all_runs(stack, ada)
        for name in ("worker", "sweep"):
            stack.kill(name)
        with_the_web_alone(stack, ada, orders)
    late = orders["AddOrder commits late"]
    stack.wait_for(lambda: whmcs_orders(stack, late), "the AddOrder that commits late")
    stack.child("web").stop()
    return {"filled_at": time.time(), "orders": orders, **other_sides(stack, seeded)}


def other_sides(stack: Stack, seeded: set[str]) -> dict[str, Any]:
    """What Salesforce and WHMCS have beside their seeds."""
    salesforce = stack.salesforce.get("state", objects=",".join(SALESFORCE))
    whmcs = stack.whmcs.get("state", objects=",".join(WHMCS))
    clients = {each.client for each in CUSTOMERS.values()}
    for kind, owner in (("clients", "id"), ("paymethods", "userid")):
        whmcs[kind] = [row for row in whmcs[kind] if row[owner] not in clients]
    return {
        "salesforce": [
            {"type": name}
            | {field: value for field, value in row.items() if value not in (None, "") and field not in SYSTEM}
            for name in SALESFORCE
            for row in salesforce[name]
            if row["Id"] not in seeded
        ],
        "whmcs": whmcs,
    }


def write(known: dict[str, Any], path: Path) -> None:
    """As JSON, one line."""
    path.write_text(json.dumps(known, sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8")


def dump(url: str) -> str:
    """A PostgreSQL database as statements that any version takes (pg_dump wants the server's own)."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)
    tables = sa.MetaData()
    tables.reflect(engine)
    lines = []
    with engine.connect() as connection:
        sequences = connection.execute(sa.text("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")).all()
        for table in tables.sorted_tables:
            lines.append(f"{CreateTable(table).compile(engine)};")
            lines += [f"{CreateIndex(index).compile(engine)};" for index in sorted(table.indexes, key=str)]
            columns = ", ".join(f'quote_nullable("{column.name}"::text)' for column in table.columns)
            for row in connection.execute(sa.text(f'SELECT {columns} FROM "{table.name}" ORDER BY 1')):
                lines.append(f'INSERT INTO "{table.name}" VALUES ({", ".join(row)});')
        lines += [f"SELECT setval('{name}', {last});" for name, last in sequences if last is not None]
    return "\n".join(line.strip() for line in lines) + "\n"


def main(folder: Path) -> None:
    """Both ledgers, into a folder."""
    with tempfile.TemporaryDirectory() as place, Stack(Path(place), settings=SETTINGS) as stack:
        write(fill(stack), folder / "sqlite.json")
        with closing(sqlite3.connect(stack.ledger_path)) as ledger:
            (folder / "ledger.sqlite3").unlink(missing_ok=True)
            ledger.execute("PRAGMA page_size = 512")  # most tables hold a few rows
            ledger.execute("VACUUM INTO ?", (str(folder / "ledger.sqlite3"),))
    with Postgres() as server, tempfile.TemporaryDirectory() as place:
        settings = {**SETTINGS, "DATABASE_URL": server.database()}
        with Stack(Path(place), settings=settings) as stack:
            write(fill(stack), folder / "postgresql.json")
            (folder / "ledger.postgresql.sql").write_text(dump(settings["DATABASE_URL"]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
