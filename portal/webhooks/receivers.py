"""What both signed receivers do alike: who is let in, how much is read, and how a refusal is answered and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

import redis
from flask import Response, g, request
from flask_limiter import RateLimitExceeded

from portal.ledger.acceptor import Acceptor
from portal.ledger.group_commit import GroupCommit
from portal.queue.dispatcher import Dispatcher
from portal.settings import Settings
from portal.web.batch import together
from portal.web.client_address import IpNetwork, allowed
from portal.web.context import Portal, client_address, client_key, part, services
from portal.web.problems import Problem
from portal.webhooks.admission import Admission
from portal.webhooks.limits import Limits
from portal.webhooks.nonces import Nonces
from portal.webhooks.security_events import SecurityEvents
from portal.webhooks.strict import MAX_BODY_BYTES
from portal.webhooks.verifier import Reason, Refused, Secret, Secrets
from portal.webhooks.waiting import Waiting

log = logging.getLogger("portal.webhooks")


@dataclass(frozen=True)
class Receivers:
    """What the receivers keep in one application."""

    limits: Limits
    nonces: Nonces
    waiting: Waiting
    security: SecurityEvents
    acceptor: Acceptor
    events: GroupCommit[Any, Any]  # portal.webhooks.whmcs.take
    dispatcher: Dispatcher
    admission: Admission


@dataclass(frozen=True)
class Receiver:
    """One of the two."""

    name: str  # also the prefix of its nonces
    allowlist: Callable[[Settings], Sequence[IpNetwork]]
    secrets: Callable[[Settings], Secrets]


SALESFORCE: Final = Receiver(
    "sf",
    lambda settings: settings.sf_webhook_ip_allowlist,
    lambda settings: Secrets(settings.sf_webhook_secret, settings.sf_webhook_secret_previous),
)
WHMCS: Final = Receiver(
    "whmcs",
    lambda settings: settings.whmcs_webhook_ip_allowlist,
    lambda settings: Secrets(settings.whmcs_webhook_secret or "", settings.whmcs_webhook_secret_previous),
)

#: Status and title of each refusal; the titles are the runbook's where it has some.
_REFUSALS: Final = {
    Reason.INVALID_SIGNATURE: (401, "Invalid signature"),
    Reason.UNREADABLE_BODY: (400, "Unreadable body"),
    Reason.STALE_TIMESTAMP: (401, "Stale timestamp"),
    Reason.MISSING_FIELDS: (400, "Missing fields"),
    Reason.FIELD_MISMATCH: (400, "Fields contradict each other"),
    Reason.INVALID_ORDER_ID: (400, "Invalid order id"),
    Reason.MISSING_IDEMPOTENCY_KEY: (400, "Missing Idempotency-Key"),
}


def here() -> Receivers:
    """The running application's."""
    return part(Receivers)


def admit(receiver: Receiver) -> None:
    """Refuse addresses that aren't on the receiver's allowlist, before anything is read or counted.

    Raises Problem 403.
    """
    address = client_address()
    if not allowed(address, receiver.allowlist(services().settings)):
        here().security.record(receiver.name, "address_not_allowed", str(address or "unknown"))
        raise Problem(
            403, "address_not_allowed", "Address not allowed", "This address isn't on the allowlist of this webhook."
        )


def read_body() -> bytes:
    """The raw body, at most MAX_BODY_BYTES.

    Raises Problem: 413 when it is too large, whether it says so first or not; 400 when it is cut; 415 when encoded.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _unless_over_limit(
            415, "unsupported_media_type", "Unsupported content encoding", "Send the body as it was signed: plain."
        )
    length = request.content_length
    if length is not None and length > MAX_BODY_BYTES:
        _too_large()
    if length is None and not request.environ.get("wsgi.input_terminated"):
        return b""  # neither length nor chunks: there is no body, and a server's raw stream would wait for one
    wanted = MAX_BODY_BYTES + 1 if length is None else length
    try:
        body = cast(bytes, request.environ["wsgi.input"].read(wanted))
    except Exception as error:  # gunicorn raises whatever it found wrong with the framing
        raise _unless_over_limit(
            400, "unreadable_body", "Unreadable body", "The body couldn't be read to its end."
        ) from error
    if len(body) > MAX_BODY_BYTES:
        _too_large()
    if length is not None and len(body) < length:
        raise _unless_over_limit(
            400, "unreadable_body", "Unreadable body", "The body is shorter than its Content-Length."
        )
    return body


def _too_large() -> NoReturn:
    raise _unless_over_limit(413, "body_too_large", "Body too large", f"At most {MAX_BODY_BYTES} bytes.")


def _unless_over_limit(status: int, code: str, title: str, detail: str) -> Problem:
    """A refusal of what wasn't authentic yet. Raises RateLimitExceeded instead for who is over a limit anyway."""
    here().limits.check()
    return Problem(status, code, title, detail)


