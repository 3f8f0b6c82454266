"""The objects and fields of the pretend org: the standard ones an order needs, and the design's custom fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]

PROVISIONING_STATUSES = ("Pending Review", "Requested", "Activating", "Provisioned", "Failed", "Cancelled")
ORDER_STATUSES = ("Draft", "Pending Review", "Activated", "Cancelled", "Rejected")
CURRENCIES = ("USD", "EUR", "GBP", "JPY", "KWD")
CYCLES = ("Monthly", "Quarterly", "Semi-Annually", "Annual", "Biennially", "Triennially", "One-Time")


@dataclass(slots=True)
class Field:
    """One field; `length` counts characters; `read_only` fields are the org's own or computed; `feature` names the
    setting without which the field isn't there."""

    name: str
    type: str = "string"
    length: int = 255
    required: bool = False
    external_id: bool = False
    unique: bool = False
    refers_to: str | None = None
    relationship: str | None = None
    read_only: bool = False
    create_only: bool = False
    default: object = None
    values: tuple[str, ...] = ()  # of a picklist
    restricted: bool = False
    feature: str | None = None

    @property
    def label(self) -> str:
        """The words error messages use: `Provisioning_Error_Message__c` is "Provisioning Error Message"."""
        return self.name.removesuffix("__c").replace("_", " ")


@dataclass(slots=True)
class SObject:
    """One object; `children` maps a child relationship's name to (object, its reference field)."""

    name: str
    prefix: str
    fields: dict[str, Field]
    children: dict[str, tuple[str, str]] = field(default_factory=dict)

    def field(self, name: str) -> Field | None:
        """The field of that name, whatever its case."""
        found = self.fields.get(name)
        if found is None:
            wanted = name.lower()
            found = next((each for key, each in self.fields.items() if key.lower() == wanted), None)
        return found

    def parent(self, relationship: str) -> Field | None:
        """The reference field behind a relationship name such as `Account`."""
        wanted = relationship.lower()
        return next((each for each in self.fields.values() if (each.relationship or "").lower() == wanted), None)


def ref(name: str, to: str, relationship: str | None = None, **more: Any) -> Field:
    """A lookup field."""
    return Field(name, "reference", 18, refers_to=to, relationship=relationship or name.removesuffix("Id"), **more)


def _currency() -> Field:
    return Field("CurrencyIsoCode", "picklist", 3, default="USD", values=CURRENCIES, feature="multi_currency")


def _system() -> list[Field]:
    return [
        Field("Id", "id", 18, read_only=True),
        Field("IsDeleted", "boolean", read_only=True, default=False),
        Field("CreatedDate", "datetime", read_only=True),
        ref("CreatedById", "User", "CreatedBy", read_only=True),
        Field("LastModifiedDate", "datetime", read_only=True),
        ref("LastModifiedById", "User", "LastModifiedBy", read_only=True),
        Field("SystemModstamp", "datetime", read_only=True),
    ]


def _address(prefix: str) -> list[Field]:
    return [
        Field(f"{prefix}{part}", length=length)
        for part, length in (("Street", 255), ("City", 40), ("State", 80), ("PostalCode", 20), ("Country", 80))
    ]


def _object(name: str, prefix: str, *fields: Field) -> SObject:
    return SObject(name, prefix, {each.name: each for each in [*_system(), *fields]})


