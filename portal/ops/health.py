"""GET /health: whether the portal can accept work, and the last known state of the other sides; asks neither."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from redis import RedisError

from portal.errors import PortalError
from portal.ledger import circuits, installation, queueing, workers
from portal.ledger.circuits import Upstream
from portal.web.context import services

#: Processes that beat twice a second and haven't for so long are gone or frozen; clocks of hosts may differ a little.
SILENT_SECONDS = 10.0
#: An order whose time came so long ago and that nobody runs waits for somebody to work on it.
OVERDUE_SECONDS = 30.0

blueprint = Blueprint("health", __name__)


@blueprint.get("/health/live")
def live() -> Response:
    """Answers while the process lives."""
    return _uncached(jsonify(status="ok"))


@blueprint.get("/health")
def health() -> Response:
    """200 when signed orders can be accepted, else 503; either way with what is known of each part."""
    portal = services()
    database, paused = "connected", None
    known: dict[str, Upstream | None] = {"salesforce": None, "whmcs": None}
    heartbeats: dict[str, float] = {}
    overdue_since: float | None = None
    try:
        with portal.ledger.read() as connection:
            known = {name: circuits.get(connection, name) for name in known}
            paused = installation.paused(connection)
            heartbeats = workers.last_heartbeats(connection)
            overdue_since = queueing.longest_overdue(connection)
    except PortalError:
        database = "unavailable"
    redis = "connected"
    try:
        portal.redis.ping()
    except RedisError:
        redis = "unavailable" if portal.settings.production else "in-memory fallback (development)"
    accepting = database == "connected" and redis != "unavailable"
    now = portal.now()
    idle = [kind for kind in ("fulfill", "sweep") if now - heartbeats.get(kind, 0.0) > SILENT_SECONDS]
    overdue = 0.0 if overdue_since is None or paused else max(0.0, now - overdue_since)
    worked_on = database != "connected" or (not idle and overdue < OVERDUE_SECONDS)
    answer = jsonify(
        status="unavailable" if not accepting else "ok" if worked_on else "degraded",
        environment=portal.settings.portal_env,
        database=database,
        integrations={"redis": redis} | {name: _last_known(row) for name, row in known.items()},
        fulfillments="paused" if paused else "running" if worked_on else "nobody works on them",
        workers={"silent": idle, "longestOverdueSeconds": round(overdue, 1)},
    )
    answer.status_code = 200 if accepting else 503
    return _uncached(answer)


def _last_known(row: Upstream | None) -> str:
    if row is None or (row.last_ok_at is None and row.last_error_at is None):
        return "unknown"
    if row.opened_at is not None:
        return "unavailable"
    return "connected" if row.failures == 0 else "failing"


def _uncached(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer
