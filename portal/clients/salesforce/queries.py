"""What is asked of Salesforce, in SOQL: standard fields, those the communication guide has an admin create, and of the
optional ones (portal.clients.salesforce.fields) those an org has. Every value goes through `format_soql`: it quotes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from simple_salesforce.format import format_soql

from portal.clients.salesforce.fields import CURRENCY
from portal.clients.salesforce.records import OrderSummary
from portal.domain.ids import salesforce_id_18

#: The optional fields an org has, by object.
Fields = Mapping[str, Collection[str]]


def _order_fields(fields: Fields) -> str:
    own = [name for name in ("Portal_Reference__c", CURRENCY) if name in fields["Order"]]
    of_item = [name for name in ("Domain__c", "Hostname__c") if name in fields["OrderItem"]]
    items = ["Id", "Quantity", "UnitPrice", *of_item]
    items += ["Product2.Name", "Product2.WH_Product_ID__c", "Product2.Billing_Cycle__c"]
    return (
        "SELECT Id, OrderNumber, Status, AccountId, Account.Name, Account.WHMCS_Client_ID__c, Provisioning_Status__c, "
        "WHMCS_Order_ID__c, Provisioning_Error_Code__c, Provisioning_Error_Message__c, Last_Provisioning_At__c, "
        f"CreatedDate, {''.join(f'{name}, ' for name in own)}TotalAmount, (SELECT {', '.join(items)} FROM OrderItems)"
    )


def order(sf_order_id: str, fields: Fields) -> str:
    """One order with its account and items. `sf_order_id`: 18 characters."""
    return _soql(_order_fields(fields) + " FROM Order WHERE Id = {}", sf_order_id)


def orders(sf_order_ids: Sequence[str], fields: Fields) -> str:
    """Several orders with their accounts and items. `sf_order_ids`: at least one, of 18 characters."""
    return _soql(_order_fields(fields) + " FROM Order WHERE Id IN {}", list(sf_order_ids))


def contact_of_account(account_id: str) -> str:
    """An account's oldest contact with an e-mail address, and what AddClient wants of the account."""
    return _soql(
        "SELECT Id, FirstName, LastName, Email, Phone, Account.Name, Account.Phone, Account.BillingStreet, "
        "Account.BillingCity, Account.BillingState, Account.BillingPostalCode, Account.BillingCountry "
        "FROM Contact WHERE AccountId = {} AND Email != null ORDER BY CreatedDate, Id LIMIT 1",
        account_id,
    )


def accounts_with_email(email: str) -> str:
    """The accounts that have a contact of this address."""
    return _soql("SELECT AccountId FROM Contact WHERE Email = {} AND AccountId != null", email)


def person_account(account_id: str, fields: Fields) -> str | None:
    """A person account, which is its own contact, with an e-mail address; None where the org has none."""
    if "PersonEmail" not in fields["Account"]:
        return None
    names = [name for name in ("FirstName", "LastName") if name in fields["Account"]]
    return _soql(
        f"SELECT {', '.join(['Id', 'Name', *names])}, PersonEmail, Phone, BillingStreet, BillingCity, BillingState, "
        "BillingPostalCode, BillingCountry FROM Account WHERE Id = {} AND PersonEmail != null",
        account_id,
    )


def person_accounts_by_email(email: str, fields: Fields) -> str | None:
    """The person accounts of this address, most recently changed first; None where the org has none."""
    if "PersonEmail" not in fields["Account"]:
        return None
    names = [name for name in ("FirstName", "LastName", "PersonContactId", CURRENCY) if name in fields["Account"]]
    return _soql(
        f"SELECT {', '.join(['Id', 'Name', *names])}, PersonEmail, WHMCS_Client_ID__c FROM Account "
        "WHERE PersonEmail = {} ORDER BY LastModifiedDate DESC",
        email,
    )


def contacts_by_email(email: str, fields: Fields) -> str:
    """The contacts of this address that belong to an account, most recently changed first."""
    own = f"Account.{CURRENCY}, " if CURRENCY in fields["Account"] else ""
    return _soql(
        f"SELECT Id, FirstName, LastName, Email, {own}AccountId, Account.Name, Account.WHMCS_Client_ID__c "
        "FROM Contact WHERE Email = {} AND AccountId != null ORDER BY LastModifiedDate DESC",
        email,
    )


