"""The words of the domain: statuses, steps, error codes, and the records the steps pass on.

Names and codes are those of the operators' runbook and the Salesforce-to-Portal guide.
Ids of both sides are kept as text; moments are seconds since 1970-01-01 UTC, as floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from portal.errors import PortalError as PortalError


class CustomerStatus(StrEnum):
    """What a customer is told about an order, and what Salesforce's Provisioning_Status__c holds."""

    PENDING_REVIEW = "Pending Review"
    ACTIVATING = "Activating"
    PROVISIONED = "Provisioned"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


#: The statuses at which an order's page stops polling.
FINAL_STATUSES: Final = frozenset({CustomerStatus.PROVISIONED, CustomerStatus.FAILED, CustomerStatus.CANCELLED})


class State(StrEnum):
    """Where a fulfillment stands in the ledger."""

    QUEUED = "queued"  # to be run as soon as a worker is free
    WAITING = "waiting"  # to be run again at `due_at`: a retry, or an uncertain step whose time isn't over
    RUNNING = "running"  # owned by a worker
    PROVISIONED = "provisioned"
    FAILED = "failed"
    NEEDS_DECISION = "needs_decision"  # only a person can know what happened in WHMCS


FINISHED_STATES: Final = frozenset({State.PROVISIONED, State.FAILED, State.NEEDS_DECISION})


def customer_status(state: State | str) -> CustomerStatus:
    """What a customer is told of a fulfillment in this state.

    One that needs a decision is Activating to them: somebody is looking into it.
    """
    if state == State.PROVISIONED:
        return CustomerStatus.PROVISIONED
    return CustomerStatus.FAILED if state == State.FAILED else CustomerStatus.ACTIVATING


class Step(StrEnum):
    """The seven steps of a fulfillment, in their order, as the runbook's logging cheatsheet names them."""

    VALIDATION = "validation"
    SF_STATUS_UPDATE = "sf_status_update"
    ORDER_DETAILS = "order_details"
    MAPPING = "mapping"
    WHMCS_CREATE = "whmcs_create"
    WHMCS_ACCEPT = "whmcs_accept"
    SF_SUCCESS_UPDATE = "sf_success_update"


class StepState(StrEnum):
    """How far one step of one attempt came."""

    INTENT = "intent"
    DONE = "done"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


class ErrorCode(StrEnum):
    """What Provisioning_Error_Code__c may hold."""

    PAYMENT_METHOD_MISSING = "PAYMENT_METHOD_MISSING"
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    ORDER_NOT_FULFILLABLE = "ORDER_NOT_FULFILLABLE"
    ORDER_HAS_NO_ITEMS = "ORDER_HAS_NO_ITEMS"
    CLIENT_NOT_MAPPED = "CLIENT_NOT_MAPPED"
    PRODUCT_MAPPING_MISSING = "PRODUCT_MAPPING_MISSING"
    WHMCS_ADD_ORDER_FAILED = "WHMCS_ADD_ORDER_FAILED"
    WHMCS_ACCEPT_ORDER_FAILED = "WHMCS_ACCEPT_ORDER_FAILED"
    WHMCS_SERVICE_NOT_ACTIVE = "WHMCS_SERVICE_NOT_ACTIVE"
    WHMCS_UNAVAILABLE = "WHMCS_UNAVAILABLE"
    SALESFORCE_UNAVAILABLE = "SALESFORCE_UNAVAILABLE"
    OUTCOME_UNCERTAIN = "OUTCOME_UNCERTAIN"
    PROVISIONING_ERROR = "PROVISIONING_ERROR"


# --- Salesforce's side ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class SalesforceItem:
    """One OrderItem with the product fields that decide what it becomes in WHMCS; None where Salesforce has null."""

    id: str
    product_name: str
    quantity: int
    unit_price: str  # decimal text, in the order's currency
    wh_product_id: str | None  # Product2.WH_Product_ID__c
    billing_cycle: str | None  # Product2.Billing_Cycle__c, as people spell it
    domain: str | None = None
    hostname: str | None = None


@dataclass(frozen=True)
class SalesforceOrder:
    """Everything one fulfillment needs of a Salesforce order, from one query."""

    id: str  # 18 characters
    order_number: str
    status: str  # Order.Status; the portal never changes it
    account_id: str
    account_name: str
    whmcs_client_id: str | None  # Account.WHMCS_Client_ID__c
    email: str | None = field(repr=False)  # of the order's or account's contact: how a client not mapped yet is found
    provisioning_status: str | None
    whmcs_order_id: str | None
    portal_reference: str | None
    items: tuple[SalesforceItem, ...]
    currency: str | None = None
    total: str | None = None
    contact: Mapping[str, str] = field(default_factory=dict, repr=False)  # for AddClient
    created_at: float | None = None  # CreatedDate, seconds since 1970
    provisioning_error_code: str | None = None
    provisioning_error_message: str | None = None
    last_provisioning_at: float | None = None  # Last_Provisioning_At__c: some ledger has told of an attempt then


