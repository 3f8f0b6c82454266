"""WHMCS' receiver: its hook tells of what happened there, and each event makes us look for ourselves.

An event is a hint, never a truth: it can be late, doubled or out of order. What it names is looked up in WHMCS by the
worker or the sweep, and only what is found there changes an order. docs/webhooks.md has the contract.

Moments are seconds since 1970.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from flask import Blueprint, Response, current_app, request
from flask_limiter import RateLimitExceeded
from sqlalchemy.engine import Connection

from portal.domain.model import State
from portal.ledger import audits, deliveries, events, fulfillments, payment_hints
from portal.ledger.fulfillments import Fulfillment
from portal.web.context import portal_of, services
from portal.webhooks import nonces, receivers
from portal.webhooks.verifier import Refused, WhmcsEvent, verify_event

log = logging.getLogger("portal.webhooks")

blueprint = Blueprint("whmcs_receiver", __name__)
blueprint.register_error_handler(RateLimitExceeded, receivers.over_limit(receivers.WHMCS))

_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_OTHER_NAMES: Final = {"userid": "clientid"}


@dataclass(frozen=True)
class Told:
    """An event to be taken. identity: its nonce's nonce_id, if it has one; keep: for so many seconds."""

    event: WhmcsEvent
    identity: str | None
    keep: float
    now: float


@dataclass(frozen=True)
class Taken:
    """What became of an event: the answer's `status`, and the orders that can be run now."""

    status: str
    to_run: Sequence[str] = ()
    replay: bool = False  # its nonce is in the ledger: nothing was taken


@blueprint.post("/webhooks/whmcs", provide_automatic_options=False)
def receive() -> Response:
    """Take one event (docs/webhooks.md): 202 once it is in the ledger, again for the same id. Raises Problem."""
    portal = services()
    now = portal.now()
    event = _verified(now=now)
    store = receivers.here().nonces
    identity = None if event.nonce is None else nonces.nonce_id(receivers.WHMCS.name, event.nonce)
    if not receivers.claim(receivers.WHMCS, identity):
        with portal.ledger.read() as connection:
            used = identity is not None and deliveries.recorded(connection, identity)
        if used:
            raise receivers.nonce_used(receivers.WHMCS)
    try:
        keep = nonces.lifetime(portal.settings.webhook_timestamp_tolerance / 1000)
        taken = receivers.here().events.one(Told(event, identity, keep, now))
    except BaseException:
        if identity is not None:
            store.give_back(identity)
        raise
    if taken.replay:
        raise receivers.nonce_used(receivers.WHMCS)
    for sf_order_id in taken.to_run:
        receivers.enqueue(portal_of(current_app), sf_order_id)
    said = {"event": event.event, "eventId": event.id}
    if taken.status == "ignored":
        log.info("WHMCS event ignored", extra=said)
    elif taken.status == "accepted":
        log.info("WHMCS event received", extra={**said, "resumed": taken.to_run})
    return Response(json.dumps({"status": taken.status}), 202, content_type="application/json")


def _verified(*, now: float) -> WhmcsEvent:
    settings = services().settings
    verdict = verify_event(
        receivers.read_body(),
        receivers.headers_of(request.environ),
        secrets=receivers.WHMCS.secrets(settings),
        now=now,
        tolerance=settings.webhook_timestamp_tolerance / 1000,
    )
    if isinstance(verdict, Refused):
        receivers.refuse(receivers.WHMCS, verdict)
    receivers.authentic(receivers.WHMCS, verdict.secret)
    return verdict


def take(connection: Connection, batch: Sequence[Told]) -> list[Taken]:
    """Into the ledger, each event once: in one transaction, for an order's three come within a moment."""
    return [_take(connection, told) for told in batch]


def _take(connection: Connection, told: Told) -> Taken:
    event, now = told.event, told.now
    if told.identity is not None and not deliveries.record(connection, told.identity, now=now, keep=told.keep):
        return Taken("replay", replay=True)
    # The event's own id outlives its deliveries: WHMCS sends it again when our answer was lost.
    event_identity = nonces.nonce_id("whmcs-event", event.id)
    if not deliveries.record(connection, event_identity, now=now, keep=deliveries.KEY_SECONDS):
        return Taken("duplicate")
    act = _ACTS.get(event.event)
    if act is None:
        return Taken("ignored")
    return Taken("accepted", act(connection, event, now=now))


def _look_again(connection: Connection, event: WhmcsEvent, *, now: float) -> list[str]:
    """Something happened to an order or a service: look at it in WHMCS as soon as may be."""
    row = _matching(connection, event)
    _remember(connection, event, None if row is None else row.sf_order_id, now=now)
    if row is None or _is_echo(event, row):
        return []
    audits.hint(connection, row.sf_order_id, now=now)
    return [row.sf_order_id] if row.state is State.WAITING else []


def _is_echo(event: WhmcsEvent, row: Fulfillment) -> bool:
    """Whether this only tells what our own AcceptOrder did: the run has seen that itself, another look costs calls."""
    if event.event not in ("order.accepted", "service.active"):
        return False
    if row.state is State.RUNNING:
        return row.accept_attempts > 0  # and where the run misses it, its audit follows soon
    return row.state is State.PROVISIONED and row.finished_at is not None and event.occurred_at <= row.finished_at


def _resume_unpaid(connection: Connection, event: WhmcsEvent, *, now: float) -> list[str]:
    """A client is said to have a payment method now: the sweep asks WHMCS, and orders that failed for it go on.

    The hint is kept for any client, because the order that it helps may be about to fail at this moment.
    """
    client_id = _id(event, "clientId")
    waiting = payment_hints.hear(connection, client_id, now=now) if client_id else []
    _remember(connection, event, waiting[0] if waiting else None, now=now)
    return []


class _Act(Protocol):
    """What an event makes us do; returns the orders that can be run now."""

    def __call__(self, connection: Connection, event: WhmcsEvent, *, now: float) -> list[str]: ...


_ACTS: Final[dict[str, _Act]] = {
    "order.accepted": _look_again,
    "order.cancelled": _look_again,
    "service.active": _look_again,
    "service.failed": _look_again,
    "service.suspended": _look_again,
    "service.terminated": _look_again,
    "paymethod.added": _resume_unpaid,
}


def _matching(connection: Connection, event: WhmcsEvent) -> Fulfillment | None:
    """The fulfillment an event is about: by its WHMCS order, else by its service."""
    order_id, service_id = _id(event, "orderId"), _id(event, "serviceId")
    row = fulfillments.by_elected(connection, order_id) if order_id else None
    if row is None and service_id:
        row = fulfillments.by_service(connection, service_id)
    return row


def _id(event: WhmcsEvent, name: str) -> str | None:
    """One of WHMCS' ids in an event's data; None where there is none.

    WHMCS' own hooks write orderid, serviceid and userid: a hook that passes these on is understood as well.
    """
    for given, value in event.data.items():
        if _OTHER_NAMES.get(given.lower(), given.lower()) == name.lower() and _ID.fullmatch(value):
            return value
    return None


def _remember(connection: Connection, event: WhmcsEvent, sf_order_id: str | None, *, now: float) -> None:
    ids = {name: _id(event, name) for name in ("orderId", "serviceId", "clientId")}
    events.record(
        connection,
        f"whmcs:{event.event}"[:40],
        now=now,
        subject=sf_order_id,
        actor="whmcs",
        detail={"eventId": event.id, "occurredAt": event.occurred_at, **{k: v for k, v in ids.items() if v}},
    )
