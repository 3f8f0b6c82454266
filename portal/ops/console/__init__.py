"""/ops: where operators see what happens, find an order and its cause, and act. `register(app)` puts it in place."""

from __future__ import annotations

from flask import Flask

from portal.ops.console import access, bulk_pages, find_pages, now_page, order_page, rq, sign_in, words
from portal.web import security_headers

_BLUEPRINTS = (sign_in.pages, now_page.pages, find_pages.pages, order_page.pages, bulk_pages.pages)
for _blueprint in _BLUEPRINTS:  # here, not in register(): a process may build more than one application
    security_headers.guard(_blueprint)
for _blueprint in _BLUEPRINTS[1:]:
    access.guard(_blueprint)


def register(app: Flask) -> None:
    """Put the operators' pages into an application."""
    for blueprint in _BLUEPRINTS:
        app.register_blueprint(blueprint)
    rq.register(app)
    app.jinja_env.filters |= {"utc": words.utc, "ago": words.ago, "seconds": words.seconds, "state_word": words.state}
    app.jinja_env.globals |= {"operator": access.operator, "pause": bulk_pages.paused, "bulk_name": words.bulk_act}
