"""Which of the fields that an org may lack it has: person accounts', and those of the portal's own that are optional.

A query that names a field which isn't there is refused as a whole. So these are asked for only where Salesforce's own
description shows them; it leaves out what the user may not see, too. Their absence is normal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

#: Only orgs with several currencies have it.
CURRENCY: Final = "CurrencyIsoCode"

#: By object. Everything else a query names is standard, or what the communication guide has an admin create.
OPTIONAL: Final[dict[str, frozenset[str]]] = {
    "Order": frozenset({"Portal_Reference__c", CURRENCY}),
    "OrderItem": frozenset({"Domain__c", "Hostname__c", "Portal_Reference__c"}),
    "Account": frozenset({"IsPersonAccount", "PersonEmail", "PersonContactId", "FirstName", "LastName", CURRENCY}),
    "PricebookEntry": frozenset({CURRENCY}),
    "Product2": frozenset({"Sort_Order__c"}),
}

#: The portal works as well without: never taken to be there where Salesforce doesn't tell.
_EXTRAS: Final = frozenset({"Sort_Order__c"})

KEPT_SECONDS: Final = 3600.0  # a field deployed meanwhile is asked for within this time


class FieldCache:
    """What the descriptions said, for the threads of a process (or for several clients of one org)."""

    def __init__(self, known: Mapping[str, Iterable[str]] | None = None) -> None:
        """`known`: object → its optional fields, for who knows them already."""
        now = time.monotonic()
        self._known = {name: (now, frozenset(fields)) for name, fields in (known or {}).items()}
        self._lock = threading.Lock()

    def get(self, sobject: str) -> frozenset[str] | None:
        """The object's optional fields; None where they have to be asked for."""
        told = self._known.get(sobject)
        return told[1] if told is not None and time.monotonic() - told[0] < KEPT_SECONDS else None

    def put(self, sobject: str, fields: frozenset[str]) -> None:
        """Keep what a description said."""
        with self._lock:
            self._known[sobject] = (time.monotonic(), fields)

    def forget(self) -> None:
        """A query was refused for a field: what is known is outdated."""
        with self._lock:
            self._known = {}


def optional_fields(
    cache: FieldCache, sobject: str, describe: Callable[[str], Mapping[str, Any] | None]
) -> frozenset[str]:
    """Which of the object's optional fields there are. `describe` returns None where Salesforce refuses to tell.

    Then the portal's own are taken to be there, as its package deploys them. Raises what `describe` raises.
    """
    known = cache.get(sobject)
    if known is not None:
        return known
    told = describe(sobject)
    if told is None:
        return frozenset(name for name in OPTIONAL[sobject] - _EXTRAS if name.endswith("__c"))
    names = {field.get("name") for field in told.get("fields") or () if isinstance(field, dict)}
    fields = OPTIONAL[sobject] & names
    cache.put(sobject, fields)
    return fields
