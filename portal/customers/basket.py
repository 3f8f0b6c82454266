"""What a visitor is about to order, kept in the browser's signed cookie until it is placed.

A basket has one key from its first line to its order: however often the form is sent, and from however many tabs, the
ledger takes one order of that key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from portal.customers.catalogue import Catalogue, Product
from portal.domain.names import to_ascii, to_shown
from portal.ledger.orders import Item
from portal.web.languages import gettext

MOST_LINES: Final = 20
MOST_QUANTITY: Final = 99
#: Characters of all domains and hostnames together: a cookie holds 4 KB, and browsers drop a larger one in silence.
MOST_NAMES: Final = 1800


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

    @property
    def item(self) -> Item:
        """The line as an order has it."""
        return Item(
            name=self.product.name,
            quantity=self.quantity,
            unitPrice=self.product.price,
            cycle=self.product.cycle,
            domain=self.domain,
            hostname=self.hostname,
            entryId=self.product.entry_id,
        )


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
                yield Line(index, product, 1 if product.needs else quantity, domain, hostname)

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
    def items(self) -> list[Item]:
        """Its lines as an order has them."""
        return [line.item for line in self]

    @property
    def currency(self) -> str:
        """The currency of its first line; the catalogue offers one."""
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
            (
                line.product.entry_id,
                line.quantity,
                line.domain,
                line.hostname,
                line.product.price,
                line.product.currency,
            )
            for line in self
        ]
        return hashlib.sha256(repr(agreed).encode()).hexdigest()[:20]

    def add(self, entry_id: str, quantity: str, domain: str, hostname: str) -> None:
        """One more line, or one for each of several domains or hostnames. Raises LineFault, with nothing added."""
        product = self._catalogue.product(entry_id)
        if product is None:
            raise LineFault("product", gettext("This product is no longer offered"))
        if product.needs == "domain":
            rows: list[list[Any]] = [[entry_id, 1, name, None] for name in read_several(domain, read_domain)]
        elif product.needs == "hostname":
            rows = [[entry_id, 1, None, name] for name in read_several(hostname, read_hostname)]
        else:
            rows = [[entry_id, read_quantity(quantity), None, None]]
        for row in rows:
            name = row[2] or row[3]
            if name and any(name in (kept[2], kept[3]) and kept[0] == entry_id for kept in self._rows):
                raise LineFault(
                    product.needs,
                    gettext("%(name)s is in your basket already, with this product", name=to_shown(name)),
                )
        if len(self._rows) + len(rows) > MOST_LINES:
            raise LineFault(
                "product",
                gettext("A basket holds %(most)s lines: place this order first, then start another", most=MOST_LINES),
            )
        if sum(len(row[2] or row[3] or "") for row in self._rows + rows) > MOST_NAMES:
            raise LineFault("product", gettext("This basket is full: place this order first, then start another"))
        self._rows += rows
        self._save()

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

    def forget_gone(self) -> None:
        """Take the lines out whose product is no longer offered: nobody could, for no page shows them."""
        self._rows = [row for row in self._rows if self._catalogue.product(row[0]) is not None]
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


def read_several(text: str, read: Callable[[str], str]) -> list[str]:
    """Names separated by spaces, commas or semicolons, each once, as `read` gives them. Raises LineFault."""
    names = [name for name in re.split(r"[\s,;，、]+", text) if name]
    return list(dict.fromkeys(map(read, names or [""])))


def read_domain(text: str) -> str:
    """A domain name as it is sent (portal.domain.names). Raises LineFault."""
    name = to_ascii(text)
    if name is None or "." not in name:
        raise LineFault("domain", gettext("Enter a domain name, like %(example)s", example="example.com"))
    return name


def read_hostname(text: str) -> str:
    """A host name as it is sent. Raises LineFault."""
    name = to_ascii(text)
    if name is None:
        raise LineFault("hostname", gettext("Enter a hostname, like %(example)s", example="server1.example.com"))
    return name
