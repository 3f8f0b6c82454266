"""`python -m jobs.sweep`: puts right what got lost. Any number may run, one acts; the others stand by.

It takes over the orders of workers whose heartbeats stopped, sends jobs for orders that are due, sends lost ones
again, has ended orders audited, and does the portal's chores (placing orders in Salesforce, learning what changed).
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

from redis import RedisError

from jobs.process import HEARTBEAT_SECONDS, RESTING_HEARTBEAT_SECONDS, TTL_SECONDS, new_worker_id
from jobs.relay import Relay
from portal.customers.placing import place
from portal.customers.salesforce_sync import sync_changes
from portal.domain.ids import salesforce_id_18
from portal.domain.model import UpstreamError
from portal.errors import PortalError
from portal.ledger import (
    audits,
    bulk,
    circuits,
    housekeeping,
    installation,
    placements,
    queueing,
    restored,
    totals,
    unheard,
    workers,
)
from portal.logs import log_what_nobody_catches, set_up_logging
from portal.ops.alerts import certificates
from portal.ops.alerts.evaluate import EVERY, evaluate
from portal.services import Services, start_services
from portal.settings import SettingsError

log = logging.getLogger("jobs.sweep")

ROUND_SECONDS = 0.3
LAST_SECONDS = 5.0  # for the chores to end in when the process is to stop
RESTING_SECONDS = 1.0  # the same while no order is to be run
JOBS_PER_SLOT = 3  # few jobs out: an old one is a lost one
LOST_AFTER = 1.5  # seconds after which a job that is on no queue, and whose order nobody took, is lost
AUDIT_JOB_EVERY = 5.0
HANGING_SECONDS = 15.0  # a sweep whose round takes longer lets another one act
LONGEST_ROUND = 1.0  # a round that took longer says more of the database, or of us, than of a silent worker
NOTE_EVERY = 5.0  # seconds between two notes of a whole round, for metrics and alerts
EPOCH = "portal:epoch"
EPOCH_SECONDS = 10.0
TIDY_SECONDS = 1.0  # how long housekeeping goes on before other chores have their turn
SENTINEL = "portal:sentinel"  # gone: Redis was flushed or replaced, and every job with it


class Sweep:
    """One sweep process."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.worker_id = new_worker_id()
        self._seen_heartbeats: dict[str, tuple[int, float]] = {}  # worker_id → beat, seconds it was seen to stand there
        self._looked = time.monotonic()
        self._beaten_at = float("-inf")  # on the monotonic clock
        self.pause = ROUND_SECONDS  # until the next round
        self._enqueued_audits: dict[str, float] = {}
        self.acting = False
        self._next_epoch = 0.0
        self._next_note = 0.0

    def start(self) -> None:
        """Register in the ledger."""
        with self.services.ledger.write() as connection:
            workers.register(
                connection, self.worker_id, "sweep", socket.gethostname()[:120], os.getpid(), now=self.services.now()
            )

    def round(self) -> None:
        """Everything that is due, once. Raises PortalError or RedisError when it can't be done now."""
        self._beat()
        stale = self._stale_workers()
        self._lead(stale)
        if not self.acting:
            return
        for worker in stale:
            self._take_over(worker)
        self._check_sentinel()
        self._find_lost_jobs()
        self._enqueue_due()
        self._send_audits()
        self._note_round()
        with self.services.ledger.read() as connection:
            self.pause = ROUND_SECONDS if queueing.any_unfinished(connection) else RESTING_SECONDS

    def _note_round(self) -> None:
        if time.monotonic() >= self._next_note:
            self._next_note = time.monotonic() + NOTE_EVERY
            with self.services.ledger.write() as connection:
                installation.put(connection, totals.SWEEP_ROUND, True, now=self.services.now())

    # --- who is alive, and who leads ---

    def keep_heartbeat(self, stopping: threading.Event) -> None:
        """Beat beside the rounds, which may take long, but not beside one that hangs; for a thread of its own."""
        while not stopping.wait(HEARTBEAT_SECONDS):
            now = time.monotonic()
            if now - self._looked > HANGING_SECONDS or now - self._beaten_at < RESTING_HEARTBEAT_SECONDS:
                continue
            with contextlib.suppress(PortalError), self.services.ledger.write() as connection:
                # The next round sees whether we were declared dead.
                if workers.count_heartbeat(connection, self.worker_id, now=self.services.now()):
                    self._beaten_at = now

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten_at < HEARTBEAT_SECONDS:
            return
        with self.services.ledger.write() as connection:
            if workers.count_heartbeat(connection, self.worker_id, now=self.services.now()):
                self._beaten_at = now
                return
        log.warning("This sweep was declared dead: it starts anew")
        self.worker_id = new_worker_id()
        self.acting = False
        self.start()

    def _stale_workers(self) -> list[workers.Worker]:
        """Workers whose counter hasn't moved for the TTL by our own clock, while our own transactions succeed.

        Where a round took long, the database stalled (then nobody could beat) or we were stopped: most of that time
        doesn't count.
        """
        with self.services.ledger.read() as connection:
            rows = workers.alive(connection)
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, LONGEST_ROUND), now
        known: dict[str, tuple[int, float]] = {}
        for row in rows:
            beat, silent = self._seen_heartbeats.get(row.worker_id, (row.heartbeats, -passed))
            known[row.worker_id] = (row.heartbeats, silent + passed if beat == row.heartbeats else 0.0)
        self._seen_heartbeats = known
        return [row for row in rows if known[row.worker_id][1] > TTL_SECONDS and row.worker_id != self.worker_id]

    def _lead(self, stale: list[workers.Worker]) -> None:
        """Act, unless another sweep that is alive does."""
        with self.services.ledger.read() as connection:
            leader = installation.get(connection, "sweep")
        if leader == self.worker_id:
            self.acting = True
            return
        alive = leader in self._seen_heartbeats and all(worker.worker_id != leader for worker in stale)
        if alive:
            self.acting = False
            return
        with self.services.ledger.write() as connection:
            if installation.get(connection, "sweep") == leader:
                installation.put(connection, "sweep", self.worker_id, now=self.services.now())
        log.info("This sweep acts now", extra={"worker_id": self.worker_id})

    def _take_over(self, worker: workers.Worker) -> None:
        with self.services.ledger.write() as connection:
            taken = queueing.take_over(
                connection, worker.worker_id, now=self.services.now(), heartbeats=worker.heartbeats
            )
        if taken is None:
            return
        log.warning(
            "A worker's heartbeats stopped: its orders are taken over",
            extra={"worker_id": worker.worker_id, "pid": worker.pid, "orders": len(taken)},
        )
        self._enqueue(taken, front=True)

    # --- jobs ---

    def _enqueue(self, sf_order_ids: list[str], *, front: bool = False) -> None:
        """Send a job for each; those of a crash before they are noted are sent again, and do nothing twice."""
        sent = [(each, self.services.jobs.send(each, front=front)) for each in sf_order_ids]
        if sent:
            with self.services.ledger.write() as connection:
                for sf_order_id, job in sent:
                    queueing.note_job(connection, sf_order_id, job, now=self.services.now())

    def _check_sentinel(self) -> None:
        if time.monotonic() >= self._next_epoch:
            self._count_epoch()
        if self.services.redis.set(SENTINEL, "1", nx=True):
            with self.services.ledger.write() as connection:
                count = queueing.forget_jobs(connection)
            if count:
                log.warning("Redis was flushed or replaced: jobs are sent again", extra={"orders": count})

    def _count_epoch(self) -> None:
        """Ledger and Redis count together; where Redis is ahead, the ledger has lost time: it was restored."""
        services = self.services
        remembered = int(services.redis.get(EPOCH) or 0)
        now = services.now()
        with services.ledger.write() as connection:
            epoch = installation.next_epoch(connection, now=now)
            if remembered >= epoch:
                doubted = restored.mark(
                    connection, now=now, max_request_seconds=services.settings.whmcs_max_request_seconds
                )
                installation.put(connection, "epoch", remembered + 1, now=now)
                epoch = remembered + 1
                log.error(
                    "The ledger was restored from a backup: orders are looked for in WHMCS before they are created",
                    extra={"unfinishedOrders": doubted},
                )
        services.redis.set(EPOCH, epoch)
        services.require_one_host()
        self._next_epoch = time.monotonic() + EPOCH_SECONDS

    def _find_lost_jobs(self) -> None:
        """JobQueue on no queue whose order nobody took: a worker died between taking and claiming."""
        with self.services.ledger.read() as connection:
            out = queueing.enqueued(connection, limit=500)
        old = [row for row in out if self.services.now() - (row.enqueued_at or 0.0) > LOST_AFTER]
        if not old:
            return
        queued = set(self.services.jobs.queued(limit=5000))
        lost = [row for row in old if row.job_id not in queued]
        if lost:
            with self.services.ledger.write() as connection:
                for row in lost:
                    queueing.forget_job(connection, row.sf_order_id, row.job_id)

    def _enqueue_due(self) -> None:
        services = self.services
        with services.ledger.read() as connection:
            if installation.paused(connection):
                return
            slots = sum(worker.slots for worker in workers.alive(connection) if worker.kind == "fulfill")
            most = JOBS_PER_SLOT * max(slots, 1)
            room = most - services.jobs.count()
            rows = queueing.due(connection, now=services.now(), limit=room) if room > 0 else []
        self._enqueue([row.sf_order_id for row in rows])

    def _send_audits(self) -> None:
        now = time.monotonic()
        with self.services.ledger.read() as connection:
            rows = audits.audits_due(connection, now=self.services.now(), limit=20)
        self._enqueued_audits = {key: at for key, at in self._enqueued_audits.items() if now - at < AUDIT_JOB_EVERY}
        for row in rows:
            if row.sf_order_id not in self._enqueued_audits:
                self._enqueued_audits[row.sf_order_id] = now
                self.services.jobs.send(row.sf_order_id)


