"""The RQ job: run one order, if it is to be run. Its argument is the Salesforce order id and nothing else."""

from __future__ import annotations

import logging

from redis import RedisError

from jobs.process import EXIT_LEDGER, EXIT_STUCK, WorkerProcess, die
from portal import logs
from portal.domain.model import LeaseLost, State
from portal.errors import PortalError
from portal.fulfillment.audit import audit
from portal.fulfillment.orchestrator import fulfill
from portal.ledger import fulfillments
from portal.ledger.engine import CommitUnknown, LedgerUnavailable

log = logging.getLogger("jobs.fulfill")

_process: WorkerProcess | None = None


class NotProvisioned(Exception):
    """Ends the RQ job as failed, so that RQ lists it among the failed ones; the ledger has the whole story."""


def work_in(process: WorkerProcess) -> None:
    """Set the process whose orders these jobs are; jobs.worker does it before the first job."""
    global _process
    _process = process


def fulfill_order(sf_order_id: str) -> None:
    """Claim the order in the ledger and fulfil it; do its audit if one is due; else do nothing.

    Raises NotProvisioned when it ended as Failed or needs a decision.
    """
    process = _process
    if process is None:
        raise RuntimeError("orders are run by `python -m jobs.worker`, not by another RQ worker")
    if not process.wait_for_heartbeat():
        return  # the ledger is away: the order stays there as it is, and gets another job
    process.runs(sf_order_id)
    try:
        with logs.bound(sfOrderId=sf_order_id):
            ended = fulfill(process.context, sf_order_id)
            if ended is None:
                audit(process.context, sf_order_id)
    except LeaseLost as lost:
        # Either this process was declared dead and ends here, or the ledger was restored and the order is to be looked
        # at anew: then only this run is over.
        _correct_salesforce(process, sf_order_id)
        _end_if_dead(process, str(lost))
        return
    except (LedgerUnavailable, CommitUnknown) as error:
        # What the ledger couldn't be told is unknown: end, so that the order is taken over and looked at.
        die(EXIT_LEDGER, str(error))
    except BaseException:
        # A fault of ours on the way out: the order would stay this process's for ever. It is taken over and looked at.
        log.exception("A run couldn't be ended", extra={"sfOrderId": sf_order_id})
        die(EXIT_STUCK, "a run couldn't be ended")
    finally:
        process.runs(None)
    if ended is None:
        return
    try:
        process.services.jobs.announce_finished(sf_order_id)
    except RedisError:
        log.warning("Couldn't announce the end of a run", extra={"sfOrderId": sf_order_id})
    if ended.state in (State.FAILED, State.NEEDS_DECISION):
        raise NotProvisioned(f"{ended.state}: {ended.code}")


def _end_if_dead(process: WorkerProcess, why: str) -> None:
    try:
        process.require_alive(why)
    except PortalError as error:
        die(EXIT_LEDGER, str(error))


def _correct_salesforce(process: WorkerProcess, sf_order_id: str) -> None:
    """This process lost the order while it ran it: what it told Salesforce last may be older than the truth."""
    try:
        with process.services.ledger.write() as connection:
            now = process.services.now()
            fulfillments.plan_resync(connection, sf_order_id, now=now, due_at=now)
    except (LedgerUnavailable, CommitUnknown):
        log.warning("Couldn't ask for a correction in Salesforce", extra={"sfOrderId": sf_order_id})
