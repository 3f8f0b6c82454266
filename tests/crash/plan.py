"""What chaos does to which order, drawn from the seed alone: an order's trouble is a fault scripted in a sandbox for
this order's call, a call that a sandbox holds until something was done meanwhile, or what people do with the order.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.seeds import CUSTOMERS
from tests.crash.harness import TTL_SECONDS, CrashStack, Wanted, seed_orders

ORDERS_A_SECOND = 3.0

#: What happens to an order, and to which share of all orders; the rest (about a tenth) are left alone.
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
    "refused write-back": 0.03,  # for a minute Salesforce refuses whatever is told of this order
    "cancelled in Salesforce": 0.02,  # while it waits before AddOrder
    "changed in Salesforce": 0.02,  # its items, while it waits before AddOrder
    "cancelled in WHMCS": 0.015,  # while its services are being read
    "cancelled during the last step": 0.015,  # in WHMCS, while Salesforce is being told Provisioned
    "card added during the run": 0.015,  # after WHMCS was asked for a payment method
    "incomplete answer": 0.02,  # WHMCS skips a product, or makes one of each: only a person can put it right
    "clone": 0.01,  # a Salesforce order with another's WHMCS_Order_ID__c
    "lost click": 0.015,  # on a Failed order: Requested is set, and no call comes
}

#: Which orders need a person, and what the portal must tell that person.
DECISIONS = {
    "half-built for good": r"isn't what was ordered|can't be used as it is",
    "incomplete answer": r"isn't what was ordered: product \d+ |can't be used as it is",
    "cancelled in WHMCS": r"is Cancelled in WHMCS|but not its service|can't be used as it is",
    "clone": r"Salesforce names WHMCS order \d+, which (bears the reference of|is) Salesforce order",
}

#: What a sender may be answered besides 200, 202 and what says "again later", by trouble.
ANSWERS = {
    "cancelled in Salesforce": {422},
    "card added during the run": {409},
    "lost click": {422},
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
    cleared: bool = False  # a clone's: whether somebody clears the copied field and clicks again

    @property
    def decision(self) -> str | None:
        """What the portal must tell the person whom the order is to wait for; None when it needs none."""
        return None if self.cleared else DECISIONS.get(self.trouble or "")


#: Troubles of a client rather than of one order's calls: their orders are their clients' only ones.
ALONE = frozenset(
    {
        "cancelled in Salesforce",
        "changed in Salesforce",
        "cancelled in WHMCS",
        "card added during the run",
        "incomplete answer",
        "lost click",
    }
)


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
        if trouble in ALONE:
            together = 0
        if not together:
            client, together = next(clients), 1 if trouble in ALONE else draw.choice((1, 1, 1, 1, 3))
            alone = together == 1
        together -= 1
        items = [
            (draw.choice(("starter", "business", "server", "certificate", "support")), draw.choice((1, 1, 1, 2)))
            for _ in range(draw.choice((1, 1, 2, 3)))
        ]
        again = [(draw.uniform(0.0, 6.0), draw.random() < 0.6) for _ in range(draw.choice((0, 0, 0, 1, 2)))]
        wanted = Wanted(number, client, items, alone)
        planned = Planned(
            wanted,
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
    _script_people(planned, draw)
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


def _script_people(planned: Planned, draw: random.Random) -> None:
    """The same of troubles that people make."""
    trouble, wanted = planned.trouble, planned.wanted
    if trouble in ("cancelled in Salesforce", "changed in Salesforce"):
        does: dict[str, Any] = {"fields": {"Status": "Cancelled"}}
        if trouble.startswith("changed"):
            (name, quantity), *others = wanted.items
            wanted.changed = [(name, quantity + 1), *others]
            does = {"items": [{"Quantity": quantity + 1}]}  # of the first item; script_faults knows its id
        activating = {"action": "update:Order", "contains": "Activating"}
        planned.salesforce.append({**activating, "kind": "meanwhile", "does": [{"path": "staff", "body": does}]})
        planned.whmcs.append({"action": "GetOrders", "by": "client", "kind": "html", "count": draw.choice((1, 2))})
    elif trouble == "cancelled in WHMCS":
        read = {"action": "GetClientsProducts", "by": "client", "nth": 2}
        planned.whmcs.append({**read, "kind": "pause_point", "seconds": 40})
    elif trouble == "cancelled during the last step":
        told = {"action": "update:Order", "contains": "Provisioned"}
        planned.salesforce.append(
            {**told, "kind": "pause_point", "when": draw.choice(("before", "after")), "seconds": 40}
        )
    elif trouble == "card added during the run":
        wanted.card = False
        planned.whmcs.append({"action": "GetClientsDetails", "by": "client", "kind": "pause_point", "seconds": 40})
    elif trouble == "incomplete answer":
        kind = draw.choice(("skipped_product", "ignored_quantities"))
        wanted.items = [("starter", 2), ("certificate", 1)]
        planned.whmcs.append({"action": "AddOrder", "by": "client", "kind": kind})
    elif trouble == "clone":
        wanted.client, wanted.alone = CUSTOMERS["ada"].client or 0, False
        wanted.items = [("starter", 1), ("certificate", 1)]
        planned.cleared = wanted.number % 2 == 0
        planned.door = draw.choice(("signed", "signed-async"))
        planned.again = []
    elif trouble == "lost click":
        wanted.status = "Draft"
        planned.again = []


def seed_plan(stack: CrashStack, plan: Sequence[Planned]) -> frozenset[int]:
    """Put all orders into the sandboxes, and script their faults. Returns WHMCS orders that are none of them."""
    seed_orders(stack, [each.wanted for each in plan if each.trouble != "clone"])
    sources = frozenset(_clone(stack, each) for each in plan if each.trouble == "clone")
    items = {row["OrderId"]: row["Id"] for row in reversed(stack.org.state("OrderItem")["OrderItem"])}
    for each in plan:
        for spec in each.salesforce:
            for done in spec.get("does", ()):
                done["body"]["orderId"] = each.wanted.order
                for item in done["body"].get("items", ()):
                    item["Id"] = items[each.wanted.order]
    _script_faults(stack, plan)
    return sources


def _clone(stack: CrashStack, planned: Planned) -> int:
    """Salesforce's "Clone with Products" of an order that was provisioned; returns that one's WHMCS order."""
    wanted = planned.wanted
    source = stack.order(*(name for name, _ in wanted.items), customer="ada")
    assert stack.fulfill(source).status == 200
    stack.wait_for(
        lambda: stack.org.order(source)["Provisioning_Status__c"] == "Provisioned", f"{source} to be provisioned", 60
    )
    wanted.order = stack.org.clone(source, Status="Pending Review")
    copied = [row["Id"] for row in stack.org.state("OrderItem")["OrderItem"] if row["OrderId"] == wanted.order]
    for index, item in enumerate(copied):
        stack.org.set("OrderItem", item, Domain__c=wanted.name_of(index))
    return int(stack.org.order(source)["WHMCS_Order_ID__c"])


def _script_faults(stack: CrashStack, plan: Sequence[Planned]) -> None:
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
