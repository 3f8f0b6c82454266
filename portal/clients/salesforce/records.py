"""Salesforce's JSON as records of ours, and what is written there as its JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from portal.clients.salesforce.errors import NAME
from portal.clients.salesforce.fields import CURRENCY
from portal.domain.ids import salesforce_id_18
from portal.domain.model import FRACTIONAL_QUANTITY, NO_ACCOUNT, SalesforceItem, SalesforceOrder, UpstreamError

NEW_ORDER_STATUS: Final = "Pending Review"


@dataclass(frozen=True)
class Contact:
    """A person of an account. `repr` shows only ids."""

    id: str
    account_id: str
    account_name: str = field(repr=False)
    whmcs_client_id: str | None
    first_name: str = field(repr=False)
    last_name: str = field(repr=False)
    email: str = field(repr=False)
    currency: str | None = None  # the account's, where the org has several


@dataclass(frozen=True)
class CatalogueEntry:
    """An active pricebook entry of an active product. `unit_price`: decimal text.

    currency: its ISO 4217 code, where the org has several; sort_order: Product2.Sort_Order__c, where the org has one.
    """

    id: str
    product_id: str
    name: str
    description: str
    family: str
    unit_price: str
    wh_product_id: str | None
    billing_cycle: str | None
    currency: str | None = None
    sort_order: float | None = None


@dataclass(frozen=True)
class NewOrderItem:
    """One item of an order to be created; `unit_price` is decimal text."""

    pricebook_entry_id: str
    quantity: int
    unit_price: str
    domain: str | None = None
    hostname: str | None = None


@dataclass(frozen=True)
class NewOrder:
    """An order to be created. Its reference makes it one: Portal_Reference__c is unique in Salesforce."""

    reference: str
    account_id: str
    pricebook_id: str
    effective_date: date
    items: tuple[NewOrderItem, ...]
    currency: str | None = None  # said where the org has several


@dataclass(frozen=True)
class OrderSummary:
    """One line of an account's list of orders. Moments are seconds since 1970; `total` is decimal text."""

    id: str
    order_number: str
    status: str
    provisioning_status: str | None
    error_code: str | None
    whmcs_order_id: str | None
    portal_reference: str | None
    created_at: float
    last_provisioning_at: float | None
    total: str | None
    items: tuple[tuple[str, int], ...]  # product name, quantity


@dataclass(frozen=True)
class ChangedOrders:
    """One page of changes, oldest first. Rows that can't be read are only named: they keep nobody from the others."""

    changes: tuple[OrderChange, ...]
    odd: tuple[str, ...]  # their ids
    rows: int  # how many there were, odd ones included
    changed_at: float  # of the last row, in seconds since 1970, and its id: where to read on
    last_id: str


@dataclass(frozen=True)
class OrderChange:
    """What the sweep learns of an order that changed in Salesforce: what it is now, but nobody's e-mail."""

    order: SalesforceOrder
    created_at: float  # seconds since 1970
    changed_at: float

    @property
    def id(self) -> str:
        """The order's id, 18 characters."""
        return self.order.id


# --- from and to Salesforce's JSON


def to_order(
    record: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    contact: Mapping[str, Any] | None = None,
    quantity: Callable[[object], int] | None = None,
) -> SalesforceOrder:
    """An Order with its OrderItems, and the contact a new WHMCS client would be made of.

    `quantity` reads a quantity: `whole_quantity` unless another is given. Raises KeyError, TypeError, ValueError or
    ArithmeticError for an unexpected shape, a permanent UpstreamError (NO_ACCOUNT) for an order of no account, and
    what `quantity` raises.
    """
    if not record.get("AccountId"):
        raise UpstreamError(NAME, "the order has no account in Salesforce", permanent=True, code=NO_ACCOUNT)
    account = record.get("Account") or {}
    return SalesforceOrder(
        id=salesforce_id_18(record["Id"]),
        order_number=text(record.get("OrderNumber")) or "",
        status=text(record.get("Status")) or "",
        account_id=salesforce_id_18(record["AccountId"]),
        account_name=text(account.get("Name")) or "",
        whmcs_client_id=text(account.get("WHMCS_Client_ID__c")),
        email=text(contact.get("Email")) if contact else None,
        provisioning_status=text(record.get("Provisioning_Status__c")),
        whmcs_order_id=text(record.get("WHMCS_Order_ID__c")),
        portal_reference=text(record.get("Portal_Reference__c")),
        items=tuple(_item(row, quantity or whole_quantity) for row in rows),
        currency=text(record.get(CURRENCY)),
        total=money(record.get("TotalAmount")),
        contact=_client_details(contact) if contact else {},
        created_at=moment(record.get("CreatedDate")),
        provisioning_error_code=text(record.get("Provisioning_Error_Code__c")),
        provisioning_error_message=text(record.get("Provisioning_Error_Message__c")),
        last_provisioning_at=moment(record.get("Last_Provisioning_At__c")),
    )


