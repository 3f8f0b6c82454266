"""What WHMCS keeps and how it is found: clients, payment methods, prices (orders are in ordering.py).

Documents: client, paymethod, product, order, service, domain, invoice, transaction, ticket, activity, module_failure.
Their ids are ints; the store's keys are those ids as text.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sandbox.store import Document, Store, Transaction
from sandbox.whmcs.events import Events

CYCLES = {
    "monthly": ("Monthly", 1),
    "quarterly": ("Quarterly", 3),
    "semiannually": ("Semi-Annually", 6),
    "annually": ("Annually", 12),
    "biennially": ("Biennially", 24),
    "triennially": ("Triennially", 36),
    "onetime": ("One Time", 0),
    "free": ("Free Account", 0),
}
GATEWAYS = {"stripe": "Credit Card", "mailin": "Mail In Payment", "banktransfer": "Bank Transfer", "paypal": "PayPal"}
ORDER_STATUSES = ("Pending", "Active", "Fraud", "Cancelled")
NOT_PENDING = "Order ID not found or Status not Pending"
INDEXES = {
    "order": ("userid",),
    "service": ("orderid", "userid"),
    "invoice": ("userid",),
    "paymethod": ("userid",),
    "domain": ("orderid", "userid"),
    "client": ("email",),
}


class Refused(Exception):
    """A business error: `message` goes out with `result: error`."""


def timestamp() -> str:
    """The present as WHMCS writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def money(value: Any) -> str:
    """Two decimals, as text."""
    return f"{float(value):.2f}"


class Model:
    """Business rules over the store. Every method that changes something takes the transaction it belongs to."""

    def __init__(self, store: Store, settings: dict[str, Any], events: Events):
        self.store = store
        self.settings = settings
        self.events = events

    # -- small helpers

    def get(self, kind: str, key: Any) -> Document | None:
        """A document by id in any form."""
        return self.store.get(kind, str(key).strip())

    def add(self, change: Transaction, kind: str, **fields: Any) -> Document:
        """A new document with the next id (or the `id` given)."""
        number = int(fields.pop("id", 0) or 0)
        if not number:
            number = change.next(kind)
            while change.get(kind, str(number)) is not None:
                number = change.next(kind)
        document = {"id": number, **fields}
        change.put(kind, str(number), document)
        return document

    def log(self, change: Transaction, description: str, userid: int = 0) -> None:
        """A line in the activity log."""
        self.add(change, "activity", date=timestamp(), description=description, userid=userid, user="API")

    def services_of(self, order_id: int) -> list[Document]:
        """An order's services, oldest first."""
        return sorted(self.store.find("service", "orderid", order_id), key=lambda each: each["id"])

    def domains_of(self, order_id: int) -> list[Document]:
        """An order's domains, oldest first."""
        return sorted(self.store.find("domain", "orderid", order_id), key=lambda each: each["id"])

    # -- prices, cards, clients

    def price(self, product: Document, cycle: str) -> float | None:
        """The price of a product for a cycle; None when it isn't offered."""
        if product["paytype"] == "free":
            return 0.0 if cycle == "free" else None
        if product["paytype"] == "onetime":
            return float(product["pricing"].get("monthly", "0.00")) if cycle == "onetime" else None
        price = float(product["pricing"].get(cycle, "-1.00")) if cycle in CYCLES else -1.0
        return price if price >= 0 else None

    def add_paymethod(self, change: Transaction, client: Document, **fields: Any) -> Document:
        """A card (or what `type` says) on file."""
        method = self.add(
            change,
            "paymethod",
            **{
                "userid": client["id"],
                "type": "CreditCard",
                "description": "Visa ending 4242",
                "gateway_name": "stripe",
                "contact_type": "Client",
                "contact_id": client["id"],
                "card_last_four": "4242",
                "card_type": "Visa",
                "expiry_date": "12/31",
                "start_date": "",
                "issue_number": "",
                "remote_token": f"tok_{secrets.token_hex(12)}",
                "last_updated": timestamp(),
                **fields,
            },
        )
        self.log(change, f"Pay Method Added - Pay Method ID: {method['id']}", client["id"])
        self.events.emit(change, "paymethod.added", clientId=client["id"], payMethodId=method["id"])
        return method

    def add_client(self, change: Transaction, **fields: Any) -> Document:
        """A new client."""
        client = self.add(
            change,
            "client",
            **{
                "firstname": "",
                "lastname": "",
                "companyname": "",
                "email": "",
                "address1": "",
                "address2": "",
                "city": "",
                "state": "",
                "postcode": "",
                "country": "US",
                "phonenumber": "",
                "status": "Active",
                "currency": 1,
                "defaultgateway": "",
                "credit": "0.00",
                "groupid": 0,
                "language": "",
                "notes": "",
                "customfields": {},
                "datecreated": timestamp()[:10],
                **fields,
            },
        )
        self.log(
            change, f"Created Client {client['firstname']} {client['lastname']} - User ID: {client['id']}", client["id"]
        )
        return client

    def fields_of(
        self, product: Document, values: Callable[[int], str] | None = None, all_fields: bool = False
    ) -> list[Document]:
        """A product's custom fields (only those on the order form, unless asked for all), with values when given."""
        return [
            {
                "id": each["id"],
                "name": each["name"],
                **(
                    {"description": each.get("description", ""), "required": each.get("required", "")}
                    if values is None
                    else {"translated_name": each["name"], "value": values(each["id"])}
                ),
            }
            for each in product.get("customfields", [])
            if all_fields or each.get("showorder", True)
        ]
