"""What chaos and the crash matrix share: a stack with several workers, the orders, and who runs which of them.

Nothing of the product is imported. Who holds an order is read from the ledger's tables.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

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
        self.database_url = self.settings.get("DATABASE_URL")  # perhaps the whole run's
        self._workers, self._sweeps, self._worker, self._web = workers, sweeps, tuple(worker), web
        self._local = threading.local()

    @property
    def worker_names(self) -> list[str]:
        """The supervisors that run, by their processes' names."""
        return ["worker", *(f"worker{number}" for number in range(2, self._workers + 1))]

    @property
    def sweep_names(self) -> list[str]:
        """The sweeps that run, by their processes' names."""
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

    def stop(self, grace: float = 20.0) -> None:
        """End everything, and close this thread's connection to the ledger."""
        super().stop(grace)
        self.close_thread()

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


#: Product, quantity, cycle and name of an order's items.
Asked: TypeAlias = Counter[tuple[int, int, str, str]]


@dataclass
class Wanted:
    """One order as asked for: the items' names (domains, hostnames) are its own, so that it is known by them alone."""

    number: int
    client: int  # in WHMCS
    items: list[tuple[str, int]]  # product by its name in sandbox.seeds, quantity
    alone: bool = True  # its client has no other order
    order: str = ""  # in Salesforce
    card: bool = True  # whether its client has a payment method
    status: str = "Pending Review"  # Order.Status at first
    changed: list[tuple[str, int]] | None = None  # the items once an operator has changed them

    @property
    def asked(self) -> Asked:
        """Product, quantity, cycle and name of each item, as AddOrder is to get them."""
        return self._asked(self.items)

    @property
    def asked_later(self) -> Asked:
        """The same once an operator has changed the items."""
        return self._asked(self.items if self.changed is None else self.changed)

    def _asked(self, items: Sequence[tuple[str, int]]) -> Asked:
        return Counter(
            (int(PRODUCTS[name].pid or 0), quantity, PRODUCTS[name].whmcs_cycle, self.name_of(index))
            for index, (name, quantity) in enumerate(items)
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
    without_card = {each.client for each in wanted if not each.card}
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
        paymethods=[{"userid": client} for client in clients if client not in without_card],
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
                "Status": each.status,
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


# --- when everything is over ----------------------------------------------------------------------------------------


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