def requested_orders(limit: int) -> str:
    """Ids of orders whose provisioning was asked for, oldest change first."""
    return _soql(
        "SELECT Id FROM Order WHERE Provisioning_Status__c = 'Requested' ORDER BY LastModifiedDate LIMIT {}",
        int(limit),
    )


def catalogue(pricebook_id: str, fields: Fields) -> str:
    """Active entries of active products of a pricebook, by name. Raises ValueError for what is no Salesforce id."""
    own = f"{CURRENCY}, " if CURRENCY in fields["PricebookEntry"] else ""
    own += "Product2.Sort_Order__c, " if "Sort_Order__c" in fields["Product2"] else ""
    return _soql(
        f"SELECT Id, UnitPrice, {own}Product2Id, Product2.Name, Product2.Description, Product2.Family, "
        "Product2.WH_Product_ID__c, Product2.Billing_Cycle__c FROM PricebookEntry "
        "WHERE Pricebook2Id = {} AND IsActive = true AND Product2.IsActive = true ORDER BY Product2.Name",
        salesforce_id_18(pricebook_id),
    )


def pricebook(pricebook_id: str) -> str:
    """A pricebook, whether active or not. Raises ValueError for what is no Salesforce id."""
    return _soql("SELECT Id, IsActive FROM Pricebook2 WHERE Id = {}", salesforce_id_18(pricebook_id))


def order_by_reference(reference: str) -> str:
    """The order of a Portal_Reference__c."""
    return _soql("SELECT Id FROM Order WHERE Portal_Reference__c = {} LIMIT 1", reference)


def orders_of_account(account_id: str, limit: int, before: OrderSummary | None, fields: Fields) -> str:
    """An account's orders, newest first, `limit` of them after `before`, the last one of the page before."""
    own = "Portal_Reference__c, " if "Portal_Reference__c" in fields["Order"] else ""
    soql = _soql(
        "SELECT Id, OrderNumber, Status, Provisioning_Status__c, Provisioning_Error_Code__c, WHMCS_Order_ID__c, "
        f"Last_Provisioning_At__c, {own}CreatedDate, TotalAmount, (SELECT Quantity, Product2.Name FROM OrderItems) "
        "FROM Order WHERE AccountId = {}",
        salesforce_id_18(account_id),
    )
    if before is not None:
        then = literal(before.created_at)
        soql += _soql(f" AND (CreatedDate < {then} OR (CreatedDate = {then} AND Id < {{}}))", before.id)
    return soql + _soql(" ORDER BY CreatedDate DESC, Id DESC LIMIT {}", int(limit))


def orders_changed_since(moment: float, limit: int, after_id: str, fields: Fields) -> str:
    """Orders changed at or after `moment` (seconds since 1970), oldest first; of that very moment those after an id."""
    since = literal(moment)
    if after_id:
        where = _soql(f" WHERE LastModifiedDate > {since} OR (LastModifiedDate = {since} AND Id > {{}})", after_id)
    else:
        where = f" WHERE LastModifiedDate >= {since}"
    soql = _order_fields(fields) + ", LastModifiedDate FROM Order" + where
    return soql + _soql(" ORDER BY LastModifiedDate, Id LIMIT {}", int(limit))


def in_composite(soql: str, version: str) -> dict[str, Any]:
    """The body of a composite call that makes this one query. `version`: as in addresses."""
    url = f"/services/data/v{version}/query?q={quote(soql, safe='')}"
    return {"compositeRequest": [{"method": "GET", "url": url, "referenceId": "result"}]}


def literal(moment: float) -> str:
    """A moment (seconds since 1970) as SOQL writes it: SOQL and SOSL Reference, "Date Formats and Date Literals".

    Fractions only where there are some: Salesforce's own dates have whole seconds.
    """
    when = datetime.fromtimestamp(round(moment, 3), UTC)
    return when.isoformat(timespec="milliseconds" if when.microsecond else "seconds").replace("+00:00", "Z")


def _soql(text: str, *values: str | int | list[str]) -> str:
    return str(format_soql(text, *values))
