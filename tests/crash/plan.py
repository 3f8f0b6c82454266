"""What a chaos run is to do: its orders, and what goes wrong with each."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.crash.harness import (
    TTL_SECONDS,
    CrashStack,
    Wanted,
)

MAX_REQUEST_SECONDS = 3.0


WORKERS, SLOTS, SWEEPS = 2, 4, 2


ORDERS_A_SECOND = 3.0


SENDERS = 32


QUIET_SECONDS = 240.0


SLOW_SECONDS = 4.5  # resumes that took longer are named


#: What happens to an order, and to which share of all orders; the rest (about a quarter) are left alone.
SHARES = {
    "kill during AddOrder": 0.09,
    "kill": 0.11,
    "stop during AddOrder": 0.02,
    "stop": 0.02,
    "late commit": 0.05,
    "later commit": 0.02,  # later than WHMCS_MAX_REQUEST_SECONDS allows: a second AddOrder is sent
    "half-built": 0.03,
    "half-built for good": 0.01,  # its PHP died: only a person can know
    "AddOrder": 0.12,
    "WHMCS": 0.12,
    "Salesforce": 0.14,
}


#: Ways a call can go wrong in passing, for AddOrder and for any other of WHMCS, and for Salesforce.
PASSING: tuple[dict[str, Any], ...] = (
    {"kind": "error", "status": 500, "body": "Internal Server Error"},
    {"kind": "error", "status": 500, "body": "Internal Server Error", "when": "after"},
    {"kind": "html"},
    {"kind": "html", "status": 200, "when": "after"},
    {"kind": "empty"},
    {"kind": "empty", "when": "after"},
    {"kind": "drop_before"},
    {"kind": "drop_after"},
    {"kind": "drop_after", "reset": True},
    {"kind": "delay", "seconds": 1.0},
)


OF_WHMCS = (*PASSING, {"kind": "RATE_LIMITED"}, {"kind": "hang", "seconds": 5.0})


OF_SALESFORCE = (
    *PASSING,
    {"kind": "UNABLE_TO_LOCK_ROW"},
    {"kind": "REQUEST_LIMIT_EXCEEDED"},
    {"kind": "SERVER_UNAVAILABLE"},
    {"kind": "INVALID_SESSION_ID"},
    {"kind": "UNKNOWN_EXCEPTION"},
)


#: Troubles of the whole house, one in turn after every so many orders (in a long run less often).
HOUSE = ("worker", "sweep", "web", "valkey", "ledger", "flush", "stop sweep")


ORDERS_PER_HOUSE_TROUBLE, ORDERS_PER_HOUSE_TROUBLE_LATER, LONG = 14, 40, 300


def say(text: str) -> None:
    """Progress, for people."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# --- the plan -------------------------------------------------------------------------------------------------------


@dataclass
class Planned:
    """One order with how it is asked for and what is to happen to it, all drawn from the seed."""

    wanted: Wanted
    at: float  # seconds after the start
    door: str  # guide | package | signed | signed-async
    again: list[tuple[float, bool]]  # further deliveries: seconds later, whether with the same key
    trouble: str | None
    whmcs: list[dict[str, Any]] = field(default_factory=list)  # faults; "order" and "client" are filled in later
    salesforce: list[dict[str, Any]] = field(default_factory=list)
    signal: str = ""  # for held calls: kill | stop
    then: str = "continue"  # what becomes of the held call
    hold: float = 0.0  # seconds it is held after the kill
    stopped: float = 0.0  # seconds the process is stopped


def make_plan(orders: int, seed: int, seconds: float) -> list[Planned]:
    """The whole run, the same for the same seed."""
    draw = random.Random(seed)
    troubles: list[str | None] = [name for name, share in SHARES.items() for _ in range(max(1, round(share * orders)))]
    troubles = troubles[:orders] + [None] * (orders - len(troubles))
    draw.shuffle(troubles)
    seconds = seconds or orders / ORDERS_A_SECOND
    clients = itertools.count(1001)
    plan: list[Planned] = []
    client, together = 0, 0
    for number, trouble in enumerate(troubles, 1):
        if not together:
            client, together = next(clients), draw.choice((1, 1, 1, 1, 3))
            alone = together == 1
        together -= 1
        items = [
            (draw.choice(("starter", "business", "server", "certificate", "support")), draw.choice((1, 1, 1, 2)))
            for _ in range(draw.choice((1, 1, 2, 3)))
        ]
        again = [(draw.uniform(0.0, 6.0), draw.random() < 0.6) for _ in range(draw.choice((0, 0, 0, 1, 2)))]
        planned = Planned(
            Wanted(number, client, items, alone),
            draw.uniform(0.0, seconds),
            draw.choice(("guide", "package", "signed", "signed-async")),
            again,
            trouble,
        )
        _script(planned, draw)
        plan.append(planned)
    return sorted(plan, key=lambda each: each.at)


