"""/health and the customer's page when the processes that run orders are frozen: nobody says that all is well."""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.stack import Stack


def frozen(stack: Stack, *names: str, number: signal.Signals) -> None:
    """SIGSTOP or SIGCONT to the whole process group of each."""
    for name in names:
        os.killpg(stack.child(name).pid, number)


def health(stack: Stack) -> dict[str, Any]:
    answer = stack.get("/health")
    assert answer.status == 200, answer.text  # signed orders are accepted all the same: the ledger is the promise
    return dict(answer.json())


def test_frozen_workers_are_told(own_stack: Stack) -> None:
    own_stack.start()
    own_stack.wait_for(lambda: health(own_stack)["status"] == "ok", "everybody to beat")
    frozen(own_stack, "worker", number=signal.SIGSTOP)
    told = own_stack.wait_for(
        lambda: (now := health(own_stack))["status"] == "degraded" and now, "the frozen workers to be missed", 40
    )
    assert told["workers"]["silent"] == ["fulfill"]
    assert told["fulfillments"] == "nobody works on them"
    order = own_stack.order("starter")
    assert own_stack.fulfill(order, prefer="respond-async").status == 202
    frozen(own_stack, "sweep", number=signal.SIGSTOP)
    told = own_stack.wait_for(
        lambda: "sweep" in (now := health(own_stack))["workers"]["silent"] and now, "the frozen sweep to be missed", 40
    )
    assert told["status"] == "degraded"
    assert told["workers"]["longestOverdueSeconds"] > 0
    frozen(own_stack, "worker", "sweep", number=signal.SIGCONT)
    assert own_stack.finished(order)["state"] == "provisioned"
    own_stack.wait_for(lambda: health(own_stack)["status"] == "ok", "everybody to beat again", 40)
    assert health(own_stack)["workers"] == {"silent": [], "longestOverdueSeconds": 0.0}
