"""/ops: what is the matter now.

Every figure is kept, or counted up to a limit: the page costs the same at any size of the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, render_template, request
from redis import RedisError

from portal.domain.model import State
from portal.ledger import (
    bulk,
    circuits,
    hourly,
    installation,
    order_record,
    placements,
    queueing,
    search,
    statistics,
    totals,
    workers,
)
from portal.ops import health
from portal.ops.console import charts
from portal.web.context import services

pages = Blueprint("ops_now", __name__)

#: Beyond so many of a state or kind the page says "more than".
MOST_COUNTED: Final = 1000
POLL_SECONDS: Final = 10
#: An order is in Salesforce within seconds; after so many it is worth a line.
PLACED_SECONDS: Final = 60.0
#: For so many seconds an order that Salesforce refused is shown.
REFUSED_SECONDS: Final = 2 * 86_400.0
#: Orders of each list on this page.
SHOWN: Final = 8
_KINDS: Final = {"fulfill": "Workers", "relay": "Mail and write-backs", "sweep": "Sweep"}


@dataclass(frozen=True)
class Processes:
    """The processes of one kind. `beaten_at`: the latest heartbeat, in seconds since 1970."""

    what: str
    count: int
    beaten_at: float | None
    silent: bool


@pages.get("/ops")
@pages.get("/ops/", alias=True)
def show() -> Response | str:
    """The page, or for htmx its part that changes."""
    template = "ops/_now.html" if request.headers.get("HX-Request") else "ops/now.html"
    return render_template(template, **_what(), poll_seconds=POLL_SECONDS)


def _what() -> dict[str, Any]:
    here = services()
    now = here.now()
    with here.ledger.read() as connection:
        heartbeats = workers.last_heartbeats(connection)
        alive = workers.alive(connection)
        hours = hourly.last(connection, 24, now=now)
        found: dict[str, Any] = {
            "states": list(statistics.standings(connection).items()),
            "decisions": search.oldest(connection, State.NEEDS_DECISION, limit=SHOWN),
            "failed": search.page(connection, search.Filter(state=State.FAILED), limit=SHOWN),
            "not_placed": placements.waiting(connection, until=now - PLACED_SECONDS, limit=SHOWN),
            "refused": placements.refused(connection, since=now - REFUSED_SECONDS, limit=SHOWN),
            "waiting": search.oldest(connection, State.WAITING, limit=3),
            "bulk_acts": bulk.newest(connection, limit=3),
            "paused": installation.paused(connection),
            "sides": [
                _side(name, circuits.of_side(connection, side))
                for side, name in (("salesforce", "Salesforce"), ("whmcs", "WHMCS"))
            ],
            "quota": installation.get(connection, totals.QUOTA),
            "overdue": queueing.longest_overdue(connection),
            "unsent": [
                (name, *order_record.unsent(connection, kind, most=MOST_COUNTED))
                for kind, name in (("salesforce", "Write-backs to Salesforce"), ("mail", "Mails"))
            ],
        }
    try:
        queued: int | None = here.jobs.count()
    except RedisError:
        queued = None
    return {
        **found,
        "processes": [_processes(kind, heartbeats.get(kind), alive, now=now) for kind in _KINDS],
        "queued": queued,
        "ended": charts.ended_by_hour(hours),
        "took": charts.percentiles(hours),
        "chart_rows": charts.rows(hours),
        "most": MOST_COUNTED,
        "now": now,
    }


def _processes(kind: str, beaten_at: float | None, alive: list[workers.Worker], *, now: float) -> Processes:
    """`now`: seconds since 1970."""
    silent = beaten_at is None or now - beaten_at > health.SILENT_SECONDS
    return Processes(_KINDS[kind], sum(each.kind == kind for each in alive), beaten_at, silent)


def _side(name: str, rows: Mapping[str, circuits.Upstream]) -> dict[str, Any]:
    state = health.last_known(name.lower(), rows)
    bad = [each for each in rows.values() if each.opened_at is not None or (state == "failing" and each.failures)]
    return {"name": name, "state": state, "bad": state not in ("connected", "unknown"), "rows": bad}
