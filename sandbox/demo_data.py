"""The demo's world: the hosting company "Northwind Hosting", its catalogue on both sides, and three customers.

Ids are fixed, so `PRICEBOOK_ID` can go into the portal's settings before anything runs; seeding again changes nothing.
"""

from __future__ import annotations

from typing import Any

from sandbox.control import SalesforceSandbox, WhmcsSandbox
from sandbox.salesforce.ids import to_18


def _id(fifteen: str) -> str:
    found = to_18(fifteen)
    assert found is not None
    return found


PRICEBOOK_ID = _id("01sWs0000NWHost")
MARKER_CUSTOM_FIELD = "sfOrderId"

# name, description, WHMCS product id, billing cycle as people write it, price, WHMCS pay type, its cycle, code
PRODUCTS: tuple[tuple[str, str, int, str, float, str, str, str], ...] = (
    ("Shared Hosting, monthly", "10 GB of web space, mailboxes and a database. Cancel any month.", 1, "Monthly", 9.95,
     "recurring", "monthly", "WEB-M"),
    ("Shared Hosting, yearly", "The same web space for a year, two months free.", 1, "Annual", 99.50, "recurring",
     "annually", "WEB-Y"),
    ("VPS 4 GB", "Two cores, 4 GB of memory, 80 GB SSD, root access.", 2, "monthly", 24.00, "recurring", "monthly", "VPS-4"),
    ("VPS 4 GB, half-yearly", "The same server, paid twice a year.", 2, "Semi-Annually", 138.00, "recurring",
     "semiannually", "VPS-4H"),
    ("SSL Certificate", "Domain validated certificate for one name, renewed each year.", 3, "Annually", 29.00,
     "recurring", "annually", "SSL-DV"),
    ("Domain Name", "A name of your own, registered for a year.", 4, "Yearly", 14.90, "recurring", "annually", "DOM-1"),
    ("Website Move", "We move your existing site to us. Paid once.", 5, "One-Time", 49.00, "onetime", "onetime",
     "MOVE-1"),
)

# WHMCS products: id, name, module, whether the marker's custom field exists, prices
WHMCS_PRODUCTS: tuple[tuple[int, str, str, bool, dict[str, str]], ...] = (
    (1, "Shared Hosting", "cpanel", True, {"monthly": "9.95", "annually": "99.50"}),
    (2, "VPS 4 GB", "virtualizor", True, {"monthly": "24.00", "semiannually": "138.00"}),
    (3, "SSL Certificate", "sslserver", True, {"annually": "29.00"}),
    (4, "Domain Name", "", False, {"annually": "14.90"}),
    (5, "Website Move", "", False, {"monthly": "49.00"}),
)

# account, first name, last name, e-mail, WHMCS client, mapped in Salesforce, payment method on file
CUSTOMERS: tuple[tuple[str, str, str, str, int, bool, bool], ...] = (
    ("Acme Bakery", "Ada", "Baker", "ada@acme-bakery.example", 1, True, True),
    ("Blue Lagoon Diving", "Ben", "Rivers", "ben@bluelagoon.example", 2, True, False),
    ("Cedar & Sons", "Cleo", "Cedar", "cleo@cedar.example", 3, False, True),
)


def seed_demo(org: SalesforceSandbox, whmcs: WhmcsSandbox) -> str:
    """Fills both sides where they are empty; answers the pricebook's id (PORTAL_PRICEBOOK_ID)."""
    _seed_whmcs(whmcs)
    _seed_org(org)
    return PRICEBOOK_ID


def _seed_whmcs(whmcs: WhmcsSandbox) -> None:
    present = whmcs.state("clients", "products")
    if not present["products"]:
        whmcs.seed(products=[{
            "id": number, "name": name, "module": module, "pricing": prices,
            "paytype": "onetime" if number == 5 else "recurring",
            "customfields": [{"id": 100 + number, "name": MARKER_CUSTOM_FIELD, "showorder": True,
                              "description": "Salesforce order"}] if marked else [],
        } for number, name, module, marked, prices in WHMCS_PRODUCTS])
    if not present["clients"]:
        whmcs.seed(clients=[{
            "id": number, "firstname": first, "lastname": last, "companyname": company, "email": email,
            "address1": "1 Harbour Street", "city": "Portland", "state": "Oregon", "postcode": "97201", "country": "US",
            "phonenumber": "5035550100", "defaultgateway": "stripe",
        } for company, first, last, email, number, _, _ in CUSTOMERS],
            paymethods=[{"userid": number} for *_, number, _, paid in CUSTOMERS if paid])


def _seed_org(org: SalesforceSandbox) -> None:
    if any(each["Id"] == PRICEBOOK_ID for each in org.state("Pricebook2")["Pricebook2"]):
        return
    records: list[dict[str, Any]] = [
        {"type": "Pricebook2", "Id": PRICEBOOK_ID, "Name": "Hosting", "IsActive": True,
         "Description": "What Northwind Hosting sells on its portal"}]
    for number, (name, description, pid, cycle, price, _, _, code) in enumerate(PRODUCTS, 1):
        product = _id(f"01tWs0000NWPr{number:02d}")
        records += [
            {"type": "Product2", "Id": product, "Name": name, "Description": description, "IsActive": True,
             "ProductCode": code, "Family": "Hosting", "WH_Product_ID__c": str(pid), "Billing_Cycle__c": cycle},
            {"type": "PricebookEntry", "Id": _id(f"01uWs0000NWPe{number:02d}"), "Pricebook2Id": PRICEBOOK_ID,
             "Product2Id": product, "UnitPrice": price, "IsActive": True}]
    for number, (company, first, last, email, client, mapped, _) in enumerate(CUSTOMERS, 1):
        account = _id(f"001Ws0000NWAc{number:02d}")
        records += [
            {"type": "Account", "Id": account, "Name": company, "BillingStreet": "1 Harbour Street",
             "BillingCity": "Portland", "BillingState": "Oregon", "BillingPostalCode": "97201", "BillingCountry": "US",
             "Phone": "+1 503 555 0100", "WHMCS_Client_ID__c": str(client) if mapped else None},
            {"type": "Contact", "Id": _id(f"003Ws0000NWCo{number:02d}"), "AccountId": account, "FirstName": first,
             "LastName": last, "Email": email, "Phone": "+1 503 555 0100"}]
    org.seed(records=records)
