"""What became of every order: once, twice, never; and how long it took to go on.

Read from the sandboxes' raw state and journal, by client and items, never by the product's own mark.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.crash.harness import CrashStack, Wanted


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
