"""What the pretend Salesforce and WHMCS hold at first: a catalogue and four customers, each a story of its own."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PRICEBOOK = "01s000000PORTALAQ5"  # the portal's settings name it before the org is there

#: The product custom field for the portal's mark (WHMCS_MARKER_CUSTOM_FIELD), and the products that have it.
MARKER_CUSTOM_FIELD = "sfOrderId"
MARKED = ("1", "2", "3")


class Product(NamedTuple):
    """A product on both sides; `cycle` as Salesforce's people spell it, `whmcs_cycle` as WHMCS does."""

    name: str
    family: str
    description: str
    pid: str | None  # its number in WHMCS
    cycle: str
    price: str
    whmcs_cycle: str
    sort_order: int | None = None  # Product2.Sort_Order__c


class Customer(NamedTuple):
    """A client of the shop; `client` is its number in WHMCS, `known` whether Salesforce has that number."""

    first: str
    last: str
    email: str
    company: str
    client: int | None
    known: bool
    card: bool


PRODUCTS = {
    "starter": Product(
        "Starter Hosting", "Hosting", "One website, 10 GB, daily backups.", "1", "Monthly", "5.00", "monthly", 10
    ),
    "business": Product(
        "Business Hosting", "Hosting", "Ten websites, 100 GB, staging.", "2", "Annual", "120.00", "annually", 20
    ),
    "server": Product(
        "Cloud Server S", "Server", "2 cores, 4 GB memory, your own system.", "3", "Monthly", "15.00", "monthly", 30
    ),
    "certificate": Product("SSL Certificate", "SSL", "For one domain, validated.", "4", "One-Time", "49.00", "onetime"),
    "support": Product(
        "Priority Support", "Support", "An engineer within the hour.", "5", "Semi-Annually", "90.00", "semiannually"
    ),
}

#: Not offered to customers, but orderable by operators: what a catalogue looks like before somebody has finished it.
UNFINISHED = {
    "unmapped": Product("Site Builder", "Support", "Has no number in WHMCS yet.", None, "Monthly", "9.00", "monthly"),
    "oddcycle": Product(
        "Fortnightly Report", "Support", "Has a cycle WHMCS doesn't know.", "5", "Fortnightly", "9.00", ""
    ),
}

CUSTOMERS = {
    "ada": Customer("Ada", "Lovelace", "ada@lovelace.example", "Lovelace Analytics", 1, known=True, card=True),
    "grace": Customer("Grace", "Hopper", "grace@hopper.example", "Hopper Compilers", 2, known=True, card=False),
    "alan": Customer("Alan", "Turing", "alan@turing.example", "Turing Machines", 3, known=False, card=True),
    "mary": Customer("Mary", "Jackson", "mary@jackson.example", "Jackson Aeronautics", None, known=False, card=False),
}


def seed(salesforce: str, whmcs: str) -> dict[str, str]:
    """Fill both sandboxes where they are empty. Returns Salesforce's ids by name: `pricebook`, `account:ada`,
    `contact:ada`, `product:starter`, `entry:starter` and so on.
    """
    if not call("GET", whmcs, "state?objects=clients")["clients"]:
        call("POST", whmcs, "seed", _whmcs())
    found = _found(salesforce)
    if "pricebook" not in found:
        call("POST", salesforce, "seed", {"records": _salesforce()})
        found = _found(salesforce)
    return found