class Chores:
    """What may take long, in a thread of its own: it calls Salesforce. Only the acting sweep does it."""

    def __init__(self, services: Services, sweep: Sweep) -> None:
        self._services = services
        self._sweep = sweep
        self._relay = Relay(services, sweep.worker_id)
        # What, how often in seconds, and when next on the monotonic clock.
        self._chores: list[tuple[Callable[[], None], float]] = [
            (self._bulk_acts, 1.0),
            (self._place_orders, 1.0),
            (self._probe_circuits, 1.0),
            (self._find_requested, 60.0),
            (self._learn_changes, 60.0),
            (self._tidy, 60.0),
            (self._alert, EVERY),
            (self._look_at_certificates, 3600.0),
        ]
        self._next: dict[Callable[[], None], float] = {}
        self._tidying: housekeeping.Round | None = None  # the pass over the ledger that is under way

    def run(self, stopping: threading.Event) -> None:
        """Do the chores until told to stop."""
        while not stopping.wait(0.5):
            for chore, every in self._chores:
                if not self._sweep.acting or time.monotonic() < self._next.get(chore, 0.0):
                    continue
                self._next[chore] = time.monotonic() + every * random.uniform(0.9, 1.1)
                try:
                    chore()
                except (PortalError, RedisError) as error:
                    log.warning("A chore has to wait", extra={"chore": chore.__name__, "error": str(error)})
                except Exception:
                    log.exception("A chore failed", extra={"chore": chore.__name__})

    def _bulk_acts(self) -> None:
        """The next orders of what an operator began for many at once."""
        services = self._services
        with services.ledger.read() as connection:
            if not bulk.any_running(connection):
                return
        with services.ledger.write() as connection:
            to_run = bulk.advance(connection, now=services.now())
        for sf_order_id in to_run:
            services.jobs.send(sf_order_id)

    def _place_orders(self) -> None:
        """Orders that Salesforce hasn't confirmed yet."""
        with self._services.ledger.read() as connection:
            due = placements.due(connection, now=self._services.now(), limit=20)
        for reference in due:
            place(self._services, reference)

    def _probe_circuits(self) -> None:
        """Ask a side that was away whether it is back: the orders that wait for it may all wait for hours."""
        services = self._services
        asks: dict[str, Callable[[], object]] = {
            "whmcs": lambda: services.whmcs.order("1"),
            "salesforce": lambda: services.salesforce.requested_orders(limit=1),
        }
        for side, ask in asks.items():
            with services.ledger.read() as connection:
                row = circuits.get(connection, side)
            if row is None or row.opened_at is None or row.probe_at is None or row.probe_at > services.now():
                continue
            with contextlib.suppress(UpstreamError):  # the circuit breaker notes what came of it
                ask()

    def _find_requested(self) -> None:
        """Orders marked `Requested` in Salesforce whose call never arrived."""
        for sf_order_id in self._services.salesforce.requested_orders(limit=200):
            with self._services.ledger.write() as connection:
                unheard.request_unheard(connection, salesforce_id_18(sf_order_id), now=self._services.now())

    def _learn_changes(self) -> None:
        """Orders that were rejected or cancelled in Salesforce, in bulk."""
        sync_changes(self._services)

    def _alert(self) -> None:
        """What operators are to be told; it is sent from here where no worker does."""
        evaluate(self._services)
        while self._relay.late_alerts():
            pass

    def _look_at_certificates(self) -> None:
        certificates.look(self._services)

    def _tidy(self) -> None:
        """Rows nothing needs any more: some of them, so that placing orders doesn't wait; the next ones soon."""
        services = self._services
        if self._tidying is None:
            self._tidying = housekeeping.Round(
                now=services.now(), retention=services.settings.retention_days * 86_400.0
            )
        until = time.monotonic() + TIDY_SECONDS
        more = True
        while more and time.monotonic() < until:
            with services.ledger.write() as connection:
                more = self._tidying.batch(connection)
        if more:
            self._next[self._tidy] = 0.0
        else:
            self._tidying = None


