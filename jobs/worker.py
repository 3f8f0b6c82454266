"""`python -m jobs.worker`: FULFILLMENT_PROCESSES children that share the slots, and one that carries the outbox.

The supervisor forks, waits, and replaces who died, with backoff. Children die with it. A dead child's orders are
taken over at once, without waiting for its heartbeats to be missed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from redis import RedisError

from jobs import relay, slots
from jobs.process import new_worker_id, nothing
from portal.errors import PortalError
from portal.ledger import queueing
from portal.logs import log_what_nobody_catches, set_up_logging
from portal.services import Services, start_services
from portal.settings import Settings, SettingsError

log = logging.getLogger("jobs.worker")

LONGEST_BACKOFF = 10.0
LOOK_SECONDS = 1.0  # so often the supervisor looks whether a child has ended that it wasn't told of
LAST_SECONDS = 5.0  # between killing the children and ending itself, where even that doesn't help
YOUNG_SECONDS = 2.0  # a child that ends before this age may be doomed: its successors come slower and slower


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


@dataclass(frozen=True)
class Role:
    """What a child is for; `slots`: how many orders it runs at once."""

    name: str
    slots: int = 0


def roles(settings: Settings) -> list[Role]:
    """The children of one worker: the slots are shared out among the processes, and each has one at least."""
    count = min(settings.fulfillment_processes, settings.fulfillment_slots)
    most, more = divmod(settings.fulfillment_slots, count)
    return [*(Role("slots", most + (number < more)) for number in range(count)), Role("relay")]


def _ended_child() -> tuple[int, int]:
    """Process id and wait status of a child that has ended; 0 and 0 when none has."""
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


class _Bell:
    """Rung by every signal, so that who waits for it sleeps until something happens, and no longer."""

    def __init__(self) -> None:
        self._hears, self._rings = socket.socketpair()
        self._rings.setblocking(False)
        self._hears.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a signal with a handler rings, one without doesn't
        signal.set_wakeup_fd(self._rings.fileno(), warn_on_full_buffer=False)

    def wait(self, seconds: float) -> None:
        """Until it rings, or has rung since the last time."""
        if select.select([self._hears], [], [], seconds)[0]:
            self._hears.recv(4096)

    def take_down(self) -> None:
        """In a forked child, whose signals are its own."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._hears.close()
        self._rings.close()


class Supervisor:
    """Keeps the children running until it is told to stop, whatever becomes of one of them."""

    def __init__(self, services: Services, fault_point: Callable[[str], None] = nothing) -> None:
        self._services = services
        self._fault_point = fault_point
        self._children: dict[int, tuple[Role, str, float]] = {}  # pid → role, worker_id, started
        self._to_fork: list[tuple[float, Role]] = []  # when (monotonic), role: those that wait for their backoff
        self._failures = 0
        self._stopping = False
        self._ledger_away = False  # found out while stopping

    def run(self) -> None:
        """Start everybody, replace whoever dies; on SIGTERM or SIGINT stop all and return."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self._services.clock.background = False  # no thread in a process that forks
        self._services.ledger.dispose()
        gc.freeze()
        bell = self._bell = _Bell()
        for role in roles(self._services.settings):
            self._fork(role)
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
                look_for_vanished = time.monotonic() + LOOK_SECONDS
            else:
                moments = [look_for_vanished, *(at for at, _role in self._to_fork)]
                bell.wait(max(min(moments) - time.monotonic(), 0.0))

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
        for at, role in waiting:
            if self._stopping:
                continue
            if at <= time.monotonic():
                self._fork(role)
            else:
                self._to_fork.append((at, role))

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

    def _fork(self, role: Role) -> None:
        worker_id = new_worker_id()
        parent = os.getpid()
        # A stop that arrives now must reach the child too: hold signals back until it is on the list.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            pid = os.fork()
        except OSError as error:  # no more processes or no memory for one: perhaps soon
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            log.error("Worker process couldn't be started", extra={"kind": role.name, "error": error.strerror})
            self._failures += 1
            self._to_fork.append((time.monotonic() + self._pause(), role))
            return
        if pid:
            self._children[pid] = (role, worker_id, time.monotonic())
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            return
        code = 1
        try:
            die_with_parent(parent)
            self._bell.take_down()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            random.seed()
            if role.slots:
                slots.run_slots(self._services, worker_id, role.slots, self._fault_point)
            else:
                relay.run(self._services, worker_id)
            code = 0
        except PortalError as error:
            log.error("Worker process can't go on", extra={"kind": role.name, "error": str(error)})
        except BaseException:
            log.exception("Worker process failed", extra={"kind": role.name})
        finally:
            os._exit(code)

    def _pause(self) -> float:
        return min(0.2 * 2.0 ** min(self._failures, 10), LONGEST_BACKOFF)

    def _reaped(self, pid: int, code: int | None) -> None:
        """A child has ended. code: as waitstatus_to_exitcode gives it; None: nobody knows."""
        if pid not in self._children:
            return
        role, worker_id, started = self._children.pop(pid)
        self._take_over(worker_id)
        if self._stopping:
            return
        lived = time.monotonic() - started
        self._failures = 0 if code == 0 or lived > YOUNG_SECONDS else self._failures + 1
        log.log(
            logging.INFO if code == 0 else logging.ERROR,
            "Worker process ended",
            extra={"kind": role.name, "pid": pid, "exitCode": code, "livedSeconds": round(lived, 1)},
        )
        pause = self._pause() if self._failures > 2 else 0.0
        self._to_fork.append((time.monotonic() + pause, role))

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
