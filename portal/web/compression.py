"""Compresses what is the same for everybody: style sheets, scripts and drawings.

Pages aren't: they hold form tokens and a customer's orders beside text that an address chose (a search, a fault), which
is what BREACH reads through the length of a compressed answer (breachattack.com, 2013; RFC 9325, 3.3).
"""

from __future__ import annotations

import gzip
from typing import Final

from flask import Flask, Response, request

#: Their content depends on nobody's cookies.
PUBLIC_ENDPOINTS: Final = frozenset({"static", "brand_stylesheet", "brand_logo"})
_TEXT: Final = frozenset({"text/css", "text/javascript", "application/javascript", "image/svg+xml"})
#: Less isn't worth a header.
_FEWEST_BYTES: Final = 500


def register(app: Flask) -> None:
    """Put compression into an application."""
    app.after_request(_compress)


def _compress(response: Response) -> Response:
    if request.endpoint not in PUBLIC_ENDPOINTS or response.mimetype not in _TEXT or response.status_code != 200:
        return response
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] <= 0 or "Content-Encoding" in response.headers:
        return response
    response.direct_passthrough = False
    content = response.get_data()
    if len(content) < _FEWEST_BYTES:
        return response
    response.set_data(gzip.compress(content, mtime=0))
    response.headers["Content-Encoding"] = "gzip"
    # The entity tag is the plain content's; the address changes with the content anyway.
    response.headers.pop("ETag", None)
    response.headers.pop("Accept-Ranges", None)
    return response