def headers_of(environ: Mapping[str, Any]) -> dict[str, str]:
    """The headers in a WSGI environ, names in lower case; several of one name come joined by commas."""
    return {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}


def refuse(receiver: Receiver, refused: Refused) -> NoReturn:
    """Count a verifier's refusal and answer it.

    Raises Problem: the refusal's, or 429 after too many forgeries; RateLimitExceeded for who is over a limit anyway.
    """
    address = str(client_address() or "unknown")
    g.authentic = refused.authentic
    here().limits.check()
    here().security.record(receiver.name, refused.reason.value, address)
    if not refused.authentic:
        seconds = here().limits.too_many_forgeries()
        if seconds is not None:
            raise rate_limited(receiver, seconds)
    status, title = _REFUSALS[refused.reason]
    raise Problem(status, refused.reason.value, title, refused.detail)


def claim(receiver: Receiver, identity: str | None) -> bool:
    """Count an authentic request and claim its nonce (a nonce_id; None: it has none); False when that is taken.

    A nonce that is taken but not in the ledger was claimed by a request that is being taken at this moment, or by one
    that was refused because Redis' answer came too late: the ledger then decides which it is.
    Raises Problem 429 (or RateLimitExceeded) over a limit, NonceStoreUnavailable.
    """
    parts = here()
    try:
        asked = parts.admission.asked(identity, request.endpoint or "", client_key())
        (admitted,) = parts.admission.admit([asked])
    except (redis.RedisError, OSError):
        parts.limits.check()
        return identity is None or parts.nonces.claim(identity)
    if admitted.seconds_to_wait:
        raise rate_limited(receiver, admitted.seconds_to_wait)
    return admitted.new


def nonce_used(receiver: Receiver) -> Problem:
    """The Problem (401) for a replay, counted."""
    here().security.record(receiver.name, "nonce_already_used", str(client_address() or "unknown"))
    return Problem(
        401, "nonce_already_used", "Nonce already used", "Every request needs a nonce of its own, retries too."
    )


def rate_limited(receiver: Receiver, seconds: int) -> Problem:
    """The Problem (429) for too many requests, counted. seconds: for its Retry-After."""
    here().security.record(receiver.name, "rate_limited", str(client_address() or "unknown"))
    return Problem(429, "rate_limited", "Too many requests", "Wait before trying again.", {"Retry-After": str(seconds)})


def over_limit(receiver: Receiver) -> Callable[[RateLimitExceeded], Response]:
    """The error handler of a receiver's blueprint for flask-limiter's refusals."""

    def handle(_error: RateLimitExceeded) -> Response:
        return rate_limited(receiver, here().limits.seconds_to_wait()).response()

    return handle


def authentic(receiver: Receiver, secret: Secret) -> None:
    """Note that the signature was right, and with which secret: the previous one can go once it is never seen."""
    g.authentic = True
    here().security.matched(receiver.name, secret)


def enqueue(portal: Portal, sf_order_id: str, *, at_once: bool = True) -> None:
    """Have a worker take the order up now. Failing to loses nothing: the ledger has it, and the sweep finds it.

    at_once: before this returns, for whoever waits for the outcome; else a moment later, together with others.
    """
    if not at_once:
        together(portal.part(Receivers).dispatcher.send_soon, sf_order_id)
        return
    try:
        portal.services.jobs.send(sf_order_id)
    except Exception as error:
        log.warning("No job sent: the sweep will", extra={"sfOrderId": sf_order_id, "error": type(error).__name__})
