"""The customers' side: sign-in, catalogue, checkout and the pages of their orders. `register(app)` puts it in place."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask, Response, abort, g, request, session, url_for
from markupsafe import Markup

from portal.customers import checkout, language, order_list, order_pages, sign_in
from portal.customers.catalogue import CatalogueCache
from portal.customers.client_area import PaymentMethods
from portal.customers.lead_time import LeadTime
from portal.customers.limits import AskLimits
from portal.customers.order_reader import OrderReader
from portal.customers.visitor import ACCOUNT_COOKIE
from portal.customers.waiters import Waiters
from portal.domain.names import to_shown
from portal.services import Services
from portal.settings import Settings
from portal.settings.kinds import IMAGES
from portal.web import compression, formatting, languages, security_headers, theme
from portal.web.context import portal_of

_BLUEPRINTS = (sign_in.pages, checkout.pages, order_list.pages, language.pages)
for _blueprint in _BLUEPRINTS:  # here, not in register(): a process may build more than one application
    security_headers.guard(_blueprint)


def build(services: Services) -> tuple[object, ...]:
    """What the customers' pages keep in one application; connects to nothing yet."""
    waiters = Waiters()
    cache = CatalogueCache(services, waiters)
    lead_time = LeadTime(services)
    reader = OrderReader(services, lead_time)
    return cache, lead_time, reader, AskLimits(services.redis), waiters, PaymentMethods(services)


def register(app: Flask) -> None:
    """Put the customers' pages into an application whose Portal has the parts of `build`."""
    settings = portal_of(app).services.settings
    portal_of(app).lifecycle.in_batches(order_pages.comes_with_others)
    languages.register(app)
    for blueprint in _BLUEPRINTS:
        app.register_blueprint(blueprint)
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 365 * 24 * 3600  # addresses of assets change with their content
    _brand(app, settings)
    app.jinja_env.filters |= {
        "money": formatting.money,
        "cycle": formatting.cycle_words,
        "recurring": formatting.recurring,
        "line_total": formatting.line_total,
        "shown": to_shown,
        "moment": formatting.day_and_time,
        "day": formatting.day,
        "iso": formatting.iso,
    }
    app.jinja_env.globals |= {
        "asset": _asset,
        "here": _here,
        "brand": {
            "name": settings.brand_name,
            "support": settings.brand_support_email,
            "currency": settings.brand_currency,
            "tax_note": settings.tax_note,
            "review_note": settings.review_time_note,
            "address": settings.brand_address,
            "accessibility_note": settings.accessibility_note,
            "withdrawal": settings.withdrawal,
        },
        "review_time": lambda: formatting.review_time(settings.brand_review_time),
        "htmx": {"url": security_headers.HTMX_URL, "integrity": security_headers.HTMX_INTEGRITY},
    }
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.context_processor(_of_every_page)
    app.after_request(language.remember)
    compression.register(app)


def _brand(app: Flask, settings: Settings) -> None:
    """The installation's colours and logo, at addresses that change with them."""
    colours = theme.stylesheet(settings.brand_accent)
    logo = _logo(settings.brand_logo_file)

    @app.get("/brand.css")
    def brand_stylesheet() -> Response:
        """The installation's colours."""
        return _kept(Response(colours, content_type="text/css; charset=utf-8"))

    @app.get("/brand/logo")
    def brand_logo() -> Response:
        """The installation's logo, where BRAND_LOGO_FILE names one."""
        if logo is None:
            abort(404)
        response = Response(logo.content, content_type=logo.content_type)
        response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"  # an SVG's own
        return _kept(response)

    def logo_url() -> str | None:
        return settings.brand_logo_url if logo is None else url_for("brand_logo", v=_short(logo.content))

    app.jinja_env.globals |= {
        "brand_url": lambda: url_for("brand_stylesheet", v=_short(colours.encode())),
        "logo_url": logo_url,
    }


def _kept(response: Response) -> Response:
    response.cache_control.public = True
    response.cache_control.max_age = 365 * 24 * 3600
    return response


class _Logo(NamedTuple):
    content: bytes
    content_type: str


def _logo(path: Path | None) -> _Logo | None:
    return None if path is None else _Logo(path.read_bytes(), IMAGES[path.suffix.lower()])


def _of_every_page() -> dict[str, Any]:
    """What the frame of a page needs. Reads no ledger, so that error pages can be shown without it."""
    if "visitor" in g:
        account = g.visitor.account
        signed_in, address = account is not None, account.email if account else ""
    else:
        signed_in, address = ACCOUNT_COOKIE in request.cookies, ""
    kept = session.get("basket")
    return {
        "language": languages.language_of(languages.current()),
        "language_tag": languages.tag(languages.current()),
        "languages": languages.LANGUAGES,
        "direction": languages.direction(),
        "back_to": language.back_to,
        "signed_in": signed_in,
        "address": address,
        "basket_size": sum(int(row[1]) for row in kept) if isinstance(kept, list) else 0,
    }


def _here(endpoint: str) -> Markup:
    """The attribute of the navigation's link to the page one is on; nothing on all other links."""
    return Markup(' aria-current="page"') if request.endpoint == endpoint else Markup("")


def _asset(name: str) -> str:
    """The address of a file under static/, which changes with its content."""
    return url_for("static", filename=name, v=_hash_of(name))


@cache
def _hash_of(name: str) -> str:
    return _short((Path(__file__).resolve().parent.parent.parent / "static" / name).read_bytes())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:10]