def call(method: str, url: str, path: str, body: Any = None) -> Any:
    """One call of a sandbox's control API. Raises OSError when it refuses."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, f"/_sandbox/{path}", data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    if response.status >= 300:
        raise OSError(f"{method} {url}/_sandbox/{path}: {response.status} {text[:500].decode('utf-8', 'replace')}")
    return json.loads(text)


def _found(salesforce: str) -> dict[str, str]:
    state = call("GET", salesforce, "state?objects=Pricebook2,PricebookEntry,Product2,Account,Contact")
    found: dict[str, str] = {}
    if any(row["Id"] == PRICEBOOK for row in state["Pricebook2"]):
        found["pricebook"] = PRICEBOOK
    products = {row["Name"]: row["Id"] for row in state["Product2"]}
    entries = {
        row["Product2Id"]: row["Id"] for row in state["PricebookEntry"] if row["Pricebook2Id"] == found.get("pricebook")
    }
    for key, product in (PRODUCTS | UNFINISHED).items():
        if product.name in products:
            found |= {f"product:{key}": products[product.name], f"entry:{key}": entries[products[product.name]]}
    contacts = {row["Email"]: row for row in state["Contact"]}
    for key, customer in CUSTOMERS.items():
        if customer.email in contacts:
            contact = contacts[customer.email]
            found |= {f"contact:{key}": contact["Id"], f"account:{key}": contact["AccountId"]}
    return found


def _salesforce() -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [
        {"type": "Pricebook2", "ref": "standard", "Name": "Standard Price Book", "IsActive": True, "IsStandard": True},
        {"type": "Pricebook2", "ref": "book", "Id": PRICEBOOK, "Name": "Customer portal", "IsActive": True},
    ]
    for key, product in (PRODUCTS | UNFINISHED).items():
        records.append(
            {
                "type": "Product2",
                "ref": key,
                "Name": product.name,
                "ProductCode": key.upper(),
                "IsActive": True,
                "Family": product.family,
                "Description": product.description,
                "WH_Product_ID__c": product.pid,
                "Billing_Cycle__c": product.cycle,
                "Sort_Order__c": product.sort_order,
            }
        )
        records += [
            {
                "type": "PricebookEntry",
                "Pricebook2Id": f"@{{{book}}}",
                "Product2Id": f"@{{{key}}}",
                "UnitPrice": float(product.price),
                "IsActive": key in PRODUCTS,
            }
            for book in ("standard", "book")
        ]
    for key, customer in CUSTOMERS.items():
        records.append(
            {
                "type": "Account",
                "ref": key,
                "Name": customer.company,
                "BillingStreet": "1 Example Street",
                "BillingCity": "Springfield",
                "BillingState": "Oregon",
                "BillingPostalCode": "97477",
                "BillingCountry": "US",
                "Phone": "+1.5415550100",
                "WHMCS_Client_ID__c": str(customer.client) if customer.known else None,
            }
        )
        records.append(
            {
                "type": "Contact",
                "AccountId": f"@{{{key}}}",
                "FirstName": customer.first,
                "LastName": customer.last,
                "Email": customer.email,
                "Phone": "+1.5415550100",
            }
        )
    return records


def _whmcs() -> dict[str, Any]:
    products: list[dict[str, Any]] = []
    for product in PRODUCTS.values():
        once = product.whmcs_cycle == "onetime"
        pricing = {"monthly" if once else product.whmcs_cycle: product.price}  # where WHMCS keeps one-time prices
        # WHMCS' custom fields belong to one product each; some have the mark's field, as in a shop that grew.
        fields = [{"name": MARKER_CUSTOM_FIELD, "description": "Salesforce order"}] if product.pid in MARKED else []
        products.append(
            {
                "id": int(product.pid or 0),
                "name": product.name,
                "description": product.description,
                "paytype": "onetime" if once else "recurring",
                "pricing": pricing,
                "customfields": fields,
            }
        )
    in_whmcs = [customer for customer in CUSTOMERS.values() if customer.client is not None]
    clients = [
        {
            "id": each.client,
            "firstname": each.first,
            "lastname": each.last,
            "companyname": each.company,
            "email": each.email,
            "address1": "1 Example Street",
            "city": "Springfield",
            "state": "Oregon",
            "postcode": "97477",
            "country": "US",
            "phonenumber": "+1.5415550100",
            "defaultgateway": "stripe",
        }
        for each in in_whmcs
    ]
    return {
        "clients": clients,
        "products": products,
        "paymethods": [{"userid": each.client} for each in in_whmcs if each.card],
    }
