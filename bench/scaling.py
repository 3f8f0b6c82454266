"""How many of what it takes for so many orders an hour: arithmetic over measured figures (docs/scaling.md).

    make bench | tail -n 1 > bench.json;  make smoke | tail -n 1 > smoke.json
    python -m bench.scaling bench.json smoke.json [--orders 1000] [--watching 1000] [--whmcs-ms 300] …

Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

ACCEPTED: Final = "deliveries accepted per second on PostgreSQL, beside the obvious way"
POLLED: Final = "unchanged status polls per second, beside Flask hello"

#: An hour's busiest minute has so many times the average: orders are reviewed in batches.
PEAK: Final = 4.0
#: No part is planned for more than this share of what it was measured to do.
BUSY: Final = 0.6
#: Seconds between two polls of one customer's page (docs/http.md).
POLL_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Measured:
    """What was measured on one host of two cores.

    accepted, polled: a second; own_ms: an order's own time; the calls are those of one order.
    """

    accepted: float
    polled: float
    own_ms: float
    salesforce_calls: float
    whmcs_calls: float

    @classmethod
    def of(cls, bench: Mapping[str, Any], smoke: Mapping[str, Any]) -> Measured:
        """From the last lines of `make bench` and `make smoke`. Raises ValueError for a figure that isn't there."""
        rows = {row["name"]: row["ours"] for row in bench["rows"]}
        if not rows.get(ACCEPTED) or not rows.get(POLLED):
            raise ValueError(f"`make bench` measured no {ACCEPTED if not rows.get(ACCEPTED) else POLLED!r}")
        return cls(
            accepted=float(rows[ACCEPTED]),
            polled=float(rows[POLLED]),
            own_ms=float(smoke["ownMsP50"]),
            salesforce_calls=float(smoke["salesforceCalls"]),
            whmcs_calls=float(smoke["whmcsCalls"]),
        )


@dataclass(frozen=True)
class Demand:
    """What is asked for: orders an hour, customers who watch a page, and how long the other sides take for a call."""

    orders: float
    watching: float = 0.0
    whmcs_ms: float = 300.0
    salesforce_ms: float = 200.0
    salesforce_daily: float = 100_000.0  # calls the org may be asked a day (Setup → Company Information)
    whmcs_in_flight: float = 8.0  # calls WHMCS' host bears at once (WHMCS_MAX_IN_FLIGHT)
    slots_per_host: float = 16.0  # orders that the worker of a host runs at once


@dataclass(frozen=True)
class Plan:
    """What it takes. Shares are of what one of each was measured to do, at the peak: 1.0 is all of it."""

    orders_a_second: float
    accept_share: float  # of one web host
    poll_share: float  # of one web host
    web_hosts: int
    in_flight: float
    worker_hosts: int
    cpu_share: float  # of one worker host's two cores
    whmcs_in_flight: float
    whmcs_share: float  # of WHMCS_MAX_IN_FLIGHT
    salesforce_share: float  # of a day's calls, without a peak: a day has one average
    first: str  # what saturates first as orders grow, from one host of each


def plan(measured: Measured, demand: Demand) -> Plan:
    """The arithmetic."""
    average = demand.orders / 3600
    peak = average * PEAK
    accept = peak / measured.accepted
    polls = demand.watching / POLL_SECONDS / measured.polled
    whmcs_seconds = measured.whmcs_calls * demand.whmcs_ms / 1000
    salesforce_seconds = measured.salesforce_calls * demand.salesforce_ms / 1000
    in_flight = peak * (measured.own_ms / 1000 + whmcs_seconds + salesforce_seconds)
    cpu = peak * measured.own_ms / 1000 / 2
    whmcs = peak * whmcs_seconds
    shares = {
        "the web server": accept + polls,
        "the workers' slots": in_flight / demand.slots_per_host,
        "the workers' processors": cpu,
        "WHMCS": whmcs / demand.whmcs_in_flight,
        "Salesforce's daily calls": average * 86_400 * measured.salesforce_calls / demand.salesforce_daily,
    }
    return Plan(
        orders_a_second=peak,
        accept_share=accept,
        poll_share=polls,
        web_hosts=max(2, math.ceil((accept + polls) / BUSY)),
        in_flight=in_flight,
        worker_hosts=max(2, math.ceil(max(in_flight / demand.slots_per_host, cpu) / BUSY)),
        cpu_share=cpu,
        whmcs_in_flight=whmcs,
        whmcs_share=shares["WHMCS"],
        salesforce_share=shares["Salesforce's daily calls"],
        first=max(shares, key=lambda name: shares[name]),
    )


def table(measured: Measured, demands: Sequence[Demand]) -> str:
    """The plans side by side, as docs/scaling.md has them."""
    head = "| orders an hour | customers watching | orders a second, at the peak | web hosts | orders in flight |"
    head += " worker hosts | WHMCS calls at once | of Salesforce's day | first at its limit |"
    lines = [head, "| " + " | ".join(["---"] * 9) + " |"]
    for demand in demands:
        found = plan(measured, demand)
        cells = (
            f"{demand.orders:,.0f}",
            f"{demand.watching:,.0f}",
            f"{found.orders_a_second:.3g}",
            f"{found.web_hosts:,}",
            f"{found.in_flight:.2g}" if found.in_flight < 10 else f"{found.in_flight:,.0f}",
            f"{found.worker_hosts:,}",
            f"{found.whmcs_in_flight:.2g}" if found.whmcs_in_flight < 10 else f"{found.whmcs_in_flight:,.0f}",
            f"{100 * found.salesforce_share:,.0f} %",
            found.first,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


#: What docs/scaling.md works out.
DEMANDS: Final = (
    Demand(10, 10),
    Demand(1_000, 1_000),
    Demand(100_000, 100_000),
    Demand(1_000, 1_000_000),
)


def main() -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("bench", type=Path, help="the last line of `make bench`")
    parser.add_argument("smoke", type=Path, help="the last line of `make smoke`")
    for name, default in asdict(Demand(1_000.0)).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    arguments = vars(parser.parse_args())
    try:
        read = [json.loads(arguments.pop(name).read_text(encoding="utf-8")) for name in ("bench", "smoke")]
        measured = Measured.of(*read)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"no figures: {error}", file=sys.stderr)
        return 2
    demand = Demand(**arguments)
    print(table(measured, [*DEMANDS, demand]))
    print(json.dumps(asdict(plan(measured, demand))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
