"""Salesforce's receiver: an operator pressed "Provision in WHMCS", and the answer is the order's outcome.

Here it is told who may be believed; what is done then is in portal.webhooks.taking. docs/webhooks.md has the contract.

Moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

from flask import Blueprint, Response, current_app, request
from flask_limiter import RateLimitExceeded

from portal.ledger.accepting import KeyReused, NonceUsed
from portal.settings import Settings
from portal.web.context import portal_of, public_path, services
from portal.web.problems import Problem
from portal.webhooks import receivers
from portal.webhooks.taking import read_preference, take
from portal.webhooks.verifier import FulfillCall, Refused, verify_fulfill

blueprint = Blueprint("salesforce_receiver", __name__)
blueprint.register_error_handler(RateLimitExceeded, receivers.over_limit(receivers.SALESFORCE))


@blueprint.post("/orders/<sf_order_id>/fulfill", provide_automatic_options=False)
def fulfill(sf_order_id: str) -> Response:
    """Take one order and wait for its outcome; docs/webhooks.md has the checks and answers. Raises Problem."""
    portal = portal_of(current_app)
    settings, now = portal.services.settings, portal.services.now()
    call = _verified(sf_order_id, now=now)
    preference = read_preference(request.headers.get("Prefer"), settings.fulfillment_wait_seconds)
    return take(portal, call, preference, partial(receivers.claim, receivers.SALESFORCE), now=now)


@blueprint.post("/orders/<sf_order_id>/provision", provide_automatic_options=False)
def provision(sf_order_id: str) -> NoReturn:
    """The endpoint's old name."""
    raise Problem(
        410,
        "endpoint_renamed",
        "Endpoint renamed",
        "Send this to POST /orders/{sfOrderId}/fulfill instead; nothing was done.",
        endpoint=public_path("/orders/{sfOrderId}/fulfill"),
    )


# Of the application: a fault of the door (door.py) is answered here, whatever Flask makes of the headers.
@blueprint.app_errorhandler(NonceUsed)
def nonce_used(_error: NonceUsed) -> Response:
    """A replay: 401."""
    return receivers.nonce_used(receivers.SALESFORCE).response()


@blueprint.app_errorhandler(KeyReused)
def key_reused(_error: KeyReused) -> Response:
    """The key was sent for another order: 422."""
    return Problem(
        422,
        "idempotency_key_reused",
        "Idempotency-Key reused",
        "This Idempotency-Key was sent for another order: use a new one for every click.",
    ).response()


def judge(
    settings: Settings, environ: Mapping[str, Any], body: bytes, path_id: str, *, now: float
) -> FulfillCall | Refused:
    """What the verifier says of a request with this WSGI environ and body (now: seconds since 1970)."""
    return verify_fulfill(
        body,
        receivers.headers_of(environ),
        path_id,
        secrets=receivers.SALESFORCE.secrets(settings),
        now=now,
        tolerance=settings.webhook_timestamp_tolerance / 1000,
    )


def _verified(path_id: str, *, now: float) -> FulfillCall:
    verdict = judge(services().settings, request.environ, receivers.read_body(), path_id, now=now)
    if isinstance(verdict, Refused):
        receivers.refuse(receivers.SALESFORCE, verdict)
    receivers.authentic(receivers.SALESFORCE, verdict.secret)
    return verdict
