"""The real processes for the tests: web server, worker, sweep, Valkey and the sandboxes, on free ports over a folder.

Nothing of the product is imported here: orders are placed and checked from outside, requests are signed by code of the
tests' own.

    def test_something(stack):                          # shared by the session; break nothing in it
        order = stack.order("starter")                  # in Salesforce, Pending Review
        answer = stack.fulfill(order)                   # signed; waits for the outcome
        assert answer.status == 200
        assert stack.salesforce_order(order)["Provisioning_Status__c"] == "Provisioned"

    def test_something_else(own_stack):                 # a test's own: not started yet
        own_stack.settings["FULFILLMENT_SLOTS"] = "1"
        own_stack.start()
        own_stack.kill("worker")                        # SIGKILL to the process and its group
        own_stack.restart("worker")
        own_stack.wait_for(lambda: own_stack.fulfillment(order)["state"] == "provisioned")
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode, urlsplit

from sandbox import stack as sandbox_stack
from sandbox.processes import Child, port_or_free
from sandbox.seeds import PRODUCTS, UNFINISHED
from tests.database import ON_POSTGRESQL, change, rows, shared_server

T = TypeVar("T")

#: Settings every test's portal has, unless the test says otherwise: short waits, no limits to run into.
SETTINGS = {
    "WHMCS_MAX_REQUEST_SECONDS": "3",
    "FULFILLMENT_RETRY_SCHEDULE": "0.2,0.5,1,2,2,2,2,2",
    "SIGN_IN_MAILS_PER_HOUR": "10000",
    "SIGN_IN_ASKS_PER_HOUR": "10000",
    "SIGN_IN_TOTAL_PER_HOUR": "1000000",
}


#: What a portal in production needs beyond what the demo's has.
PRODUCTION = {
    "PORTAL_ENV": "production",
    "BRAND_NAME": "Northwind",
    "BRAND_SUPPORT_EMAIL": "support@northwind.example",
}


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whole."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


def http(
    method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, timeout: float = 90
) -> Answer:
    """One request on a connection of its own, in `timeout` seconds; redirects aren't followed."""
    parts = urlsplit(url)
    with closing(http_connection(url, timeout)) as connection:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def http_connection(url: str, timeout: float = 90) -> HTTPConnection:
    """A connection to the server of an address, whose every wait ends after `timeout` seconds; the caller closes it."""
    parts = urlsplit(url)
    return HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)


class Control:
    """A sandbox's control API; what it offers is in sandbox/README.md."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **arguments: Any) -> Any:
        """GET /_sandbox/<path>."""
        query = f"?{urlencode(arguments)}" if arguments else ""
        return self._call("GET", f"{path}{query}", None)

    def post(self, path: str, body: Any = None) -> Any:
        """POST /_sandbox/<path>."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> Any:
        """DELETE /_sandbox/<path>."""
        return self._call("DELETE", path, None)

    def journal(self, **filters: Any) -> list[dict[str, Any]]:
        """The calls this side saw: since, action (pattern), order, client, direction, state, held, faulted, limit."""
        entries: list[dict[str, Any]] = self.get("journal", **{"limit": 100_000, **filters})["entries"]
        return entries

    def last(self) -> int:
        """The journal's last id: `journal(since=…)` then gives what came after."""
        newest = self.journal(newest=1, limit=1)
        return int(newest[-1]["id"]) if newest else 0

    def fault(self, kind: str, **about: Any) -> int:
        """Script a fault; returns its id."""
        return int(self.post("faults", {"kind": kind, **about})["faults"][0]["id"])

    def clear_faults(self) -> None:
        """Take all scripted faults back."""
        self.delete("faults")

    def wait_for_call(self, seconds: float = 30, **filters: Any) -> dict[str, Any]:
        """The first journal entry that fits; waits for it."""
        entries = self.get("journal", **{"wait": seconds, **filters})["entries"]
        assert entries, f"no call {filters} within {seconds} s"
        return dict(entries[0])

    def _call(self, method: str, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        answer = http(method, f"{self.url}/_sandbox/{path}", data, {"Content-Type": "application/json"})
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.text}"
        return answer.json()


