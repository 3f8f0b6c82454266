"""Runs requests that come together in one thread, and asks Redis and the ledger once for all of them.

Each runs by the same code as in a thread of its own, but in a greenlet: where it calls `together`, it stops until the
others have come to the same point, and one call answers all. That saves what threads cost that wait for each other
(Python's lock, the ledger's), and a round trip and a commit for each. What would take its time alone calls `leave`
first: it begins again in a thread of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, NoReturn, TypeVar, cast

from greenlet import greenlet

log = logging.getLogger("portal.web.batch")

#: Requests of one batch at most.
MOST: Final = 64

#: What a batch waits at most for as many as there were in the last one. One after another nobody waits.
GATHER_SECONDS: Final = 0.001

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

#: Does something for many: an outcome for each item, or the exception that is to be raised for it.
Work = Callable[[Sequence[Item]], Sequence[Outcome | Exception]]


class Left(BaseException):
    """A request has left its batch, with nothing done."""


class _Member(greenlet):
    """One request's greenlet. Its parent is the batch's thread."""


def together(work: Work[Item, Outcome], item: Item) -> Outcome:
    """The outcome of `work` for this item: in a batch, of one call for all who ask for it; else of a call for it alone.

    Raises what `work` gives or raises for it.
    """
    me = greenlet.getcurrent()
    parent = me.parent if isinstance(me, _Member) else None
    outcome = work([item])[0] if parent is None else parent.switch((work, item))
    if isinstance(outcome, Exception):
        raise outcome
    return cast(Outcome, outcome)


def inside() -> bool:
    """Whether a batch's request runs here."""
    return isinstance(greenlet.getcurrent(), _Member)


def leave() -> NoReturn:
    """Before what may take its time: a batch's request ends here, and begins again in a thread.

    Only before anything was done that may not be done twice.
    """
    raise Left


def run(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run calls as one batch. Gives what each returned, or the exception that ended it: `Left` for who has left."""
    results: list[Any] = [None] * len(calls)
    members = [_Member(call) for call in calls]
    asked: list[tuple[int, Any]] = []  # who has stopped, and with what

    def advance(number: int, outcome: Any = None) -> None:
        member = members[number]
        try:
            found = member.switch(outcome) if member else member.switch()
        except BaseException as error:
            results[number] = error
            return
        if member.dead:
            results[number] = found
        else:
            asked.append((number, found))

    for number in range(len(calls)):
        advance(number)
    while asked:
        works: dict[Any, list[tuple[int, Any]]] = {}
        for number, (work, item) in asked:
            works.setdefault(work, []).append((number, item))
        asked = []
        for work, waiting in works.items():
            for (number, _item), outcome in zip(waiting, _outcomes(work, waiting), strict=True):
                advance(number, outcome)
    return results


def _outcomes(work: Work[Any, Any], waiting: Sequence[tuple[int, Any]]) -> Sequence[Any]:
    try:
        return work([item for _number, item in waiting])
    except Exception as error:
        return [error] * len(waiting)


class BatchThread:
    """Runs batches one after the other: each takes what has come during the last one, or will have in a moment.

    run: is given the items of a batch, at most MOST. It must not raise.
    """

    def __init__(self, run: Callable[[list[Any]], None]) -> None:
        self._run = run
        self._items: SimpleQueue[Any] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, items: Sequence[Any]) -> None:
        """Have these run. Never waits. From one thread only, after any fork: the first call starts the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="batches", daemon=True)
            self._thread.start()
        for each in items:
            self._items.put(each)

    def _gather(self, usual: int) -> list[Any]:
        """The next batch. usual: what the last one had; who sent it is reading the answer now, to send the next one."""
        batch = [self._items.get()]
        until = time.monotonic() + GATHER_SECONDS
        while len(batch) < MOST:
            try:
                wait = until - time.monotonic() if len(batch) < usual else 0
                batch.append(self._items.get(timeout=wait) if wait > 0 else self._items.get_nowait())
            except Empty:
                break
        return batch

    def _loop(self) -> None:
        usual = 1
        while True:
            batch = self._gather(usual)
            usual = len(batch)
            try:
                self._run(batch)
            except Exception:  # whatever it is, this thread must go on
                log.exception("A batch of requests failed")
