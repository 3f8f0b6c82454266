"""What tests of the customers' side share: signing in through the mailbox, ordering as a visitor does, and the
application in this process over a running stack's ledger."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    """Mails in the mailbox, oldest first; waits `wait` seconds for the first one that fits."""
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
    return [
        row
        for row in stack.salesforce.get("state", objects="Order")["Order"]
        if row["Portal_Reference__c"] == reference
    ]


def salesforce_id(stack: Stack, reference: str) -> str:
    """The Salesforce id of an order placed here; waits until the portal has it."""
    order = stack.wait_for(
        lambda: next(
            iter(
                stack.ledger(
                    "SELECT sf_order_id FROM orders WHERE reference = ? AND sf_order_id IS NOT NULL", reference
                )
            ),
            None,
        ),
        f"{reference} to be placed",
    )
    return str(order["sf_order_id"])


def take_payment_methods(stack: Stack, client: int) -> None:
    """Leave this WHMCS client without any, whatever other tests gave it."""
    for method in stack.whmcs.get("state", objects="paymethods")["paymethods"]:
        if str(method["userid"]) == str(client):
            stack.whmcs.post("seed", {"delete": [{"kind": "paymethods", "id": method["id"]}]})


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
    from portal.web.context import portal_of

    services = build_services(Settings.from_environ({**stack.environ, **settings}))
    try:
        app = create_app(services=services)
        app.testing = True
        try:
            yield app
        finally:  # what it does in the background would open the ledger again
            portal_of(app).lifecycle.stop()
            portal_of(app).lifecycle.end()
    finally:
        services.salesforce.close()
        services.whmcs.close()
        services.redis.close()
        services.ledger.dispose()


# --- orders in the ledger, in every state a customer may meet ------------------------------------------------


@dataclass(frozen=True)
class Situation:
    """What has become of an order."""

    status: str = "Pending Review"
    state: str | None = None  # of its fulfillment, if it has one
    error_code: str | None = None
    placing: str = "placed"
    steps: int = 0  # of the seven, how many are done


#: Everything a customer's order can be in, by the name its screenshot gets.
SITUATIONS = {
    "placing": Situation(placing="placing"),
    "pending-review": Situation(),
    "activating": Situation("Activating", "running", steps=4),
    "late": Situation("Activating", "needs_decision", "OUTCOME_UNCERTAIN", steps=4),
    "provisioned": Situation("Provisioned", "provisioned", steps=7),
    "payment-method-missing": Situation("Failed", "failed", "PAYMENT_METHOD_MISSING"),
    "failed": Situation("Failed", "failed", "WHMCS_ADD_ORDER_FAILED", steps=4),
    "refused": Situation("Failed", None, "FIELD_CUSTOM_VALIDATION_EXCEPTION", placing="refused"),
    "withdrawn": Situation("Cancelled", None, "WITHDRAWN"),
    "rejected": Situation("Cancelled", None, "REJECTED"),
    "cancelled": Situation("Cancelled", "provisioned", steps=7),
}


@dataclass(frozen=True)
class Made:
    """An order that was written into the ledger."""

    reference: str
    sf_order_id: str
    domain: str
    created_at: float


_numbers = itertools.count(secrets.randbelow(10**9))


def make_order(
    app: Flask,
    stack: Stack,
    situation: Situation = SITUATIONS["pending-review"],
    *,
    customer: str = "ada",
    email: str | None = None,
) -> Made:
    """Write an order in that situation into the ledger, for a customer of the seeds. No other side knows of it."""
    from portal.domain.ids import salesforce_id_18
    from portal.domain.model import Step, StepState
    from portal.ledger import fulfillments, orders, placements, runs
    from portal.ledger.schema import fulfillments as fulfillments_table
    from portal.ledger.schema import orders as orders_table
    from portal.services import Services

    services: Services = app.extensions["portal"].services
    reference = f"PO-{secrets.token_hex(2)}-{secrets.token_hex(2)}".upper()
    sf_order_id = salesforce_id_18(f"801Zz{next(_numbers):010d}")
    domain = f"{secrets.token_hex(4)}.{customer}-only.example"
    now = services.now()
    items = [
        orders.Item(
            name="Business Hosting",
            quantity=2,
            unitPrice="120.00",
            cycle="Annual",
            domain=domain,
            hostname=None,
            entryId=None,
        ),
        orders.Item(
            name="Cloud Server S",
            quantity=1,
            unitPrice="15.00",
            cycle="Monthly",
            domain=None,
            hostname="server1.example.com",
            entryId=None,
        ),
    ]
    with services.ledger.write() as connection:
        orders.insert_placed_here(
            connection,
            reference=reference,
            checkout_key=secrets.token_hex(8),
            account_id=stack.ids[f"account:{customer}"],
            email=email or email_of(customer),
            items=items,
            currency="USD",
            total="255.00",
            now=now - 300,
        )
        if situation.placing == "placed":
            placements.settle_placed(connection, reference, sf_order_id, now=now - 299)
        elif situation.placing == "refused":
            placements.settle_refused(connection, reference, situation.error_code or "", now=now - 299)
        else:
            placements.postpone(connection, reference, now + 10**6)  # the sweep leaves it alone
        if situation.state is not None:
            fulfillments.request_fulfillment(connection, sf_order_id, now=now - 60, requested_at=now - 60)
            for step in list(Step)[: situation.steps]:
                number = runs.begin_step(connection, sf_order_id, 1, 0, step, now=now - 50)
                runs.end_step(connection, number, StepState.DONE, None, now=now - 45)
            connection.execute(
                fulfillments_table.update()
                .where(fulfillments_table.c.sf_order_id == sf_order_id)
                .values(state=situation.state, client_id="1", error_code=situation.error_code, finished_at=now - 40)
            )
        connection.execute(
            orders_table.update()
            .where(orders_table.c.reference == reference)
            .values(status=situation.status, error_code=situation.error_code)
        )
    return Made(reference, sf_order_id, domain, now - 300)


def make_session(app: Flask, stack: Stack, customer: str = "ada", email: str | None = None) -> str:
    """Sign a browser in without a mail: the value of its `portal_session` cookie."""
    from portal.ledger import sessions
    from portal.services import Services
    from portal.web.signing import digest

    services: Services = app.extensions["portal"].services
    secret, now = secrets.token_urlsafe(16), services.now()
    with services.ledger.write() as connection:
        sessions.insert(
            connection,
            sessions.Session(
                digest("session", secret),
                email or email_of(customer),
                stack.ids[f"contact:{customer}"],
                stack.ids[f"account:{customer}"],
                None,
                now,
                now + 3600,
            ),
        )
    return secret
