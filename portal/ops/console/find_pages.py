"""/ops/find: lists by state, code and age; and an order by whatever a person quotes of it.

The word is sent by POST, because it may be a customer's address, which must not stand in an address or a log.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.domain.model import ErrorCode, State
from portal.ledger import search, statistics
from portal.ops.console.access import may_look_by_post
from portal.web.context import services

pages = Blueprint("ops_find", __name__)

PAGE_SIZE: Final = 25
MOST_COUNTED: Final = 1000
#: What may be chosen as a state.
STATES: Final = (*(each.value for each in State), statistics.HANDLED)
#: What the form calls an age: words, and whether it is the last so many seconds or longer ago than that.
AGES: Final = {
    "last-hour": ("in the last hour", 3600, True),
    "last-day": ("in the last day", 86_400, True),
    "hour-old": ("more than an hour ago", 3600, False),
    "day-old": ("more than a day ago", 86_400, False),
    "week-old": ("more than a week ago", 7 * 86_400, False),
}


@pages.get("/ops/find")
def index() -> str:
    """A filter's orders, newest first; `before` is where the last page ended."""
    chosen = chosen_filter()
    wanted = filter_of(chosen)
    before = _read_cursor(request.args.get("before", ""))
    with services().ledger.read() as connection:
        found = search.page(connection, wanted, limit=PAGE_SIZE + 1, before=before)
        count = search.count(connection, wanted, most=MOST_COUNTED)
    more = len(found) > PAGE_SIZE
    found = found[:PAGE_SIZE]
    return render_template(
        "ops/find.html",
        found=found,
        count=count,
        most=MOST_COUNTED,
        chosen=chosen,
        cursor=_cursor(found[-1]) if more else "",
        first_page=before is None,
        **_choices(),
    )


@pages.post("/ops/find")
def look() -> Response | str:
    """The orders of a quoted word; a single one at once, an error code as a filter."""
    text = request.form.get("q", "").strip()
    code = search.error_code(text)
    if code is not None:
        return redirect(url_for("ops_find.index", code=code.value), 303)
    with services().ledger.read() as connection:
        matches = search.find(connection, text)
    if len(matches) == 1:
        return redirect(url_for("ops_order.show", name=matches[0].name), 303)
    return render_template("ops/found.html", matches=matches, text=text[:255], most=search.MOST_FOUND, **_choices())


may_look_by_post(look)


def _choices() -> dict[str, Any]:
    return {"all_states": STATES, "codes": [each.value for each in ErrorCode], "ages": AGES}


def chosen_filter() -> dict[str, str]:
    """The filter that a request's arguments or form name; what is unknown counts as not chosen."""
    given = request.values
    state, code, age = (given.get(name, "") for name in ("state", "code", "age"))
    return {
        "state": state if state in STATES else "",
        "code": code if code in {each.value for each in ErrorCode} else "",
        "age": age if age in AGES else "",
    }


def filter_of(chosen: dict[str, str]) -> search.Filter:
    """The ledger's filter of what was chosen, as of now."""
    since = until = None
    if chosen["age"]:
        _, length, last = AGES[chosen["age"]]
        moment = services().now() - length
        since, until = (moment, None) if last else (None, moment)
    return search.filter_of(chosen["state"], code=chosen["code"], since=since, until=until)


def _cursor(row: search.Listed) -> str:
    return base64.urlsafe_b64encode(f"{row.created_at!r} {row.sf_order_id}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> search.Cursor | None:
    """Where a page ended; None for the first page, and for what is no cursor."""
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        return None
    moment, _, sf_order_id = decoded.partition(" ")
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", moment) or not re.fullmatch(r"[A-Za-z0-9]{15,18}", sf_order_id):
        return None
    return float(moment), sf_order_id
