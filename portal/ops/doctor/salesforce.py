"""Whether Salesforce answers, lets the portal in, shows it what it needs, and has a pricebook with products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from portal.clients.probe import Probe
from portal.clients.salesforce.records import NEW_ORDER_STATUS
from portal.domain.model import UpstreamError
from portal.ops.doctor.model import CALL_SECONDS, Check, Context, Finding, error, good, warning
from portal.ops.doctor.settings import SOUND

#: A clock that is off by more than this makes sign-ins fail (the assertion is good for 180 s) or soon will.
CLOCK_ERROR: Final = 60.0
CLOCK_WARNING: Final = 10.0

#: What the portal writes into Provisioning_Status__c, and what its Salesforce package does.
PROVISIONING_STATUSES: Final = frozenset({"Requested", "Activating", "Provisioned", "Failed", "Cancelled"})


@dataclass(frozen=True)
class Access:
    """What the API user needs of an object. `optional`: fields without which the portal works, with less."""

    reads: frozenset[str]
    creates: frozenset[str] = frozenset()
    updates: frozenset[str] = frozenset()
    optional: frozenset[str] = field(default_factory=frozenset)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OUTCOME: Final = _names(
    "Provisioning_Status__c WHMCS_Order_ID__c Provisioning_Error_Code__c Provisioning_Error_Message__c "
    "Last_Provisioning_At__c"
)

#: The objects, as portal.clients.salesforce.queries and .records use them.
NEEDED: Final[dict[str, Access]] = {
    "Order": Access(
        reads=_OUTCOME | _names("Id OrderNumber Status AccountId CreatedDate LastModifiedDate TotalAmount"),
        creates=_names("AccountId Pricebook2Id EffectiveDate Status Portal_Reference__c"),
        updates=_OUTCOME,
    ),
    "OrderItem": Access(
        reads=_names("Id Quantity UnitPrice Product2Id"),
        creates=_names("PricebookEntryId Quantity UnitPrice Domain__c Hostname__c"),
        optional=_names("Portal_Reference__c"),
    ),
    "Account": Access(
        reads=_names(
            "Id Name Phone BillingStreet BillingCity BillingState BillingPostalCode BillingCountry WHMCS_Client_ID__c"
        ),
        updates=_names("WHMCS_Client_ID__c"),
    ),
    "Contact": Access(reads=_names("Id FirstName LastName Email Phone AccountId CreatedDate LastModifiedDate")),
    "Product2": Access(reads=_names("Id Name Description Family IsActive WH_Product_ID__c Billing_Cycle__c")),
    "Pricebook2": Access(reads=_names("Id IsActive")),
    "PricebookEntry": Access(reads=_names("Id UnitPrice Product2Id Pricebook2Id IsActive")),
}


def _reachable(context: Context) -> Finding:
    answer = Probe("Salesforce").ask(f"{context.settings.sf_login_url}/services/data", CALL_SECONDS)
    if answer.status >= 500:
        return error(f"Salesforce answered {answer.status} at SF_LOGIN_URL")
    context.found["clock_ahead"] = answer.clock_ahead
    return good()


def _clock(context: Context) -> Finding:
    ahead = context.found["clock_ahead"]
    if ahead is None:
        return warning("Salesforce's answer has no Date: the clock can't be compared")
    told = f"this machine's clock is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} Salesforce's"
    tolerance = context.settings.webhook_timestamp_tolerance / 1000
    if abs(ahead) > min(CLOCK_ERROR, tolerance):
        return error(told)
    return warning(told) if abs(ahead) > CLOCK_WARNING else good()


def _sign_in(context: Context) -> Finding:
    token = context.salesforce.sign_in()
    context.found["org"] = token.organization_id
    return good(f"org {token.organization_id}" if token.organization_id else "")


def _api(context: Context) -> Finding:
    context.found["limits"] = context.salesforce.limits()
    return good(f"API version {context.settings.sf_api_version}")


def _quota(context: Context) -> Finding:
    left, most = context.found["limits"]
    told = f"{left} of {most} calls are left today"
    if left < most * 0.05:
        return error(told)
    return warning(told) if left < most * 0.2 else good(told)


def _access(sobject: str, context: Context) -> Finding:
    try:
        described = context.salesforce.describe(sobject)
    except UpstreamError as refused:
        if refused.status == 404:
            return error(f"the user of SF_USERNAME doesn't see the object {sobject}")
        raise
    context.found[sobject] = described
    faults, less = missing_access(sobject, NEEDED[sobject], described)
    if faults:
        return error("; ".join(faults))
    return warning("; ".join(less)) if less else good()


def missing_access(sobject: str, needed: Access, described: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What the description lacks: what nothing works without, and what some things don't. A sentence each."""
    fields = {each["name"]: each for each in described.get("fields") or () if isinstance(each, dict) and "name" in each}
    faults, less = [], []
    for right, wanted, word in (
        ("createable", needed.creates, "create"),
        ("updateable", needed.updates, "edit"),
    ):
        if wanted and not described.get(right):
            faults.append(f"no right to {word} {sobject}")
    hidden = sorted((needed.reads | needed.creates | needed.updates) - set(fields))
    if hidden:
        faults.append(f"{sobject} has no field, or hides it: {', '.join(hidden)}")
    for right, wanted in (("createable", needed.creates), ("updateable", needed.updates)):
        locked = sorted(name for name in wanted & set(fields) if not fields[name].get(right))
        if locked and described.get(right):
            faults.append(f"{sobject} isn't {right} in: {', '.join(locked)}")
    if optional := sorted(needed.optional - set(fields)):
        less.append(f"{sobject} has no field, or hides it: {', '.join(optional)} (optional)")
    return faults, less