def main() -> int:
    """The process. Returns its exit code."""
    set_up_logging()
    log_what_nobody_catches()
    stopping = threading.Event()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())
    try:
        services = start_services(os.environ, ask_salesforce=True)
        sweep = Sweep(services)
        sweep.start()
    except (SettingsError, PortalError) as error:
        print(f"The sweep can't start:\n{error}", file=sys.stderr, flush=True)
        return 4
    log.info("Sweep started", extra={"worker_id": sweep.worker_id})
    chores = threading.Thread(target=Chores(services, sweep).run, args=(stopping,), name="chores", daemon=True)
    chores.start()
    threading.Thread(target=sweep.keep_heartbeat, args=(stopping,), name="heartbeat", daemon=True).start()
    while not stopping.wait(sweep.pause):
        try:
            sweep.round()
        except (PortalError, RedisError) as error:
            log.warning("The sweep can't go on now", extra={"error": str(error)})
            if isinstance(error, RedisError):
                try:
                    services.revive_own_valkey()
                except Exception:
                    log.exception("Couldn't start the embedded Valkey again")
            stopping.wait(1.0)
    chores.join(LAST_SECONDS)  # an alert that was just taken is noted as sent, or it goes out again
    return 0


if __name__ == "__main__":
    sys.exit(main())
