"""Asking for chaos' orders: buttons and signed deliveries, each in its time, until each order is acknowledged."""

from __future__ import annotations

import http.client
import itertools
import queue
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from tests.crash.harness import CrashStack
from tests.crash.plan import ANSWERS, DECISIONS, Planned

SENDERS = 32
PATIENCE = 180.0  # seconds for which one is sent again while the portal can't take it


class Senders:
    """Presses the buttons and sends the signed deliveries, each in its time, until each order is acknowledged."""

    def __init__(self, stack: CrashStack, plan: Sequence[Planned]) -> None:
        self.stack = stack
        self._plan = plan
        self._began = float("inf")
        self.acknowledged: set[int] = set()  # numbers of the orders that were
        self.answers: Counter[str] = Counter()
        self.surprises: Counter[str] = Counter()  # answers nobody should get
        self._jobs: queue.PriorityQueue[tuple[float, int, Planned, bool, str | None]] = queue.PriorityQueue()
        self._number = itertools.count()
        self._keys: dict[int, str] = {}
        self.left = 0
        self._lock = threading.Lock()
        for each in plan:
            self._keys[each.wanted.number] = f"click-{each.wanted.number}-{secrets.token_hex(4)}"
            self._put(each.at, each, True, None)
            for later, same in each.again:
                key = self._keys[each.wanted.number] if same else f"again-{secrets.token_hex(8)}"
                self._put(each.at + later, each, False, key)

    @property
    def seconds(self) -> float:
        """Since the first order was asked for."""
        return time.monotonic() - self._began

    @property
    def asked_for(self) -> int:
        """How many orders' time has come."""
        return sum(each.at <= self.seconds for each in self._plan)

    def _put(self, at: float, planned: Planned, first: bool, key: str | None) -> None:
        """Queue one delivery. `at`: seconds after the senders began."""
        self.left += 1
        self._jobs.put((at, next(self._number), planned, first, key))

    def start(self) -> None:
        """Start sending, in threads of its own."""
        self._began = time.monotonic()
        for _ in range(SENDERS):
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                at, _, planned, first, key = self._jobs.get_nowait()
            except queue.Empty:
                self.stack.close_thread()
                return
            time.sleep(max(0.0, self._began + at - time.monotonic()))
            try:
                if first and planned.door in ("guide", "package"):
                    self._press(planned)
                else:
                    self._deliver(planned, key or self._keys[planned.wanted.number])
            except Exception as error:
                self.surprises[f"order {planned.wanted.order}: {type(error).__name__}: {error}"] += 1
            finally:
                with self._lock:
                    self.left -= 1

    def _press(self, planned: Planned) -> None:
        """An operator's click; clicked again as long as the portal doesn't know of it."""
        order = planned.wanted.order
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            result = self.stack.org.provision(order, mode=planned.door)
            self._note(planned, result["status"], result["body"] or "")
            if result["status"] is not None and result["status"] < 500:
                return
            if self._known(order):
                self.acknowledged.add(planned.wanted.number)
                return
            time.sleep(1.0)
        self.surprises[f"order {order}: never acknowledged"] += 1

    def _known(self, order: str) -> bool:
        with suppress(Exception):
            return self.stack.fulfillment(order) is not None
        return False

    def _deliver(self, planned: Planned, key: str) -> None:
        """One delivery, sent again with its key while the portal can't take it."""
        order = planned.wanted.order
        prefer = "respond-async" if planned.door == "signed-async" else None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                answer = self.stack.fulfill(order, key=key, prefer=prefer)
            except (OSError, http.client.HTTPException):
                self.answers["none"] += 1
            else:
                self._note(planned, answer.status, answer.text)
                if answer.status < 500:
                    return
            time.sleep(0.5)
        self.surprises[f"order {order}: never acknowledged"] += 1

    def click_again(self, planned: Planned) -> None:
        """A new click: somebody sees in Salesforce that nothing came of the last one, or has put something right."""
        self.left += 1
        threading.Thread(target=self._click_again, args=(planned,), daemon=True).start()

    def _click_again(self, planned: Planned) -> None:
        try:
            self._deliver(planned, f"again-{secrets.token_hex(8)}")
        finally:
            self.stack.close_thread()
            with self._lock:
                self.left -= 1

    def _note(self, planned: Planned, status: int | None, body: str) -> None:
        with self._lock:
            self.answers[str(status or "none")] += 1
            if status is not None and status < 500:
                self.acknowledged.add(planned.wanted.number)
        decided = status == 409 and "needs_decision" in body
        expected = {200, 202, 502, 503} | ANSWERS.get(planned.trouble or "", set())
        if status is not None and status not in expected and not (decided and planned.trouble in DECISIONS):
            self.surprises[f"order {planned.wanted.order}: answered {status} {body[:200]}"] += 1