def _statuses(context: Context) -> Finding:
    fields = {each.get("name"): each for each in context.found["Order"].get("fields") or () if isinstance(each, dict)}
    faults = []
    wanted = {"Provisioning_Status__c": PROVISIONING_STATUSES, "Status": frozenset({NEW_ORDER_STATUS})}
    for name, values in wanted.items():
        told = fields[name]
        offered = {each.get("value") for each in told.get("picklistValues") or () if each.get("active")}
        restricted = told.get("restrictedPicklist") or name == "Status"  # which takes only its own, whatever it says
        if restricted and (missing := sorted(values - offered)):
            faults.append(f"Order.{name} has no {', '.join(missing)}")
    return error("; ".join(faults)) if faults else good()


def _pricebook(context: Context) -> Finding:
    pricebook_id = context.settings.portal_pricebook_id
    active = context.salesforce.pricebook_active(pricebook_id)
    if active is None:
        return error(f"there is no pricebook {pricebook_id}")
    if not active:
        return error(f"the pricebook {pricebook_id} isn't active")
    entries = context.salesforce.catalogue(pricebook_id)
    context.found["catalogue"] = entries
    if not entries:
        return error(f"the pricebook {pricebook_id} has no active entry of an active product")
    return good(f"{len(entries)} products")


def _object(sobject: str) -> Check:
    run: Callable[[Context], Finding] = partial(_access, sobject)
    return Check(
        id=f"salesforce.access.{sobject}",
        description=f"the API user may do with {sobject} what the portal does",
        run=run,
        cure="Deploy the Salesforce package, and assign the portal's permission set to the user of SF_USERNAME",
        needs=("salesforce.api",),
        section="salesforce.access",
        seconds=20,
    )


CHECKS = (
    Check(
        id="salesforce.reachable",
        description="Salesforce answers at SF_LOGIN_URL",
        run=_reachable,
        cure="Check SF_LOGIN_URL, DNS, the firewall's way out, and status.salesforce.com",
        needs=SOUND,
        retry=True,
    ),
    Check(
        id="salesforce.clock",
        description="this machine's clock agrees with Salesforce's",
        run=_clock,
        cure="Set this machine's clock by NTP (`timedatectl set-ntp true`)",
        needs=("salesforce.reachable",),
        retry=True,
    ),
    Check(
        id="salesforce.sign-in",
        description="Salesforce gives the portal a token (JWT bearer)",
        run=_sign_in,
        cure="Do what the line says; docs/salesforce-setup.md, steps 6 and 7, has each click",
        needs=("salesforce.reachable",),
        seconds=20,
    ),
    Check(
        id="salesforce.api",
        description="the REST API is open to the API user, at SF_API_VERSION",
        run=_api,
        cure="Give the user “API Enabled”, and set SF_API_VERSION to one that this org has",
        needs=("salesforce.sign-in",),
        seconds=20,
    ),
    Check(
        id="salesforce.quota",
        description="enough of today's API calls are left",
        run=_quota,
        cure="Find who uses them up (Setup > Company Information, API Usage), or buy more",
        needs=("salesforce.api",),
    ),
    *(_object(sobject) for sobject in NEEDED),
    Check(
        id="salesforce.statuses",
        description="the picklists of Order have the values the portal writes",
        run=_statuses,
        cure="Add the values to the picklist, active",
        needs=("salesforce.access.Order",),
    ),
    Check(
        id="salesforce.pricebook",
        description="the pricebook is there, active and has products",
        run=_pricebook,
        cure="Set PORTAL_PRICEBOOK_ID to an active price book with active entries (docs/salesforce-setup.md, step 8)",
        needs=("salesforce.access.Product2", "salesforce.access.Pricebook2", "salesforce.access.PricebookEntry"),
        seconds=30,
    ),
)
