"""What is counted of fulfillments, steps, messages and calls: the counters' names, and who adds to them when.

Each is added in the transaction of what it counts (calls: in the next one of their process), so that a figure is as
durable as the fact. Prometheus' names: base units, `_total` for what only grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.engine import Connection

from portal.domain.model import State, Step
from portal.ledger import counters

ATTEMPTS: Final = "order_provisioning_attempts_total"  # label: true, false
ATTEMPT_SECONDS: Final = "order_provisioning_duration_seconds"
STEP_SECONDS: Final = "portal_step_duration_seconds"  # label: step
FULFILLMENTS: Final = "portal_fulfillments"  # label: state; goes up and down
UNSENT: Final = "portal_messages_unsent"  # label: kind; goes up and down
SENT: Final = "portal_messages_sent_total"  # label: kind
REFUSED: Final = "portal_messages_refused_total"  # label: kind
GIVEN_UP: Final = "portal_messages_given_up_total"  # label: kind
CALLS: Final = "portal_upstream_calls_total"  # label: upstream|action|outcome
CALL_SECONDS: Final = "portal_upstream_call_seconds_total"  # label: upstream|action

#: Keys of `portal.ledger.installation`: how many calls Salesforce has counted today; the sweep's last whole round.
QUOTA: Final = "salesforce_quota"
SWEEP_ROUND: Final = "sweep_round"

#: Upper bounds in seconds. Most orders take seconds; one that waits for an operator or a retry takes hours.
ATTEMPT_BOUNDS: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
STEP_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SUM: Final = "sum"


@dataclass(frozen=True)
class Histogram:
    """One histogram as Prometheus wants it: how many took at most each bound (the last: any), and their sum."""

    buckets: list[tuple[str, float]]
    sum: float


def attempt_ended(connection: Connection, *, success: bool, seconds: float) -> None:
    """One fulfillment attempt has ended, so many seconds after the signed moment of its click."""
    counters.add(connection, ATTEMPTS, str(success).lower())
    _observe(connection, ATTEMPT_SECONDS, "", ATTEMPT_BOUNDS, seconds)


def step_ended(connection: Connection, step: Step, *, seconds: float) -> None:
    """One step of an attempt has ended, well or not, after so many seconds."""
    _observe(connection, STEP_SECONDS, f"{step.value}|", STEP_BOUNDS, seconds)


def moved(connection: Connection, before: State | None, after: State, count: int = 1) -> None:
    """So many fulfillments went from one state (None: they are new) to another."""
    if before is not None:
        counters.add(connection, FULFILLMENTS, State(before).value, -count)
    counters.add(connection, FULFILLMENTS, State(after).value, count)


def states(connection: Connection) -> dict[State, int]:
    """How many fulfillments are in each state."""
    counted = counters.of(connection, FULFILLMENTS)
    return {state: round(counted.get(state.value, 0)) for state in State}


def histograms(
    connection: Connection, name: str, bounds: Sequence[float], labels: Sequence[str] = ("",)
) -> dict[str, Histogram]:
    """The histograms of a name by label; those of `labels` are there even where nothing was counted yet."""
    counted = counters.of(connection, name)
    found = {}
    for label in labels:
        prefix = f"{label}|" if label else ""
        buckets, total = [], 0.0
        for bound in (*map(_bound, bounds), "+Inf"):
            total += counted.get(prefix + bound, 0.0)
            buckets.append((bound, total))
        found[label] = Histogram(buckets, counted.get(prefix + _SUM, 0.0))
    return found


def call_ended(gathered: counters.Gathered, upstream: str, action: str, outcome: str, *, seconds: float) -> None:
    """One call to another side has ended after so many seconds; action and outcome are this code's words."""
    gathered.add(CALLS, f"{upstream.lower()}|{action}|{outcome}")
    gathered.add(CALL_SECONDS, f"{upstream.lower()}|{action}", seconds)


def _observe(connection: Connection, name: str, prefix: str, bounds: Sequence[float], seconds: float) -> None:
    seconds = max(0.0, seconds)  # clocks of hosts, and Salesforce's, may differ a little
    bound = next((_bound(each) for each in bounds if seconds <= each), "+Inf")
    counters.add(connection, name, prefix + bound)
    counters.add(connection, name, prefix + _SUM, seconds)


def _bound(bound: float) -> str:
    return str(float(bound))
