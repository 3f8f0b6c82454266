"""What became of the orders: each is held against both sides' raw state and journal, and against what was planned.

Nothing of the product is imported, and an order's WHMCS orders are known by client and items, never by the product's
own reference.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.crash.harness import Asked, CrashStack, Wanted

#: The number of the order that an item's name belongs to (Wanted.name_of).
_NAME: Final = re.compile(r"^o(\d+)-\d+\.example$")


@dataclass
class Verdict:
    """What became of the orders. Each list names orders with what is wrong, for people to read."""

    exactly_once: int = 0  # ended as they should, without a person: provisioned once, or rightly cancelled
    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    needs_decision: list[str] = field(default_factory=list)  # planned ones only; others are stuck
    strays: list[str] = field(default_factory=list)
    inconsistent: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every order ended as it should."""
        return not (self.duplicates or self.lost or self.stuck or self.strays or self.inconsistent)

    def lines(self) -> list[str]:
        """Everything that is wrong, one line each."""
        return [
            f"{kind}: {text}"
            for kind in ("duplicates", "lost", "stuck", "strays", "inconsistent")
            for text in getattr(self, kind)
        ]


@dataclass(frozen=True)
class Sides:
    """Everything both sides know, read once."""

    orders: Mapping[tuple[int, int], Sequence[Mapping[str, Any]]]  # WHMCS' orders by client and order number
    unknown: Sequence[Mapping[str, Any]]  # of WHMCS' orders those whose items are nobody's
    services: Mapping[int, Sequence[Mapping[str, Any]]]
    invoices: Mapping[int, Mapping[str, Any]]
    accepted: frozenset[int]  # ever made Active by a call, by the raw journal
    ended_by_staff: frozenset[int]  # cancelled by hand in WHMCS
    sent: Mapping[int, Sequence[float]]  # when AddOrders of an order were received, by its number
    asked: Mapping[str, Sequence[float]]  # when Salesforce was asked for an order
    edited: Mapping[str, Sequence[Mapping[str, Any]]]  # what operators changed in Salesforce, by order
    org: Mapping[str, Mapping[str, Any]]  # Salesforce's orders


@dataclass(frozen=True)
class Plan:
    """What was done on purpose, so that an order may end otherwise than provisioned and known to the ledger.

    decisions  orders that need a person, with what the message must say (a pattern); theirs alone are excused
    forgotten  orders that were provisioned when a restore made the ledger forget them
    others     WHMCS orders that are none of these orders'
    """

    decisions: Mapping[str, str] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()
    others: frozenset[int] = frozenset()


def judge(stack: CrashStack, wanted: Sequence[Wanted], plan: Plan | None = None) -> Verdict:
    """Hold every order against both sides."""
    plan = plan or Plan()
    verdict = Verdict()
    sides = _read(stack)
    rows = {row["sf_order_id"]: row for row in stack.ledger("SELECT * FROM fulfillments")}
    for each in wanted:
        _Case(verdict, plan, sides, each, rows.get(each.order)).decide()
    verdict.inconsistent += _miscounted(stack)
    clients = {each.client for each in wanted}
    known = {(each.client, each.number) for each in wanted}
    strange = [order for key, found in sides.orders.items() if key not in known for order in found]
    strange += sides.unknown
    for order in strange:
        if order["userid"] in clients and order["id"] not in plan.others:
            verdict.duplicates.append(f"client {order['userid']} has a WHMCS order nobody asked for: {order['id']}")
    return verdict


#: Both in one statement: orders may still change state, and each changes both or neither.
_COUNTS = """
SELECT state, n, (SELECT SUM(value) FROM counters WHERE name = 'portal_fulfillments' AND label = state) AS counted
FROM (SELECT state, COUNT(*) AS n FROM fulfillments GROUP BY state) AS found
"""


def _miscounted(stack: CrashStack) -> list[str]:
    """States of which the totals, which metrics and alerts read, say another number than there are orders."""
    return [
        f"{row['n']} orders are {row['state']}, and {row['counted'] or 0:.0f} are counted"
        for row in stack.ledger(_COUNTS)
        if "n" in row and row["n"] != (row["counted"] or 0)
    ]


