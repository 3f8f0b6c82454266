"""Group commit: what many threads want written at the same time goes into one transaction, with one fsync.

Without it each thread holds the database's one writing lock while it waits for Python's own lock, and all others wait
for both. Here the first thread to come leads: it writes for all who have come meanwhile, and who comes while it writes
is led by the first of those. Nobody's error is another's: whoever the common transaction can't be had for, or isn't
meant for, is told to write alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from sqlalchemy.engine import Connection

from portal.errors import PortalError
from portal.ledger.engine import BUSY_SECONDS, CommitUnknown, GaveWay, Ledger, LedgerUnavailable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

#: What one transaction takes at most: its length is how long everybody else waits.
MOST_AT_ONCE: Final = 64


class _Entry(Generic[Item, Outcome]):
    """One thread's item on its way."""

    __slots__ = ("error", "item", "leads", "outcome", "signal", "taken")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.outcome: Outcome | None = None
        self.error: PortalError | None = None
        self.leads = False  # it is this thread's turn to write for all
        self.taken = False  # a leader writes it
        self.signal = threading.Lock()  # held until there is an outcome, or the turn has come
        self.signal.acquire()


class GroupCommit(Generic[Item, Outcome]):
    """Runs `work` over the items of many threads in one transaction. One per ledger and kind of work.

    work: called with a transaction's connection and the items; gives an outcome for each, None for one that must be
    written alone. Where it raises, nothing is written, and all are to be written alone.
    patience: seconds that an item may wait for the transaction it is in, and for the one before.
    """

    def __init__(
        self,
        ledger: Ledger,
        work: Callable[[Connection, Sequence[Item]], Sequence[Outcome | None]],
        *,
        patience: float = 2 * BUSY_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._work = work
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: list[_Entry[Item, Outcome]] = []
        self._led = False  # somebody writes, or has been told to

    def commit(self, items: Sequence[Item]) -> list[Outcome | PortalError | None]:
        """Each item's outcome, committed; None: nothing of it was written, write it alone.

        Instead of an outcome LedgerUnavailable where nothing was written, CommitUnknown where that isn't known.
        """
        entries: list[_Entry[Item, Outcome]] = [_Entry(item) for item in items]
        with self._lock:
            self._waiting.extend(entries)
            entries[0].leads = not self._led
            self._led = True
        for entry in entries:
            if not entry.leads and not entry.signal.acquire(timeout=self._patience):
                self._give_up(entry)
            if entry.leads:
                self._lead()
        return [entry.error or entry.outcome for entry in entries]

    def one(self, item: Item) -> Outcome:
        """One item's outcome, committed, with others or, where that can't be, alone by the same `work`.

        Raises what `work` raises for it alone, LedgerUnavailable and CommitUnknown.
        """
        (found,) = self.commit([item])
        if isinstance(found, PortalError):
            raise found
        if found is None:
            with self._ledger.write() as connection:
                (found,) = self._work(connection, [item])
        assert found is not None
        return found

    def _give_up(self, entry: _Entry[Item, Outcome]) -> None:
        """The time is over: what is known then, unless the outcome or the turn came in this very moment."""
        with self._lock:
            if entry.leads or not entry.signal.locked():
                return
            if entry.taken:
                entry.error = CommitUnknown("the ledger's transaction takes too long")
                return
            self._waiting.remove(entry)
        entry.error = LedgerUnavailable("the ledger's database can't be used: others have been writing for too long")

    def _lead(self) -> None:
        """Write for everybody who waits, this thread among them; then let the next one lead."""
        with self._lock:
            batch = self._waiting[:MOST_AT_ONCE]
            del self._waiting[:MOST_AT_ONCE]
            for entry in batch:
                entry.taken = True
        try:
            self._write(batch)
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._led = following is not None
                if following is not None:
                    following.leads = True
                for entry in batch:
                    if not entry.leads:
                        entry.signal.release()
            if following is not None:
                following.signal.release()

    def _write(self, batch: list[_Entry[Item, Outcome]]) -> None:
        try:
            with self._ledger.write() as connection:
                outcomes = list(self._work(connection, [entry.item for entry in batch]))
        except GaveWay:  # many rows are locked in one order, and somebody has locked the same in another
            return
        except (LedgerUnavailable, CommitUnknown) as error:
            for entry in batch:
                # One of a kind for each: a traceback belongs to one thread.
                entry.error = type(error)(*error.args)
        except Exception:
            return  # whose fault it was shows when each is written alone
        except BaseException as error:  # this thread is to end: it tells its own caller, and the others that
            for entry in batch:
                entry.error = CommitUnknown(f"the writing thread ended: {type(error).__name__}")
            raise
        else:
            for entry, outcome in zip(batch, outcomes, strict=True):
                entry.outcome = outcome
