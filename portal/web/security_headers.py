"""Defences of the pages for people: the headers of every page, CSRF, trusted hosts, and cookies' settings."""

from __future__ import annotations

import ipaddress
from functools import partial
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, abort, current_app, request
from flask_wtf.csrf import CSRFError, CSRFProtect

from portal.settings import Settings
from portal.web import foreign_text
from portal.web.context import services
from portal.web.form_cookie import FormCookie
from portal.web.problems import Problem
from portal.web.signing import signing_keys

#: htmx, and what its file hashes to: nothing else from that host may run.
HTMX_URL = "https://cdn.jsdelivr.net/npm/htmx.org@2.0.11/dist/htmx.min.js"
HTMX_INTEGRITY = "sha384-2OatzQy1H+Zd/IIrjr1TcuDGqLXeHhbooAyJY1KdQMKnr4LZ22k31GBLdYKHmVjg"


#: A form of ours has a few short fields.
MOST_FORM_BYTES = 64 * 1024


def register(app: Flask, settings: Settings) -> None:
    """Cookies, CSRF and headers for the whole application; `guard` does the rest for each blueprint of pages."""
    *previous, current = signing_keys(settings)
    https = settings.portal_base_url.startswith("https://")
    app.config.update(
        SECRET_KEY=current,
        SECRET_KEY_FALLBACKS=previous,
        SESSION_COOKIE_NAME="portal_forms",
        SESSION_COOKIE_SECURE=https,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH=urlsplit(settings.portal_base_url).path or "/",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=30 * 24 * 3600,
        # The signed receivers have no form and no cookie: each blueprint of pages is guarded by name instead.
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,
        # Referer is what privacy add-ons cut; `guard` compares Origin, which they don't.
        WTF_CSRF_SSL_STRICT=False,
    )
    app.session_interface = FormCookie()
    CSRFProtect(app)
    app.after_request(partial(_headers, csp=content_security_policy(settings)))


def guard(blueprint: Blueprint) -> None:
    """Trusted hosts, storable text and CSRF before every route of a blueprint of pages, no-store after it."""
    blueprint.before_request(_bound_form)
    blueprint.before_request(_check_host)
    blueprint.before_request(foreign_text.refuse_unstorable)
    blueprint.before_request(_check_form)
    blueprint.after_request(_personal)


def content_security_policy(settings: Settings) -> str:
    """No inline script or style; htmx' one file; forms may lead into WHMCS, where two buttons redirect to."""
    whmcs = {_origin(url) for url in (settings.whmcs_client_area_url, settings.whmcs_api_url) if url}
    logo = [_origin(settings.brand_logo_url)] if settings.brand_logo_url else []
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {HTMX_URL}",
            "style-src 'self'",
            " ".join(["img-src 'self'", *logo]),
            "connect-src 'self'",
            " ".join(["form-action 'self'", *sorted(whmcs)]),
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _bound_form() -> None:
    request.max_content_length = MOST_FORM_BYTES


def _check_host() -> None:
    """Pages are served under PORTAL_BASE_URL's host alone (development: also under this machine's own names)."""
    settings = services().settings
    parts = urlsplit(settings.portal_base_url)
    host, port = foreign_text.host_and_port(request.host) or ("", None)
    default = 443 if parts.scheme == "https" else 80
    if host and host == parts.hostname and (port or default) == (parts.port or default):
        return
    if settings.production or not _this_machine(host):
        abort(400, "The host isn't this portal's.")


def _this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_form() -> None:
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    # "null" is what browsers send from a page without referrer or after a redirect: the token decides alone.
    if origin not in (None, "null") and foreign_text.host_of_origin(origin) != request.host:
        abort(400, "The form was sent from another site.")
    try:
        current_app.extensions["csrf"].protect()
    except CSRFError:
        raise Problem(
            400, "stale_form", "This page was open for too long", "Go back, load the page again, and try once more."
        ) from None


def _personal(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


def _headers(response: Response, *, csp: str) -> Response:
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    if response.mimetype != "text/html" or response.status_code == 204:
        if response.status_code == 204:
            headers.pop("Content-Type", None)
        return response
    headers.setdefault("Content-Security-Policy", csp)
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
    if current_app.config["SESSION_COOKIE_SECURE"]:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    return response
