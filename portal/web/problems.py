"""One shape for everything that goes wrong: application/problem+json (RFC 9457) for machines, a page for people."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from flask import Flask, Response, current_app, render_template, request
from jinja2 import TemplateNotFound
from werkzeug.exceptions import BadHost, HTTPException, SecurityError

from portal.errors import NonceStoreUnavailable
from portal.ledger.engine import CommitUnknown, LedgerUnavailable

log = logging.getLogger("portal.web.problems")

RETRY_SECONDS: Final = 5

_API = re.compile(r"(?:^|/)(?:api|webhooks|health|metrics)(?:/|$)|/orders/[^/]*/(?:fulfill|provision)$")

#: Stable codes of what Flask and Werkzeug raise themselves.
_CODES: Final = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    411: "length_required",
    413: "body_too_large",
    414: "address_too_long",
    415: "unsupported_media_type",
    429: "rate_limited",
    431: "headers_too_large",
}


#: What people read where even the page for errors fails.
_FAULT: Final = "Sorry, something went wrong. It's our fault and has been noted. Please try again in a few minutes."


class Problem(Exception):
    """An answer that isn't success.

    status: HTTP; code: stable, for programs; title: the runbook's words; detail: what to do about it; members: more
    fields of the body. Never holds a secret or personal data.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def body(self) -> dict[str, Any]:
        """The problem document."""
        document = {"type": f"urn:order-portal:problem:{self.code}", "title": self.title, "status": self.status}
        if self.detail:
            document["detail"] = self.detail
        return {**document, "code": self.code, **self.members}

    def response(self) -> Response:
        """As application/problem+json (RFC 9457)."""
        return problem_response(self.status, self.body(), self.headers)


def problem_response(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """A problem document as an answer, never cached."""
    answer = Response(json.dumps(body), status=status, content_type="application/problem+json")
    answer.headers["Cache-Control"] = "no-store"
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'HMAC-SHA256 realm="order portal"'
    answer.headers.update(headers or {})
    return answer


def unavailable(code: str, detail: str) -> Problem:
    """503 with Retry-After (RETRY_SECONDS)."""
    return Problem(503, code, "Service unavailable", detail, {"Retry-After": str(RETRY_SECONDS)})


def wants_json() -> bool:
    """Whether the request came for machines: an API path, or a client that prefers JSON to a page."""
    if _API.search(request.path):
        return True
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json"


def register(app: Flask) -> None:
    """Answer every error of `app` in one of the two shapes; details of our own faults stay in the log."""
    app.register_error_handler(Problem, _show)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(LedgerUnavailable, _ledger)
    app.register_error_handler(CommitUnknown, _commit_unknown)
    app.register_error_handler(NonceStoreUnavailable, _nonces)
    app.register_error_handler(Exception, _fault)


def _http(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:  # a redirect
        return error.get_response()  # type: ignore[return-value]
    headers = {
        name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After", "WWW-Authenticate")
    }
    code = _CODES.get(error.code, f"http_{error.code}")
    detail = "" if error.code >= 500 else (error.description or "")
    return _show(Problem(error.code, code, error.name, detail, headers))


def _ledger(error: Exception) -> Response:
    log.error("The ledger can't be used", extra={"error": str(error)})
    return _show(unavailable("ledger_unavailable", "The ledger's database can't be used right now: try again."))


def _commit_unknown(error: Exception) -> Response:
    log.error("The ledger was lost while committing", extra={"error": str(error)})
    detail = "The ledger's database went away while this was being saved: it may have been taken, or not. "
    if wants_json():
        detail += "Send it again, with the same Idempotency-Key or event id: it is taken once."
    else:
        detail += "Please look whether it is there before you repeat it."
    return _show(unavailable("outcome_unknown", detail))


def _nonces(error: Exception) -> Response:
    log.error("Refused: the nonce store can't be used", extra={"error": str(error)})
    return _show(unavailable("nonce_store_unavailable", "Replays can't be told right now: try again."))


def _fault(error: Exception) -> Response:
    log.exception("Unexpected fault", extra={"error": type(error).__name__})
    if current_app.testing and current_app.config.get("PROPAGATE_EXCEPTIONS"):
        raise error
    return _show(Problem(500, "internal_error", "Internal error", "The fault is in our log."))


def _plain(status: int, text: str) -> Response:
    answer = Response(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _show(problem: Problem) -> Response:
    if wants_json():
        return problem.response()
    if isinstance(
        request.routing_exception, SecurityError | BadHost
    ):  # a Host no address can be made of: no page, then, either
        return _plain(problem.status, problem.title)
    try:
        page = render_template(
            "error.html", status=problem.status, code=problem.code, title=problem.title, detail=problem.detail
        )
    except TemplateNotFound:
        return problem.response()
    except Exception as error:  # raised from here, it would end the connection without an answer
        log.exception("The error page can't be shown", extra={"error": type(error).__name__, "status": problem.status})
        return _plain(500, _FAULT)
    answer = Response(page, status=problem.status, content_type="text/html; charset=utf-8")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers.update(problem.headers)
    return answer
