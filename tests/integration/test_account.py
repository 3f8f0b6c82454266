"""`flask account export` and `forget`: all that is held on a customer, and nothing of it afterwards."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from portal.domain.model import CustomerStatus, SalesforceItem
from portal.ledger import accounts, order_sync, orders, outbox, search
from portal.ledger.engine import Ledger
from portal.ledger.schema import metadata
from sandbox.visitor import Visitor
from tests.customers import ask_for_link, place_order, salesforce_id
from tests.fakes import ACCOUNT, ORDER, salesforce_order
from tests.fulfilling import command, customer, provisioned, whmcs_orders
from tests.stack import Stack

NOW = 1_800_000_000.0


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    """A customer's browser."""
    with Visitor() as made:
        yield made


def tables_that_hold(stack: Stack, *texts: str) -> set[str]:
    """The ledger's tables in which one of these texts stands anywhere."""
    found = set()
    for table in metadata.tables:
        for row in stack.ledger(f"SELECT * FROM {table}"):
            if any(text.lower() in str(value).lower() for text in texts for value in row.values()):
                found.add(table)
    return found


def test_an_account_is_exported_whole_and_forgotten_whole(stack: Stack, visitor: Visitor) -> None:
    email = "forget.me.not@customers.example"
    account = stack.ids[f"account:{customer(stack, email=email)[0]}"]
    link = ask_for_link(stack, visitor, email)
    visitor.submit(visitor.get(link).form(urlsplit(link).path))
    reference = place_order(stack, visitor, "starter")
    order = salesforce_id(stack, reference)
    (row,) = stack.ledger("SELECT items FROM orders WHERE reference = ?", reference)
    domain = json.loads(row["items"])[0]["domain"]

    with pytest.raises(AssertionError, match=f"the account has open orders \\({reference}\\).*nothing was deleted"):
        command(stack, "account", "forget", account, "--yes", "--why", "ticket 7")
    assert stack.fulfill(order).status == 200
    number = provisioned(stack, order)["id"]
    told = "SELECT id FROM outbox WHERE state = 'pending' AND subject IN (?, ?)"
    stack.wait_for(lambda: not stack.ledger(told, order, reference), "everybody to be told")
    assert {"orders", "fulfillments", "outbox", "sessions"} <= tables_that_hold(stack, email, domain)

    exported = json.loads(command(stack, "account", "export", account[:15], "--why", "ticket 7"))
    assert exported["accountId"] == account
    (held,) = exported["orders"]
    assert (held["reference"], held["email"], held["items"][0]["domain"]) == (reference, email, domain)
    assert exported["fulfillments"][0]["elected_whmcs_id"] == str(number)
    assert [step["name"] for step in exported["steps"]][0] == "validation"
    assert {message["kind"] for message in exported["messages"]} == {"mail", "salesforce", "sign_in"}
    assert exported["sessions"][0]["email"] == email
    assert exported["deliveries"]
    assert exported["idempotencyKeys"][0]["answer_status"] == 200
    assert exported["services"]
    assert held["created_at"].endswith("Z")

    said = command(stack, "account", "forget", account, "--yes", "--why", "ticket 7")
    assert "addresses and domains of 1 orders" in said
    assert "Kept: the orders' ids" in said
    assert tables_that_hold(stack, email, domain, email.partition("@")[0]) == set()
    assert (
        visitor.get(f"{stack.urls['portal']}/orders/{reference}").status != 200
        or "/sign-in" in visitor.get(f"{stack.urls['portal']}/orders/{reference}").url
    )
    trail = stack.ledger("SELECT kind, actor, detail FROM events WHERE subject = ? ORDER BY id", account)
    assert [event["kind"] for event in trail] == ["account_exported", "account_forgotten"]
    assert {event["actor"] for event in trail} == {getpass.getuser()}
    assert {json.loads(event["detail"])["why"] for event in trail} == {"ticket 7"}

    # The order lives on: what WHMCS says of it is still followed.
    stack.whmcs.post("staff", {"action": "cancel", "orderId": number})
    stack.wait_for(
        lambda: stack.salesforce_order(order)["Provisioning_Status__c"] == "Cancelled", "the cancellation to be told"
    )
    assert [made["status"] for made in whmcs_orders(stack, order)] == ["Cancelled"]
    assert tables_that_hold(stack, email, domain) == set()


def test_what_isnt_an_account_is_refused(stack: Stack) -> None:
    for action in (("export",), ("forget", "--yes", "--why", "x")):
        with pytest.raises(AssertionError, match="not a Salesforce id"):
            command(stack, "account", action[0], "ada@example.com", *action[1:])


