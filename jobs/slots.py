"""A worker process' slots: threads that each run one RQ job at a time, and RQ's worker, which hands them out.

One RQ worker stands for the whole process. It takes a job only when a slot is free, so a job never waits in a process
while another one has room.
"""

from __future__ import annotations

import itertools
import logging
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

import redis as redis_library
from redis import Redis, RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.timeouts import BaseDeathPenalty
from rq.utils import now
from rq.worker import WorkerStatus

from jobs import fulfill
from jobs.process import EXIT_STUCK, WorkerProcess, die
from portal.queue.jobs import FULFILLMENTS
from portal.queue.redis import connect_redis
from portal.services import Services

log = logging.getLogger("jobs.slots")

#: A process is replaced after so many jobs per slot, so that no leak grows for ever.
JOBS_PER_SLOT = 2000
SIGN_OF_LIFE_SECONDS = 10.0  # so often RQ's dashboard is told that the worker is there
SUSPENSION_SECONDS = 1.0  # … and RQ is asked whether `rq suspend` was run


class _NoPenalty(BaseDeathPenalty):
    """RQ's alarm could ring between AddOrder and its record, and rings in the main thread only; our calls have
    deadlines of their own."""

    def setup_death_penalty(self) -> None: ...

    def cancel_death_penalty(self) -> None: ...


class Slots:
    """Threads that each run one thing at a time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = threading.Semaphore(count)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="slot")

    def wait(self, seconds: float) -> bool:
        """Take a free slot, to be used by `run` or given back; whether there was one within `seconds`."""
        return self._free.acquire(timeout=seconds)

    def give_back(self) -> None:
        """The slot that was taken isn't needed."""
        self._free.release()

    def run(self, do: Callable[[], object]) -> None:
        """Have the slot that was taken do this, and be free again afterwards."""
        self._threads.submit(self._run, do)

    def wait_for_all(self) -> None:
        """Until every slot is free; nothing may be run any more."""
        self._threads.shutdown()

    def _run(self, do: Callable[[], object]) -> None:
        try:
            do()
        except RedisError:
            pass  # RQ's bookkeeping met a Redis that is away: the ledger knows how the order stands
        except Exception:
            log.exception("RQ's bookkeeping failed")
        except BaseException:
            die(EXIT_STUCK, "a slot was ended")  # the others may not run on beside one that is gone
        finally:
            self._free.release()


class SlotsWorker(SimpleWorker):
    """RQ's worker over slots: no fork per job, no alarm, no scheduler; SIGTERM only sets a flag."""

    death_penalty_class = _NoPenalty
    slots: Slots
    #: The process is to end. RQ's own flag dies with its worker object, of which an outage of Redis makes several.
    stopping = False

    _sign_of_life_at = 0.0  # on the monotonic clock
    _suspension_at = 0.0

    def _install_signal_handlers(self) -> None:
        signal.signal(signal.SIGTERM, self.request_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor gets it, and stops us

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop after the jobs at hand."""
        SlotsWorker.stopping = self._stop_requested = True

    def subscribe(self) -> None:
        """No commands over Redis: nobody but the ledger says what this process does."""

    def unsubscribe(self) -> None:
        """There is nothing to end."""

    def check_for_suspension(self, burst: bool) -> None:
        """As RQ's, but not before every job: it is a round trip."""
        if time.monotonic() - self._suspension_at > SUSPENSION_SECONDS:
            super().check_for_suspension(burst)
            self._suspension_at = time.monotonic()

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """As RQ's, but not after every job: nobody takes orders over by it. `timeout`: seconds it is good for."""
        if pipeline is not None or time.monotonic() - self._sign_of_life_at > SIGN_OF_LIFE_SECONDS:
            super().heartbeat(timeout, pipeline)
            self._sign_of_life_at = time.monotonic()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a free slot and a job, a moment at a time; None when asked to stop. Redis may go away and back.

        `timeout` and `max_idle_time`, in seconds, are RQ's and not needed here.
        """
        pause = 0.2
        while not self._stop_requested:
            if not self.slots.wait(0.5):
                self.heartbeat()
                continue
            found: Any = None
            try:
                if not self.executions and self.get_state() != WorkerStatus.IDLE:
                    self.set_state(WorkerStatus.IDLE)
                found = self.queue_class.dequeue_any(
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
                found = None  # a job that was taken is lost, and sent again
                time.sleep(pause)
                pause = min(2 * pause, 2.0)
            finally:
                if found is None:
                    self.slots.give_back()
        return None

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Hand the job to the slot that was taken for it."""
        self.slots.run(partial(self._in_slot, job, queue))

    def prepare_execution(self, job: Job) -> Execution:
        """As RQ's, and what its `prepare_job_execution` does, in one round trip."""
        with self.connection.pipeline() as pipeline:
            ttl = self.get_heartbeat_ttl(job)
            execution = Execution.create(job, ttl, pipeline=pipeline, worker_name=self.name)
            self.executions[execution.id] = execution
            self.set_state(WorkerStatus.BUSY, pipeline=pipeline)
            job.prepare_for_execution(self.name, pipeline=pipeline)
            pipeline.lrem(self.queues[0].intermediate_queue_key, 1, job.id)
            pipeline.execute()
        return execution

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """It is done already."""

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        """As RQ's, without a sign of life of a job that is over. `heartbeat_ttl`: seconds it would be good for."""
        job.ended_at = now()

    def handle_job_success(
        self, job: Job, queue: Queue, started_job_registry: StartedJobRegistry, execution: Execution
    ) -> None:
        """As RQ's, in one round trip instead of seven: no job of ours has a result or a dependent, or is repeated."""
        assert job.started_at is not None
        assert job.ended_at is not None
        with self.connection.pipeline() as pipeline:
            self.increment_successful_job_count(pipeline=pipeline)
            self.increment_total_working_time(job.ended_at - job.started_at, pipeline)
            self.cleanup_execution(job, pipeline=pipeline, execution=execution)
            pipeline.delete(job.key)
            pipeline.execute()

    def _in_slot(self, job: Job, queue: Queue) -> None:
        self.perform_job(job, queue, self.prepare_execution(job))


def run_slots(services: Services, worker_id: str, count: int, fault_point: Callable[[str], None]) -> None:
    """A child's life: run jobs, `count` at once, until told to stop; then end those at hand."""
    services.ledger.keep_connections(count + 1)  # one for each thread, and one for the heartbeat
    process = WorkerProcess(services, worker_id, fault_point, slots=count, stopping=lambda: SlotsWorker.stopping)
    if not process.start("fulfill"):
        return
    fulfill.work_in(process)
    connection: Redis = connect_redis(services.settings, blocking=True)
    slots = Slots(count)
    for number in itertools.count(1):
        if SlotsWorker.stopping:
            break
        try:
            queue = Queue(FULFILLMENTS, connection=connection, serializer=JSONSerializer)
            # A new name each time: after an outage Redis may still show the old one as an active worker.
            name = f"{worker_id}-{number}"
            worker = SlotsWorker([queue], connection=connection, serializer=JSONSerializer, name=name)
            worker.slots = slots
            worker.log_job_description = False
            worker.work(logging_level="WARNING", max_jobs=JOBS_PER_SLOT * count)
            break
        except redis_library.exceptions.RedisError:
            time.sleep(random.uniform(0.2, 1.0))  # RQ's bookkeeping met a Redis that is away
    slots.wait_for_all()
    services.traces.close()
