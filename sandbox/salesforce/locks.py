"""Rows that somebody else holds: for a moment (another transaction) or until further notice (an approval process)."""

from __future__ import annotations

import threading
import time

from sandbox.salesforce.errors import SfError


class RowLocked(Exception):
    """A row that must be written is held by another transaction: Salesforce waits for it, up to a limit."""

    def __init__(self, key: str):
        super().__init__(key)
        self.key = key


class Locks:
    """The held rows, by 18-character id; they don't outlive a restart."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rows: dict[str, float] = {}
        self._approvals: set[str] = set()

    def hold(self, key: str, seconds: float, approval: bool = False) -> None:
        """Holds a row for so many seconds, or (`approval`) until it is released."""
        with self._changed:
            if approval:
                self._approvals.add(key)
            else:
                self._rows[key] = time.monotonic() + seconds

    def release(self, key: str | None = None) -> None:
        """Lets go of one row or of all."""
        with self._changed:
            for held in [each for each in (*self._rows, *self._approvals) if key in (None, each)]:
                self._rows.pop(held, None)
                self._approvals.discard(held)
            self._changed.notify_all()

    def wait(self, key: str, seconds: float) -> None:
        """Waits until a row is free, at most so long."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while (left := min(self._rows.get(key, 0.0), deadline) - time.monotonic()) > 0:
                self._changed.wait(left)

    def check(self, *keys: str | None, patient: bool = True) -> None:
        """Raises RowLocked when one of the rows is held; SfError where the caller has waited (not `patient`)."""
        with self._changed:
            for key in keys:
                if key in self._approvals:
                    raise SfError("ENTITY_IS_LOCKED", "the entity is locked for editing", [])
                if key is not None and self._rows.get(key, 0.0) > time.monotonic():
                    if patient:
                        raise RowLocked(key)
                    raise SfError(
                        "UNABLE_TO_LOCK_ROW",
                        f"unable to obtain exclusive access to this record or 1 records: {key}",
                        [],
                    )