def _item(row: Mapping[str, Any], quantity: Callable[[object], int]) -> SalesforceItem:
    product = row.get("Product2") or {}
    return SalesforceItem(
        id=salesforce_id_18(row["Id"]),
        product_name=text(product.get("Name")) or "",
        quantity=quantity(row.get("Quantity")),
        unit_price=money(row.get("UnitPrice")) or "0.00",
        wh_product_id=text(product.get("WH_Product_ID__c")),
        billing_cycle=text(product.get("Billing_Cycle__c")),
        domain=text(row.get("Domain__c")),
        hostname=text(row.get("Hostname__c")),
    )


def _client_details(contact: Mapping[str, Any]) -> dict[str, str]:
    """What AddClient takes of a contact, under AddClient's own names."""
    account = contact.get("Account") or {}
    named = {
        "firstname": contact.get("FirstName"),
        "lastname": contact.get("LastName"),
        "email": contact.get("Email"),
        "companyname": account.get("Name"),
        "phonenumber": contact.get("Phone") or account.get("Phone"),
        "address1": account.get("BillingStreet"),
        "city": account.get("BillingCity"),
        "state": account.get("BillingState"),
        "postcode": account.get("BillingPostalCode"),
        "country": account.get("BillingCountry"),
    }
    return {name: known for name, value in named.items() if (known := text(value)) is not None}


def person_as_contact(row: Mapping[str, Any]) -> dict[str, Any]:
    """A person account in a contact's shape: its own contact, and no company."""
    last = text(row.get("LastName")) or text(row.get("Name"))
    address = {name: value for name, value in row.items() if name.startswith("Billing")}
    return {
        "Id": row.get("PersonContactId") or row["Id"],
        "AccountId": row["Id"],
        "FirstName": row.get("FirstName"),
        "LastName": last,
        "Email": row.get("PersonEmail"),
        "Phone": row.get("Phone"),
        "Account": {**address, "WHMCS_Client_ID__c": row.get("WHMCS_Client_ID__c"), CURRENCY: row.get(CURRENCY)},
    }


def to_contact(row: Mapping[str, Any]) -> Contact:
    """A Contact that has an account. Raises as `to_order`."""
    account = row.get("Account") or {}
    return Contact(
        id=salesforce_id_18(row["Id"]),
        account_id=salesforce_id_18(row["AccountId"]),
        account_name=text(account.get("Name")) or "",
        whmcs_client_id=text(account.get("WHMCS_Client_ID__c")),
        first_name=text(row.get("FirstName")) or "",
        last_name=text(row.get("LastName")) or "",
        email=text(row.get("Email")) or "",
        currency=text(account.get(CURRENCY)),
    )


def to_catalogue_entry(row: Mapping[str, Any]) -> CatalogueEntry:
    """A PricebookEntry with its Product2. Raises as `to_order`."""
    product = row.get("Product2") or {}
    return CatalogueEntry(
        id=salesforce_id_18(row["Id"]),
        product_id=salesforce_id_18(row["Product2Id"]),
        name=text(product.get("Name")) or "",
        description=text(product.get("Description")) or "",
        family=text(product.get("Family")) or "",
        unit_price=money(row["UnitPrice"]) or "0.00",
        wh_product_id=text(product.get("WH_Product_ID__c")),
        billing_cycle=text(product.get("Billing_Cycle__c")),
        currency=text(row.get(CURRENCY)),
        sort_order=None if product.get("Sort_Order__c") is None else float(product["Sort_Order__c"]),
    )


