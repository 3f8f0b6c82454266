"""The account's orders: newest first, a page at a time, by status and by what is searched for; rows that run follow.

Moments are seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from flask import abort, render_template, request, url_for
from sqlalchemy.engine import Connection
from werkzeug.wrappers import Response

from portal.customers import order_pages
from portal.customers.progress import tag_of, word_of
from portal.customers.sign_in import to_sign_in
from portal.customers.visitor import visitor
from portal.domain.model import CustomerStatus
from portal.domain.names import to_shown
from portal.ledger import orders
from portal.ledger.orders import Item, Order
from portal.ledger.sessions import Session
from portal.web.context import services
from portal.web.languages import current, ngettext

#: The orders' own blueprint: one guard, one answer to strangers.
pages = order_pages.pages

PAGE_SIZE: Final = 20
POLL_SECONDS: Final = 5
#: A search looks through so many orders at a time, and through so many for one page: then it offers to go on.
SEARCHED_AT_ONCE: Final = 200
MOST_SEARCHED: Final = 1000
MOST_WORDS: Final = 100  # characters of a search
_REFERENCE: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")

Cursor = tuple[float, str]

#: What the list can be filtered by, as its address says it: the status, and whether the order waits for its customer.
_FILTERS: Final[dict[str, tuple[CustomerStatus, bool | None]]] = {
    "pending-review": (CustomerStatus.PENDING_REVIEW, None),
    "activating": (CustomerStatus.ACTIVATING, None),
    "needs-you": (CustomerStatus.FAILED, True),
    "provisioned": (CustomerStatus.PROVISIONED, None),
    "failed": (CustomerStatus.FAILED, False),
    "cancelled": (CustomerStatus.CANCELLED, None),
}


@dataclass(frozen=True)
class Row:
    """One order in the list."""

    order: Order
    headline: str  # what was ordered
    names: str  # for which domains
    tag: str
    tone: str


@dataclass(frozen=True)
class Asked:
    """What the address asks for."""

    status: CustomerStatus | None
    needs_customer: bool | None  # only orders that wait for their customer, or only others
    slug: str
    words: str
    before: Cursor | None

    @property
    def filtered(self) -> bool:
        """Whether some orders may be left out."""
        return self.status is not None or bool(self.words) or self.before is not None


@dataclass(frozen=True)
class Found:
    """A page of the list; `cursor`: where the next one begins, "" where there is none."""

    rows: tuple[Row, ...]
    cursor: str

    @property
    def live(self) -> bool:
        """Whether something may change by itself."""
        return any(not row.order.final for row in self.rows)

    @property
    def version(self) -> str:
        """Changes whenever the page would show something else."""
        shown = [(row.order.reference, row.headline, row.names, row.tag) for row in self.rows]
        return hashlib.blake2s(repr((current(), shown, self.cursor)).encode(), digest_size=6).hexdigest()


@pages.get("/orders")
def index() -> Response | str:
    """The list; `status` filters, `q` searches, `before` is where the last page ended."""
    account = visitor().account
    if account is None:
        return to_sign_in()
    asked = _asked()
    found = _found(account, asked)
    return render_template(
        "orders.html",
        asked=asked,
        found=found,
        filters=[(slug, word_of(each, needs_customer=bool(waits))) for slug, (each, waits) in _FILTERS.items()],
        rows_url=_rows_url(asked, found),
        poll_seconds=POLL_SECONDS,
    )


@pages.get("/orders/rows")
def rows() -> Response | str:
    """The part of the list that changes; 204 while it says what the poll's `v` already knows."""
    account = visitor().account
    if account is None:
        return to_sign_in(url_for("orders.index"))
    asked = _asked()
    found = _found(account, asked)
    if request.args.get("v") == found.version:
        return Response(status=204)
    return render_template("_rows.html", found=found, rows_url=_rows_url(asked, found), poll_seconds=POLL_SECONDS)


