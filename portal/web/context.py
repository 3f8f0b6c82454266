"""What every blueprint needs of the running application: its parts, and who is asking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from flask import Flask, current_app, g, request

from portal.errors import PortalError
from portal.services import Services
from portal.settings import Settings
from portal.web.client_address import IpAddress, network_of, sender
from portal.web.lifecycle import Lifecycle

T = TypeVar("T")


@dataclass(frozen=True)
class Portal:
    """All that one application works with: `app.extensions["portal"]`, built whole by app.create_app().

    parts: what the packages above this one keep for each application (the receivers', the catalogue, …), one object
    of each type. They are found by type, because this package can't import theirs.
    """

    services: Services
    lifecycle: Lifecycle
    parts: tuple[object, ...]

    def part(self, kind: type[T]) -> T:
        """The part of that type. Raises LookupError where the application was built without it."""
        for each in self.parts:
            if isinstance(each, kind):
                return each
        raise LookupError(f"this application was built without a {kind.__name__}")


class NotConfigured(PortalError):
    """This application has commands only: the portal can't be built with the settings there are."""


def portal_of(app: Flask) -> Portal:
    """What `app` works with.

    Raises NotConfigured in an app of app.create_commands_app(), KeyError for one that neither of the two built.
    """
    if "portal_missing" in app.extensions:
        raise NotConfigured(app.extensions["portal_missing"])
    return cast(Portal, app.extensions["portal"])


def part(kind: type[T]) -> T:
    """The running application's part of that type. Raises LookupError where it has none."""
    return portal_of(current_app).part(kind)


def services() -> Services:
    """The running application's services."""
    return portal_of(current_app).services


def client_address() -> IpAddress | None:
    """Who is asking: the peer, or what a trusted proxy says it forwards for. None for an unknown one."""
    if "client_address" not in g:
        g.client_address = address_of(request.environ, services().settings)
    return cast("IpAddress | None", g.client_address)


def address_of(environ: Mapping[str, Any], settings: Settings) -> IpAddress | None:
    """The same for a request of this WSGI environ."""
    return sender(
        environ.get("REMOTE_ADDR") or "",
        environ.get("HTTP_X_FORWARDED_FOR"),
        environ.get("HTTP_FORWARDED"),
        settings.trusted_proxies,
    )


def client_key() -> str:
    """Who is asking as text, for counting: the address, of IPv6 its /64 (RFC 6177: a single site has 2^64 of them).

    The same "unknown" for all that have none.
    """
    return network_of(client_address())


def public_path(path: str) -> str:
    """A path of ours as the world sees it: behind PORTAL_BASE_URL's prefix, if it has one."""
    return path_of(services().settings, path)


def path_of(settings: Settings, path: str) -> str:
    """The same for a portal with these settings."""
    return urlsplit(settings.portal_base_url).path.rstrip("/") + path
