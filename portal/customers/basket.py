"""What a visitor is about to order, kept in the browser's signed cookie until it is placed.

A basket has one key from its first line to its order: however often the form is sent, and from however many tabs, the
ledger takes one order of that key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from portal.customers.catalogue import Catalogue, Product
from portal.web.languages import gettext

MOST_LINES: Final = 20
MOST_QUANTITY: Final = 99
#: Characters of all domains and hostnames together: a cookie holds 4 KB, and browsers drop a larger one in silence.
MOST_NAMES: Final = 1800

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_DOMAIN = re.compile(rf"(?=.{{4,253}}$)(?:{_LABEL}\.)+(?!\d+$){_LABEL}")
_HOSTNAME = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*(?!\d+$){_LABEL}")


class LineFault(ValueError):
    """A line can't be taken as it was entered; `field` names the input, `str()` says what to enter."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Line:
    """One line of the basket with its product as the catalogue has it now."""

    index: int
    product: Product
    quantity: int
    domain: str | None
    hostname: str | None

    @property
    def total(self) -> Decimal:
        """Price times quantity."""
        return Decimal(self.product.price) * self.quantity


class Basket:
    """A view on the visitor's cookie session. Lines whose product is no longer offered are left out."""

    def __init__(self, store: MutableMapping[str, Any], catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue
        kept = store.get("basket")
        self._rows: list[list[Any]] = [list(row) for row in kept] if isinstance(kept, list) else []

    def __iter__(self) -> Iterator[Line]:
        for index, (entry_id, quantity, domain, hostname) in enumerate(self._rows):
            product = self._catalogue.product(entry_id)
            if product is not None:
                yield Line(index, product, quantity, domain, hostname)

    def __bool__(self) -> bool:
        return any(True for _ in self)

    @property
    def gone(self) -> int:
        """How many lines were left out because their product is no longer offered."""
        return len(self._rows) - len(list(self))

    @property
    def total(self) -> Decimal:
        """What all lines cost."""
        return sum((line.total for line in self), Decimal(0))

    @property
    def currency(self) -> str:
        """The currency of its first line; a pricebook has one."""
        return next((line.product.currency for line in self), "")

    @property
    def key(self) -> str:
        """What the ledger knows this basket's order by."""
        if "basket_key" not in self._store:
            self._store["basket_key"] = secrets.token_urlsafe(16)
        return str(self._store["basket_key"])

    @property
    def fingerprint(self) -> str:
        """Changes when anything the customer agreed to on the review page does, prices included."""
        agreed = [
            (line.product.entry_id, line.quantity, line.domain, line.hostname, line.product.price) for line in self
        ]
        return hashlib.sha256(repr(agreed).encode()).hexdigest()[:20]

    def add(self, entry_id: str, quantity: str, domain: str, hostname: str) -> Line:
        """One more line. Raises LineFault."""
        product = self._catalogue.product(entry_id)
        if product is None:
            raise LineFault("product", gettext("This product is no longer offered"))
        if len(self._rows) >= MOST_LINES:
            raise LineFault(
                "product",
                gettext("A basket holds %(most)s lines: place this order first, then start another", most=MOST_LINES),
            )
        line = Line(
            index=len(self._rows),
            product=product,
            quantity=read_quantity(quantity),
            domain=read_domain(domain) if product.needs == "domain" else None,
            hostname=read_hostname(hostname) if product.needs == "hostname" else None,
        )
        names = [row[2] or row[3] or "" for row in self._rows] + [line.domain or line.hostname or ""]
        if sum(map(len, names)) > MOST_NAMES:
            raise LineFault("product", gettext("This basket is full: place this order first, then start another"))
        self._rows.append([entry_id, line.quantity, line.domain, line.hostname])
        self._save()
        return line

    def change(self, index: int, quantity: str) -> None:
        """Another quantity for a line. Raises LineFault."""
        if 0 <= index < len(self._rows):
            self._rows[index][1] = read_quantity(quantity)
            self._save()

    def remove(self, index: int) -> None:
        """Take a line out."""
        if 0 <= index < len(self._rows):
            del self._rows[index]
            self._save()

    def empty(self) -> None:
        """After the order is placed: no lines, and another key for the next basket."""
        self._store.pop("basket", None)
        self._store.pop("basket_key", None)

    def _save(self) -> None:
        self._store["basket"] = self._rows
        _ = self.key


def read_quantity(text: str) -> int:
    """1 to MOST_QUANTITY. Raises LineFault."""
    text = text.strip() or "1"
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_QUANTITY:
        raise LineFault("quantity", gettext("Enter a quantity from 1 to %(most)s", most=MOST_QUANTITY))
    return int(text)


def read_domain(text: str) -> str:
    """A domain name, in lower case and ASCII (xn--…). Raises LineFault."""
    name = _ascii_name(text)
    if name is None or not _DOMAIN.fullmatch(name):
        raise LineFault("domain", gettext("Enter a domain name, like %(example)s", example="example.com"))
    return name


def read_hostname(text: str) -> str:
    """A host name, in lower case and ASCII. Raises LineFault."""
    name = _ascii_name(text)
    if name is None or not _HOSTNAME.fullmatch(name):
        raise LineFault("hostname", gettext("Enter a hostname, like %(example)s", example="server1.example.com"))
    return name


def _ascii_name(text: str) -> str | None:
    name = text.strip().rstrip(".").lower()
    if len(name) > 253:
        return None
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return None
