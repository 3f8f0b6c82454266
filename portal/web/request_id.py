"""Each request has a number of its own: in every line logged of it, in its answer's header, and in the ledger."""

from __future__ import annotations

import uuid

from flask import Flask, Response

from portal import logs


def register(app: Flask) -> None:
    """Give requests their numbers. What a caller says of its own number isn't believed: it may say anything."""

    @app.before_request
    def begin() -> None:
        logs.begin()
        logs.bind(requestId=uuid.uuid4().hex)

    @app.after_request
    def tell(response: Response) -> Response:
        number = logs.bound_now().get("requestId")
        if number is not None:
            response.headers["X-Request-Id"] = number
        return response
