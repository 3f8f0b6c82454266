"""What tests of the customers' side share: signing in through the mailbox, ordering as a visitor does, and the
application in this process over a running stack's ledger."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

from flask import Flask

from sandbox.seeds import CUSTOMERS, PRODUCTS
from sandbox.visitor import Page, Visitor
from tests.stack import Stack

#: What a product of the seeds needs to be told.
NEEDS = {"Hosting": "domain", "SSL": "domain", "Server": "hostname"}


def email_of(customer: str) -> str:
    """The address of a customer of the seeds."""
    return CUSTOMERS[customer].email


def mails_to(stack: Stack, address: str, *, subject: str = "", wait: float = 0, since: int = 0) -> list[dict[str, Any]]:
    """Mails in the mailbox, oldest first; waits for the first one that fits."""
    found: list[dict[str, Any]] = stack.mailbox.get("messages", to=address, subject=subject, wait=wait, since=since)[
        "messages"
    ]
    return found


def last_mail(stack: Stack) -> int:
    """The newest mail's number: `mails_to(since=…)` then gives what came after."""
    messages = stack.mailbox.get("messages")["messages"]
    return int(messages[-1]["id"]) if messages else 0


def link_in(mail: dict[str, Any], part: str) -> str:
    """The link of a mail whose path holds `part`."""
    return str(next(link for link in mail["links"] if part in urlsplit(link).path))


def ask_for_link(stack: Stack, visitor: Visitor, address: str) -> str:
    """Ask for a sign-in link, and take it out of the mailbox."""
    since = last_mail(stack)
    visitor.submit(visitor.get(f"{stack.urls['portal']}/sign-in").form("/sign-in"), email=address)
    mails = mails_to(stack, address, subject="Sign in", wait=30, since=since)
    assert mails, f"no sign-in mail to {address}"
    return link_in(mails[-1], "/sign-in/link/")


def sign_in(stack: Stack, visitor: Visitor, customer: str = "ada") -> Page:
    """Sign in as a customer of the seeds, the way a person does."""
    link = ask_for_link(stack, visitor, email_of(customer))
    page = visitor.submit(visitor.get(link).form(urlsplit(link).path))
    assert page.status == 200, page.text
    return page


def fill_basket(stack: Stack, visitor: Visitor, *products: str) -> Page:
    """Put products of the seeds into the basket; returns the basket's page."""
    page = visitor.get(f"{stack.urls['portal']}/")
    for name in products:
        product = PRODUCTS[name]
        entry = stack.ids[f"entry:{name}"]
        form = next(form for form in visitor.get(f"{stack.urls['portal']}/").forms if form.fields.get("entry") == entry)
        needed = NEEDS.get(product.family)
        page = visitor.submit(form, **({needed: f"{secrets.token_hex(4)}.example.com"} if needed else {}))
        assert page.status == 200, page.text
    return page


def place_order(stack: Stack, visitor: Visitor, *products: str) -> str:
    """Order as a signed-in visitor; returns the reference."""
    fill_basket(stack, visitor, *(products or ("starter",)))
    placed = visitor.submit(visitor.get(f"{stack.urls['portal']}/checkout").form("/checkout"))
    assert urlsplit(placed.url).path.endswith("/placed"), (placed.url, placed.text)
    return reference_of(placed)


def reference_of(page: Page) -> str:
    """The order a page is about, from its address."""
    return urlsplit(page.url).path.split("/orders/")[1].split("/")[0]


def in_salesforce(stack: Stack, reference: str) -> list[dict[str, Any]]:
    """Every Salesforce Order of a reference; there should be one."""
    return [row for row in stack.salesforce.get("state", objects="Order")["Order"]
            if row["Portal_Reference__c"] == reference]  # fmt: skip


def salesforce_id(stack: Stack, reference: str) -> str:
    """The Salesforce id of an order placed here; waits until the portal has it."""
    order = stack.wait_for(
        lambda: next(iter(stack.ledger("SELECT sf_order_id FROM orders WHERE reference = ? AND sf_order_id IS NOT NULL",
                                       reference)), None),
        f"{reference} to be placed",
    )  # fmt: skip
    return str(order["sf_order_id"])


def poll_address(page: Page) -> str:
    """Where an order's page asks whether something changed; "" once it no longer does."""
    element = next(iter(page.with_attribute("hx-get")), None)
    return urljoin(page.url, element.attributes["hx-get"]) if element else ""


def follow(stack: Stack, visitor: Visitor, reference: str, until: str, seconds: float = 60) -> Page:
    """Load an order's page until it says `until`."""
    address = f"{stack.urls['portal']}/orders/{reference}"
    deadline = time.monotonic() + seconds
    while True:
        page = visitor.get(address)
        if until in page.text:
            return page
        assert time.monotonic() < deadline, f"waited for {until!r}; the page says: {page.text}"
        time.sleep(0.1)


@contextmanager
def application(stack: Stack, **settings: str) -> Iterator[Flask]:
    """The application in this process, over the stack's ledger, Valkey and other sides."""
    from app import create_app
    from portal.services import build_services
    from portal.settings import Settings

    services = build_services(Settings.from_environ({**stack.environ, **settings}))
    try:
        app = create_app(services=services)
        app.testing = True
        yield app
    finally:
        services.salesforce.close()
        services.whmcs.close()
        services.redis.close()
        services.ledger.dispose()