def build() -> dict[str, SObject]:
    """A fresh schema (custom fields can be added to it at run time)."""
    objects = [
        _object(
            "Organization",
            "00D",
            Field("Name", length=80),
            Field("IsSandbox", "boolean", default=True),
            Field("InstanceName", length=5),
            Field("OrganizationType", "picklist", 40),
            Field("NamespacePrefix", length=15),
            Field("TrialExpirationDate", "datetime"),
            Field("PrimaryContact", length=80),
            Field("LanguageLocaleKey", "picklist", 40, default="en_US"),
        ),
        _object(
            "User",
            "005",
            Field("Username", length=80, required=True),
            Field("FirstName", length=40),
            Field("LastName", length=80),
            Field("Name", length=121, read_only=True),
            Field("Email", "email", 128),
            ref("ProfileId", "Profile"),
            Field("IsActive", "boolean", default=True),
        ),
        _object("Profile", "00e", Field("Name", length=255)),
        _object(
            "Account",
            "001",
            Field("Name", required=True),
            Field("AccountNumber", length=40),
            Field("Type", "picklist"),
            Field("Industry", "picklist"),
            Field("Phone", "phone", 40),
            Field("Website", "url"),
            Field("Description", "textarea", 32000),
            *_address("Billing"),
            ref("OwnerId", "User"),
            Field("WHMCS_Client_ID__c", length=20),
            _currency(),
            # A person account is account and contact in one; its name is made of the parts.
            Field("IsPersonAccount", "boolean", read_only=True, default=False, feature="person_accounts"),
            Field("FirstName", length=40, feature="person_accounts"),
            Field("LastName", length=80, feature="person_accounts"),
            Field("PersonEmail", "email", 80, feature="person_accounts"),
            Field("PersonMobilePhone", "phone", 40, feature="person_accounts"),
            ref("PersonContactId", "Contact", read_only=True, feature="person_accounts"),
        ),
        _object(
            "Contact",
            "003",
            ref("AccountId", "Account"),
            Field("FirstName", length=40),
            Field("LastName", length=80, required=True),
            Field("Name", length=121, read_only=True),
            Field("Email", "email", 80),
            Field("Phone", "phone", 40),
            Field("MobilePhone", "phone", 40),
            Field("Title", length=128),
            *_address("Mailing"),
            ref("OwnerId", "User"),
            _currency(),
            Field("IsPersonAccount", "boolean", read_only=True, default=False, feature="person_accounts"),
        ),
        _object(
            "Product2",
            "01t",
            Field("Name", required=True),
            Field("ProductCode"),
            Field("Description", "textarea", 4000),
            Field("IsActive", "boolean", default=False),
            Field("Family", "picklist"),
            Field("StockKeepingUnit", length=180),
            Field("WH_Product_ID__c", length=20),
            Field("Billing_Cycle__c", "picklist", values=CYCLES),
            Field("Sort_Order__c", "double", feature="product_sort_order"),
            _currency(),
        ),
        _object(
            "Pricebook2",
            "01s",
            Field("Name", required=True),
            Field("Description", "textarea"),
            Field("IsActive", "boolean", default=False),
            Field("IsStandard", "boolean", read_only=True, default=False),
        ),
        _object(
            "PricebookEntry",
            "01u",
            ref("Pricebook2Id", "Pricebook2", required=True, create_only=True),
            ref("Product2Id", "Product2", required=True, create_only=True),
            Field("UnitPrice", "currency", required=True),
            _currency(),
            Field("IsActive", "boolean", default=False),
            Field("UseStandardPrice", "boolean", default=False),
            Field("Name", read_only=True),
            Field("ProductCode", read_only=True),
        ),
        _object(
            "Order",
            "801",
            Field("OrderNumber", length=30, read_only=True),
            ref("AccountId", "Account", required=True),
            Field("EffectiveDate", "date", required=True),
            Field("EndDate", "date"),
            Field("Status", "picklist", required=True, values=ORDER_STATUSES, restricted=True),
            Field("StatusCode", "picklist", read_only=True),
            ref("Pricebook2Id", "Pricebook2"),
            Field("Name", length=80),
            Field("Type", "picklist"),
            Field("PoNumber", length=80),
            Field("Description", "textarea", 32000),
            ref("BillToContactId", "Contact"),
            ref("CustomerAuthorizedById", "Contact"),
            ref("OwnerId", "User"),
            *_address("Billing"),
            Field("TotalAmount", "currency", read_only=True),
            Field("ActivatedDate", "datetime", read_only=True),
            ref("ActivatedById", "User", read_only=True),
            _currency(),
            Field("Provisioning_Status__c", "picklist", values=PROVISIONING_STATUSES, restricted=True),
            Field("WHMCS_Order_ID__c", length=20),
            Field("Provisioning_Error_Code__c", length=80),
            Field("Provisioning_Error_Message__c", length=255),
            Field("Last_Provisioning_At__c", "datetime"),
            Field("Portal_Reference__c", length=64, external_id=True, unique=True),
        ),
        _object(
            "OrderItem",
            "802",
            ref("OrderId", "Order", required=True, create_only=True),
            ref("PricebookEntryId", "PricebookEntry", required=True, create_only=True),
            ref("Product2Id", "Product2", read_only=True),
            Field("OrderItemNumber", length=30, read_only=True),
            Field("Quantity", "double", required=True),
            Field("UnitPrice", "currency", required=True),
            Field("ListPrice", "currency", read_only=True),
            Field("TotalPrice", "currency", read_only=True),
            Field("Description"),
            Field("ServiceDate", "date"),
            Field("EndDate", "date"),
            Field("Portal_Reference__c", length=64, external_id=True, unique=True),
            _currency(),
            Field("Domain__c"),
            Field("Hostname__c"),
        ),
    ]
    schema = {each.name: each for each in objects}
    schema["Account"].children = {"Contacts": ("Contact", "AccountId"), "Orders": ("Order", "AccountId")}
    schema["Order"].children = {"OrderItems": ("OrderItem", "OrderId")}
    schema["Pricebook2"].children = {"PricebookEntries": ("PricebookEntry", "Pricebook2Id")}
    schema["Product2"].children = {"PricebookEntries": ("PricebookEntry", "Product2Id")}
    schema["PricebookEntry"].children = {"OrderItems": ("OrderItem", "PricebookEntryId")}
    return schema


INDEXES = {
    "Account": ("WHMCS_Client_ID__c", "PersonEmail"),
    "Contact": ("AccountId", "Email"),
    "PricebookEntry": ("Pricebook2Id",),
    "Order": ("AccountId", "Portal_Reference__c", "WHMCS_Order_ID__c", "Provisioning_Status__c"),
    "OrderItem": ("OrderId", "Portal_Reference__c"),
}

ACTIVATED_STATUSES = {"Activated"}
