"""The Flask application: builds the services once and registers the blueprints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.routing import Rule

import portal.customers
import portal.ops
import portal.ops.commands
import portal.web.problems
import portal.webhooks
from portal.queue import patience
from portal.services import Services, build_services
from portal.settings import Settings
from portal.web import request_id, security_headers
from portal.web.context import Portal
from portal.web.lifecycle import Lifecycle

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def create_app(settings: Settings | None = None, services: Services | None = None) -> Flask:
    """Build the application. `settings`: else from the environment; `services`: else built from the settings.

    Raises portal.settings.SettingsError when the environment is half-configured.
    """
    if services is None:
        services = build_services(settings or Settings.from_environ(os.environ))
    app = _Application(__name__)
    # Else `//` in a path is answered, before any check of the Host header, by a redirect to whatever host it names.
    app.url_map.merge_slashes = False
    app.url_rule_class = _Rule  # type: ignore[assignment]  # Flask's own annotation is the very class
    lifecycle = Lifecycle()
    parts = (portal.webhooks.build(services, lifecycle), *portal.customers.build(services))
    app.extensions["portal"] = Portal(services, lifecycle, parts)
    app.before_request(patience.begin_request)
    request_id.register(app)
    portal.web.problems.register(app)
    security_headers.register(app, services.settings)
    portal.webhooks.register(app)
    portal.customers.register(app)
    portal.ops.register(app)
    prefix = urlsplit(services.settings.portal_base_url).path.rstrip("/")
    if prefix:
        app.wsgi_app = _Prefixed(app.wsgi_app, prefix)  # type: ignore[method-assign]
    return app


def create_commands_app(reason: str) -> Flask:
    """What `flask` works with where the portal can't be built: the commands, for `--help` and `flask doctor`.

    `reason`: what the other commands say instead of running. It serves nothing.
    """
    app = Flask(__name__, static_folder=None)
    app.extensions["portal_missing"] = reason
    portal.ops.commands.register_commands(app)
    portal.webhooks.register_commands(app)

    @app.before_request
    def refuse() -> tuple[str, int]:
        return "The portal can't start: `flask doctor` says why.\n", 503

    return app


class _Application(Flask):
    """Flask without its look at every hook and view, at each request, for whether it is a coroutine: none is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """`func` itself."""
        return func


class _Rule(Rule):
    """A route whose path ends in a slash is found without it, too: werkzeug's redirect would name the Host's header.

    One whose path doesn't is found by that path only: a signed receiver has one address.
    """

    def __init__(self, string: str, **options: Any) -> None:
        options["strict_slashes"] = not string.endswith("/")
        super().__init__(string, **options)


class _Prefixed:
    """Lets the application live under a path, whether the proxy in front strips it or not."""

    def __init__(self, application: WSGIApplication, prefix: str) -> None:
        self._application: Callable[..., Iterable[bytes]] = application
        self._prefix = prefix

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        path = environ.get("PATH_INFO", "")
        if path == self._prefix or path.startswith(self._prefix + "/"):
            environ["PATH_INFO"] = path[len(self._prefix) :]
        environ["SCRIPT_NAME"] = self._prefix
        return self._application(environ, start_response)
