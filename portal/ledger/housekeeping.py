"""Deletes what has expired, and the details of orders that ended RETENTION_DAYS ago, a little at a time.

Kept for good: orders, fulfillments, services, counters, and the audit trail (events in which a person acted). Never
touched: nonces whose timestamp could pass, keys that must still answer, messages not sent yet, and what belongs to an
order that hasn't ended. Moments are seconds since 1970.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.domain.model import State
from portal.ledger import deliveries, events, hourly, operator_sessions, payment_hints, sessions, workers
from portal.ledger import outbox as outbox_messages
from portal.ledger.schema import events as events_table
from portal.ledger.schema import fulfillments, outbox, steps

DEAD_WORKERS_KEPT: Final = 86_400.0  # seconds
#: Seconds; anybody may have asked for one, with anybody's address.
SIGN_IN_LINKS_KEPT: Final = 86_400.0
#: Rows of one table that one transaction looks at: a few milliseconds, so that no delivery waits for long.
BATCH: Final = 500

#: The states in which nobody needs an order's steps any more: one that needs a decision keeps its story.
_ENDED: Final = (State.PROVISIONED, State.FAILED)
_IN_USE: Final = sa.exists().where(
    fulfillments.c.sf_order_id == steps.c.sf_order_id,
    sa.or_(
        fulfillments.c.state.not_in(_ENDED),
        fulfillments.c.finished_at.is_(None),
        fulfillments.c.finished_at >= sa.bindparam("cutoff"),
    ),
)

#: What of a table may go once it is older than the cutoff. Ids grow with time, so old rows are found without an index.
_MAY_GO: Final = {
    steps: sa.and_(steps.c.started_at < sa.bindparam("cutoff"), ~_IN_USE),
    outbox: sa.and_(
        outbox.c.created_at < sa.bindparam("cutoff"),
        outbox.c.state.in_(("sent", "dead")),
        sa.func.coalesce(outbox.c.sent_at, outbox.c.created_at) < sa.bindparam("cutoff"),
    ),
    events_table: sa.and_(
        events_table.c.at < sa.bindparam("cutoff"),
        sa.or_(events_table.c.actor.is_(None), events_table.c.actor.in_(events.MACHINES)),
    ),
}
_MOMENT: Final = {steps: steps.c.started_at, outbox: outbox.c.created_at, events_table: events_table.c.at}


class Round:
    """One pass over the ledger, in batches: `while round.batch(connection, …)`, each in a transaction of its own.

    retention: seconds for which the details of ended orders are kept (RETENTION_DAYS).
    """

    def __init__(self, *, now: float, retention: float) -> None:
        self._now = now
        self._cutoff = now - retention
        self._looked: dict[sa.Table, int] = dict.fromkeys(_MAY_GO, 0)  # the id up to which each table has been seen
        self.deleted = 0

    def batch(self, connection: Connection) -> bool:
        """Delete some more; False when nothing is left to do for now."""
        more = self._expired(connection)
        for table in list(self._looked):
            if self._page(connection, table):
                more = True
            else:
                del self._looked[table]
        return more

    def _expired(self, connection: Connection) -> bool:
        """What has a date of its own; whether there may be more of it."""
        now = self._now
        # A delivery lives for a day at least; the rest of its retention comes after its expiry.
        told = min(now, self._cutoff + deliveries.DELIVERY_SECONDS)
        counts = [
            deliveries.forget_expired(connection, before=told, limit=BATCH),
            deliveries.forget_keys(connection, now=now, limit=BATCH),
            sessions.forget_expired(connection, now=now, limit=BATCH),
            payment_hints.forget_old(connection, now=now, limit=BATCH),
            operator_sessions.forget_expired(connection, now=now, limit=BATCH),
            outbox_messages.forget_sign_in_links(connection, before=now - SIGN_IN_LINKS_KEPT, limit=BATCH),
        ]
        for kind in ("fulfill", "relay", "sweep"):
            counts.append(
                workers.forget_dead(connection, kind=kind, started_before=now - DEAD_WORKERS_KEPT, limit=BATCH)
            )
        self.deleted += sum(counts) + hourly.forget_old(connection, now=now)
        return max(counts) >= BATCH

    def _page(self, connection: Connection, table: sa.Table) -> bool:
        """Delete what may go of the next rows of a table; False when it has no old rows after them."""
        query = (
            sa.select(table.c.id, _MOMENT[table])
            .where(table.c.id > self._looked[table])
            .order_by(table.c.id)
            .limit(BATCH)
        )
        rows = connection.execute(query).all()
        if not any(moment < self._cutoff for _, moment in rows):
            return False
        first, last = rows[0][0], rows[-1][0]
        done = connection.execute(
            sa.delete(table).where(table.c.id >= first, table.c.id <= last, _MAY_GO[table]), {"cutoff": self._cutoff}
        )
        self.deleted += done.rowcount
        self._looked[table] = last
        return len(rows) == BATCH
