"""How many of what it takes for so many orders an hour: arithmetic over measured figures (docs/scaling.md).

    make bench | tail -n 1 > bench.json
    python -m bench.scaling bench.json [--orders 1000] [--watching 1000] [--whmcs-ms 300] …

Ends with one line of JSON. `--page docs/scaling.md` puts the figures and what comes of them into the page.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

#: The figure's name → the row of `make bench` that it is taken from.
ROWS: Final[Mapping[str, str]] = {
    "accepted": "deliveries accepted per second on PostgreSQL, beside the obvious way",
    "polled": "unchanged status polls per second, beside Flask hello",
    "fulfilled": "upstreams answering at once, 2 worker processes: orders per second, beside bare RQ",
    "own_ms": "one order, idle: milliseconds outside the upstreams, beside bare RQ",
    "salesforce_calls": "Salesforce calls of an order alone",
    "salesforce_calls_waiting": "Salesforce calls of an order among 200 waiting",
    "whmcs_calls": "WHMCS calls of an undisturbed order",
}

#: An hour's busiest minute has so many times the average: orders are reviewed in batches.
PEAK: Final = 4.0
#: No part is planned for more than this share of what it was measured to do.
BUSY: Final = 0.6
#: Seconds between two polls of one customer's page (docs/http.md).
POLL_SECONDS: Final = 5.0
#: Salesforce is asked for what changed and what was requested, each once a minute (jobs/sweep.py), however few order.
LOOKS_A_DAY: Final = 2 * 24 * 60


@dataclass(frozen=True)
class Measured:
    """What was measured on one host of two cores (ROWS).

    accepted, polled, fulfilled: a second; own_ms: milliseconds of an order that aren't the other sides'; the calls are
    those of one order.
    """

    accepted: float
    polled: float
    fulfilled: float
    own_ms: float
    salesforce_calls: float
    salesforce_calls_waiting: float
    whmcs_calls: float

    @classmethod
    def of(cls, bench: Mapping[str, Any]) -> Measured:
        """From the last line of `make bench`. Raises ValueError for a figure that isn't there."""
        rows = {row["name"]: row["ours"] for row in bench["rows"]}
        if missing := [row for row in ROWS.values() if not rows.get(row)]:
            raise ValueError(f"`make bench` measured no {missing[0]!r}")
        return cls(**{figure: float(rows[row]) for figure, row in ROWS.items()})


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
    order_seconds: float  # from the click to Provisioned, where it doesn't wait for a slot
    in_flight: float
    worker_hosts: int
    cpu_share: float  # of one worker host's two cores
    whmcs_in_flight: float
    whmcs_share: float  # of WHMCS_MAX_IN_FLIGHT
    salesforce_share: float  # of a day's calls, without a peak: a day has one average
    salesforce_share_waiting: float  # the same where orders come in herds, whose calls are shared
    first: str  # what saturates first as orders grow, from one host of each


def plan(measured: Measured, demand: Demand) -> Plan:
    """The arithmetic."""
    average = demand.orders / 3600
    peak = average * PEAK
    accept = peak / measured.accepted
    polls = demand.watching / POLL_SECONDS / measured.polled
    whmcs_seconds = measured.whmcs_calls * demand.whmcs_ms / 1000
    salesforce_seconds = measured.salesforce_calls * demand.salesforce_ms / 1000
    order_seconds = measured.own_ms / 1000 + whmcs_seconds + salesforce_seconds
    in_flight = peak * order_seconds
    cpu = peak / measured.fulfilled
    whmcs = peak * whmcs_seconds

    def day(calls: float) -> float:
        return (average * 86_400 * calls + LOOKS_A_DAY) / demand.salesforce_daily

    shares = {
        "the web server": accept + polls,
        "the workers' slots": in_flight / demand.slots_per_host,
        "the workers' processors": cpu,
        "WHMCS": whmcs / demand.whmcs_in_flight,
        "Salesforce's daily calls": day(measured.salesforce_calls),
    }
    return Plan(
        orders_a_second=peak,
        accept_share=accept,
        poll_share=polls,
        web_hosts=max(2, math.ceil((accept + polls) / BUSY)),
        order_seconds=order_seconds,
        in_flight=in_flight,
        worker_hosts=max(2, math.ceil(max(in_flight / demand.slots_per_host, cpu) / BUSY)),
        cpu_share=cpu,
        whmcs_in_flight=whmcs,
        whmcs_share=shares["WHMCS"],
        salesforce_share=shares["Salesforce's daily calls"],
        salesforce_share_waiting=day(min(measured.salesforce_calls, measured.salesforce_calls_waiting)),
        first=max(shares, key=lambda name: shares[name]),
    )


def table(measured: Measured, demands: Sequence[Demand]) -> str:
    """The plans side by side, as docs/scaling.md has them."""
    head = "| orders an hour | customers watching | orders a second, at the peak | web hosts | orders in flight |"
    head += " worker hosts | WHMCS calls at once | of Salesforce's day | first at its limit |"
    lines = [head, "| " + " | ".join(["---"] * 9) + " |"]
    for demand in demands:
        found = plan(measured, demand)
        herd, alone = (f"{100 * share:,.0f}" for share in (found.salesforce_share_waiting, found.salesforce_share))
        cells = (
            f"{demand.orders:,.0f}",
            f"{demand.watching:,.0f}",
            f"{found.orders_a_second:.3g}",
            f"{found.web_hosts:,}",
            f"{found.in_flight:.2g}" if found.in_flight < 10 else f"{found.in_flight:,.0f}",
            f"{found.worker_hosts:,}",
            f"{found.whmcs_in_flight:.2g}" if found.whmcs_in_flight < 10 else f"{found.whmcs_in_flight:,.0f}",
            f"{alone} %" if herd == alone else f"{herd} to {alone} %",
            found.first,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figures(measured: Measured) -> str:
    """Each figure and its row, as docs/scaling.md has them."""
    lines = ["| figure | | the row of `make bench` |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {getattr(measured, name):g} | {row} |" for name, row in ROWS.items())])


def read_figures(page: str) -> Measured:
    """What a page has by `figures`. Raises KeyError for one that isn't there."""
    found = dict(re.findall(r"^\| `(\w+)` \| ([0-9.e+]+) \|", page, re.MULTILINE))
    return Measured(**{each.name: float(found[each.name]) for each in fields(Measured)})


def with_figures(page: str, measured: Measured) -> str:
    """The page with these figures and what comes of them in place of those it has."""
    for text in (figures(measured), table(measured, DEMANDS)):
        head = re.escape(text.splitlines()[0])
        page, count = re.subn(rf"^{head}\n(?:\|.*\n)+", lambda _, text=text: text + "\n", page, flags=re.MULTILINE)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the page has no table that begins with {text.splitlines()[0]!r}")
    return page


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
    parser.add_argument("--page", type=Path, help="put the figures, and what comes of them, into this page")
    for name, default in asdict(Demand(1_000.0)).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    arguments = vars(parser.parse_args())
    bench, page = arguments.pop("bench"), arguments.pop("page")
    try:
        measured = Measured.of(json.loads(bench.read_text(encoding="utf-8")))
        if page is not None:
            page.write_text(with_figures(page.read_text(encoding="utf-8"), measured), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"no figures: {error}", file=sys.stderr)
        return 2
    demand = Demand(**arguments)
    print(figures(measured), table(measured, [*DEMANDS, demand]), sep="\n\n")
    print(json.dumps(asdict(plan(measured, demand))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
