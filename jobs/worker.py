"""`python -m jobs.worker`: FULFILLMENT_SLOTS child processes that run orders, one that carries the outbox.

The supervisor forks, waits, and replaces who died, with backoff. Children die with it. A dead child's orders are
taken over at once, without waiting for its heartbeats to be missed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import redis as redis_library
from redis import Redis, RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import BaseDeathPenalty
from rq.worker import WorkerStatus

from jobs import fulfill, relay
from jobs.process import WorkerProcess, new_worker_id, nothing
from portal.errors import PortalError
from portal.ledger import queueing
from portal.logs import log_what_nobody_catches, set_up_logging
from portal.queue.jobs import FULFILLMENTS
from portal.queue.redis import connect_redis
from portal.services import Services, start_services
from portal.settings import Settings, SettingsError

log = logging.getLogger("jobs.worker")

#: A child is replaced after so many jobs, so that no leak grows for ever.
JOBS_PER_CHILD = 2000
LONGEST_BACKOFF = 10.0
REAP_SECONDS = 0.02  # so often the supervisor looks whether a child has ended
VANISHED_EVERY = 1.0  # … and whether one has that it can't be told of
LAST_SECONDS = 5.0  # between killing the children and ending itself, where even that doesn't help
YOUNG_SECONDS = 2.0  # a child that ends before this age may be doomed: its successors come slower and slower


class _NoPenalty(BaseDeathPenalty):
    """RQ's alarm could ring between AddOrder and its record; our calls have deadlines of their own."""

    def setup_death_penalty(self) -> None: ...

    def cancel_death_penalty(self) -> None: ...


