"""Each request has a number of its own: in every line logged of it, in its answer's header, and in the ledger."""

from __future__ import annotations

import uuid
from typing import Any, Final

from flask import Flask, Response, request

from portal import logs

#: Where a request's WSGI environ keeps it: no header comes under that name.
_NUMBER: Final = "portal.request_id"


def begin(environ: dict[str, Any]) -> str:
    """Log lines from now on are of this request; gives its number. Asked again, that is all it does."""
    number: str | None = environ.get(_NUMBER)
    if number is None:
        number = environ[_NUMBER] = uuid.uuid4().hex
        logs.begin()
        logs.bind(requestId=number)
    return number


def register(app: Flask) -> None:
    """Give requests their numbers. What a caller says of its own number isn't believed: it may say anything."""

    @app.before_request
    def of_request() -> None:
        begin(request.environ)

    @app.after_request
    def tell(response: Response) -> Response:
        number = logs.bound_now().get("requestId")
        if number is not None:
            response.headers["X-Request-Id"] = number
        return response
