"""What Salesforce is told of an order: always how it stands as a whole, never a remembered piece of its story.

So it doesn't matter in which order two write-backs arrive, or how late one is sent: each tells the present state.
The fields are those of the communication guide (§ 2) and of the operators' runbook.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from portal.domain.model import CustomerStatus, ErrorCode, JsonObject, State

#: What Provisioning_Error_Message__c holds, in characters.
LONGEST_MESSAGE: Final = 255


@dataclass(frozen=True)
class Standing:
    """An order as the ledger knows it. `state` is None for one that nobody asked to fulfil; moments are seconds."""

    state: State | None
    cancelled: bool = False  # by its customer, in its review, or in WHMCS after it was provisioned
    whmcs_order_id: str | None = None  # the elected one
    error_code: str | None = None
    error_message: str | None = None
    waiting_for: str | None = None  # in plain words, while it waits
    waiting_code: str | None = None
    next_try_at: float | None = None


def status_in_salesforce(standing: Standing) -> CustomerStatus:
    """What Provisioning_Status__c is to hold. An order that needs a decision is Failed there, with what to do.

    Cancelled is an order withdrawn in review, or cancelled after it was provisioned; of one that Failed, why it did is
    what an operator must see.
    """
    if standing.cancelled and standing.state in (None, State.PROVISIONED):
        return CustomerStatus.CANCELLED
    if standing.state is State.PROVISIONED:
        return CustomerStatus.PROVISIONED
    if standing.state in (State.FAILED, State.NEEDS_DECISION):
        return CustomerStatus.FAILED
    return CustomerStatus.ACTIVATING


def order_fields(standing: Standing, *, now: float) -> JsonObject | None:
    """The Order fields to write; None when there is nothing to show, or nothing to show it on. `now`: seconds."""
    if standing.state is None:
        return {"Provisioning_Status__c": CustomerStatus.CANCELLED.value} if standing.cancelled else None
    if standing.error_code == ErrorCode.ORDER_NOT_FOUND:
        return None
    status = status_in_salesforce(standing)
    code, message = _error(standing, status)
    fields: JsonObject = {
        "Provisioning_Status__c": status.value,
        "Last_Provisioning_At__c": salesforce_time(now),
        "Provisioning_Error_Code__c": code,
        "Provisioning_Error_Message__c": message,
    }
    if standing.whmcs_order_id is not None and status is not CustomerStatus.ACTIVATING:
        fields["WHMCS_Order_ID__c"] = standing.whmcs_order_id
    return fields


def salesforce_time(moment: float) -> str:
    """A moment (seconds since 1970) as Salesforce writes datetimes, to the second: 2026-11-21T16:38:52.000+0000."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def _error(standing: Standing, status: CustomerStatus) -> tuple[str | None, str | None]:
    if status is CustomerStatus.FAILED and standing.error_code:
        return str(standing.error_code), (standing.error_message or "")[:LONGEST_MESSAGE] or None
    if standing.state is State.WAITING and standing.waiting_for:
        next_try = ""
        if standing.next_try_at is not None:
            next_try = f" Next try at {datetime.fromtimestamp(standing.next_try_at, UTC):%Y-%m-%d %H:%M:%S} UTC."
        why = standing.waiting_for.rstrip(".")[: LONGEST_MESSAGE - len(next_try) - len("Waiting: .")]
        return standing.waiting_code, f"Waiting: {why}.{next_try}"
    return None, None
