"""The audits of ended orders: which are due, and who does them.

Functions take a Connection inside a transaction of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import FINISHED_STATES, ErrorCode, State
from portal.ledger import totals
from portal.ledger.engine import insert
from portal.ledger.fulfillments import COLUMNS, Fulfillment, fulfillment_of, plan_resync, show
from portal.ledger.schema import fulfillments, services

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


def settle(connection: Connection, row: Fulfillment, *, due_at: float | None, audits: int) -> None:
    """Note an audit as done: `audits` of the planned ones are, the next is due at `due_at` (None: none is).

    A hint that came while it was done brings another on at once.
    """
    connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == row.sf_order_id, _F.fence == row.fence, _F.state.in_(FINISHED_STATES))
        .values(
            audit_due_at=sa.case((_F.hints != row.hints, sa.func.coalesce(_F.audit_due_at, due_at)), else_=due_at),
            audits=audits,
        )
    )


def doubt(connection: Connection, row: Fulfillment, code: ErrorCode, message: str, *, now: float) -> bool:
    """An ended order (`row`) turns out to need a person; False when somebody asked for it again meanwhile."""
    done = connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == row.sf_order_id, _F.fence == row.fence, _F.state == row.state)
        .values(
            state=State.NEEDS_DECISION,
            error_code=code,
            error_message=message[:255],
            audit_due_at=None,
            handled_at=None,
            updated_at=now,
        )
    )
    if done.rowcount != 1:
        return False
    totals.moved(connection, row.state, State.NEEDS_DECISION)  # its fence hasn't moved, so its state hasn't
    show(connection, row.sf_order_id, State.NEEDS_DECISION, now=now, error_code=code)
    plan_resync(connection, row.sf_order_id, now=now, due_at=now)
    return True


def note_services(connection: Connection, sf_order_id: str, states: Mapping[str, str], *, now: float) -> None:
    """Keep the states that the order's services have in WHMCS, by service id."""
    for service_id, status in states.items():
        values = {"sf_order_id": sf_order_id, "status": status[:20], "seen_at": now}
        connection.execute(
            insert(connection, services)
            .values(service_id=service_id, **values)
            .on_conflict_do_update(index_elements=[services.c.service_id], set_=values)
        )


def services_of(connection: Connection, sf_order_id: str) -> dict[str, str]:
    """Service id → its state in WHMCS as last seen."""
    query = sa.select(services.c.service_id, services.c.status).where(services.c.sf_order_id == sf_order_id)
    return {service_id: status for service_id, status in connection.execute(query) if status is not None}


def hint(connection: Connection, sf_order_id: str, *, now: float) -> None:
    """WHMCS said that something changed: an ended order is looked at by the sweep's next round, one that waits now.

    The hint leaves a mark that a run or an audit under way finds at its end.
    """
    finished, waiting = _F.state.in_(FINISHED_STATES), _F.state == State.WAITING
    connection.execute(
        sa.update(fulfillments)
        .where(_F.sf_order_id == sf_order_id)
        .values(
            hints=_F.hints + 1,
            audit_due_at=sa.case((finished, now), else_=_F.audit_due_at),
            due_at=sa.case((sa.and_(waiting, _F.due_at > now), now), else_=_F.due_at),
        )
    )
