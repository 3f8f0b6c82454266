"""What every blueprint needs of the running application: its services, and who is asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from flask import current_app, g, request

from portal.web.client_address import IpAddress, sender

if TYPE_CHECKING:
    from portal.services import Services


def services() -> Services:
    """The application's services, built once by app.create_app()."""
    return cast("Services", current_app.extensions["portal"])


def client_address() -> IpAddress | None:
    """Who is asking: the peer, or what a trusted proxy says it forwards for. None for an unknown one."""
    if "client_address" not in g:
        environ = request.environ
        g.client_address = sender(
            environ.get("REMOTE_ADDR") or "",
            environ.get("HTTP_X_FORWARDED_FOR"),
            environ.get("HTTP_FORWARDED"),
            services().settings.trusted_proxies,
        )
    return cast("IpAddress | None", g.client_address)


def client_key() -> str:
    """The address as text, for counting; one word for all that are unknown."""
    return str(client_address() or "unknown")


def public_path(path: str) -> str:
    """A path of ours as the world sees it: behind PORTAL_BASE_URL's prefix, if it has one."""
    return urlsplit(services().settings.portal_base_url).path.rstrip("/") + path
