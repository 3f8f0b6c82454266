"""/ops/bulk/… and the pause: what an operator does to many orders at once, or to all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.ledger import bulk, installation
from portal.ops import acts
from portal.ops.console.access import operator
from portal.ops.console.find_pages import chosen_filter, filter_of
from portal.web.context import services

pages = Blueprint("ops_bulk", __name__)

POLL_SECONDS = 2
#: Orders listed on the act's page.
SHOWN = 100


def _actor() -> str:
    who = operator()
    assert who is not None
    return who.address


@pages.post("/ops/bulk")
def freeze() -> Response:
    """Freeze the orders that the filter has now; nothing is done to them before somebody says so."""
    chosen, act = chosen_filter(), request.form.get("act", "")
    back = redirect(
        url_for(
            "ops_find.index", state=chosen["state"] or None, code=chosen["code"] or None, age=chosen["age"] or None
        ),
        303,
    )
    why = " ".join(request.form.get("why", "").split())
    if act not in bulk.ACTS or not why:
        flash("Not done: say what is to be done, and why.")
        return back
    here = services()
    try:
        with here.ledger.write() as connection:
            number = bulk.freeze(
                connection, act, filter_of(chosen), shown=chosen, actor=_actor(), why=why, now=here.now()
            )
    except ValueError as error:
        flash(f"Not done: {error}.")
        return back
    return redirect(url_for("ops_bulk.show", bulk_id=number), 303)


@pages.get("/ops/bulk/<int:bulk_id>")
def show(bulk_id: int) -> str:
    """What was frozen and how far it has come; for htmx its part that changes."""
    if bulk_id > 2**31 - 1:
        abort(404)
    with services().ledger.read() as connection:
        act = bulk.get(connection, bulk_id)
        if act is None:
            abort(404)
        frozen = bulk.some_orders(connection, bulk_id, limit=SHOWN)
    template = "ops/_bulk.html" if request.headers.get("HX-Request") else "ops/bulk.html"
    seconds = (act.total - act.done) / bulk.BATCH
    return render_template(template, act=act, orders=frozen, seconds=seconds, poll_seconds=POLL_SECONDS)


@pages.post("/ops/bulk/<int:bulk_id>/begin")
def begin(bulk_id: int) -> Response:
    """Carry it out: the sweep acts on some orders each second."""
    return _move(bulk_id, bulk.begin)


@pages.post("/ops/bulk/<int:bulk_id>/cancel")
def cancel(bulk_id: int) -> Response:
    """Leave those alone whose turn hasn't come."""
    return _move(bulk_id, bulk.cancel)


def _move(bulk_id: int, move: Callable[..., bool]) -> Response:
    if bulk_id > 2**31 - 1:
        abort(404)
    here = services()
    with here.ledger.write() as connection:
        moved = move(connection, bulk_id, actor=_actor(), now=here.now())
    if not moved:
        flash("Not done: it has ended, or was begun, meanwhile.")
    return redirect(url_for("ops_bulk.show", bulk_id=bulk_id), 303)


def paused() -> dict[str, Any] | None:
    """Who paused WHMCS writes, when and why: every page shows it."""
    with services().ledger.read() as connection:
        return installation.paused(connection)


@pages.post("/ops/pause")
def pause() -> Response:
    """Accept orders, but write nothing to WHMCS."""
    return _change(acts.pause)


@pages.post("/ops/resume")
def resume() -> Response:
    """Write to WHMCS again."""
    return _change(acts.resume)


def _change(change: Callable[..., None]) -> Response:
    try:
        change(services(), actor=_actor(), why=request.form.get("why", ""))
    except acts.Refused as error:
        flash(f"Not done: {error}.")
    return redirect(url_for("ops_now.show"), 303)
