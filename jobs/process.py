"""A worker process and its slots: one heartbeat in the ledger, and the check before every call that it may send.

A slot is a thread that runs one order at a time. A thread can't be stopped from outside, so whatever makes one unsafe
ends the whole process: what its slots ran is taken over, as if it had been killed.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NoReturn

from portal.domain.model import UpstreamError
from portal.errors import PortalError
from portal.fulfillment.run import RunContext
from portal.ledger import fulfillments, runs, workers
from portal.ledger.engine import LedgerUnavailable
from portal.ledger.fulfillments import Fulfillment
from portal.services import Services

log = logging.getLogger("jobs.process")

HEARTBEAT_SECONDS = 0.5
#: The same while it runs nothing: then there is nothing to be taken over.
RESTING_HEARTBEAT_SECONDS = 1.0
#: Heartbeats missed for so long make others take this process's orders; it sends nothing more after it itself.
TTL_SECONDS = 3.0
#: What a process that ends here has sent may still arrive in Salesforce for so long.
ON_ITS_WAY_SECONDS = 5.0

LONGEST_LEDGER_PAUSE = 2.0  # seconds between two looks whether the ledger is back

EXIT_DECLARED_DEAD, EXIT_STUCK, EXIT_LEDGER = 70, 71, 72


def nothing(_name: str) -> None:
    """No fault point: the production's."""


def die(code: int, why: str) -> NoReturn:
    """End this process at once: nothing of it may run on. Its orders are taken over."""
    log.error("Worker process ends", extra={"why": why, "exitCode": code})
    os._exit(code)


def new_worker_id() -> str:
    """A name no other process ever had."""
    return f"{socket.gethostname()[:20]}-{os.getpid()}-{uuid.uuid4().hex[:16]}"


@dataclass
class _UnderWay:
    """An order that is being run, and when its run last made progress, on the monotonic clock."""

    sf_order_id: str
    progressed_at: float


class WorkerProcess:
    """This process as an owner of orders. `worker_id`: made by the supervisor, so that it can mark us dead.

    slots: how many orders it runs at once, each in a thread of its own; stopping: whether it has been told to end.
    """

    def __init__(
        self,
        services: Services,
        worker_id: str,
        fault_point: Callable[[str], None] = nothing,
        *,
        slots: int = 1,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.services = services
        self.worker_id = worker_id
        self._slots = slots
        self._stopping = stopping
        self._last_heartbeat = time.monotonic()
        self._runs: dict[int, _UnderWay] = {}  # by thread
        # A run without progress for longer than its longest call is stuck: the process ends, so that it is taken over.
        self._stuck_after = 3 * services.settings.whmcs_max_request_seconds + 120

        def stop_point(name: str) -> None:
            self.progress()
            fault_point(name)

        self.context = RunContext(
            ledger=services.ledger,
            salesforce=services.salesforce,
            whmcs=services.whmcs,
            settings=services.settings,
            now=services.now,
            worker_id=worker_id,
            whmcs_slot=services.in_flight.slot,
            fault_point=stop_point,
            span=self._span,
        )
        services.send_checks.add(self._check_lease)

    def start(self, kind: str) -> bool:
        """Register in the ledger and start beating. `kind`: fulfill, relay or sweep.

        Waits for a ledger that is away: a process that ended over it would only be started again, and again. False:
        it was told to stop meanwhile.
        """
        self.services.clock.background = True
        pause = 0.0
        while not self._register(kind, told=pause > 0):
            if self._stopping():
                return False
            pause = min(pause + 0.2, LONGEST_LEDGER_PAUSE)
            time.sleep(pause)
        self._last_heartbeat = time.monotonic()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return True

    def _register(self, kind: str, *, told: bool) -> bool:
        host, pid = socket.gethostname()[:120], os.getpid()
        try:
            with self.services.ledger.write() as connection:
                now = self.services.now()
                workers.register(connection, self.worker_id, kind, host, pid, slots=self._slots, now=now)
        except LedgerUnavailable as error:
            if not told:
                log.warning("A worker process waits for the ledger", extra={"kind": kind, "error": str(error)})
            return False
        return True

    def progress(self) -> None:
        """The run of this thread goes on."""
        run = self._runs.get(threading.get_ident())
        if run is not None:
            run.progressed_at = time.monotonic()

    def runs(self, sf_order_id: str | None) -> None:
        """The order that this thread runs from now on; None: it runs none."""
        slot = threading.get_ident()
        if sf_order_id is not None:
            self._runs[slot] = _UnderWay(sf_order_id, time.monotonic())
        else:
            self._runs.pop(slot, None)

    def require_alive(self, why: str) -> None:
        """End this process at once if it has been declared dead: then none of its slots owns anything any more.

        Raises PortalError when the ledger can't tell.
        """
        now = self.services.now()
        with self.services.ledger.write() as connection:
            alive = workers.count_heartbeat(connection, self.worker_id, now=now)
            if not alive:
                # What these runs sent to Salesforce last, or have on its way, may be older than the truth.
                for run in [*self._runs.values()]:
                    fulfillments.plan_resync(connection, run.sf_order_id, now=now, due_at=now + ON_ITS_WAY_SECONDS)
        if not alive:
            die(EXIT_DECLARED_DEAD, why)

    def wait_for_heartbeat(self) -> bool:
        """Until a heartbeat got through lately: whoever may send nothing takes up no order either.

        False: the process is to stop before one did.
        """
        while time.monotonic() - self._last_heartbeat >= TTL_SECONDS - HEARTBEAT_SECONDS:
            if self._stopping():
                return False
            time.sleep(0.05)
        return True

    def _span(self, row: Fulfillment) -> AbstractContextManager[object]:
        """The trace of one run: the delivery's where this is the first one of its click."""
        traces = self.services.traces
        if not traces.on:
            return nullcontext()
        with self.services.ledger.read() as connection:
            first = not runs.begun_before(connection, row.sf_order_id, row.attempt, row.fence)
        return traces.run(row.sf_order_id, row.attempt, (row.origin or {}).get("traceparent"), first=first)

    def _check_lease(self, _deadline: float) -> None:
        """Right before bytes leave: whoever missed its heartbeats may have been taken over already.

        Then nothing is sent. Whether we were taken over, the next write to the ledger tells.
        """
        self.progress()
        if time.monotonic() - self._last_heartbeat >= TTL_SECONDS:
            raise UpstreamError(
                "portal",
                "this process missed its heartbeats, so it may not send",
                permanent=False,
                code="circuit_open",
                retry_after=HEARTBEAT_SECONDS,
                reached=False,
            )

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            now = time.monotonic()
            since = min([run.progressed_at for run in [*self._runs.values()]], default=None)
            if since is None and now - self._last_heartbeat < RESTING_HEARTBEAT_SECONDS:
                continue
            if since is not None and now - since > self._stuck_after:
                die(EXIT_STUCK, "a step exceeded its deadline")
            try:
                self.require_alive("this process was declared dead")
            except PortalError:
                continue  # the ledger is away: it takes nobody over meanwhile, and we send nothing after the TTL
            except Exception:
                log.exception("The heartbeat failed")
                die(EXIT_STUCK, "the heartbeat failed")
            self._last_heartbeat = now