def _read(stack: CrashStack) -> Sides:
    shop = stack.shop.state("orders", "services", "invoices")
    journal = stack.shop.journal(direction="in")
    orders: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    unknown = []
    for order in shop["orders"]:
        number = _number(str(item["domain"]) for item in order["asked"])
        if number is None:
            unknown.append(order)
        else:
            orders[order["userid"], number].append(order)
    services: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for service in shop["services"]:
        services[service["orderid"]].append(service)
    sent: dict[int, list[float]] = defaultdict(list)
    for entry in journal:
        if entry["action"] == "AddOrder":
            number = _number(re.findall(r"o\d+-\d+\.example", json.dumps(entry["params"])))
            sent[-1 if number is None else number].append(entry["received"])
    asked: dict[str, list[float]] = defaultdict(list)
    for entry in stack.org.journal(action="query", direction="in"):
        if entry["order"]:
            asked[entry["order"]].append(entry["received"])
    edited: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in stack.org.journal(action="staff.change", direction="staff"):
        edited[entry["order"]].append(entry)
    return Sides(
        orders=orders,
        unknown=unknown,
        services=services,
        invoices={invoice["id"]: invoice for invoice in shop["invoices"]},
        accepted=frozenset(
            int(entry["order"]) for entry in journal if entry["action"] == "AcceptOrder" and entry["effect"] is not None
        ),
        ended_by_staff=frozenset(
            int(entry["order"]) for entry in stack.shop.journal(action="staff.cancel", direction="staff")
        ),
        sent=sent,
        asked=asked,
        edited=edited,
        org={row["Id"]: row for row in stack.org.state("Order")["Order"]},
    )


def _number(names: Any) -> int | None:
    """The one order these items are of; None when they are nobody's, or several orders'."""
    found = {match and int(match.group(1)) for match in map(_NAME.fullmatch, names)}
    return found.pop() if len(found) == 1 else None


