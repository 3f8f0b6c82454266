"""Orders that Salesforce shows in the portal's hands although this ledger never heard of it: a lost call, a restore.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection

from portal.domain.model import CustomerStatus, State
from portal.ledger import events, fulfillments
from portal.ledger.fulfillments import Fulfillment


def request_unheard(connection: Connection, sf_order_id: str, *, now: float) -> Fulfillment:
    """An order that Salesforce marked `Requested` although its call never arrived.

    The history of a new one isn't complete: an earlier ledger may have known it. A Failed one is started again once
    Salesforce has taken that it Failed: before, the `Requested` it shows may be the click that ended so.
    """
    row = fulfillments.get(connection, sf_order_id)
    if row is None:
        fulfillments.insert_new(
            connection, sf_order_id, now=now, requested_at=now, requested_by=None, history_complete=False
        )
        events.record(connection, "request_found", now=now, subject=sf_order_id)
        row = fulfillments.get(connection, sf_order_id)
        assert row is not None
    elif row.state == State.FAILED and row.salesforce_status == CustomerStatus.FAILED:
        # It was Failed in Salesforce and is Requested again: a click we never heard of.
        row = fulfillments.start_again(connection, row, now=now)
    elif row.state == State.WAITING:
        fulfillments.hurry(connection, sf_order_id, now=now)
    elif row.finished and row.salesforce_status is not None:
        fulfillments.plan_resync(connection, sf_order_id, now=now, due_at=now)
    return row


def request_forgotten(connection: Connection, sf_order_id: str, *, now: float, provisioned: bool) -> Fulfillment | None:
    """An order that Salesforce shows in the portal's hands, or done, while this ledger knows better or nothing of it.

    So it is after a restore, when it was accepted (or clicked again) after the copy was made. It is run again, looking
    first; None when this ledger has an order that goes on by itself. provisioned: Salesforce shows it Provisioned.
    """
    row = fulfillments.get(connection, sf_order_id)
    if row is None and not provisioned:
        return request_unheard(connection, sf_order_id, now=now)
    if row is None or row.state not in (State.FAILED, State.NEEDS_DECISION):
        return None
    events.record(connection, "attempt_forgotten", now=now, subject=sf_order_id)
    return fulfillments.start_again(connection, row, now=now, history_complete=False)