# --- WHMCS' side ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OrderLine:
    """One item as AddOrder is asked for it."""

    pid: str
    billing_cycle: str  # one of WHMCS' own words, see mapping.WHMCS_CYCLES
    quantity: int
    domain: str | None = None
    hostname: str | None = None
    price_override: str | None = None


@dataclass(frozen=True)
class AddedOrder:
    """AddOrder's answer."""

    order_id: str
    service_ids: tuple[str, ...]
    invoice_id: str | None


@dataclass(frozen=True)
class WhmcsOrder:
    """One row of GetOrders. `line_item_count` is None where WHMCS told nothing of the lines."""

    id: str
    client_id: str
    status: str  # Pending, Active, Fraud, Cancelled, or a custom status
    notes: str
    amount: str
    invoice_id: str | None  # None: none ("" or "0"); see invoice_known
    invoice_known: bool  # False where the row has no invoiceid at all
    service_ids: tuple[str, ...]  # `relid` of its product lines
    line_item_count: int | None = None
    placed_at: float | None = None  # `date`, read as UTC: WHMCS tells it in a time zone of its own


@dataclass(frozen=True)
class WhmcsService:
    """One row of GetClientsProducts, without its password."""

    id: str
    order_id: str
    pid: str
    billing_cycle: str  # as WHMCS gives it out ("Semi-Annually"); normalise before comparing
    quantity: int | None  # None where this WHMCS tells none (before 8.12)
    status: str
    name: str = ""
    domain: str = ""
    custom_fields: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class WhmcsClient:
    """What GetClientsDetails tells of a client, as far as an order needs it."""

    id: str
    email: str = field(repr=False)
    status: str
    default_gateway: str


@dataclass(frozen=True)
class PayMethod:
    """One stored payment method, without its token."""

    id: str
    type: str
    gateway: str


@dataclass(frozen=True)
class WhmcsProduct:
    """One row of GetProducts: its cycles that are offered, and its custom fields' ids by name."""

    pid: str
    name: str
    cycles: frozenset[str]
    custom_fields: Mapping[str, str]


# --- errors --------------------------------------------------------------------------------------------


class Setup(StrEnum):
    """How far a fault of an installation's set-up reaches: nothing gets through there until somebody mends it."""

    SIDE = "side"  # everything: the portal isn't let in, or speaks a version that is retired
    ACTION = "action"  # one action, whoever it is for: no permission, an object or field that isn't there
    RECORDS = "records"  # some records: the storage is full, a picklist lacks a value, a trigger fails


#: `UpstreamError.code`s that say what an order fails of; the clients' other codes are for people and logs.
NO_CLIENT = "client_not_found"
NO_ACCOUNT = "order_without_account"
FRACTIONAL_QUANTITY = "FRACTIONAL_QUANTITY"
UNKNOWN_WORDS = "unknown_words"  # refused in words that the action isn't known to say: passing trouble


class UpstreamError(PortalError):
    """A call to Salesforce or WHMCS that didn't succeed: for good, because of the set-up there, or for now.

    permanent   trying the same again can't help: it is about this order or message itself.
    setup       it is about the installation, not about the order: it waits until somebody mends that. None: it isn't;
                and neither permanent nor setup is passing trouble: timeouts, 5xx, HTML, row locks, limits.
    unknown     the call may have been carried out although no answer says so, or may be so yet.
    code        the other side's own code where it has one (Salesforce's errorCode), else a short word of ours.
    action      the call, as observers know it; empty where none was made.
    retry_after seconds the other side asked us to wait, if it did.
    reached     False when the other side can't have received anything (connection refused, breaker open).
    `str()` holds no secret and no customer data.
    """

    def __init__(
        self,
        upstream: str,
        message: str,
        *,
        permanent: bool,
        setup: Setup | None = None,
        unknown: bool = False,
        code: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        reached: bool = True,
    ) -> None:
        assert not (permanent and setup), "a fault of the set-up is the end of no order"
        super().__init__(message)
        self.upstream = upstream
        self.message = message
        self.permanent = permanent
        self.setup = setup
        self.unknown = unknown
        self.code = code
        self.status = status
        self.retry_after = retry_after
        self.reached = reached
        self.action = ""

    @property
    def refused(self) -> bool:
        """Whether the other side answered, and said no: for good, or until its set-up is mended."""
        return self.reached and (self.permanent or self.setup is not None)


class FulfillmentFailed(PortalError):
    """The order can't be fulfilled as it is: Failed in Salesforce, with this code and message."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class NeedsDecision(PortalError):
    """Only a person can know or decide how this goes on; nothing more is sent to WHMCS meanwhile."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.OUTCOME_UNCERTAIN) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class LeaseLost(PortalError):
    """Another worker owns this order now (or this process missed its heartbeats): stop without another effect."""


class NotFound(PortalError):
    """Nothing by that name in the ledger."""


JsonObject = dict[str, Any]
Updates = Sequence[tuple[str, Mapping[str, Any]]]
