"""Lets plain deliveries past Flask: signed, well-formed, from who doesn't wait, and come together with others.

Every check is the receiver's own (salesforce.py, taking.py); what is left out is what Flask does around a view. For all
of a batch (portal.web.batch) Redis is asked once, and the ledger written to once. Whatever isn't plain, a refusal above
all, leaves the batch with nothing done and goes through Flask; so does a fault after something was done, which the view
then raises.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import redis
from flask import Flask, Response, request

from portal.queue import patience
from portal.web import batch, request_id
from portal.web.client_address import allowed, network_of
from portal.web.context import Portal, address_of, portal_of
from portal.webhooks import salesforce
from portal.webhooks.receivers import SALESFORCE, Receivers
from portal.webhooks.strict import MAX_BODY_BYTES
from portal.webhooks.taking import read_preference, take
from portal.webhooks.verifier import FulfillCall, Refused, Secret

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: By its bytes, a delivery whose sender doesn't wait. Where that is wrong, the request leaves its batch.
_REQUEST = re.compile(rb"POST (?:/[^ ?]*)?/orders/[^/ ?]+/fulfill[ ?]")
_WAITS_FOR_NOTHING = re.compile(rb"\r\nprefer:[ \t]*(?:respond-async|wait=0)[ \t]*\r\n", re.IGNORECASE)

_PATH = re.compile(r"/orders/([^/]+)/fulfill")
#: Of the others Flask refuses some (an empty label, one of 64 letters).
_HOST = re.compile(
    r"(?:[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)
_LENGTH = re.compile(r"[0-9]{1,6}", re.ASCII)
_ENDPOINT: Final = f"{salesforce.blueprint.name}.{salesforce.fulfill.__name__}"

#: Where the environ keeps a fault that is to be answered through Flask. No header comes under that name.
_FAULT: Final = "portal.fault"


def register(app: Flask) -> None:
    """Put the door in front of `app`, whose receivers are registered."""
    portal = portal_of(app)
    app.wsgi_app = Door(app.wsgi_app, portal)  # type: ignore[method-assign]
    app.before_request(_raise_fault)
    portal.lifecycle.in_batches(comes_with_others)


def comes_with_others(sent: bytes) -> bool:
    """Whether a whole request may be taken together with others (portal.web.batch)."""
    return _REQUEST.match(sent) is not None and _WAITS_FOR_NOTHING.search(sent) is not None


class Door:
    """Stands before a WSGI application, and does nothing outside a batch."""

    def __init__(self, application: WSGIApplication, portal: Portal) -> None:
        self._application = application
        self._portal = portal
        self._receivers = portal.part(Receivers)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """As WSGI has it."""
        if not batch.inside() or environ["REQUEST_METHOD"] != "POST":  # polls are run in batches, too
            return self._application(environ, start_response)
        path = _PATH.fullmatch(environ["PATH_INFO"])
        if path is None or not _routed(environ):
            batch.leave()
        try:
            answer = self._answer(environ, path[1])
        except Exception as error:
            environ[_FAULT] = error
            return self._application(environ, start_response)
        start_response(answer.status, answer.headers.to_wsgi_list())
        return [answer.get_data()]

    def _answer(self, environ: WSGIEnvironment, path_id: str) -> Response:
        """A delivery's. Raises what `take` raises once something is done; leaves the batch where nothing is."""
        services = self._portal.services
        now = services.now()
        preference = read_preference(environ.get("HTTP_PREFER"), services.settings.fulfillment_wait_seconds)
        address = address_of(environ, services.settings)
        if preference.seconds > 0 or not allowed(address, SALESFORCE.allowlist(services.settings)):
            batch.leave()
        call = self._verified(environ, path_id, now=now)
        number = request_id.begin(environ)
        patience.begin_request()
        claim = partial(self._claim, call.secret, network_of(address))
        answer = take(self._portal, call, preference, claim, now=now)
        answer.headers.extend({"X-Request-Id": number, "X-Content-Type-Options": "nosniff"})
        return answer

    def _verified(self, environ: WSGIEnvironment, path_id: str, *, now: float) -> FulfillCall:
        """What is asked for, by who knows the secret (now: seconds since 1970); leaves the batch for all else."""
        length = environ.get("CONTENT_LENGTH", "")
        plain = environ.get("HTTP_CONTENT_ENCODING", "identity").lower() == "identity" and _LENGTH.fullmatch(length)
        if not plain or int(length) > MAX_BODY_BYTES or "HTTP_TRANSFER_ENCODING" in environ:
            batch.leave()
        body = environ["wsgi.input"].read(int(length))
        verdict = salesforce.judge(self._portal.services.settings, environ, body, path_id, now=now)
        if isinstance(verdict, Refused):
            batch.leave()
        return verdict

    def _claim(self, secret: Secret, asker: str, identity: str) -> bool:
        """As receivers.claim; who is over a limit leaves, and so does everybody where Redis can't be asked."""
        admission = self._receivers.admission
        try:
            admitted = batch.together(admission.admit, admission.asked(identity, _ENDPOINT, asker))
        except (redis.RedisError, OSError):
            batch.leave()
        if admitted.seconds_to_wait:
            batch.leave()
        self._receivers.security.matched(SALESFORCE.name, secret)
        return admitted.new


def _routed(environ: WSGIEnvironment) -> bool:
    """Whether Flask would surely find the receiver's view. It refuses some hosts, and what wants to be a WebSocket."""
    return "HTTP_UPGRADE" not in environ and _HOST.fullmatch(environ.get("HTTP_HOST", "")) is not None


def _raise_fault() -> None:
    fault: Any = request.environ.get(_FAULT)
    if fault is not None:
        raise fault
