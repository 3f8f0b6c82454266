"""`make smoke`: one customer's order through the whole demo, then every side is asked what became of it.

Starts the demo without a terminal over a folder of its own and imports nothing of the product: it knows the pages, the
pretend sides, and the ledger's file. The last line is one JSON object (docs/performance.md says what is in it).
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from sandbox.processes import ROOT, resting_mib
from sandbox.seeds import CUSTOMERS, PRODUCTS, call
from sandbox.visitor import Page, Visitor

ORDERS = 50
MOST_MIB = 500
MOST_OWN_MS = 100


class Failed(Exception):
    """The smoke test found something; `str()` says what."""


class Demo:
    """The demo's addresses and data, as its one line of output names them."""

    def __init__(self, started: dict[str, Any]) -> None:
        self.portal, self.salesforce = str(started["portal"]), str(started["salesforce"])
        self.whmcs, self.mailbox = str(started["whmcs"]), str(started["mailbox"])
        self.pid = int(started["pid"])
        self.ledger_path = Path(started["var"]) / "ledger.sqlite3"

    def ledger(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query over the ledger's file."""
        with closing(sqlite3.connect(f"file:{self.ledger_path}?mode=ro", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    def journal(self, side: str, **filters: Any) -> list[dict[str, Any]]:
        """What a side was asked; see the sandboxes' control API."""
        query = "&".join(f"{name}={value}" for name, value in {"limit": 100_000, **filters}.items())
        return list(call("GET", side, f"journal?{query}")["entries"])


# --- the customer ------------------------------------------------------------------------------------------------


def place_order(demo: Demo, visitor: Visitor) -> tuple[str, Page]:
    """Sign in through the mailbox's link, fill the basket, order. Returns the reference and the order's page."""
    customer = CUSTOMERS["ada"]
    form = visitor.get(f"{demo.portal}/sign-in").form("/sign-in")
    earlier = call("GET", demo.mailbox, f"messages?to={customer.email}")["messages"]
    visitor.submit(form, email=customer.email)
    since = earlier[-1]["id"] if earlier else 0
    mails = call("GET", demo.mailbox, f"messages?to={customer.email}&since={since}&wait=30")["messages"]
    if not mails:
        raise Failed("no sign-in mail within 30 s")
    link = next(link for link in mails[-1]["links"] if link.startswith(f"{demo.portal}/"))
    visitor.submit(visitor.get(link).form(urlsplit(link).path))
    catalogue = visitor.get(f"{demo.portal}/")
    for key, extra in (("starter", {"domain": "lovelace.example"}), ("support", {})):
        entry = entry_of(demo, key)
        form = next(form for form in catalogue.forms if form.fields.get("entry") == entry)
        basket = visitor.submit(form, **extra)
        if basket.status != 200:
            raise Failed(f"the basket answers {basket.status}: {basket.text[:300]}")
    placed = visitor.submit(visitor.get(f"{demo.portal}/checkout").form("/checkout"))
    reference = next((part for part in urlsplit(placed.url).path.split("/orders/")[1:]), "").split("/")[0]
    if not reference:
        raise Failed(f"checkout ended at {placed.url} ({placed.status}): {placed.text[:300]}")
    return reference, visitor.get(f"{demo.portal}/orders/{reference}")


def entry_of(demo: Demo, key: str) -> str:
    """The pricebook entry of a product of the seeds, from the portal's own pricebook."""
    state = call("GET", demo.salesforce, "state?objects=Product2,PricebookEntry,Pricebook2")
    product = next(row["Id"] for row in state["Product2"] if row["Name"] == PRODUCTS[key].name)
    books = {row["Id"] for row in state["Pricebook2"] if not row["IsStandard"]}
    return str(
        next(
            row["Id"]
            for row in state["PricebookEntry"]
            if row["Product2Id"] == product and row["Pricebook2Id"] in books
        )
    )


def order_in_salesforce(demo: Demo, reference: str, seconds: float = 30) -> dict[str, Any]:
    """The Order that the portal made of a reference."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for row in call("GET", demo.salesforce, "state?objects=Order")["Order"]:
            if row["Portal_Reference__c"] == reference:
                return dict(row)
        time.sleep(0.1)
    raise Failed(f"no Order with Portal_Reference__c {reference} in Salesforce within {seconds:g} s")


def follow(visitor: Visitor, page: Page, seconds: float = 90) -> Page:
    """Ask as the page itself asks (htmx: `hx-get`, `every 5s`) until it stops asking. Returns the last fragment."""
    deadline = time.monotonic() + seconds
    while True:
        poll = next(iter(page.with_attribute("hx-get")), None)
        if poll is None or "every" not in poll.attributes.get("hx-trigger", ""):
            return page
        if time.monotonic() > deadline:
            raise Failed(f"the order's page still asks after {seconds:g} s: {page.text[:300]}")
        interval = poll.attributes["hx-trigger"].split("every")[1].split()[0].rstrip(",").removesuffix("s")
        time.sleep(float(interval))
        answer = visitor.get(urljoin(page.url, poll.attributes["hx-get"]), {"HX-Request": "true"})
        if answer.status == 200:
            page = answer
        elif answer.status != 204:
            raise Failed(f"the poll answers {answer.status}: {answer.text[:300]}")


# --- what became of it ---------------------------------------------------------------------------------------------


def check(demo: Demo, visitor: Visitor, reference: str, order_id: str, page: Page) -> str:
    """Salesforce, WHMCS, the ledger and the customer's page must tell one story. Returns the WHMCS order id."""
    faults: list[str] = []

    def same(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            faults.append(f"{what} is {found!r} instead of {wanted!r}")

    state = call("GET", demo.whmcs, "state?objects=orders,services")
    marked = [row for row in state["orders"] if f"sfOrderId={order_id}" in row["notes"].split()]
    same("the number of WHMCS orders", len(marked), 1)
    whmcs_id = str(marked[0]["id"]) if marked else ""
    same("the WHMCS order", [row["status"] for row in marked], ["Active"])
    services = [row for row in state["services"] if str(row["orderid"]) == whmcs_id]
    same(
        "the WHMCS services",
        sorted((row["name"], row["status"]) for row in services),
        sorted((PRODUCTS[key].name, "Active") for key in ("starter", "support")),
    )
    same("the hosting's domain", {row["domain"] for row in services} >= {"lovelace.example"}, True)

    order = order_in_salesforce(demo, reference)
    same("Provisioning_Status__c", order["Provisioning_Status__c"], "Provisioned")
    same("WHMCS_Order_ID__c", order["WHMCS_Order_ID__c"], whmcs_id)
    same("Provisioning_Error_Code__c", order["Provisioning_Error_Code__c"], None)
    same("Order.Status", order["Status"], "Pending Review")

    row = demo.ledger("SELECT * FROM fulfillments WHERE sf_order_id = ?", order_id)[0]
    same("the ledger's state", row["state"], "provisioned")
    same("the ledger's WHMCS order", row["elected_whmcs_id"], whmcs_id)
    same(
        "the ledger's services",
        sorted(map(str, json.loads(row["service_ids"]))),
        sorted(str(service["id"]) for service in services),
    )
    steps = demo.ledger("SELECT name, state FROM steps WHERE sf_order_id = ? ORDER BY id", order_id)
    same("the steps", [(step["name"], step["state"]) for step in steps], [(name, "done") for name in STEPS])

    told = visitor.get(f"{demo.portal}/api/orders/{order_id}")
    same("the JSON's status", json.loads(told.body).get("status") if told.status == 200 else told.status, "Provisioned")
    same("the fragment that ended the polling", "Provisioned" in page.html, True)
    whole = visitor.get(f"{demo.portal}/orders/{reference}")
    same(
        "the order's page asks on",
        [each for each in whole.with_attribute("hx-trigger") if "every" in each.attributes["hx-trigger"]],
        [],
    )
    health = json.loads(visitor.get(f"{demo.portal}/health").body)
    same("/health", (health["status"], health["database"]), ("ok", "connected"))
    if faults:
        raise Failed("; ".join(faults))
    return whmcs_id


STEPS = (
    "validation",
    "sf_status_update",
    "order_details",
    "mapping",
    "whmcs_create",
    "whmcs_accept",
    "sf_success_update",
)


def print_timeline(demo: Demo, order_id: str, clicked: float) -> None:
    """When each step began after the click, and how long it took."""
    print(f"\n  {'step':<20}{'begun':>9}{'took':>9}   (ms after the click)")
    for row in demo.ledger("SELECT * FROM steps WHERE sf_order_id = ? ORDER BY id", order_id):
        begun, took = (row["started_at"] - clicked) * 1000, ((row["ended_at"] or 0) - row["started_at"]) * 1000
        print(f"  {row['name']:<20}{begun:>9.1f}{took:>9.1f}")


def calls_of(demo: Demo, order_id: str, since: float, until: float) -> tuple[int, int]:
    """API calls between two moments: Salesforce's for this order, and all of WHMCS' (nothing else runs)."""
    salesforce = [
        each
        for each in demo.journal(demo.salesforce, direction="in", order=order_id)
        if not each["action"].startswith("web") and since <= each["received"] <= until
    ]
    whmcs = [
        each
        for each in demo.journal(demo.whmcs, direction="in")
        if not each["action"].startswith("web") and since <= each["received"] <= until
    ]
    return len(salesforce), len(whmcs)


# --- fifty orders on the idle system ---------------------------------------------------------------------------------


def own_milliseconds(demo: Demo, count: int) -> list[float]:
    """For each of `count` orders, one after the other: click to Provisioned, minus the time inside the sandboxes."""
    entry = entry_of(demo, "support")
    state = call("GET", demo.salesforce, "state?objects=Account,Contact,PricebookEntry")
    contact = next(row for row in state["Contact"] if row["Email"] == CUSTOMERS["ada"].email)
    about = next(row for row in state["PricebookEntry"] if row["Id"] == entry)
    own = []
    for _ in range(count):
        order_id = call(
            "POST",
            demo.salesforce,
            "seed",
            {
                "records": [
                    {
                        "type": "Order",
                        "ref": "order",
                        "AccountId": contact["AccountId"],
                        "Status": "Pending Review",
                        "EffectiveDate": time.strftime("%Y-%m-%d", time.gmtime()),
                        "Pricebook2Id": about["Pricebook2Id"],
                    },
                    {
                        "type": "OrderItem",
                        "OrderId": "@{order}",
                        "PricebookEntryId": entry,
                        "Product2Id": about["Product2Id"],
                        "Quantity": 1,
                        "UnitPrice": about["UnitPrice"],
                    },
                ]
            },
        )["names"]["order"]
        marks = {side: last_entry(demo, side) for side in (demo.salesforce, demo.whmcs)}
        answer = call("POST", demo.salesforce, "provision", {"orderId": order_id})
        if answer["status"] != 200 or json.loads(answer["body"])["status"] != "Provisioned":
            raise Failed(f"order {order_id}: {answer['status']} {answer['body'] or answer['error']}")
        [callout] = demo.journal(demo.salesforce, since=marks[demo.salesforce], action="callout", order=order_id)
        begun, ended = callout["received"], callout["answered"]
        inside = [
            (each["received"], each["received"] + each["inside"])
            for side, mark in marks.items()
            for each in demo.journal(side, since=mark, direction="in")
            if each["inside"] is not None and begun <= each["received"] <= ended
        ]
        own.append((ended - begun - covered(inside, ended)) * 1000)
    return own


def last_entry(demo: Demo, side: str) -> int:
    """The id of a journal's newest entry."""
    entries = demo.journal(side, newest=1, limit=1)
    return int(entries[-1]["id"]) if entries else 0


def covered(spans: list[tuple[float, float]], until: float) -> float:
    """Seconds covered by at least one span."""
    total, reached = 0.0, 0.0
    for begun, ended in sorted(spans):
        begun, ended = max(begun, reached), min(ended, until)
        if ended > begun:
            total += ended - begun
            reached = ended
    return total


# --- all of it -----------------------------------------------------------------------------------------------------


def run(demo: Demo, orders: int = ORDERS) -> dict[str, Any]:
    """The whole story, and `orders` more to measure. Returns the figures; raises Failed."""
    with Visitor() as visitor:
        reference, page = place_order(demo, visitor)
        order = order_in_salesforce(demo, reference)
        print(
            f"{CUSTOMERS['ada'].email} ordered {reference}: Salesforce has it as {order['OrderNumber']}, "
            f"{order['Status']}"
        )
        resting = resting_mib(demo.pid)
        operators_page = visitor.get(f"{demo.salesforce}/orders/{order['Id']}")
        visitor.submit(operators_page.form("/provision"))
        print('The operator pressed "Provision in WHMCS"')
        page = follow(visitor, page)
        told = time.time()
        [callout] = demo.journal(demo.salesforce, action="callout", order=order["Id"])
        clicked, finished = callout["received"], callout["answered"]
        whmcs_id = check(demo, visitor, reference, order["Id"], page)
        print_timeline(demo, order["Id"], clicked)
        print(f"  {'answer to Salesforce':<20}{(finished - clicked) * 1000:>9.1f}")
        print(f"  {'customer told':<20}{(told - clicked) * 1000:>9.1f}")
        salesforce_calls, whmcs_calls = calls_of(demo, order["Id"], clicked, finished)
        later = calls_of(demo, order["Id"], finished, told)
        print(
            f"\n  Calls until Provisioned: Salesforce {salesforce_calls}, WHMCS {whmcs_calls}; afterwards, because "
            f"WHMCS' own events tell of it: {later[0]} and {later[1]}\n"
        )
        own = own_milliseconds(demo, orders)
        return {
            "status": "Provisioned",
            "whmcsOrderId": whmcs_id,
            "seconds": round(told - clicked, 3),
            "salesforceCalls": salesforce_calls,
            "whmcsCalls": whmcs_calls,
            "pssMiB": round(max(resting, resting_mib(demo.pid)), 1),
            "ownMsP50": round(statistics.median(own), 1),
        }


def main() -> int:
    """Start the demo, drive it, judge it, end it. Returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="order-portal-smoke-") as folder:
        command = [sys.executable, "-m", "sandbox.demo", "--headless", "--var", folder]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))  # through `finally`
        try:
            line = process.stdout.readline()
            if not line:
                process.wait()
                return 1  # the demo has said why
            figures = run(Demo(json.loads(line)))
        except (Failed, LookupError, OSError) as error:
            print(f"FAILED: {error}", flush=True)
            for log in sorted(Path(folder, "log").glob("*.log")):
                last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
                print(f"--- {log.name}", *last, sep="\n", file=sys.stderr)
            return 1
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
    print(json.dumps(figures), flush=True)
    faults = []
    if figures["pssMiB"] > MOST_MIB:
        faults.append(f"{figures['pssMiB']} MiB at rest are more than {MOST_MIB}")
    if figures["ownMsP50"] > MOST_OWN_MS:
        faults.append(f"{figures['ownMsP50']} ms of its own are more than {MOST_OWN_MS}")
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