class _Case:
    """One order before the judge."""

    def __init__(self, verdict: Verdict, plan: Plan, sides: Sides, each: Wanted, row: Mapping[str, Any] | None) -> None:
        self.verdict, self.plan, self.sides, self.each, self.row = verdict, plan, sides, each, row
        self.sf = sides.org[each.order]
        self.found = sides.orders.get((each.client, each.number), [])
        self.active = [order for order in self.found if order["status"] == "Active"]
        # An Active one that was cancelled later counts as well.
        self.ever = {o["id"] for o in self.found if o["id"] in sides.accepted or o["status"] == "Active"}
        self.pending = [order["id"] for order in self.found if order["status"] == "Pending"]
        told = [self.sf[f"Provisioning_{name}__c"] for name in ("Status", "Error_Code")]
        known = f"{row['state']}/{row['elected_whmcs_id']}/{row['error_code']}" if row else "nothing"
        self.seen = (
            f"WHMCS {[(order['id'], order['status']) for order in self.found]}; ledger {known}; "
            f"Salesforce {told[0]}/{self.sf['WHMCS_Order_ID__c']}/{told[1]}"
        )
        self.name = f"{each.order} (number {each.number}, client {each.client})"

    def decide(self) -> None:
        """Write into the verdict what became of it."""
        verdict, row = self.verdict, self.row
        if len(self.ever) > 1:
            verdict.duplicates.append(f"{self.name}: {sorted(self.ever)} were all made Active; {self.seen}")
        forgotten = row is None and self.each.order in self.plan.forgotten
        if row is None and not forgotten:
            verdict.lost.append(f"{self.name}: {self.seen}")
        elif row is not None and row["state"] == "needs_decision":
            self._decision(row)
        elif row is not None and row["state"] == "failed":
            self._failed(row)
        elif row is not None and row["state"] != "provisioned":
            verdict.stuck.append(f"{self.name}: {row['waiting_for']}; {self.seen}")
        else:
            self._provisioned()

    def _decision(self, row: Mapping[str, Any]) -> None:
        """One that a person must decide, as was planned."""
        pattern = self.plan.decisions.get(self.each.order)
        if pattern is None and self.each.order in self.plan.forgotten and self.ever & self.sides.ended_by_staff:
            # It was done, cancelled by hand, forgotten by the restore, and clicked again: what that click wants to have
            # only its sender knows.
            pattern = "which is Cancelled in WHMCS"
        message = row["error_message"] or ""
        running = [order["id"] for order in self.active if order["id"] not in self.sides.ended_by_staff]
        if pattern is None or not re.search(pattern, message) or running:
            self.verdict.stuck.append(f"{self.name}: {message}; {self.seen}")
            return
        self._ended([*self._last_words("Failed", row["elected_whmcs_id"], row["error_code"], message)])
        self.verdict.needs_decision.append(f"{self.name}: {message}")

    def _failed(self, row: Mapping[str, Any]) -> None:
        """One that was cancelled in Salesforce before anything of it was made, and nothing else."""
        if not self._cancelled_in_salesforce() or row["error_code"] != "ORDER_NOT_FULFILLABLE" or self.ever:
            self.verdict.stuck.append(f"{self.name}: {row['error_message']}; {self.seen}")
            return
        words = self._last_words("Failed", None, row["error_code"], row["error_message"])
        self._ended([*words, *self._unapproved()])
        self.verdict.exactly_once += 1

    def _provisioned(self) -> None:
        over = [order for order in self.found if order["id"] in self.sides.ended_by_staff & self.ever]
        if not self.active and not over:
            self.verdict.lost.append(f"{self.name}: {self.seen}")
            return
        order = (self.active or over)[0]
        # What was made and then cancelled on either side is Cancelled.
        status = "Provisioned" if self.active and not self._cancelled_in_salesforce() else "Cancelled"
        faults = self._last_words(status, order["id"], None, None)
        if self.row is not None and str(self.row["elected_whmcs_id"]) != str(order["id"]):
            faults.append("the elected order isn't the Active one")
        faults += [*self._services(order), *self._others(order), *self._unapproved()]
        self._ended(faults)
        if len(self.ever) == 1:
            self.verdict.exactly_once += 1

    def _ended(self, faults: Sequence[str]) -> None:
        # Of an order that is forgotten the portal doesn't look for strays until somebody clicks.
        if self.pending and self.row is not None and self.row["state"] != "needs_decision":
            self.verdict.strays.append(f"{self.name}: {self.pending} are still Pending; {self.seen}")
        if faults:
            self.verdict.inconsistent.append(f"{self.name}: {'; '.join(faults)}; {self.seen}")

    def _last_words(self, status: str, whmcs_id: Any, code: str | None, message: str | None) -> list[str]:
        """How what Salesforce shows differs from how the order stands as a whole. whmcs_id None: none of its own."""
        truth = {
            "Provisioning_Status__c": status,
            "Provisioning_Error_Code__c": code,
            "Provisioning_Error_Message__c": message or None,
        }
        if whmcs_id is not None:
            truth["WHMCS_Order_ID__c"] = str(whmcs_id)
        shown = {name: self.sf[name] for name in truth}
        return [
            f"Salesforce's {name} is {shown[name]!r}, not {truth[name]!r}"
            for name in truth
            if shown[name] != truth[name]
        ]

    def _cancelled_in_salesforce(self) -> bool:
        return bool(self.sf["Status"] == "Cancelled")

    def _unapproved(self) -> list[str]:
        """What was made although Salesforce had said otherwise before it was asked last."""
        edits = self.sides.edited.get(self.each.order, [])
        allowed: list[Asked | None] = []
        for sent_at in self.sides.sent.get(self.each.number, []):
            asked = [moment for moment in self.sides.asked.get(self.each.order, []) if moment <= sent_at]
            known = [each for each in edits if asked and each["answered"] < max(asked)]
            if any((each["params"].get("fields") or {}).get("Status") == "Cancelled" for each in known):
                allowed.append(None)
            else:
                changed = any(each["params"].get("items") for each in known)
                allowed.append(self.each.asked_later if changed else self.each.asked)
        if None in allowed:
            return ["AddOrder was sent although the order had been cancelled before Salesforce was asked last"]
        made = [_asked(order) for order in self.found if order["id"] in self.ever]
        return [f"{dict(each)} was made, but not approved" for each in made if each not in allowed]

    def _services(self, order: Mapping[str, Any]) -> list[str]:
        faults = []
        live: Counter[tuple[int, str]] = Counter()
        expected = order["status"]
        for service in self.sides.services.get(order["id"], ()):
            live[int(service["pid"]), str(service["domain"])] += int(service["qty"])
            if service["status"] != expected:
                faults.append(f"service {service['id']} is {service['status']}")
            if service.get("module_creates", 1) > 1:
                faults.append(f"service {service['id']} was set up {service['module_creates']} times")
        if live != Counter({(pid, name): quantity for pid, quantity, _, name in _asked(order)}):
            faults.append(f"services {dict(live)} aren't what was asked for")
        return faults

    def _others(self, elected: Mapping[str, Any]) -> list[str]:
        faults = []
        for order in self.found:
            if order["id"] == elected["id"]:
                continue
            if any(service["status"] == "Active" for service in self.sides.services.get(order["id"], ())):
                faults.append(f"the stray {order['id']} has a live service")
            invoice = self.sides.invoices.get(order["invoiceid"])
            if order["status"] == "Cancelled" and invoice is not None and invoice["status"] == "Unpaid":
                faults.append(f"the cancelled stray {order['id']} has an open invoice")
        return faults


def _asked(order: Mapping[str, Any]) -> Asked:
    return Counter(
        (int(item["pid"]), int(item["qty"]), str(item["cycle"]), str(item["domain"])) for item in order["asked"]
    )
