"""Orders for the worker's rows: put into both sandboxes, each with a client of its own, asked for, and waited for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tests.crash.harness import CrashStack, Wanted, seed_orders
from tests.stack import http_connection

_numbers: Final = itertools.count(1)

#: Limits with room for what is sent here.
ROOM: Final = {
    "WEBHOOK_RATE_LIMIT": "10000000/minute",
    "WEBHOOK_GLOBAL_LIMIT": "10000000/minute",
    "WHMCS_MAX_REQUEST_SECONDS": "30",
    "WHMCS_MAX_IN_FLIGHT": "64",
}


def own_stack(folder: Path, settings: Mapping[str, str]) -> CrashStack:
    """The demo's processes, not started yet."""
    return CrashStack(folder, settings={**ROOM, **settings})


def seeded(stack: CrashStack, count: int) -> list[str]:
    """Ids of so many orders of one product, each of a client that has no other."""
    wanted = [Wanted(number, 100_000 + number, [("starter", 1)]) for number in itertools.islice(_numbers, count)]
    seed_orders(stack, wanted)
    return [each.order for each in wanted]


def ask_for(stack: CrashStack, orders: list[str], prefer: str = "respond-async") -> None:
    """Deliver them one after the other over one kept connection."""
    signed = [stack.signed(order) for order in orders]
    with closing(http_connection(stack.urls["portal"])) as connection:
        for order, (body, headers) in zip(orders, signed, strict=True):
            connection.request("POST", f"/orders/{order}/fulfill", body, {**headers, "Prefer": prefer})
            response = connection.getresponse()
            response.read()
            if response.status not in (200, 202):
                raise RuntimeError(f"a delivery was answered with {response.status}")


def wait_until_provisioned(stack: CrashStack, before: int, count: int, seconds: float = 120.0) -> None:
    """Until `count` more orders than `before` are provisioned, within `seconds`. Raises RuntimeError.

    Looked for ten times a second: when they were done the sandboxes tell, and each look costs what is measured.
    """
    _wait_for(lambda: provisioned(stack) >= before + count, "orders aren't provisioned", seconds, pause=0.1)


def provisioned(stack: CrashStack) -> int:
    """How many orders are."""
    return int(stack.ledger("SELECT count(*) AS n FROM fulfillments WHERE state = 'provisioned'")[0]["n"])


def delay(stack: CrashStack, seconds: float) -> None:
    """From now on each call to Salesforce and WHMCS takes so much longer; 0: no longer."""
    for side in (stack.salesforce, stack.whmcs):
        side.clear_faults()
        if seconds:
            side.fault("delay", seconds=seconds, count=0)


def calls(stack: CrashStack, since: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """What each side was asked since then (see `marks`)."""
    sides = {"salesforce": stack.salesforce, "whmcs": stack.whmcs}
    return {name: side.journal(direction="in", since=since[name]) for name, side in sides.items()}


def marks(stack: CrashStack) -> dict[str, int]:
    """Each side's last call."""
    return {"salesforce": stack.salesforce.last(), "whmcs": stack.whmcs.last()}


def fulfilled(stack: CrashStack, count: int) -> None:
    """Have so many orders done."""
    before = provisioned(stack)
    ask_for(stack, seeded(stack, count))
    wait_until_provisioned(stack, before, count)


def wait_until_told(stack: CrashStack) -> None:
    """Until Salesforce has been told all that it is to be told soon. Raises RuntimeError."""
    ask = "SELECT count(*) AS n FROM outbox WHERE kind = 'salesforce' AND state = 'pending' AND due_at < ?"
    _wait_for(lambda: stack.ledger(ask, time.time() + 60)[0]["n"] == 0, "Salesforce hasn't been told")


def wait_until_a_worker_is_there(stack: CrashStack) -> None:
    """Until a worker process that was started has registered. Raises RuntimeError."""
    ask = "SELECT count(*) AS n FROM workers WHERE kind = 'fulfill' AND NOT dead"
    _wait_for(lambda: stack.ledger(ask)[0]["n"] > 0, "no worker has come up")


def first_call(stack: CrashStack, since: Mapping[str, int]) -> float:
    """When (seconds since 1970) WHMCS was first asked for an order after that; waits for it. Raises RuntimeError."""
    found: list[float] = []

    def ask() -> bool:
        entries = stack.whmcs.journal(direction="in", since=since["whmcs"], action="GetPayMethods", limit=1)
        found.extend(entry["received"] for entry in entries)
        return bool(found)

    _wait_for(ask, "nobody takes the orders up")
    return found[0]


def _wait_for(condition: Callable[[], bool], trouble: str, seconds: float = 120.0, pause: float = 0.005) -> None:
    """Look every `pause` seconds, for `seconds` at most."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{trouble} after {seconds:g} s")
        time.sleep(pause)