#: Tables of which nothing is one customer's: ids, operators, and what the portal itself needs.
NOBODYS = {
    "bulk_acts",
    "bulk_orders",
    "counters",
    "installation",
    "operator_sessions",
    "upstreams",
    "used_links",
    "workers",
    "order_domains",  # an index of the orders' items: emptied with them
}


def test_every_table_is_exported_or_nobodys(ledger: Ledger) -> None:
    """A new table has to be thought about: does an export show it, and does forgetting reach it?"""
    with ledger.read() as connection:
        exported = accounts.export(connection, ACCOUNT, now=NOW)
    names = {"idempotencyKeys": "idempotency_keys", "messages": "outbox", "paymentHints": "payment_hints"}
    names |= {"languages": "account_languages"}
    shown = {names.get(each, each) for each in exported} - {"accountId", "exportedAt"}
    assert shown | NOBODYS == set(metadata.tables)
    assert shown & NOBODYS == set()


def synced(ledger: Ledger, sf_order_id: str, *, created_at: float, now: float) -> dict[str, Any]:
    """The row of an order after the sync has seen it; moments in seconds since 1970."""
    item = SalesforceItem("802000000000001AAA", "Starter", 1, "5.00", "7", "Monthly", domain="mine.example")
    snapshot = replace(salesforce_order(sf_order_id), email="me@example.com", items=(item,))
    with ledger.write() as connection:
        order_sync.sync(
            connection, snapshot, now=now, created_at=created_at, status=CustomerStatus.PROVISIONED, reason=None
        )
        row = orders.by_sf_order_id(connection, sf_order_id)
    assert row is not None
    return {"email": row.email, "domain": row.items[0]["domain"]}


def test_an_account_is_kept_until_salesforce_knows_how_its_orders_ended(each_ledger: Ledger) -> None:
    """What is told afterwards would be about a customer whom nobody remembers."""
    synced(each_ledger, ORDER, created_at=NOW, now=NOW)
    with each_ledger.write() as connection:
        message = outbox.put(connection, "salesforce", ORDER, {}, now=NOW)
        assert message is not None
        with pytest.raises(
            accounts.AccountBusy, match=f"Salesforce hasn't been told yet how {ORDER} ended.*nothing was deleted"
        ):
            accounts.forget(connection, ACCOUNT, now=NOW, actor="ada", why="asked")
        row = orders.by_sf_order_id(connection, ORDER)
        assert row is not None
        assert row.email == "me@example.com"
        outbox.sent(connection, message, now=NOW)
        assert accounts.forget(connection, ACCOUNT, now=NOW, actor="ada", why="asked")["orders"] == 1


def test_an_order_is_not_found_by_what_was_forgotten(each_ledger: Ledger) -> None:
    other = "801000000000002AAA"
    synced(each_ledger, ORDER, created_at=NOW, now=NOW)
    with each_ledger.write() as connection:
        # One without a name of its own, and one of somebody else's with the same.
        order_sync.sync(connection, salesforce_order("801000000000003AAA"), now=NOW, created_at=NOW)
        item = SalesforceItem("802000000000001AAA", "Starter", 1, "5.00", "7", "Monthly", domain="mine.example")
        theirs = salesforce_order(other, account_id="001000000000002AAA", items=(item,))
        order_sync.sync(connection, theirs, now=NOW, created_at=NOW, status=CustomerStatus.PROVISIONED)
        connection.execute(sa.text("UPDATE orders SET status = 'Provisioned'"))
        assert {each.name for each in search.find(connection, "mine.example")} == {ORDER, other}
        assert accounts.forget(connection, ACCOUNT, now=NOW, actor="ada", why="asked")["orders"] == 2
        assert {each.name for each in search.find(connection, "mine.example")} == {other}


def test_the_sync_doesnt_learn_again_what_was_forgotten(each_ledger: Ledger) -> None:
    old, unseen, new = ORDER, "801000000000002AAA", "801000000000003AAA"
    assert synced(each_ledger, old, created_at=NOW, now=NOW) == {"email": "me@example.com", "domain": "mine.example"}
    with each_ledger.write() as connection:
        counts = accounts.forget(connection, ACCOUNT, now=NOW + 10, actor="ada", why="asked")
    assert counts["orders"] == 1
    nobody = {"email": None, "domain": None}
    assert synced(each_ledger, old, created_at=NOW, now=NOW + 20) == nobody
    assert synced(each_ledger, unseen, created_at=NOW + 5, now=NOW + 20) == nobody, "older than the request"
    assert synced(each_ledger, new, created_at=NOW + 15, now=NOW + 20)["email"] == "me@example.com"
    with each_ledger.read() as connection:
        kept = connection.execute(sa.text("SELECT count(*) FROM orders")).scalar_one()
    assert kept == 3
