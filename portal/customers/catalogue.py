"""The products on offer: Salesforce's pricebook, read once in a while for all visitors together.

Kept in Redis for every process and in this one's memory. Whoever finds it old starts one refresh in the background
and shows what there is; with Salesforce away the last known catalogue stays on show.

Moments are seconds since 1970.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final, TypeVar

import redis

from portal.customers.waiters import NoPlace, Waiters
from portal.domain.model import PortalError
from portal.services import Services

_T = TypeVar("_T")
log = logging.getLogger("portal.catalogue")

FRESH_SECONDS: Final = 300.0
#: After a failed refresh, and how long one may take.
RETRY_SECONDS: Final = 30

_KEY: Final = "portal:catalogue"
_REFRESHING: Final = "portal:catalogue:refreshing"


class CatalogueUnavailable(PortalError):
    """Nothing is known from before, and Salesforce can't be asked; `soon`: it is being asked already, by others."""

    def __init__(self, message: str, *, soon: bool = False) -> None:
        super().__init__(message)
        self.soon = soon


@dataclass(frozen=True)
class Product:
    """One pricebook entry. `price` is decimal text; `needs`: what must be named for it, "domain", "hostname" or ""."""

    entry_id: str
    name: str
    description: str
    family: str
    price: str
    currency: str
    cycle: str
    needs: str
    product_id: str = ""
    sort_order: float | None = None


@dataclass(frozen=True)
class Catalogue:
    """All products, and when they were read (seconds since 1970). `elsewhere`: prices in currencies not offered."""

    products: tuple[Product, ...]
    read_at: float
    elsewhere: tuple[Product, ...] = ()

    def product(self, entry_id: str) -> Product | None:
        """The product of a pricebook entry, if it is still offered; its price may be an entry of another currency."""
        found = _entry(self.products, entry_id)
        if found is None and (other := _entry(self.elsewhere, entry_id)) is not None and other.product_id:
            return next((each for each in self.products if each.product_id == other.product_id), None)
        return found

    def priced_in(self, currency: str | None, *, preferred: str) -> Catalogue:
        """What is offered in one currency, the only one that an order can have.

        currency: the account's; where it isn't known, `preferred` (BRAND_CURRENCY), or what there is.
        """
        there = {each.currency for each in self.products}
        chosen = currency or (preferred if preferred in there else min(there, default=""))
        mine = tuple(each for each in self.products if each.currency == chosen)
        return Catalogue(mine, self.read_at, tuple(each for each in self.products if each.currency != chosen))

    @property
    def groups(self) -> list[tuple[str, list[Product]]]:
        """The products by family, in the merchant's order (Product2.Sort_Order__c), else by price.

        A family stands where its first product does; those without one come last.
        """
        found: dict[str, list[Product]] = {}
        for each in sorted(self.products, key=_place):
            found.setdefault(each.family, []).append(each)
        return sorted(found.items(), key=lambda group: not group[0])


def _entry(products: tuple[Product, ...], entry_id: str) -> Product | None:
    return next((each for each in products if each.entry_id == entry_id), None)


def _place(product: Product) -> tuple[bool, float, Decimal, str]:
    return product.sort_order is None, product.sort_order or 0.0, Decimal(product.price), product.name


class CatalogueCache:
    """One per process; safe for threads."""

    def __init__(self, services: Services, waiters: Waiters | None = None) -> None:
        """`waiters`: whose places the requests that wait for the first catalogue take."""
        self._services = services
        self._waiters = waiters or Waiters()
        self._known: Catalogue | None = None
        self._guard = threading.Lock()  # held for a moment only
        self._reading = threading.Lock()  # held while Salesforce is asked for the first catalogue
        self._tried_at = float("-inf")

    def current(self) -> Catalogue:
        """The catalogue, at most FRESH_SECONDS old while Salesforce answers. Raises CatalogueUnavailable."""
        now = self._services.now()
        known = self._known
        if known is None or now - known.read_at > FRESH_SECONDS:
            shared = self._from_redis()
            if shared is not None and (known is None or shared.read_at > known.read_at):
                known = self._known = shared
        if known is None:
            return self._read_first(now=now)
        if now - known.read_at > FRESH_SECONDS and self._may_refresh(now=now):
            threading.Thread(target=self._refresh, name="catalogue", daemon=True).start()
        return known

    def _read_first(self, *, now: float) -> Catalogue:
        try:
            with self._waiters.place():
                return self._read_in_turn(now=now)
        except NoPlace as busy:
            raise CatalogueUnavailable("the catalogue is being read", soon=True) from busy

    def _read_in_turn(self, *, now: float) -> Catalogue:
        with self._reading:  # of the first visitors one asks, a few wait for what it gets
            if self._known is not None:
                return self._known
            if now - self._tried_at < RETRY_SECONDS / 6:
                raise CatalogueUnavailable("the catalogue can't be read at the moment")
            self._tried_at = now
            known = self._refresh()
            if known is None:
                raise CatalogueUnavailable("the catalogue can't be read at the moment")
            return known

    def _may_refresh(self, *, now: float) -> bool:
        """Whether it is this process's turn: one in all of them, every RETRY_SECONDS at most."""
        with self._guard:
            if now - self._tried_at < RETRY_SECONDS:
                return False
            self._tried_at = now
        try:
            return bool(self._services.redis.set(_REFRESHING, "1", nx=True, ex=RETRY_SECONDS))
        except redis.RedisError:
            return True

    def _refresh(self) -> Catalogue | None:
        settings = self._services.settings
        try:
            entries = self._services.salesforce.catalogue(settings.portal_pricebook_id)
        except PortalError as error:
            log.warning("The catalogue couldn't be read from Salesforce", extra={"error": str(error)})
            return None
        except Exception:
            log.exception("The catalogue couldn't be read from Salesforce")
            return None
        products = tuple(
            Product(
                entry_id=entry.id,
                name=entry.name,
                description=entry.description,
                family=entry.family,
                price=entry.unit_price,
                currency=entry.currency or settings.brand_currency,
                cycle=entry.billing_cycle or "",
                needs=needs(entry.family, settings.catalogue_domain_families, settings.catalogue_hostname_families),
                product_id=entry.product_id,
                sort_order=entry.sort_order,
            )
            for entry in entries
        )
        self._known = known = Catalogue(products, self._services.now())
        self._to_redis(known)
        return known

    def _from_redis(self) -> Catalogue | None:
        return _quietly(lambda: _load(self._services.redis.get(_KEY)))

    def _to_redis(self, catalogue: Catalogue) -> None:
        text = json.dumps({"readAt": catalogue.read_at, "products": [asdict(each) for each in catalogue.products]})
        _quietly(lambda: self._services.redis.set(_KEY, text))


def needs(family: str, domain_families: tuple[str, ...], hostname_families: tuple[str, ...]) -> str:
    """What must be named for a product of this Product2.Family: "domain", "hostname" or nothing ("")."""
    folded = family.casefold()
    if folded in {each.casefold() for each in domain_families}:
        return "domain"
    if folded in {each.casefold() for each in hostname_families}:
        return "hostname"
    return ""


def _load(raw: Any) -> Catalogue | None:
    if not raw:
        return None
    try:
        kept = json.loads(raw)
        return Catalogue(tuple(Product(**each) for each in kept["products"]), float(kept["readAt"]))
    except (ValueError, TypeError, KeyError):  # written by another version of the portal
        return None


def _quietly(call: Callable[[], _T]) -> _T | None:
    try:
        return call()
    except redis.RedisError:
        return None
