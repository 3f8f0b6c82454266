"""The receivers in this process, over a real ledger and a real Valkey."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import redis
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal import webhooks
from portal.clients.traces import Traces
from portal.domain.model import State
from portal.ledger.acceptor import Acceptor
from portal.ledger.engine import Ledger
from portal.ledger.group_commit import GroupCommit
from portal.ledger.schema import fulfillments as table
from portal.queue.jobs import FINISHED_CHANNEL
from portal.services import Services
from portal.settings import Settings
from portal.web import context, problems
from portal.web.lifecycle import Lifecycle
from portal.webhooks import whmcs
from portal.webhooks.receivers import Receivers
from tests.fakes import FakeQueue
from tests.webhooks.callout import Call


@dataclass
class Portal:
    """What the doors see of portal.services.Services."""

    settings: Settings
    ledger: Ledger
    redis: redis.Redis
    jobs: FakeQueue = field(default_factory=FakeQueue)
    now: Callable[[], float] = time.time
    traces: Traces = field(default_factory=lambda: Traces(None))
    apps: list[Flask] = field(default_factory=list)  # to be stopped at the end


def application(portal: Portal) -> Flask:
    """An application with nothing but the receivers, over the portal."""
    app = Flask("receivers")
    services = cast(Services, portal)
    lifecycle = Lifecycle()
    app.extensions["portal"] = context.Portal(services, lifecycle, (webhooks.build(services, lifecycle),))
    problems.register(app)
    webhooks.register(app)
    portal.apps.append(app)
    return app


def use_ledger(portal: Portal, ledger: object) -> None:
    """From now on requests find this ledger, while what is counted in the background still goes to the one before."""
    portal.ledger = cast(Ledger, ledger)
    for app in portal.apps:
        parts = context.portal_of(app).part(Receivers)
        vars(parts.acceptor).update(vars(Acceptor(portal.ledger)))
        vars(parts.events).update(vars(GroupCommit(portal.ledger, whmcs.take)))


def jobs_sent(portal: Portal) -> list[str]:
    """The orders jobs were sent for; waits for the first, because they are sent behind the answer."""
    deadline = time.monotonic() + 10
    while not portal.jobs.sent and time.monotonic() < deadline:
        time.sleep(0.002)
    return portal.jobs.sent


def post(client: FlaskClient, call: Call, *, prefer: str | None = "respond-async", **changes: Any) -> TestResponse:
    """Send a call with its right headers; `changes` replace parts of it, `without` names headers to leave out."""
    body = changes.pop("body", None)
    raw = call.body() if body is None else body
    headers = call.headers(raw)
    if prefer is not None:
        headers["Prefer"] = prefer
    headers |= changes.pop("headers", {})
    for name in changes.pop("without", ()):
        headers.pop(name, None)
    return client.post(changes.pop("path", call.path), data=raw, headers=headers, **changes)


def code(answer: TestResponse) -> tuple[int, str]:
    """A refusal's status and code."""
    assert answer.content_type == "application/problem+json", answer.data
    told = json.loads(answer.data)
    assert told["status"] == answer.status_code
    assert told["title"]
    assert told["type"].endswith(told["code"])
    return answer.status_code, told["code"]


def count(portal: Portal, of: sa.Table) -> int:
    """How many rows a table has."""
    with portal.ledger.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(of)).scalar_one())


def finish(portal: Portal, sf_order_id: str, **values: Any) -> None:
    """What a worker does at a run's end."""
    with portal.ledger.write() as connection:
        connection.execute(sa.update(table).where(table.c.sf_order_id == sf_order_id).values(**values))
    portal.redis.publish(FINISHED_CHANNEL, sf_order_id)


def soon(portal: Portal, **values: Any) -> Callable[[str], None]:
    """A worker in a thread of its own."""
    return lambda sf_order_id: threading.Thread(target=finish, args=(portal, sf_order_id), kwargs=values).start()


PROVISIONED = {"state": State.PROVISIONED, "elected_whmcs_id": "4711"}


NO_PAYMENT = {
    "state": State.FAILED,
    "error_code": "PAYMENT_METHOD_MISSING",
    "error_message": "The client has no payment method.",
}