def _rows_url(asked: Asked, found: Found) -> str:
    before = request.args.get("before") or None
    return url_for("orders.rows", status=asked.slug or None, q=asked.words or None, before=before, v=found.version)


def _asked() -> Asked:
    slug = request.args.get("status", "")
    status, needs_customer = _FILTERS.get(slug, (None, None))
    before = request.args.get("before", "")
    cursor = read_cursor(before)
    if (slug and status is None) or (before and cursor is None):
        abort(404)
    return Asked(status, needs_customer, slug, request.args.get("q", "").strip()[:MOST_WORDS], cursor)


def _found(account: Session, asked: Asked) -> Found:
    with services().ledger.read() as connection:
        if asked.words:
            found, cursor = search(connection, account.account_id, asked)
        else:
            page = _page(connection, account.account_id, asked, limit=PAGE_SIZE + 1, before=asked.before)
            found = page[:PAGE_SIZE]
            cursor = _cursor(found[-1]) if len(page) > PAGE_SIZE else ""
    return Found(tuple(_row(order) for order in found), cursor)


def _page(connection: Connection, account_id: str, asked: Asked, *, limit: int, before: Cursor | None) -> list[Order]:
    return orders.page_of_account(
        connection, account_id, limit=limit, status=asked.status, needs_customer=asked.needs_customer, before=before
    )


def search(connection: Connection, account_id: str, asked: Asked) -> tuple[list[Order], str]:
    """A page of the orders that hold every word searched for, and the cursor of what wasn't looked at yet."""
    words = [_folded(word) for word in asked.words.split()]
    found: list[Order] = []
    before, looked_at = asked.before, 0
    while looked_at < MOST_SEARCHED:
        page = _page(connection, account_id, asked, limit=SEARCHED_AT_ONCE, before=before)
        for order in page:
            before = (order.created_at, order.reference)
            text = searched_text(order)
            if all(word in text for word in words):
                found.append(order)
                if len(found) == PAGE_SIZE:
                    return found, _cursor(order)
        looked_at += len(page)
        if len(page) < SEARCHED_AT_ONCE:
            return found, ""
    assert before is not None
    return found, _encoded(*before)


def searched_text(order: Order) -> str:
    """What a search looks at: reference, number, products and names, these as sent and as people write them."""
    parts = [order.reference, order.order_number or ""]
    for item in order.items:
        name = _name_of(item)
        parts += [item["name"], name, to_shown(name)]
    return _folded(" ".join(parts))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _row(order: Order) -> Row:
    tag, tone = tag_of(order)
    return Row(order, _headline(order.items), _names(order.items), tag, tone)


def _headline(items: list[Item]) -> str:
    """The products, each once with its quantity: "Starter Hosting × 2, Cloud Server S"; three at most."""
    counted: dict[str, int] = {}
    for item in items:
        counted[item["name"]] = counted.get(item["name"], 0) + item["quantity"]
    named = [f"{name} × {many}" if many > 1 else name for name, many in counted.items()]
    return _some(named)


def _names(items: list[Item]) -> str:
    return _some(list(dict.fromkeys(to_shown(name) for item in items if (name := _name_of(item)))))


def _some(words: list[str], most: int = 3) -> str:
    shown = ", ".join(words[:most])
    if len(words) <= most:
        return shown
    return ngettext("%(names)s and %(num)s more", "%(names)s and %(num)s more", len(words) - most, names=shown)


def _name_of(item: Item) -> str:
    return item["domain"] or item["hostname"] or ""


def _cursor(order: Order) -> str:
    return _encoded(order.created_at, order.reference)


def _encoded(moment: float, reference: str) -> str:
    return base64.urlsafe_b64encode(f"{moment!r} {reference}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> Cursor | None:
    """Moment (seconds since 1970) and reference of the order a page ended with; None for what is no cursor."""
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:  # binascii's, and of what isn't ASCII
        return None
    moment, _, reference = decoded.partition(" ")
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", moment, re.ASCII) or not _REFERENCE.fullmatch(reference):
        return None
    return float(moment), reference
