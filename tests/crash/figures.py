"""The figures that chaos ends with, from the sandboxes' journals, the ledger and the processes' logs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tests.crash.harness import Broken, CrashStack
from tests.crash.judge import Verdict


def false_takeovers(stack: CrashStack, touched: set[int]) -> list[str]:
    """Takeovers of processes we neither killed nor stopped: they lost their orders for nothing."""
    found = []
    for line in stack.log_lines([*stack.sweep_names, *stack.worker_names]):
        if line.get("message") == "A worker's heartbeats stopped: its orders are taken over":
            if line["pid"] not in touched:
                found.append(f"{line['worker_id']} at {line['time']}")
        elif line.get("message") == "Worker process ended" and line.get("exitCode") and line["pid"] not in touched:
            found.append(f"{line['kind']} {line['pid']} ended by itself with {line['exitCode']} at {line['time']}")
    return found


def during_add_order(stack: CrashStack, broken: Sequence[Broken]) -> int:
    """How many of the kills hit a process whose AddOrder was in WHMCS at that moment, by the journal."""
    entries = stack.shop.journal(action="AddOrder", direction="in")
    return sum(
        any(
            entry["mark"] == each.order
            and entry["received"] <= each.at
            and entry["answered"] is None
            and entry["gone"] is not None
            and entry["gone"] >= each.at
            for entry in entries
        )
        for each in broken
        if not each.how.startswith("stop")
    )


def late_commits(stack: CrashStack) -> int:
    """AddOrders that took effect after whoever sent them had gone, by the journal."""
    return sum(
        entry["effect"] is not None and entry["gone"] is not None and entry["effect"] > entry["gone"]
        for entry in stack.shop.journal(action="AddOrder", direction="in")
    )


def faults(stack: CrashStack) -> int:
    """How many calls a scripted fault hit."""
    return sum(
        entry["fault"]["kind"] != "pause_point"
        for side in (stack.shop, stack.org)
        for entry in side.journal(faulted=True)
    )


def refused_write_backs(stack: CrashStack) -> int:
    """How many calls that tell Salesforce of an order it refused for want of a right, whole or for a record of them."""
    entries = [
        *stack.org.journal(action="update:Order", direction="in"),
        *stack.org.journal(action="collections.update", direction="in"),
    ]
    rights = re.compile("INSUFFICIENT_ACCESS|INVALID_FIELD_FOR_INSERT_UPDATE")
    return sum(rights.search(str(entry["outcome"])) is not None for entry in entries)


def changed_meanwhile(stack: CrashStack) -> int:
    """How many orders people cancelled or changed on either side while the portal had them."""
    changes = [
        entry
        for entry in stack.org.journal(action="staff.change", direction="staff")
        if entry["params"].get("items") or (entry["params"].get("fields") or {}).get("Status") == "Cancelled"
    ]
    changes += stack.shop.journal(action="staff.cancel", direction="staff")
    return len({entry["order"] for entry in changes})


def incomplete_answers(stack: CrashStack) -> int:
    """How many AddOrders left a product out, or made one of each."""
    kinds = ("skipped_product", "ignored_quantities")
    entries = stack.shop.journal(action="AddOrder", faulted=True)
    return sum(entry["fault"]["kind"] in kinds and entry["effect"] is not None for entry in entries)


#: The members of the JSON line, in their order.
NAMES = (
    "orders",
    "kills",
    "killsWhileHolding",
    "killsDuringAddOrder",
    "sigstops",
    "restores",
    "faults",
    "lateCommits",
    "refusedWriteBacks",
    "changedMeanwhile",
    "incompleteAnswers",
    "maxRequestSeconds",
    "exactlyOnce",
    "duplicates",
    "lost",
    "stuck",
    "needsDecision",
    "strays",
    "inconsistent",
    "falseTakeovers",
    "resumeP50",
    "resumeP95",
)


def line(verdict: Verdict, rest: dict[str, Any]) -> dict[str, Any]:
    """The JSON line."""
    counts = {
        "exactlyOnce": verdict.exactly_once,
        "duplicates": len(verdict.duplicates),
        "lost": len(verdict.lost),
        "stuck": len(verdict.stuck),
        "needsDecision": len(verdict.needs_decision),
        "strays": len(verdict.strays),
        "inconsistent": len(verdict.inconsistent),
    }
    return {name: (counts | rest)[name] for name in NAMES}
