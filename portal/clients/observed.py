"""Counts and traces every call to Salesforce and WHMCS, and keeps how many calls Salesforce still allows today."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from portal.clients.http import Observer
from portal.clients.traces import Traces
from portal.domain.model import PortalError, UpstreamError
from portal.ledger import installation, totals
from portal.ledger.engine import Ledger

log = logging.getLogger("portal.clients.observed")

#: Seconds between two notes of the quota by one process.
QUOTA_EVERY: Final = 30.0


class CallTotals:
    """An observer of calls (portal.clients.http.Hooks.after_call) that counts, and then asks the next one."""

    def __init__(
        self,
        ledger: Ledger,
        heard: Observer,
        *,
        now: Callable[[], float],
        quota: Callable[[], tuple[int, int] | None] = lambda: None,
        traces: Traces | None = None,
    ) -> None:
        """`heard`: the next observer; `quota`: calls used and allowed a day, None while nobody has said; `now`: s."""
        self._ledger = ledger
        self._heard = heard
        self._now = now
        self._quota = quota
        self._noted = -QUOTA_EVERY
        self._traces = traces

    def __call__(self, upstream: str, action: str, outcome: str, seconds: float, error: UpstreamError | None) -> None:
        """One call has ended after `seconds`."""
        totals.call_ended(self._ledger.gathered, upstream, action, outcome, seconds=seconds)
        if self._traces is not None:
            self._traces.call(upstream.lower(), action, outcome, seconds, error.code if error is not None else None)
        self._heard(upstream, action, outcome, seconds, error)
        quota = self._quota()
        if quota is not None and time.monotonic() - self._noted >= QUOTA_EVERY:
            self._noted = time.monotonic()
            self._note_quota(*quota)

    def _note_quota(self, used: int, total: int) -> None:
        value = {"used": used, "total": total}
        try:
            with self._ledger.write() as connection:
                installation.put(connection, totals.QUOTA, value, now=self._now())
        except PortalError:
            log.warning("Couldn't note Salesforce's quota")