def _script(planned: Planned, draw: random.Random) -> None:
    """Turn an order's trouble into faults."""
    trouble = planned.trouble
    add = {"action": "AddOrder", "by": "client" if planned.wanted.alone else "order"}
    if trouble in ("kill during AddOrder", "stop during AddOrder"):
        planned.whmcs.append({**add, "kind": "pause_point", "when": draw.choice(("before", "after")), "seconds": 40})
    elif trouble in ("kill", "stop"):
        side, call = draw.choice(
            (
                ("salesforce", {"action": "query"}),
                ("salesforce", {"action": "update:Order", "contains": "Activating"}),
                ("salesforce", {"action": "update:Order", "contains": "Provisioned"}),
                ("whmcs", {"action": "AcceptOrder"}),
                ("whmcs", {"action": "GetOrders"}),
                ("whmcs", {"action": "AcceptOrder"}),
                *(
                    (
                        ("whmcs", {"action": "GetPayMethods", "by": "client"}),
                        ("whmcs", {"action": "GetClientsProducts", "by": "client"}),
                    )
                    if planned.wanted.alone
                    else ()
                ),
            )
        )
        fault = {**call, "kind": "pause_point", "when": draw.choice(("before", "after")), "seconds": 40}
        getattr(planned, side).append(fault)
    elif trouble == "late commit":
        planned.whmcs.append(
            {
                **add,
                "kind": "late_commit",
                "seconds": round(draw.uniform(0.5, 2.9), 2),
                "close_after": round(draw.uniform(0.0, 0.3), 2),
            }
        )
    elif trouble == "later commit":
        planned.whmcs.append({**add, "kind": "late_commit", "seconds": round(draw.uniform(8.8, 10.5), 2)})
    elif trouble == "half-built":
        planned.whmcs.append({**add, "kind": "half_built", "seconds": round(draw.uniform(0.5, 2.5), 2)})
    elif trouble == "half-built for good":
        planned.whmcs.append({**add, "kind": "half_built", "seconds": 3600})
    elif trouble == "AddOrder":
        planned.whmcs.append({**add, **draw.choice(OF_WHMCS)})
    elif trouble == "WHMCS":
        action = draw.choice(
            (
                "AcceptOrder",
                "GetOrders",
                "AcceptOrder",
                *(("GetPayMethods", "GetClientsProducts", "GetClientsDetails") if planned.wanted.alone else ()),
            )
        )
        by = "client" if action.startswith(("GetC", "GetP")) else "order"
        planned.whmcs.append({"action": action, "by": by, **draw.choice(OF_WHMCS), "count": draw.choice((1, 1, 2))})
    elif trouble == "Salesforce":
        call = draw.choice(
            (
                {"action": "query"},
                {"action": "update:Order", "contains": "Activating"},
                {"action": "update:Order", "contains": "Provisioned"},
            )
        )
        planned.salesforce.append({**call, **draw.choice(OF_SALESFORCE), "count": draw.choice((1, 1, 2))})
    planned.signal = "stop" if trouble and trouble.startswith("stop") else "kill"
    planned.then = draw.choice(("continue", "continue", "drop"))
    planned.hold = draw.choice((0.0, draw.uniform(0.0, 2.5)))
    planned.stopped = draw.uniform(TTL_SECONDS + 0.8, TTL_SECONDS + 3.5)


def script_faults(stack: CrashStack, plan: Sequence[Planned]) -> None:
    """Tell the sandboxes."""
    for each in plan:
        for side, faults in ((stack.shop, each.whmcs), (stack.org, each.salesforce)):
            for spec in faults:
                about = dict(spec)
                if about.pop("by", "order") == "client":
                    about["client"] = each.wanted.client
                else:
                    about["order"] = each.wanted.order
                side.fault(about.pop("kind"), label=str(each.wanted.number), **about)
