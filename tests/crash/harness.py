"""What chaos and the crash matrix share: a stack with several workers, who runs which order, and the verdict.

Nothing of the product is imported. Who holds an order is read from the ledger's tables; what became of it from the
sandboxes' raw state and journal, by client and items, never by the product's own mark.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.control import SalesforceSandbox, WhmcsSandbox
from sandbox.seeds import PRODUCTS
from tests.stack import Stack

#: Missed heartbeats for so long make another process take the orders over (jobs.process.TTL_SECONDS).
TTL_SECONDS = 3.0

#: Chaos lasts longer than the schedule other tests use: every fault is a passing one, so no order may run out of tries.
SETTINGS = {
    "WHMCS_MAX_REQUEST_SECONDS": "3",
    "FULFILLMENT_RETRY_SCHEDULE": "0.3,0.5,1,2,3,5,5,10,10,15,30,30,300,600",
    "WHMCS_MAX_IN_FLIGHT": "64",  # a killed holder's place stays taken until its call is surely over
}


class CrashStack(Stack):
    """The whole portal with as many supervisors and sweeps as asked for, over SQLite or a PostgreSQL.

    worker        what follows `python -m` for a worker
    web           gunicorn's application
    database_url  a PostgreSQL's; None: SQLite under `folder`
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 1,
        sweeps: int = 1,
        worker: Sequence[str] = ("jobs.worker",),
        web: str = "wsgi:app",
        settings: Mapping[str, str] | None = None,
        database_url: str | None = None,
    ) -> None:
        more = {"DATABASE_URL": database_url} if database_url else {}
        super().__init__(folder, start=False, settings={**SETTINGS, **more, **(settings or {})})
        self.database_url = database_url
        self._workers, self._sweeps, self._worker, self._web = workers, sweeps, tuple(worker), web
        self._local = threading.local()

    @property
    def worker_names(self) -> list[str]:
        """The workers, as `child()` knows them."""
        return ["worker", *(f"worker{number}" for number in range(2, self._workers + 1))]

    @property
    def sweep_names(self) -> list[str]:
        """The sweeps, as `child()` knows them."""
        return ["sweep", *(f"sweep{number}" for number in range(2, self._sweeps + 1))]

    def _product_argv(self, port: int) -> dict[str, list[str]]:
        argv = super()._product_argv(port)
        argv["web"] = [self._web if word == "wsgi:app" else word for word in argv["web"]]
        sweep = argv.pop("sweep")
        argv |= dict.fromkeys(self.worker_names, [sys.executable, "-m", *self._worker])
        return argv | dict.fromkeys(self.sweep_names, sweep)

    @property
    def org(self) -> SalesforceSandbox:
        """The pretend org's typed handle."""
        return SalesforceSandbox.attach(self.urls["salesforce"])

    @property
    def shop(self) -> WhmcsSandbox:
        """The pretend WHMCS' typed handle."""
        return WhmcsSandbox.attach(self.urls["whmcs"])

    def ledger(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query over the ledger; `?` for values on both databases."""
        if self.database_url is None:
            return super().ledger(sql, *values)
        import psycopg
        from psycopg.rows import dict_row

        connection = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = self._local.connection = psycopg.connect(
                self.database_url, autocommit=True, row_factory=dict_row
            )
        return list(connection.execute(sql.replace("?", "%s"), values).fetchall())

    def close_thread(self) -> None:
        """Close this thread's connection to the ledger."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()

    def holder(self, order: str) -> Holder | None:
        """The worker process that runs an order now."""
        rows = self.ledger(
            "SELECT f.sf_order_id, f.fence, w.worker_id, w.pid FROM fulfillments f "
            "JOIN workers w ON w.worker_id = f.owner WHERE f.sf_order_id = ? AND f.state = 'running' AND NOT w.dead",
            order,
        )
        return Holder(**rows[0]) if rows else None

    def holders(self) -> list[Holder]:
        """Every worker process that runs an order now."""
        rows = self.ledger(
            "SELECT f.sf_order_id, f.fence, w.worker_id, w.pid FROM fulfillments f "
            "JOIN workers w ON w.worker_id = f.owner WHERE f.state = 'running' AND NOT w.dead"
        )
        return [Holder(**row) for row in rows]

    def log_lines(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """What these processes logged, oldest first within each."""
        found = []
        for name in names:
            path = self.logs / f"{name}.log"
            for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else ():
                with suppress(ValueError):
                    if line.startswith("{"):
                        found.append(json.loads(line))
        return found


@dataclass(frozen=True)
class Holder:
    """A process that runs an order, by the ledger."""

    sf_order_id: str
    fence: int
    worker_id: str
    pid: int


def children_of(pid: int) -> list[int]:
    """The process ids of a process' children (Linux)."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    return []


def runs(pid: int) -> bool:
    """Whether the process is there and hasn't ended (one nobody reaped yet has)."""
    return _state(pid) not in ("Z", "X", "")


def stop_outside_a_transaction(pid: int) -> bool:
    """SIGSTOP a process, but not while it holds SQLite's write lock (there one stopped process stops the ledger, as
    docs/reliability.md says); whether it was there to be stopped."""
    for _ in range(500):
        if not send_signal(pid, signal.SIGSTOP):
            return False
        while _state(pid) not in ("T", "Z", "X", ""):
            time.sleep(0.001)
        if not _holds_lock(pid):
            return True
        send_signal(pid, signal.SIGCONT)
        time.sleep(0.005)
    return False


def _holds_lock(pid: int) -> bool:
    lines = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
    return any(words[1] == "FLOCK" and words[4] == str(pid) for words in lines if "->" not in words)


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
    return ""


def send_signal(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


# --- orders ---------------------------------------------------------------------------------------------------------


@dataclass
class Wanted:
    """One order as asked for: the items' names (domains, hostnames) are its own, so that it is known by them alone."""

    number: int
    client: int  # in WHMCS
    items: list[tuple[str, int]]  # product by its name in sandbox.seeds, quantity
    alone: bool = True  # its client has no other order
    order: str = ""  # in Salesforce

    @property
    def asked(self) -> Counter[tuple[int, int, str, str]]:
        """Product, quantity, cycle and name of each item, as AddOrder is to get them."""
        return Counter(
            (int(PRODUCTS[name].pid or 0), quantity, PRODUCTS[name].whmcs_cycle, self.name_of(index))
            for index, (name, quantity) in enumerate(self.items)
        )

    def name_of(self, index: int) -> str:
        """An item's domain or hostname."""
        return f"o{self.number}-{index}.example"


def seed_orders(stack: CrashStack, wanted: Sequence[Wanted]) -> None:
    """Put clients and orders into both sandboxes; fills in `order`."""
    for start in range(0, len(wanted), 250):
        _seed_some(stack, wanted[start : start + 250])


def _seed_some(stack: CrashStack, wanted: Sequence[Wanted]) -> None:
    known = {row["id"] for row in stack.shop.state("clients")["clients"]}
    clients = sorted({each.client for each in wanted} - known)
    stack.shop.seed(
        clients=[
            {
                "id": client,
                "firstname": "Client",
                "lastname": str(client),
                "email": f"c{client}@example.com",
                "address1": "1 Example Street",
                "city": "Springfield",
                "state": "Oregon",
                "postcode": "97477",
                "country": "US",
                "phonenumber": "+1.5415550100",
                "defaultgateway": "stripe",
            }
            for client in clients
        ],
        paymethods=[{"userid": client} for client in clients],
    )
    records: list[dict[str, Any]] = []
    accounts = {
        row["WHMCS_Client_ID__c"]: row["Id"]
        for row in stack.org.state("Account")["Account"]
        if row["WHMCS_Client_ID__c"]
    }
    for client in sorted({each.client for each in wanted}):
        if str(client) not in accounts:
            accounts[str(client)] = f"@{{a{client}}}"
            records.append(
                {"type": "Account", "ref": f"a{client}", "Name": f"Client {client}", "WHMCS_Client_ID__c": str(client)}
            )
            records.append(
                {
                    "type": "Contact",
                    "AccountId": f"@{{a{client}}}",
                    "LastName": str(client),
                    "Email": f"c{client}@example.com",
                }
            )
    today = time.strftime("%Y-%m-%d", time.gmtime())
    for each in wanted:
        records.append(
            {
                "type": "Order",
                "ref": f"o{each.number}",
                "AccountId": accounts[str(each.client)],
                "Status": "Pending Review",
                "EffectiveDate": today,
                "Pricebook2Id": stack.ids["pricebook"],
            }
        )
        for index, (name, quantity) in enumerate(each.items):
            where = "Hostname__c" if PRODUCTS[name].family == "Server" else "Domain__c"
            records.append(
                {
                    "type": "OrderItem",
                    "OrderId": f"@{{o{each.number}}}",
                    "Quantity": quantity,
                    "PricebookEntryId": stack.ids[f"entry:{name}"],
                    "Product2Id": stack.ids[f"product:{name}"],
                    "UnitPrice": float(PRODUCTS[name].price),
                    where: each.name_of(index),
                }
            )
    names = stack.org.seed(records=records)["names"]
    for each in wanted:
        each.order = names[f"o{each.number}"]


# --- the verdict ----------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What became of the orders. Each list names orders with what is wrong, for people to read."""

    exactly_once: int = 0
    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    needs_decision: list[str] = field(default_factory=list)  # unavoidable ones only; others are stuck
    strays: list[str] = field(default_factory=list)
    inconsistent: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every order ended as it must."""
        return not (self.duplicates or self.lost or self.stuck or self.strays or self.inconsistent)

    def lines(self) -> list[str]:
        """Everything that is wrong, one line each."""
        return [
            f"{kind}: {text}"
            for kind in ("duplicates", "lost", "stuck", "strays", "inconsistent")
            for text in getattr(self, kind)
        ]


def judge(stack: CrashStack, wanted: Sequence[Wanted], *, undecidable: frozenset[str] = frozenset()) -> Verdict:
    """Hold every order against both sides. `undecidable`: orders whose fault leaves a decision to a person."""
    verdict = Verdict()
    shop = stack.shop.state("orders", "services", "invoices")
    services: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for service in shop["services"]:
        services[service["orderid"]].append(service)
    invoices = {invoice["id"]: invoice for invoice in shop["invoices"]}
    org = {row["Id"]: row for row in stack.org.state("Order")["Order"]}
    rows = {row["sf_order_id"]: row for row in stack.ledger("SELECT * FROM fulfillments")}
    # Orders that were ever made Active, by the raw journal: an Active one that was cancelled later counts as well.
    accepted = {
        int(entry["order"])
        for entry in stack.shop.journal(action="AcceptOrder", direction="in")
        if entry["effect"] is not None
    }
    mine: dict[tuple[int, frozenset[Any]], list[dict[str, Any]]] = defaultdict(list)
    for order in shop["orders"]:
        mine[order["userid"], _asked(order)].append(order)
    for each in wanted:
        found = mine.pop((each.client, frozenset(each.asked.items())), [])
        _judge_one(
            verdict,
            each,
            found,
            services,
            invoices,
            org[each.order],
            rows.get(each.order),
            accepted,
            each.order in undecidable,
        )
    ours = {each.client for each in wanted}
    for (client, _), unknown in mine.items():
        if client in ours:
            ids = [order["id"] for order in unknown]
            verdict.duplicates.append(f"client {client} has WHMCS orders nobody asked for: {ids}")
    return verdict


def _asked(order: Mapping[str, Any]) -> frozenset[Any]:
    return frozenset(
        Counter(
            (int(item["pid"]), int(item["qty"]), str(item["cycle"]), str(item["domain"])) for item in order["asked"]
        ).items()
    )


def _judge_one(
    verdict: Verdict,
    each: Wanted,
    found: Sequence[Mapping[str, Any]],
    services: Mapping[int, Sequence[Mapping[str, Any]]],
    invoices: Mapping[int, Mapping[str, Any]],
    sf: Mapping[str, Any],
    row: Mapping[str, Any] | None,
    accepted: set[int],
    undecidable: bool,
) -> None:
    name = f"{each.order} (number {each.number}, client {each.client})"
    told = f"Salesforce {sf['Provisioning_Status__c']}/{sf['WHMCS_Order_ID__c']}/{sf['Provisioning_Error_Code__c']}"
    known = f"ledger {row['state']}/{row['elected_whmcs_id']}/{row['error_code']}" if row else "not in the ledger"
    seen = f"WHMCS {[(order['id'], order['status']) for order in found]}; {known}; {told}"
    active = [order for order in found if order["status"] == "Active"]
    ever = {order["id"] for order in found if order["id"] in accepted or order["status"] == "Active"}
    pending = [order["id"] for order in found if order["status"] == "Pending"]
    if len(ever) > 1:
        verdict.duplicates.append(f"{name}: {sorted(ever)} were all made Active; {seen}")
    if row is None:
        verdict.lost.append(f"{name}: {seen}")
        return
    if row["state"] == "needs_decision" and undecidable and not ever:
        shown = (sf["Provisioning_Status__c"], sf["Provisioning_Error_Code__c"])
        if shown != ("Failed", "OUTCOME_UNCERTAIN"):
            verdict.inconsistent.append(f"{name}: a decision is needed, but {told}")
        verdict.needs_decision.append(f"{name}: {row['error_message']}")
        return
    if row["state"] != "provisioned":
        verdict.stuck.append(f"{name}: {row['error_message'] or row['waiting_for']}; {seen}")
        return
    if not active:
        verdict.lost.append(f"{name}: {seen}")
        return
    if pending:
        verdict.strays.append(f"{name}: {pending} are still Pending; {seen}")
    faults = _inconsistencies(each, found, active[0], services, invoices, sf, row)
    if faults:
        verdict.inconsistent.append(f"{name}: {'; '.join(faults)}; {seen}")
    if len(ever) == 1:
        verdict.exactly_once += 1


def _inconsistencies(
    each: Wanted,
    found: Sequence[Mapping[str, Any]],
    active: Mapping[str, Any],
    services: Mapping[int, Sequence[Mapping[str, Any]]],
    invoices: Mapping[int, Mapping[str, Any]],
    sf: Mapping[str, Any],
    row: Mapping[str, Any],
) -> list[str]:
    faults = []
    live: Counter[tuple[int, str]] = Counter()
    for service in services.get(active["id"], ()):
        live[int(service["pid"]), str(service["domain"])] += int(service["qty"])
        if service["status"] != "Active":
            faults.append(f"service {service['id']} is {service['status']}")
        if service.get("module_creates", 1) > 1:
            faults.append(f"service {service['id']} was set up {service['module_creates']} times")
    if live != Counter({(pid, domain): quantity for pid, quantity, _, domain in each.asked}):
        faults.append(f"services {dict(live)} aren't what was asked for")
    for order in found:
        if order["id"] == active["id"]:
            continue
        if any(service["status"] == "Active" for service in services.get(order["id"], ())):
            faults.append(f"the stray {order['id']} has a live service")
        invoice = invoices.get(order["invoiceid"])
        if order["status"] == "Cancelled" and invoice is not None and invoice["status"] == "Unpaid":
            faults.append(f"the cancelled stray {order['id']} has an open invoice")
    if str(row["elected_whmcs_id"]) != str(active["id"]):
        faults.append("the elected order isn't the Active one")
    if sf["Provisioning_Status__c"] != "Provisioned" or str(sf["WHMCS_Order_ID__c"]) != str(active["id"]):
        faults.append("Salesforce doesn't show it")
    if sf["Provisioning_Error_Code__c"] or sf["Provisioning_Error_Message__c"]:
        faults.append("Salesforce shows an error")
    return faults


def wait_until_settled(stack: CrashStack, orders: Sequence[str], seconds: float) -> list[str]:
    """Until every order has ended, been audited once where that is planned soon, and been told; what hasn't is named.

    The second and third audits (an hour and a day later) aren't waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        open_ones = unsettled(stack, orders)
        if not open_ones or time.monotonic() > deadline:
            return open_ones
        time.sleep(0.25)


def unsettled(stack: CrashStack, orders: Sequence[str]) -> list[str]:
    """What is still under way, in words."""
    rows = {
        row["sf_order_id"]: row
        for row in stack.ledger("SELECT sf_order_id, state, audit_due_at, waiting_for FROM fulfillments")
    }
    soon = time.time() + 600
    found = [f"{order}: not in the ledger" for order in orders if order not in rows]
    found += [
        f"{order}: {row['state']} {row['waiting_for'] or ''}"
        for order, row in rows.items()
        if row["state"] not in ("provisioned", "failed", "needs_decision")
    ]
    found += [
        f"{order}: audit to come"
        for order, row in rows.items()
        if row["audit_due_at"] is not None and row["audit_due_at"] < soon
    ]
    found += [
        f"{row['subject']}: write-back to come"
        for row in stack.ledger(
            "SELECT subject FROM outbox WHERE kind IN ('salesforce', 'resync') AND state = 'pending' AND due_at < ?",
            soon,
        )
    ]
    return found


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of the values don't exceed (nearest rank); None of none."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)] if ordered else None


@dataclass(frozen=True)
class Broken:
    """An order that was held by a process we killed or stopped."""

    order: str
    fence: int
    at: float  # seconds since 1970
    how: str


def resume_times(stack: CrashStack, broken: Sequence[Broken], wanted: Sequence[Wanted]) -> dict[Broken, float | None]:
    """From the kill to the first upstream call for that order under a new fence, in seconds; None: there was none.

    Only of orders whose client has no other order: the journal tells a look at the client's orders by the client alone.
    """
    clients = {each.order: str(each.client) for each in wanted if each.alone}
    calls: dict[str, list[float]] = defaultdict(list)
    for entry in stack.org.journal(direction="in"):
        calls[entry["order"]].append(entry["received"])
    for entry in stack.shop.journal(direction="in"):
        calls[entry["mark"]].append(entry["received"])
        calls[entry["client"]].append(entry["received"])
    found: dict[Broken, float | None] = {}
    for each in broken:
        if each.order not in clients:
            continue
        begun = stack.ledger(
            "SELECT min(started_at) AS at FROM steps WHERE sf_order_id = ? AND fence > ?", each.order, each.fence
        )[0]["at"]
        times = calls[each.order] + calls[clients[each.order]]
        after = [moment for moment in times if begun is not None and moment >= max(begun, each.at)]
        found[each] = min(after) - each.at if after else None
    return found