class SlotWorker(SimpleWorker):
    """RQ's worker as a slot: no fork per job, no alarm, no scheduler; SIGTERM only sets a flag."""

    death_penalty_class = _NoPenalty
    #: The process is to end. RQ's own flag dies with its worker object, of which an outage of Redis makes several.
    stopping = False

    def _install_signal_handlers(self) -> None:
        signal.signal(signal.SIGTERM, self.request_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor gets it, and stops us

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop after the job at hand."""
        SlotWorker.stopping = self._stop_requested = True

    def subscribe(self) -> None:
        """No commands over Redis: nobody but the ledger says what this process does."""

    def unsubscribe(self) -> None:
        """There is nothing to end."""

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job, a few seconds at a time; None when asked to stop. Redis may go away and come back."""
        self.set_state(WorkerStatus.IDLE)
        pause = 0.2
        while not self._stop_requested:
            try:
                found: Any = self.queue_class.dequeue_any(
                    self._ordered_queues,
                    1,
                    connection=self.connection,
                    job_class=self.job_class,
                    serializer=self.serializer,
                    death_penalty_class=self.death_penalty_class,
                )
                if found is not None:
                    found[0].redis_server_version = self.get_redis_server_version()  # type: ignore[no-untyped-call]
                    return found[0], found[1]
            except DequeueTimeout:
                self.heartbeat()
            except RedisError:
                time.sleep(pause)
                pause = min(2 * pause, 2.0)
        return None


def run_slot(services: Services, worker_id: str, fault_point: Callable[[str], None]) -> None:
    """A child's life: run jobs until told to stop."""
    process = WorkerProcess(services, worker_id, fault_point, stopping=lambda: SlotWorker.stopping)
    if not process.start("fulfill"):
        return
    fulfill.work_in(process)
    connection: Redis = connect_redis(services.settings, blocking=True)
    for number in itertools.count(1):
        if SlotWorker.stopping:
            services.traces.close()
            return
        try:
            queue = Queue(FULFILLMENTS, connection=connection, serializer=JSONSerializer)
            # A new name each time: after an outage Redis may still show the old one as an active worker.
            name = f"{worker_id}-{number}"
            worker = SlotWorker([queue], connection=connection, serializer=JSONSerializer, name=name)
            worker.log_job_description = False
            worker.work(logging_level="WARNING", max_jobs=JOBS_PER_CHILD)
            services.traces.close()
            return
        except redis_library.exceptions.RedisError:
            time.sleep(random.uniform(0.2, 1.0))  # RQ's bookkeeping met a Redis that is away


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the supervisor dies, however it dies (Linux)."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before we had asked for that


def stop_seconds(settings: Settings) -> float:
    """Seconds from SIGTERM until whatever still runs is killed: the longest call to WHMCS, and what comes after it."""
    return settings.whmcs_max_request_seconds + 20.0


def _ended_child() -> tuple[int, int]:
    """Process id and wait status of a child that has ended; 0 and 0 when none has."""
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


class Supervisor:
    """Keeps the children running until it is told to stop, whatever becomes of one of them."""

    def __init__(self, services: Services, fault_point: Callable[[str], None] = nothing) -> None:
        self._services = services
        self._fault_point = fault_point
        self._children: dict[int, tuple[str, str, float]] = {}  # pid → kind, worker_id, started
        self._to_fork: list[tuple[float, str]] = []  # when (monotonic), kind: those that wait for their backoff
        self._failures = 0
        self._stopping = False
        self._ledger_away = False  # found out while stopping

    def run(self) -> None:
        """Start everybody, replace whoever dies; on SIGTERM or SIGINT stop all and return."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self._services.ledger.dispose()
        gc.freeze()
        for _ in range(self._services.settings.fulfillment_slots):
            self._fork("slot")
        self._fork("relay")
        log.info("Worker started", extra={"slots": self._services.settings.fulfillment_slots})
        look_for_vanished = time.monotonic()
        while self._children or self._to_fork:
            self._fork_due()
            # Never asleep over a backoff: whoever dies meanwhile has orders to be taken over at once.
            pid, status = _ended_child()
            if pid:
                self._reaped(pid, os.waitstatus_to_exitcode(status))
            elif time.monotonic() >= look_for_vanished:
                self._reap_vanished()
                look_for_vanished = time.monotonic() + VANISHED_EVERY
            else:
                time.sleep(REAP_SECONDS)

    def _reap_vanished(self) -> None:
        """Whoever somebody else has waited for (a debugger, a library) has ended, too."""
        for pid in list(self._children):
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                self._reaped(pid, None)
            else:
                if found:
                    self._reaped(pid, os.waitstatus_to_exitcode(status))

    def _fork_due(self) -> None:
        """Start the replacements whose backoff is over; none any more once we are to stop."""
        waiting, self._to_fork = self._to_fork, []
        for at, kind in waiting:
            if self._stopping:
                continue
            if at <= time.monotonic():
                self._fork(kind)
            else:
                self._to_fork.append((at, kind))

    def _stop(self, _signum: int, _frame: FrameType | None) -> None:
        first, self._stopping = not self._stopping, True
        self._signal_all(signal.SIGTERM)
        if first:
            # What a child waits for may never come (a database that is stopped): it isn't asked for ever.
            last_resort = threading.Timer(stop_seconds(self._services.settings), self._end_all)
            last_resort.daemon = True
            last_resort.start()

    def _end_all(self) -> None:
        """Kill whoever hasn't stopped in time: what it ran is taken over. Then this process, if it hangs itself."""
        log.error("Worker processes didn't stop in time, and are killed", extra={"pids": list(self._children)})
        self._signal_all(signal.SIGKILL)
        time.sleep(LAST_SECONDS)
        os._exit(1)

    def _signal_all(self, signum: signal.Signals) -> None:
        for pid in list(self._children):
            with contextlib.suppress(ProcessLookupError):  # vanished
                os.kill(pid, signum)

    def _fork(self, kind: str) -> None:
        worker_id = new_worker_id()
        parent = os.getpid()
        # A stop that arrives now must reach the child too: hold signals back until it is on the list.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            pid = os.fork()
        except OSError as error:  # no more processes or no memory for one: perhaps soon
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            log.error("Worker process couldn't be started", extra={"kind": kind, "error": error.strerror})
            self._failures += 1
            self._to_fork.append((time.monotonic() + self._pause(), kind))
            return
        if pid:
            self._children[pid] = (kind, worker_id, time.monotonic())
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            return
        code = 1
        try:
            die_with_parent(parent)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            random.seed()
            if kind == "slot":
                run_slot(self._services, worker_id, self._fault_point)
            else:
                relay.run(self._services, worker_id)
            code = 0
        except PortalError as error:
            log.error("Worker process can't go on", extra={"kind": kind, "error": str(error)})
        except BaseException:
            log.exception("Worker process failed", extra={"kind": kind})
        finally:
            os._exit(code)

    def _pause(self) -> float:
        return min(0.2 * 2.0 ** min(self._failures, 10), LONGEST_BACKOFF)

    def _reaped(self, pid: int, code: int | None) -> None:
        """A child has ended. code: as waitstatus_to_exitcode gives it; None: nobody knows."""
        kind, worker_id, started = self._children.pop(pid, ("unknown", "", 0.0))
        if kind == "unknown":
            return
        self._take_over(worker_id)
        if self._stopping:
            return
        lived = time.monotonic() - started
        self._failures = 0 if code == 0 or lived > YOUNG_SECONDS else self._failures + 1
        log.log(
            logging.INFO if code == 0 else logging.ERROR,
            "Worker process ended",
            extra={"kind": kind, "pid": pid, "exitCode": code, "livedSeconds": round(lived, 1)},
        )
        pause = self._pause() if self._failures > 2 else 0.0
        self._to_fork.append((time.monotonic() + pause, kind))

    def _take_over(self, worker_id: str) -> None:
        """Nothing that a reaped process owned can still be run by it: free its orders, and send their jobs first."""
        services = self._services
        if self._ledger_away:
            return  # each try takes its time, and we have been told to stop
        try:
            with services.ledger.write() as connection:
                taken = queueing.take_over(connection, worker_id, now=services.now())
            for sf_order_id in taken or ():
                job = services.jobs.send(sf_order_id, front=True)
                with services.ledger.write() as connection:
                    queueing.note_job(connection, sf_order_id, job, now=services.now())
        except (PortalError, RedisError) as error:
            # Its missed heartbeats will tell the sweep, which also sends jobs.
            log.warning("Couldn't take over a dead worker's orders", extra={"error": str(error)})
            self._ledger_away = self._stopping and isinstance(error, PortalError)
        except Exception:  # nothing that happens to one child's orders may end all the others
            log.exception("Taking over a dead worker's orders failed: its missed heartbeats will tell the sweep")
        finally:
            services.ledger.dispose()


def main(fault_point: Callable[[str], None] = nothing) -> int:
    """The process. Returns its exit code."""
    set_up_logging()
    log_what_nobody_catches()
    try:
        services = start_services(os.environ, ask_salesforce=True)
        Supervisor(services, fault_point).run()
    except (SettingsError, PortalError) as error:
        print(f"The worker can't start:\n{error}", file=sys.stderr, flush=True)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
