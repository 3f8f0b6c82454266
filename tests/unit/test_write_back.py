"""What Salesforce is told of an order: its whole state, whenever it is asked for."""

from __future__ import annotations

import pytest

from portal.domain.model import CustomerStatus, ErrorCode, State
from portal.domain.write_back import LONGEST_MESSAGE, Standing, order_fields, salesforce_time, status_in_salesforce

NOW = 1_795_633_092.0


@pytest.mark.parametrize(
    ("standing", "status"),
    [
        (Standing(State.QUEUED), CustomerStatus.ACTIVATING),
        (Standing(State.RUNNING), CustomerStatus.ACTIVATING),
        (Standing(State.WAITING), CustomerStatus.ACTIVATING),
        (Standing(State.PROVISIONED), CustomerStatus.PROVISIONED),
        (Standing(State.FAILED), CustomerStatus.FAILED),
        (Standing(State.NEEDS_DECISION), CustomerStatus.FAILED),
        (Standing(State.PROVISIONED, cancelled=True), CustomerStatus.CANCELLED),
        (Standing(None, cancelled=True), CustomerStatus.CANCELLED),
        (Standing(State.FAILED, cancelled=True), CustomerStatus.FAILED),
        (Standing(State.NEEDS_DECISION, cancelled=True), CustomerStatus.FAILED),
    ],
)
def test_each_standing_has_one_status(standing: Standing, status: CustomerStatus) -> None:
    assert status_in_salesforce(standing) is status


def test_a_provisioned_order_shows_its_number_and_no_error() -> None:
    assert order_fields(Standing(State.PROVISIONED, whmcs_order_id="12"), now=NOW) == {
        "Provisioning_Status__c": "Provisioned",
        "Last_Provisioning_At__c": "2026-11-25T18:58:12.000+0000",
        "Provisioning_Error_Code__c": None,
        "Provisioning_Error_Message__c": None,
        "WHMCS_Order_ID__c": "12",
    }


def test_a_waiting_order_shows_why_and_the_next_try_within_the_fields_length() -> None:
    standing = Standing(
        State.WAITING,
        waiting_for="WHMCS answered with 503: " + "x" * 300,
        waiting_code=ErrorCode.WHMCS_UNAVAILABLE,
        next_try_at=NOW + 60,
    )
    fields = order_fields(standing, now=NOW)
    assert fields is not None
    assert fields["Provisioning_Error_Code__c"] == "WHMCS_UNAVAILABLE"
    message = fields["Provisioning_Error_Message__c"]
    assert message.startswith("Waiting: WHMCS answered with 503: x")
    assert message.endswith(". Next try at 2026-11-25 18:59:12 UTC.")
    assert len(message) == LONGEST_MESSAGE


def test_an_order_withdrawn_in_review_shows_only_that() -> None:
    assert order_fields(Standing(None, cancelled=True), now=NOW) == {"Provisioning_Status__c": "Cancelled"}


def test_there_is_nothing_to_show_of_an_order_salesforce_doesnt_know_or_nobody_asked_for() -> None:
    assert order_fields(Standing(State.FAILED, error_code=ErrorCode.ORDER_NOT_FOUND), now=NOW) is None
    assert order_fields(Standing(None), now=NOW) is None


def test_a_moment_is_written_as_salesforce_writes_it() -> None:
    assert salesforce_time(NOW + 0.9) == "2026-11-25T18:58:12.000+0000"
