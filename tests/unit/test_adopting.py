"""Provisioned orders that the ledger doesn't know: when they are taken in, and what their first audit finds."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from portal.domain.ids import external_reference
from portal.domain.model import SalesforceOrder, State
from portal.fulfillment.audit import audit
from portal.ledger import adopting, fulfillments, restored
from portal.ledger.engine import Ledger
from portal.ledger.fulfillments import Fulfillment
from tests.fakes import ORDER, Clock, FakeSalesforce, FakeWhmcs, run_context, salesforce_order

OTHER = "801000000000002AAA"


def provisioned(**changes: Any) -> SalesforceOrder:
    return replace(
        salesforce_order(), provisioning_status="Provisioned", whmcs_order_id="1", last_provisioning_at=500.0, **changes
    )


def test_a_new_ledger_beside_an_old_org_takes_nothing_in(ledger: Ledger) -> None:
    with ledger.write() as connection:
        assert not adopting.forgotten(connection, provisioned())
        adopting.note_follows(connection, now=600.0)
        assert not adopting.forgotten(connection, provisioned()), "it was provisioned before"
        assert adopting.forgotten(connection, replace(provisioned(), last_provisioning_at=700.0))


def test_a_restored_ledger_takes_in_what_was_provisioned(ledger: Ledger) -> None:
    with ledger.write() as connection:
        restored.mark(connection, now=time.time(), max_request_seconds=120.0)
        assert adopting.forgotten(connection, provisioned())
        for changes in ({"whmcs_order_id": None}, {"provisioning_status": "Failed"}):
            assert not adopting.forgotten(connection, replace(provisioned(), **changes))


def test_their_audits_come_one_after_the_other(ledger: Ledger) -> None:
    with ledger.write() as connection:
        for number in range(3):
            order = replace(provisioned(), id=f"80100000000000{number}AAA", whmcs_order_id=str(number + 1))
            assert adopting.take_in(connection, order, now=1000.0)
            row = fulfillments.get(connection, order.id)
            assert row is not None
            assert row.audit_due_at == 1000.0 + number / adopting.AUDITS_PER_SECOND
        assert not adopting.take_in(connection, order, now=1000.0), "it is known by now"
        twin = replace(provisioned(), id=OTHER, whmcs_order_id="01")
        assert not adopting.take_in(connection, twin, now=1000.0), "WHMCS order 1 is another's"


def audited(ledger: Ledger, clock: Clock, whmcs: FakeWhmcs, order: SalesforceOrder) -> Fulfillment:
    """Its row after its first audit."""
    with ledger.write() as connection:
        assert adopting.take_in(connection, order, now=clock.now)
    context = run_context(ledger, clock, FakeSalesforce(order), whmcs)
    assert audit(context, order.id)
    with ledger.read() as connection:
        row = fulfillments.get(connection, order.id)
    assert row is not None
    return row


@pytest.mark.parametrize("client", ["9", None])
def test_an_order_whose_claim_holds_stays_provisioned_and_is_followed(
    ledger: Ledger, clock: Clock, client: str | None
) -> None:
    whmcs = FakeWhmcs()
    whmcs.add("Active", external_reference(ORDER))
    row = audited(ledger, clock, whmcs, provisioned(whmcs_client_id=client))
    assert (row.state, row.client_id, row.plan) == (State.PROVISIONED, "9", {"clientId": "9"})
    assert row.audit_due_at is not None
    assert row.audit_due_at > clock.now
    assert whmcs.sent == []
    with ledger.read() as connection:
        by_service = fulfillments.by_service(connection, "1")
    assert by_service is not None, "events about its services find it"


@pytest.mark.parametrize(
    ("mark", "client", "why"),
    [
        (external_reference(OTHER), "9", f"bears the reference of Salesforce order {OTHER}"),
        (external_reference(ORDER), "8", "belongs to WHMCS client 9, this order to client 8"),
        (None, "9", "WHMCS doesn't have"),
    ],
)
def test_an_order_whose_claim_doesnt_hold_needs_a_decision(
    ledger: Ledger, clock: Clock, mark: str | None, client: str, why: str
) -> None:
    whmcs = FakeWhmcs()
    if mark is not None:
        whmcs.add("Active", mark)
    row = audited(ledger, clock, whmcs, provisioned(whmcs_client_id=client))
    assert row.state is State.NEEDS_DECISION
    assert why in (row.error_message or "")
    assert whmcs.sent == []
