"""GET /health: whether the portal can accept work, and the last known state of the other sides; asks neither."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from flask import Blueprint, Response, jsonify
from redis import Redis
from redis.exceptions import ResponseError

from portal.errors import PortalError
from portal.ledger import circuits, installation, queueing, workers
from portal.ledger.circuits import Upstream
from portal.web.context import services

#: Processes that beat twice a second and haven't for so long are gone or frozen; clocks of hosts may differ a little.
SILENT_SECONDS = 10.0
#: An order whose time came so long ago and that nobody runs waits for somebody to work on it.
OVERDUE_SECONDS = 30.0

#: What Redis may take to take a write, connecting included.
REDIS_SECONDS = 2.0

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
    known: dict[str, Mapping[str, Upstream]] = {"salesforce": {}, "whmcs": {}}
    heartbeats: dict[str, float] = {}
    overdue_since: float | None = None
    try:
        with portal.ledger.read() as connection:
            known = {name: circuits.of_side(connection, name) for name in known}
            paused = installation.paused(connection)
            heartbeats = workers.last_heartbeats(connection)
            overdue_since = queueing.longest_overdue(connection)
    except PortalError:
        database = "unavailable"
    redis = redis_takes_writes(portal.redis)
    if redis != "connected" and not portal.settings.production:
        redis = "in-memory fallback (development)"
    accepting = database == "connected" and (redis == "connected" or not portal.settings.production)
    now = portal.now()
    idle = [kind for kind in ("fulfill", "sweep") if now - heartbeats.get(kind, 0.0) > SILENT_SECONDS]
    overdue = 0.0 if overdue_since is None or paused else max(0.0, now - overdue_since)
    worked_on = database != "connected" or (not idle and overdue < OVERDUE_SECONDS)
    answer = jsonify(
        status="unavailable" if not accepting else "ok" if worked_on else "degraded",
        environment=portal.settings.portal_env,
        database=database,
        integrations={"redis": redis} | {name: last_known(name, rows) for name, rows in known.items()},
        fulfillments="paused" if paused else "running" if worked_on else "nobody works on them",
        workers={"silent": idle, "longestOverdueSeconds": round(overdue, 1)},
    )
    answer.status_code = 200 if accepting else 503
    return _uncached(answer)


def redis_takes_writes(redis: Redis) -> str:
    """Whether Redis does what the door needs: set a key that expires, and tell of it, within REDIS_SECONDS.

    A replica, one that is out of memory or that lacks replicas answers a PING, and refuses this.
    """
    found = "unavailable"

    def write() -> None:
        nonlocal found
        try:
            redis.set("portal:nonce:health", "1", px=60_000)
            found = "connected"
        except ResponseError:
            found = "refuses writes"
        except Exception:
            return  # silent, gone, or closed by its owner meanwhile: whatever it is, nothing was written

    thread = threading.Thread(target=write, name="health-redis", daemon=True)  # its own time-outs end it, later
    thread.start()
    thread.join(REDIS_SECONDS)
    return found


def last_known(name: str, rows: Mapping[str, Upstream]) -> str:
    """A side's last known state in a few words, of its rows in the ledger."""
    row = rows.get(name)
    if row is not None and row.opened_at is not None:
        return "unavailable"
    if any(each.opened_at is not None for each in rows.values()):
        return "its set-up is at fault"
    if row is None or (row.last_ok_at is None and row.last_error_at is None):
        return "unknown"
    return "connected" if row.failures == 0 else "failing"


def _uncached(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer
