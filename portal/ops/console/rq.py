"""The RQ dashboard at /ops/rq/: rq-dashboard 0.9 behind the operators' sign-in, with its known holes closed.

It has no sign-in and no CSRF protection of its own, requeues by GET, loads pickles, opens a connection for each request
and puts a job's texts into the page unescaped. What is mended here and what in templates/rq_dashboard/base.html is
written beside each; tests/browser/test_rq_dashboard.py tries each hole in a browser.
"""

from __future__ import annotations

import re
import secrets
from typing import Any, Final

from flask import Flask, Response, abort, current_app, g, request, url_for
from flask.typing import ResponseReturnValue
from redis import RedisError
from rq import Worker
from rq import job as rq_job
from rq.exceptions import NoSuchJobError
from rq.serializers import JSONSerializer
from rq_dashboard import web

from portal.ledger import events
from portal.ops.console import access
from portal.web import security_headers
from portal.web.context import portal_of, services
from portal.web.problems import Problem, unavailable

PREFIX: Final = "/ops/rq"

#: What a job, queue or registry can be called: nothing else is shown or looked for.
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_MOST_PER_PAGE: Final = 200


class _Job(rq_job.Job):  # rq has no types
    """Jobs of ours are JSON. A pickle that somebody put into Redis is never loaded."""

    @classmethod
    def fetch(cls, id: str, connection: Any = None, serializer: Any = None) -> Any:
        """As Job.fetch, by JSON."""
        return super().fetch(id, connection=connection, serializer=JSONSerializer)


class _Worker(Worker):
    """Workers whose current job can be read: the dashboard doesn't say how jobs are serialized."""

    @classmethod
    def all(cls, *arguments: Any, **named: Any) -> Any:
        """As Worker.all, by JSON."""
        return super().all(*arguments, **{**named, "serializer": JSONSerializer})


def _requeue_job(job_id: str, connection: Any) -> Any:
    return rq_job.requeue_job(job_id, connection=connection, serializer=JSONSerializer)


def _patch() -> None:
    """Once for each process: the dashboard's blueprint and settings are module globals."""
    web.config.serializer = JSONSerializer
    web.Job, web.Worker, web.requeue_job = _Job, _Worker, _requeue_job
    web.blueprint.before_request_funcs[None].remove(web.push_rq_connection)  # a new connection for every request
    security_headers.guard(web.blueprint)  # host, CSRF token (sent by base.html), no-store
    access.guard(web.blueprint)
    web.blueprint.before_request(_refuse)
    web.blueprint.after_request(_headers)
    web.blueprint.after_request(_record)
    web.blueprint.register_error_handler(NoSuchJobError, _no_such_job)
    web.blueprint.register_error_handler(RedisError, _redis_away)


def register(app: Flask) -> None:
    """Put the dashboard into an application, over the portal's own connections to Redis."""
    app.redis_conn = portal_of(app).services.redis  # type: ignore[attr-defined]  # where the dashboard looks for it
    app.config["RQ_DASHBOARD_REDIS_URL"] = ("the portal's Redis",)  # what its list of instances shows
    app.register_blueprint(web.blueprint, url_prefix=PREFIX)
    app.jinja_env.globals |= {"rq_nonce": _nonce, "rq_url": lambda: url_for("rq_dashboard.queues_overview")}


def _refuse() -> None:
    """Only the one Redis there is, only names that can be ours, and nothing is changed by GET."""
    arguments = request.view_args or {}
    if arguments.get("instance_number", 0) != 0:
        abort(404)
    for name in ("job_id", "queue_name", "registry_name", "order"):
        if arguments.get(name) is not None and not _NAME.fullmatch(str(arguments[name])):
            abort(404)
    for name in ("per_page", "page"):
        text = str(arguments.get(name, 1))
        if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= (_MOST_PER_PAGE, 10**6)[name == "page"]:
            abort(404)
    if request.endpoint == "rq_dashboard.requeue_all" and request.method != "POST":
        abort(405)
    if arguments.get("registry_name") not in (None, *_REGISTRIES):
        abort(404)
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise Problem(403, "other_site", "Sent from another site", "Press the button on the dashboard itself.")


_REGISTRIES: Final = ("queued", "failed", "deferred", "started", "finished", "canceled", "scheduled")


def _nonce() -> str:
    if "rq_nonce" not in g:
        g.rq_nonce = secrets.token_urlsafe(16)
    return str(g.rq_nonce)


def _headers(response: Response) -> Response:
    """Its inline scripts run by nonce; 'unsafe-eval' is what its templates are compiled with (underscore)."""
    if response.mimetype == "text/html":
        response.headers["Content-Security-Policy"] = "; ".join(
            [
                "default-src 'none'",
                f"script-src 'self' 'nonce-{_nonce()}' 'unsafe-eval'",
                "style-src 'self' 'unsafe-inline'",
                "img-src 'self' data:",
                "font-src 'self'",
                "connect-src 'self'",
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            ]
        )
    return response


def _record(response: Response) -> Response:
    """Who emptied, deleted or requeued what."""
    who = access.operator()
    if request.method == "POST" and response.status_code == 200 and who is not None:
        kind = f"rq_{(request.endpoint or '').rpartition('.')[2]}"[:40]
        with services().ledger.write() as connection:
            events.record(
                connection, kind, now=services().now(), actor=who.address[:120], detail=dict(request.view_args or {})
            )
    return response


def _no_such_job(_error: NoSuchJobError) -> ResponseReturnValue:
    problem = Problem(404, "not_found", "No such job", "It is done, deleted, or its time is over.")
    return current_app.handle_user_exception(problem)


def _redis_away(_error: RedisError) -> ResponseReturnValue:
    words = "Redis can't be reached: the ledger has every order, and nothing is lost."
    return current_app.handle_user_exception(unavailable("redis_unavailable", words))


_patch()