class Stack(sandbox_stack.Stack):
    """The demo's stack with what tests ask of it."""

    def __init__(self, folder: Path, *, start: bool = True, settings: Mapping[str, str] | None = None) -> None:
        asked = {**SETTINGS, **(settings or {})}
        self._own_database: str | None = None
        if ON_POSTGRESQL and "DATABASE_URL" not in asked:
            asked["DATABASE_URL"] = self._own_database = shared_server().database()
        super().__init__(folder, settings=asked)
        if ON_POSTGRESQL:
            self.valkey_port = port_or_free(0)
        self._start_on_enter = start

    def __enter__(self) -> Self:
        if self._start_on_enter:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._own_database is not None:
            shared_server().drop(self._own_database)

    # --- the other sides -----------------------------------------------------------------------------------------

    @property
    def salesforce(self) -> Control:
        """The pretend org's control API."""
        return Control(self.urls["salesforce"])

    @property
    def whmcs(self) -> Control:
        """The pretend WHMCS' control API."""
        return Control(self.urls["whmcs"])

    @property
    def mailbox(self) -> Control:
        """The mailbox's control API."""
        return Control(self.urls["mailbox"])

    def order(
        self, *items: str | tuple[str, int], customer: str = "ada", status: str = "Pending Review", **fields: Any
    ) -> str:
        """Put an Order into Salesforce as an operator would, and return its id (18 characters).

        items     products by their names in sandbox.seeds, each perhaps with a quantity: "starter", ("server", 2)
        customer  who orders, by the names in sandbox.seeds
        fields    further fields of the Order
        """
        records: list[dict[str, Any]] = [
            {
                "type": "Order",
                "ref": "order",
                "AccountId": self.ids[f"account:{customer}"],
                "Status": status,
                "EffectiveDate": time.strftime("%Y-%m-%d", time.gmtime()),
                "Pricebook2Id": self.ids["pricebook"],
                "BillToContactId": self.ids[f"contact:{customer}"],
                **fields,
            }
        ]
        for item in items:
            name, quantity = (item, 1) if isinstance(item, str) else item
            product = (PRODUCTS | UNFINISHED)[name]
            records.append(
                {
                    "type": "OrderItem",
                    "OrderId": "@{order}",
                    "PricebookEntryId": self.ids[f"entry:{name}"],
                    "Product2Id": self.ids[f"product:{name}"],
                    "Quantity": quantity,
                    "UnitPrice": float(product.price),
                }
            )
        return str(self.salesforce.post("seed", {"records": records})["names"]["order"])

    def salesforce_order(self, order: str) -> dict[str, Any]:
        """An Order with all its fields, as Salesforce has it now."""
        rows = self.salesforce.get("state", objects="Order")["Order"]
        return next(row for row in rows if row["Id"] == order)

    def press_button(self, order: str, *, background: bool = False, **options: Any) -> dict[str, Any]:
        """The operator's "Provision in WHMCS": the callout's record once its answer is there (or at once)."""
        body = {"orderId": order, "background": background, "options": options}
        return dict(self.salesforce.post("provision", body))

    # --- the portal ----------------------------------------------------------------------------------------------

    def signed(
        self,
        order: str,
        *,
        timestamp: str | None = None,
        nonce: str | None = None,
        key: str | None = None,
        secret: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a correctly signed `POST /orders/{id}/fulfill`."""
        timestamp = timestamp or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        nonce = nonce or secrets.token_hex(16)
        told = {"orderId": order, "timestamp": timestamp, "nonce": nonce, **(extra or {})}
        body = json.dumps(told, separators=(",", ":")).encode()
        return body, {
            "Content-Type": "application/json",
            "X-SF-Signature": self.signature(body, secret),
            "X-SF-Timestamp": timestamp,
            "X-SF-Nonce": nonce,
            "Idempotency-Key": key or f"click-{secrets.token_hex(8)}",
        }

    def signature(self, body: bytes, secret: str | None = None) -> str:
        """X-SF-Signature for a body."""
        key = secret or self.settings.get("SF_WEBHOOK_SECRET") or self.secret("sf_webhook_secret")
        return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()

    def fulfill(
        self, order: str, *, prefer: str | None = None, headers: Mapping[str, str] | None = None, **signed: Any
    ) -> Answer:
        """Send a correctly signed request and give the answer; `signed` as for `signed()`, `headers` override."""
        body, all_headers = self.signed(order, **signed)
        if prefer is not None:
            all_headers["Prefer"] = prefer
        all_headers.update(headers or {})
        return http("POST", f"{self.urls['portal']}/orders/{order}/fulfill", body, all_headers)

    def get(self, path: str, **headers: str) -> Answer:
        """GET a path of the portal."""
        return http("GET", f"{self.urls['portal']}{path}", headers=headers)

    # --- the ledger ----------------------------------------------------------------------------------------------

    def ledger(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query over the ledger; `?` for values on both databases."""
        url = self.settings.get("DATABASE_URL", "")
        if url.startswith("postgresql"):
            return rows(url, sql, values)
        with closing(sqlite3.connect(f"file:{self.ledger_path}?mode=ro", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    def change(self, sql: str, *values: Any) -> None:
        """Carry out a statement over the ledger; `?` for values on both databases."""
        url = self.settings.get("DATABASE_URL", "")
        if url.startswith("postgresql"):
            change(url, sql, values)
            return
        with closing(sqlite3.connect(self.ledger_path, timeout=30)) as connection, connection:
            connection.execute(sql, values)

    def fulfillment(self, order: str) -> dict[str, Any] | None:
        """An order's row of `fulfillments`, or None."""
        rows = self.ledger("SELECT * FROM fulfillments WHERE sf_order_id = ?", order)
        return rows[0] if rows else None

    def steps(self, order: str) -> list[dict[str, Any]]:
        """An order's steps, oldest first."""
        return self.ledger("SELECT * FROM steps WHERE sf_order_id = ? ORDER BY id", order)

    def finished(self, order: str, seconds: float = 60) -> dict[str, Any]:
        """An order's row once it is provisioned, failed or needs a decision."""

        def look() -> dict[str, Any] | None:
            row = self.fulfillment(order)
            return row if row and row["state"] in ("provisioned", "failed", "needs_decision") else None

        return self.wait_for(look, f"{order} to finish", seconds)

    # --- processes -----------------------------------------------------------------------------------------------

    def child(self, name: str) -> Child:
        """One of web, worker, sweep, valkey, salesforce, whmcs, mailbox."""
        return self.children[name]

    def kill(self, name: str) -> None:
        """SIGKILL a process and its group, as a crashed host would."""
        self.children[name].kill()

    def pause(self, name: str) -> None:
        """SIGSTOP a process (not its children)."""
        self.children[name].signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.children[name].signal(signal.SIGCONT)

    def restart(self, name: str, *, settings: Mapping[str, str] | None = None) -> None:
        """End a process if it still runs, start it again (with these settings changed) and wait until it serves."""
        child = self.children[name]
        child.stop()
        if settings is not None:
            self.settings.update(settings)
            self.environ.update(settings)
            child.env.update(settings)
        child.start()
        deadline = time.monotonic() + 60
        if name == "valkey":
            self.wait_for_valkey(deadline)
        elif name == "web":
            self.wait_for_health(deadline)
        elif name in ("salesforce", "whmcs", "mailbox"):
            child.ready_line(deadline)

    def flask(self, *arguments: str) -> str:
        """Run `flask …` against this stack; returns what it printed."""
        return self.run("flask", ["flask", *arguments])

    def wait_for(self, condition: Callable[[], T | None], what: str = "the condition", seconds: float = 30) -> T:
        """Ask until the condition gives something true, and give that; fails with the processes' state."""
        deadline = time.monotonic() + seconds
        while True:
            result = condition()
            if result:
                return result
            if time.monotonic() > deadline:
                ended = [name for name, child in self.children.items() if not child.alive]
                raise AssertionError(f"waited {seconds} s for {what}; processes that ended: {ended}; logs: {self.logs}")
            time.sleep(0.02)
