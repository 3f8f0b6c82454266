"""The audits of ended orders: which are due, and who does them.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import (
    FINISHED_STATES,
)
from portal.ledger.fulfillments import COLUMNS, Fulfillment, fulfillment_of
from portal.ledger.schema import fulfillments

_F = fulfillments.c


def audits_due(connection: Connection, *, now: float, limit: int) -> list[Fulfillment]:
    """Finished fulfillments whose next look at WHMCS is due."""
    query = (
        sa.select(*COLUMNS)
        .where(_F.audit_due_at <= now)  # and nothing of the state: most orders have ended
        .order_by(_F.audit_due_at)
        .limit(limit)
    )
    return [row for row in map(fulfillment_of, connection.execute(query)) if row.finished]


def claim_audit(connection: Connection, row: Fulfillment, *, due_again_at: float) -> bool:
    """Take one due audit, so that no other sweep does it too; it comes again at `due_again_at` unless settled."""
    done = connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == row.sf_order_id, _F.fence == row.fence, _F.audit_due_at == row.audit_due_at)
        .values(audit_due_at=due_again_at)
    )
    return done.rowcount == 1


def audit_now(connection: Connection, sf_order_id: str, *, now: float) -> bool:
    """Ask for a look at WHMCS by the sweep's next round: a hint came from WHMCS that something changed there."""
    done = connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == sf_order_id, _F.state.in_(FINISHED_STATES))
        .values(audit_due_at=now)
    )
    return done.rowcount == 1
