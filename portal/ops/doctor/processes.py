"""Whether somebody works on the orders: worker and sweep alive, nothing paused, nothing overdue."""

from __future__ import annotations

from functools import partial

from portal.ledger import installation, queueing, workers
from portal.ops.doctor.model import Check, Context, Finding, error, good, warning
from portal.ops.health import OVERDUE_SECONDS, SILENT_SECONDS


def _alive(kind: str, command: str, context: Context) -> Finding:
    with context.ledger.read() as connection:
        last = workers.last_heartbeats(connection).get(kind)
    if last is None:
        return error(f"no `{command}` has ever run, or all of them ended")
    silent = context.now() - last
    if silent > SILENT_SECONDS:
        return error(f"no heartbeat of any `{command}` for {silent:.0f} s")
    return good()


def _paused(context: Context) -> Finding:
    with context.ledger.read() as connection:
        paused = installation.paused(connection)
    return warning(f"paused by {paused.get('by')}: {paused.get('why')}") if paused else good()


def _backlog(context: Context) -> Finding:
    with context.ledger.read() as connection:
        since = queueing.longest_overdue(connection)
        paused = installation.paused(connection)
    overdue = 0.0 if since is None or paused else context.now() - since
    if overdue > OVERDUE_SECONDS:
        return warning(f"an order whose time had come has been waiting for {overdue:.0f} s")
    return good()


CHECKS = (
    Check(
        id="processes.workers",
        description="a worker is alive",
        run=partial(_alive, "fulfill", "python -m jobs.worker"),
        cure="Start `python -m jobs.worker`; its log says why it ended",
        needs=("database.migrations",),
        retry=True,
    ),
    Check(
        id="processes.sweep",
        description="a sweep is alive",
        run=partial(_alive, "sweep", "python -m jobs.sweep"),
        cure="Start `python -m jobs.sweep`; its log says why it ended",
        needs=("database.migrations",),
        retry=True,
    ),
    Check(
        id="processes.paused",
        description="fulfillments aren't paused",
        run=_paused,
        cure="`flask fulfillments resume`, once what it was for is over",
        needs=("database.migrations",),
    ),
    Check(
        id="processes.backlog",
        description="no order waits although its time has come",
        run=_backlog,
        cure="Start more workers, or raise FULFILLMENT_SLOTS or WHMCS_MAX_IN_FLIGHT",
        needs=("processes.workers", "processes.sweep"),
    ),
)
