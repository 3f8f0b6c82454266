"""/ops/orders/…: one order's whole story on one page, what may be done about it, and its customer's page.

Made of the ledger alone: it can be read while both other sides are away.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from sqlalchemy.engine import Connection
from werkzeug.wrappers import Response

from portal.customers.progress import tell
from portal.domain.ids import salesforce_id_18
from portal.domain.model import Step, UpstreamError
from portal.domain.write_back import order_fields
from portal.ledger import audits, decisions, events, fulfillments, installation, order_record, orders, runs, write_backs
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.orders import Order
from portal.ops import acts
from portal.ops.console import story
from portal.ops.console.access import operator
from portal.web.context import services

pages = Blueprint("ops_order", __name__)

#: Steps shown at once: some attempts' worth. Older ones follow on their own page.
MOST_STEPS: Final = 28
POLL_SECONDS: Final = 5


@pages.get("/ops/orders/<name>")
def show(name: str) -> str:
    """The page; for htmx its part that changes."""
    with services().ledger.read() as connection:
        what = _about(connection, name)
    template = "ops/_order.html" if request.headers.get("HX-Request") else "ops/order.html"
    return render_template(template, **what, poll_seconds=POLL_SECONDS)


def _named(connection: Connection, name: str) -> tuple[Order | None, Fulfillment | None]:
    """The order and its fulfillment, by Salesforce id or reference. Raises 404 where the ledger has neither."""
    sf_order_id = None
    with contextlib.suppress(ValueError):
        sf_order_id = salesforce_id_18(name)
    order = orders.by_sf_order_id(connection, sf_order_id) if sf_order_id else orders.get(connection, name[:40])
    if order is not None:
        sf_order_id = order.sf_order_id
    row = fulfillments.get(connection, sf_order_id) if sf_order_id else None
    if order is None and row is None:
        abort(404)
    return order, row


def _about(connection: Connection, name: str) -> dict[str, Any]:
    order, row = _named(connection, name)
    sf_order_id = row.sf_order_id if row else order.sf_order_id if order else None
    subjects = list(dict.fromkeys(each for each in (sf_order_id, order.reference if order else None) if each))
    now = services().now()
    before = _number(request.args.get("before", ""))
    steps = runs.steps_of(connection, sf_order_id, MOST_STEPS, before=before) if row and sf_order_id else []
    happened = [event for subject in subjects for event in events.of_subject(connection, subject, 30)]
    paused = installation.paused(connection)
    told = None
    if row is not None:
        standing, _ = write_backs.standing(connection, row.sf_order_id)
        told = order_fields(standing, now=row.salesforce_written_at or now)
    return {
        "name": sf_order_id or name,
        "order": order,
        "row": row,
        "paused": paused,
        "next": _next(order, row, paused=bool(paused), now=now),
        "election": story.election(row, now=now) if row else [],
        "timeline": story.timeline(steps, row.requested_at) if row else [],
        "before": before,
        "older": steps[0].id if len(steps) == MOST_STEPS else None,
        "clicks": order_record.clicks(connection, sf_order_id) if sf_order_id else [],
        "write_backs": order_record.messages(connection, "salesforce", subjects),
        "mails": order_record.messages(connection, "mail", subjects),
        "happened": sorted(happened, key=lambda event: event.id, reverse=True),
        "told": told,
        "service_states": audits.services_of(connection, sf_order_id) if sf_order_id else {},
        "acts": [(act, act.why_not(row)) for act in acts.ACTS.values()] if row else [],
        "restarts": decisions.restart_points(row) if row else {},
        "steps": list(Step),
        "links": _links(sf_order_id, row),
        "now": now,
    }


def _next(order: Order | None, row: Fulfillment | None, *, paused: bool, now: float) -> str:
    """What becomes of it by itself; `now` in seconds since 1970."""
    if row is not None:
        return story.happens_next(row, paused=paused, now=now)
    assert order is not None
    return story.before_the_click(order)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None


def _links(sf_order_id: str | None, row: Fulfillment | None) -> list[tuple[str, str]]:
    """Words and addresses of the same order on the other sides."""
    settings = services().settings
    admin = settings.whmcs_admin_url or settings.whmcs_api_url.rpartition("/includes/")[0] + "/admin"
    links = []
    if sf_order_id:
        links.append(("Salesforce order", story.in_salesforce(settings.sf_login_url, sf_order_id)))
    if row is not None and row.elected_whmcs_id:
        links.append(
            (f"WHMCS order {row.elected_whmcs_id}", f"{admin}/orders.php?action=view&id={row.elected_whmcs_id}")
        )
    if row is not None and row.client_id:
        links.append((f"WHMCS client {row.client_id}", f"{admin}/clientssummary.php?userid={row.client_id}"))
    return links


@pages.get("/ops/orders/<name>/customer")
def customer(name: str) -> str:
    """What the customer is told at this moment, without what only they can press."""
    here = services()
    with here.ledger.read() as connection:
        order, row = _named(connection, name)
        if order is None:
            abort(404)
        done_at = runs.done_at(connection, [row.sf_order_id]).get(row.sf_order_id, {}) if row else {}
    progress = tell(
        order, row, done_at, now=here.now(), lead_time_seconds=None, review_time=here.settings.brand_review_time
    )
    return render_template("ops/customer.html", order=order, progress=progress, name=name)


@pages.post("/ops/orders/<sf_order_id>/acts/<act>")
def act(sf_order_id: str, act: str) -> Response:
    """Do one act; what came of it, or why it isn't possible, is said on the order's page."""
    who = operator()
    assert who is not None
    try:
        said = acts.perform(
            services(),
            act,
            salesforce_id_18(sf_order_id),
            actor=who.address,
            why=request.form.get("why", ""),
            fields=request.form.to_dict(),
        )
    except (acts.Refused, UpstreamError) as error:
        said = f"Not done: {error}."
    except ValueError:  # no Salesforce id
        abort(404)
    flash(said)
    return redirect(url_for("ops_order.show", name=sf_order_id), 303)