def whole_orders(rows: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> list[SalesforceOrder]:
    """Of these Orders with their OrderItems those that can be read and whose account has a WHMCS client."""
    orders = []
    for record, items in rows:
        with suppress(UpstreamError, KeyError, TypeError, ValueError, ArithmeticError):
            orders.append(to_order(record, items))
    return [order for order in orders if order.whmcs_client_id is not None]


def to_summary(row: Mapping[str, Any], children: Sequence[Mapping[str, Any]]) -> OrderSummary:
    """An Order for a list, with its OrderItems. Raises as `to_order`."""
    created = moment(row.get("CreatedDate"))
    if created is None:
        raise ValueError("an order has a CreatedDate")
    return OrderSummary(
        id=salesforce_id_18(row["Id"]),
        order_number=text(row.get("OrderNumber")) or "",
        status=text(row.get("Status")) or "",
        provisioning_status=text(row.get("Provisioning_Status__c")),
        error_code=text(row.get("Provisioning_Error_Code__c")),
        whmcs_order_id=text(row.get("WHMCS_Order_ID__c")),
        portal_reference=text(row.get("Portal_Reference__c")),
        created_at=created,
        last_provisioning_at=moment(row.get("Last_Provisioning_At__c")),
        total=money(row.get("TotalAmount")),
        items=tuple(
            (text((child.get("Product2") or {}).get("Name")) or "", shown_quantity(child.get("Quantity")))
            for child in children
        ),
    )


def to_change(row: Mapping[str, Any], children: Sequence[Mapping[str, Any]]) -> OrderChange:
    """An Order with its OrderItems and when it changed. Raises as `to_order`."""
    created, changed = moment(row.get("CreatedDate")), moment(row.get("LastModifiedDate"))
    if created is None or changed is None:
        raise ValueError("an order has a CreatedDate and a LastModifiedDate")
    order = to_order(row, children, quantity=shown_quantity)
    return OrderChange(order=order, created_at=created, changed_at=changed)


def to_changed_orders(
    rows: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]], since: tuple[float, str]
) -> ChangedOrders:
    """A page of Orders with their OrderItems; `since`: where it began. Raises as `to_order` for a row without an id."""
    changes, odd = [], []
    changed_at, last_id = since
    for row, children in rows:
        last_id = salesforce_id_18(row["Id"])
        changed_at = moment(row.get("LastModifiedDate")) or changed_at
        try:
            changes.append(to_change(row, children))
        except (UpstreamError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            odd.append(last_id)
    return ChangedOrders(tuple(changes), tuple(odd), len(rows), changed_at, last_id)


def order_tree(order: NewOrder, order_fields: Collection[str], item_fields: Collection[str]) -> dict[str, Any]:
    """The body of composite/tree/Order (REST API Developer Guide, "sObject Tree").

    `order_fields`, `item_fields`: the optional fields of an order and of an item that the org has. Items carry
    references of their own, so that no item is there twice. A domain or hostname is never left out: an org without a
    field for it refuses the order until its set-up is mended. Raises ValueError for what is no Salesforce id,
    ArithmeticError for a price that is no number.
    """
    items = [
        {
            "attributes": {"type": "OrderItem", "referenceId": f"item{number}"},
            "PricebookEntryId": salesforce_id_18(item.pricebook_entry_id),
            "Quantity": item.quantity,
            "UnitPrice": float(Decimal(item.unit_price)),
            **({"Portal_Reference__c": f"{order.reference}-{number}"} if "Portal_Reference__c" in item_fields else {}),
            **({"Domain__c": item.domain} if item.domain else {}),
            **({"Hostname__c": item.hostname} if item.hostname else {}),
        }
        for number, item in enumerate(order.items, start=1)
    ]
    record = {
        "attributes": {"type": "Order", "referenceId": "order"},
        "AccountId": salesforce_id_18(order.account_id),
        "Pricebook2Id": salesforce_id_18(order.pricebook_id),
        "EffectiveDate": order.effective_date.isoformat(),
        "Status": NEW_ORDER_STATUS,
        "Portal_Reference__c": order.reference,
        **({CURRENCY: order.currency} if order.currency and CURRENCY in order_fields else {}),
        "OrderItems": {"records": items},
    }
    return {"records": [record]}


def sendable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Field values as text: Salesforce's text fields refuse JSON numbers, and the portal sets no number field."""
    return {
        name: str(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else value
        for name, value in fields.items()
    }


def text(value: object) -> str | None:
    """Text of a field, None for null and for nothing but blanks; a number (99 or 99.0) becomes its digits."""
    if value is None or isinstance(value, dict | list | bool):
        return None
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else value
    return str(value).strip() or None


def money(value: object) -> str | None:
    """A currency field as decimal text with two places or more. Raises ValueError or ArithmeticError for no amount."""
    if value is None:
        return None
    amount = Decimal(str(value))
    if not amount.is_finite():
        raise ValueError("no amount")
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    return format(amount if exponent <= -2 else amount.quantize(Decimal("0.01")), "f")


def whole_quantity(value: object) -> int:
    """A quantity. WHMCS sells whole ones only, and rounding would sell another number than was ordered.

    Raises a permanent UpstreamError (`FRACTIONAL_QUANTITY`) for a fraction, ArithmeticError for no number.
    """
    amount = Decimal(str(value))
    if amount != amount.to_integral_value():
        raise UpstreamError(
            NAME,
            f"an order item has the quantity {amount.normalize():f}; only whole quantities can be provisioned",
            permanent=True,
            code=FRACTIONAL_QUANTITY,
        )
    return int(amount)


def shown_quantity(value: object) -> int:
    """A quantity for showing: a fraction is rounded up."""
    return int(Decimal(str(value or 0)).to_integral_value(ROUND_CEILING))


def moment(value: object) -> float | None:
    """`2026-11-21T16:38:52.000+0000` as seconds since 1970. Raises ValueError for no moment."""
    return datetime.fromisoformat(str(value)).timestamp() if value else None
