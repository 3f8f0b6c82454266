"""GET /health: whether the portal can accept work, and the last known state of the other sides; asks neither."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from redis import RedisError

from portal.errors import PortalError
from portal.ledger import circuits, installation
from portal.ledger.circuits import Upstream
from portal.web.context import services

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
    try:
        with portal.ledger.read() as connection:
            known = {name: circuits.get(connection, name) for name in known}
            paused = installation.paused(connection)
    except PortalError:
        database = "unavailable"
    redis = "connected"
    try:
        portal.redis.ping()
    except RedisError:
        redis = "unavailable" if portal.settings.production else "in-memory fallback (development)"
    accepting = database == "connected" and redis != "unavailable"
    answer = jsonify(
        status="ok" if accepting else "unavailable",
        environment=portal.settings.portal_env,
        database=database,
        integrations={"redis": redis} | {name: _last_known(row) for name, row in known.items()},
        fulfillments="paused" if paused else "running",
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
