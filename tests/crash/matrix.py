"""The crash matrix: every upstream call of an order × every moment around it × every way its process can end.

A cell is one order that is brought to one moment and whose worker is then struck. Many cells stand in their moments at
once, on one stack, and several of them in one process, each in a thread of its own: what strikes a process strikes all
of them. Each is held against both sides afterwards.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sandbox.control import SandboxError
from tests.crash.cells import HANG, KILL, LATE, LOST, NOT_SENT, STOP, STOP_LONG, SUPERVISOR, UNRECORDED, Call, Cell
from tests.crash.harness import (
    CrashStack,
    Wanted,
    children_of,
    runs,
    seed_orders,
    send_signal,
    stop_outside_a_transaction,
    unsettled,
)
from tests.crash.judge import judge
from tests.stack import http

MAX_REQUEST_SECONDS = 4.0


TRIES = 3


SLOTS = 26  # as many cells stand in their moments at once
PROCESSES = 4  # … in so many processes
IN_CALL = 8  # … and so many of them in calls that are held: no call is held for long, and all must be held still


#: A second worker, for the orders of processes that are stopped: they keep their slots.
SPARE = "worker2"


PATIENCE = 45.0  # seconds for all cells of a batch to get through one phase

ENDED = ("provisioned", "failed", "needs_decision")


def _batches(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells of one strike each, no more than there are slots, and one of the token's at most: no journal says whose it
    is. Few calls may be held at once, for they must all still be held when their processes are struck.
    """
    batches = []
    for _, same in itertools.groupby(cells, key=lambda cell: cell.strike):
        waiting = list(same)
        while waiting:
            batch: list[Cell] = []
            for cell in waiting:
                in_call = sum(each.in_call for each in batch)
                crowded = cell.in_call and in_call >= IN_CALL
                second_token = cell.what == "token" and any(each.what == "token" for each in batch)
                if len(batch) < SLOTS and not crowded and not second_token:
                    batch.append(cell)
            waiting = [cell for cell in waiting if cell not in batch]
            batches.append(batch)
    return batches


class Matrix:
    """Runs cells on a stack whose workers are tests.crash.worker_under_test."""

    def __init__(self, stack: CrashStack, points: Path, say: Callable[[str], None]) -> None:
        self.stack = stack
        self.points = points
        self.say = say
        self._numbers = itertools.count(1)
        self._deadline = 0.0

    def run(self, cells: Sequence[Cell]) -> None:
        """Run them all; every cell says afterwards what was wrong with it. The stack has two workers.

        One whose process had moved on before it could be struck (a call waits for its answer for so long only) is
        brought there again, with another order.
        """
        self.stack.child(SPARE).stop()
        for _ in range(TRIES):
            missed = [cell for cell in cells if not cell.struck_at]
            for cell in missed:
                number = next(self._numbers)
                cell.trouble, cell.held, cell.holder = "", None, None
                cell.wanted = Wanted(number, 5000 + number, [("starter", 1), ("server", 2)][: 1 + number % 2])
            seed_orders(self.stack, [cell.wanted for cell in missed])
            for batch in _batches(missed):
                begun = time.monotonic()
                self._batch(batch)
                good = sum(not cell.trouble for cell in batch)
                self.say(f"{batch[0].strike}: {good} of {len(batch)} cells in {time.monotonic() - begun:.0f} s")
                for cell in batch:
                    if cell.trouble:
                        self.say(f"  {cell.name}: {cell.trouble}")
        self._judge(cells)

    # --- one batch ---

    def _batch(self, batch: Sequence[Cell]) -> None:
        # Those that stand at a fault point stay there; a held call is given up after a while, so it comes last.
        token = [cell for cell in batch if cell.what == "token"]
        patient = [cell for cell in batch if cell not in token and not cell.in_call]
        for cells in (token, patient):
            self._phase(cells, self._bring)
            self._phase(cells, self._wait_in_place)
        hasty = [cell for cell in batch if cell.in_call and cell not in token]
        self._phase(hasty, self._bring)
        self._phase(hasty, self._wait_in_place)
        if batch[0].strike == SUPERVISOR:
            self._phase(batch, self._look_before_strike)
            self._strike_supervisor([cell for cell in batch if not cell.trouble])
        else:
            self._strike_processes([cell for cell in batch if not cell.trouble])
        stopped = batch[0].strike in (STOP, STOP_LONG)
        if stopped:
            self.stack.child(SPARE).start()
        self._phase(batch, self._taken_over)
        self._phase([cell for cell in batch if cell.strike == STOP], self._go_on)
        # A lost answer is lost at once; a late commit comes after the new run has ended.
        self._phase([cell for cell in batch if cell.moment == LOST], self._release)
        self._finish_late([cell for cell in batch if cell.moment == LATE and not cell.trouble])
        self._phase(batch, self._finished)
        self._phase([cell for cell in batch if cell.strike == STOP_LONG], self._go_on)
        for cell in batch:  # nobody stays where it could hold up others
            (self.points / f"{cell.wanted.order}.go").touch()
            if cell.holder is not None:
                send_signal(cell.holder.pid, signal.SIGCONT)
        for side in (self.stack.org, self.stack.shop):
            side.clear_faults()
            side.release()
        if stopped:
            self.stack.child(SPARE).stop()

    def _phase(self, cells: Sequence[Cell], do: Callable[[Cell], None]) -> None:
        """Do the same with all cells, within one common deadline."""
        self._deadline = time.monotonic() + PATIENCE
        for cell in cells:
            self._try(cell, do)

    @property
    def _left(self) -> float:
        return max(1.0, self._deadline - time.monotonic())

    def _try(self, cell: Cell, do: Callable[[Cell], None]) -> None:
        """Note what goes wrong instead of ending the other cells with it."""
        if cell.trouble:
            return
        try:
            do(cell)
        except (AssertionError, SandboxError) as error:
            cell.trouble = f"{do.__name__.strip('_')}: {error}"

    def _side(self, cell: Cell) -> Any:
        assert cell.call is not None
        return self.stack.org if cell.call.side == "salesforce" else self.stack.shop

    def _bring(self, cell: Cell) -> None:
        """Script what brings the order to its moment, and ask for it."""
        order, call = cell.wanted.order, cell.call
        cell.first = {"salesforce": self.stack.org.last_entry(), "whmcs": self.stack.shop.last_entry()}
        duplicate_possible = call.duplicate_possible if call else cell.what in ("elected", "CancelOrder:sending")
        late_stray = cell.what in ("CancelOrder", "CancelOrder:sending")
        if late_stray:  # it comes after the look before AddOrder, which would find and elect it
            self._stop_at(cell, "add_order:intended", 1)
            self._ask(cell)
            self._wait_at_point(cell)
            self._place_stray(cell)
        if duplicate_possible:
            self.stack.shop.fault("drop_after", action="AddOrder", order=order)
        if cell.what == "token":
            self.stack.org.fault("INVALID_SESSION_ID", action="query", order=order)
        if cell.in_call:
            assert call is not None
            when = "after" if cell.moment == LOST else "before"
            if call.by == "nothing":
                self._stop_at(cell, f"{call.point}:sending", 1)  # the call itself is caught once it stands there
            else:
                self._side(cell).fault(
                    "pause_point", action=call.action, when=when, seconds=120, label=order, **self._about(cell)
                )
        elif call is None:
            self._stop_at(cell, cell.what, 1)
        else:
            point = call.before or f"{call.point}:sending"
            if cell.moment == UNRECORDED:
                point = call.after or f"{call.point}:answered"
            self._stop_at(cell, point, 1 if call.before else call.nth)
        if late_stray:
            (self.points / f"{order}.go").touch()
            here = self.points / f"{order}.here"
            self.stack.wait_for(lambda: not here.exists(), f"{cell.name} to go on", self._left)
        else:
            self._ask(cell)

    def _ask(self, cell: Cell) -> None:
        answer = self.stack.fulfill(cell.wanted.order, prefer="respond-async")
        assert answer.status in (200, 202), answer.text

    def _about(self, cell: Cell) -> dict[str, Any]:
        call = cell.call
        assert call is not None
        about: dict[str, Any] = {"client": cell.wanted.client} if call.by == "client" else {"order": cell.wanted.order}
        return about | ({"contains": call.contains} if call.contains else {}) | {"nth": call.seen}

    def _place_stray(self, cell: Cell) -> None:
        """The order a call sent long ago left behind: made as the portal would make it, under its mark."""
        form = {
            "identifier": self.stack.secret("whmcs_api_identifier"),
            "secret": self.stack.secret("whmcs_api_secret"),
            "action": "AddOrder",
            "responsetype": "json",
            "clientid": str(cell.wanted.client),
            "paymentmethod": "stripe",
            "notes": f"sfOrderId={cell.wanted.order}",
        }
        for index, (pid, quantity, cycle, name) in enumerate(cell.wanted.asked):
            form |= {
                f"pid[{index}]": str(pid),
                f"qty[{index}]": str(quantity),
                f"billingcycle[{index}]": cycle,
                f"domain[{index}]": name,
            }
        answer = http(
            "POST",
            self.stack.shop.api_url,
            urlencode(form).encode(),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.json()["result"] == "success", answer.text

    def _stop_at(self, cell: Cell, point: str, nth: int) -> None:
        (self.points / f"{cell.wanted.order}.stop").write_text(f"{point} {nth}", encoding="ascii")

    def _wait_in_place(self, cell: Cell) -> None:
        """Until the order's process stands in its moment."""
        order, call = cell.wanted.order, cell.call
        if not cell.in_call:
            self._wait_at_point(cell)
        else:
            assert call is not None
            if call.by == "nothing":
                self._wait_at_point(cell)
                self.stack.org.fault("pause_point", action="token", when="after", seconds=120, label=order)
                (self.points / f"{order}.go").touch()
            cell.held = self.stack.wait_for(
                lambda: next(
                    (entry for entry in self._side(cell).journal(held=True) if entry["fault"]["label"] == order), None
                ),
                f"{cell.name} to be held",
                self._left,
            )
        cell.holder = self.stack.wait_for(lambda: self.stack.holder(order), f"a holder of {cell.name}", self._left)

    def _wait_at_point(self, cell: Cell) -> None:
        here = self.points / f"{cell.wanted.order}.here"
        self.stack.wait_for(here.exists, f"{cell.name} to be reached", self._left)

    def _look_before_strike(self, cell: Cell) -> None:
        row = self.stack.fulfillment(cell.wanted.order)
        assert row is not None
        assert row["state"] == "running", f"it isn't being run where it was: {row['state']}"
        assert cell.holder is not None, f"it isn't being run where it was: {row['state']}"
        assert row["owner"] == cell.holder.worker_id, f"it isn't being run where it was: {row['state']}"
        if cell.held is not None:
            held = [entry for entry in self._side(cell).journal(held=True) if entry["id"] == cell.held["id"]]
            assert held, "the call had been given up"
            assert held[0]["gone"] is None, "the call had been given up"
        cell.updated_at = row["updated_at"]

    def _strike_processes(self, cells: Sequence[Cell]) -> None:
        """Stopped first, then looked at, so that each surely still was where it was to be struck."""
        by_process: dict[int, list[Cell]] = {}
        for cell in cells:
            assert cell.holder is not None
            by_process.setdefault(cell.holder.pid, []).append(cell)
        for pid, its in by_process.items():
            stopped = stop_outside_a_transaction(pid)
            for cell in its:
                if stopped:
                    self._try(cell, self._look_before_strike)
                else:
                    cell.trouble = "its process had ended already"
            self._strike(pid, [cell for cell in its if not cell.trouble])

    def _strike(self, pid: int, cells: Sequence[Cell]) -> None:
        """Strike a process that is stopped, with these cells in it."""
        for cell in cells:
            cell.struck_at = time.time()
            if cell.strike == HANG:
                (self.points / f"{cell.wanted.order}.hang").touch()
        if cells and cells[0].strike == KILL:
            send_signal(pid, signal.SIGKILL)
        elif not cells or cells[0].strike == HANG:
            send_signal(pid, signal.SIGCONT)

    def _strike_supervisor(self, cells: Sequence[Cell]) -> None:
        child = self.stack.child("worker")
        slots = children_of(child.pid)
        for cell in cells:
            cell.struck_at = time.time()
            if cell.holder is None or cell.holder.pid not in slots:
                cell.trouble = "its process isn't the supervisor's child"
        send_signal(child.pid, signal.SIGKILL)  # alone: its children must end by themselves
        self.stack.wait_for(lambda: not any(map(runs, slots)), "the supervisor's children to end with it", 10)
        child.kill()
        child.start()

    def _taken_over(self, cell: Cell) -> None:
        holder = cell.holder
        assert holder is not None

        def raised() -> bool:
            row = self.stack.fulfillment(cell.wanted.order)
            return row is not None and row["fence"] > holder.fence

        self.stack.wait_for(raised, f"{cell.name} to be taken over", self._left)
        assert cell.strike != HANG or not runs(holder.pid), "a process runs on although one of its threads hangs"

    def _go_on(self, cell: Cell) -> None:
        assert cell.holder is not None
        send_signal(cell.holder.pid, signal.SIGCONT)
        (self.points / f"{cell.wanted.order}.go").touch()

    def _release(self, cell: Cell) -> None:
        assert cell.held is not None
        self._side(cell).release(cell.held["id"], then="drop" if cell.moment == LOST else "continue")

    def _finish_late(self, cells: Sequence[Cell]) -> None:
        """Let each call take effect as soon as its order has ended: what it spoils is put right soon after that."""
        left = list(cells)
        deadline = time.monotonic() + PATIENCE
        while left and time.monotonic() < deadline:
            for cell in list(left):
                assert cell.held is not None
                late = time.time() > cell.held["received"] + MAX_REQUEST_SECONDS + 0.2
                row = self.stack.fulfillment(cell.wanted.order)
                if late and row is not None and row["state"] in ENDED:
                    self._try(cell, self._release)
                    left.remove(cell)
            time.sleep(0.02)
        for cell in left:
            cell.trouble = "it hasn't ended"

    def _finished(self, cell: Cell) -> None:
        self.stack.finished(cell.wanted.order, self._left)

    # --- afterwards ---

    def _judge(self, cells: Sequence[Cell]) -> None:
        orders = [cell.wanted.order for cell in cells if not cell.trouble]
        deadline = time.monotonic() + 180
        while (left := unsettled(self.stack, orders)) and time.monotonic() < deadline:
            time.sleep(0.25)
        journals = {
            "salesforce": self.stack.org.journal(direction="in"),
            "whmcs": self.stack.shop.journal(direction="in"),
        }
        for cell in cells:
            if not cell.trouble:
                cell.trouble = "; ".join(
                    [
                        *self._not_in_its_window(cell, journals),
                        *(line for line in left if line.startswith(cell.wanted.order)),
                        *self._wrong_outcome(cell),
                    ]
                )

    def _wrong_outcome(self, cell: Cell) -> list[str]:
        verdict = judge(self.stack, [cell.wanted])
        return verdict.lines() if not verdict.good or verdict.exactly_once == 1 else ["no exactly-once"]

    def _not_in_its_window(self, cell: Cell, journals: dict[str, list[dict[str, Any]]]) -> list[str]:
        """What in the journal contradicts that the strike fell where it was meant to."""
        call = cell.call
        if call is None:
            return self._not_between(cell, journals["whmcs"])
        entries = [entry for entry in journals[call.side] if self._is(cell, call, entry)][call.seen - 1 :]
        before = [entry for entry in entries if entry["received"] <= cell.struck_at]
        faults = []
        if cell.moment == NOT_SENT:
            if before and call.by != "nothing":
                faults.append(f"the call had been sent: {before[0]}")
        elif cell.moment == UNRECORDED:
            answered = [entry for entry in before if entry["answered"] is not None]
            if not answered:
                faults.append("the call hadn't been answered")
            elif answered[-1]["answered"] > cell.struck_at or cell.updated_at > answered[-1]["answered"]:
                faults.append(f"the answer of {answered[-1]['answered']} was recorded at {cell.updated_at}")
        else:
            assert cell.held is not None
            entry = next(entry for entry in journals[call.side] if entry["id"] == cell.held["id"])
            done = entry["effect"] if call.effect else entry["received"]
            if entry["answered"] is not None and cell.strike in (KILL, SUPERVISOR):
                faults.append("somebody got the answer")
            if cell.moment == LOST and (entry["held"] != "after" or done is None or done > cell.struck_at):
                faults.append(f"it wasn't done before the strike: {entry}")
            if cell.moment == LATE:
                refused = (entry["outcome"] or {}).get("result") == "error" if isinstance(entry["outcome"], dict) else 0
                if entry["held"] != "before" or not (refused or (done or 0) - entry["received"] > MAX_REQUEST_SECONDS):
                    faults.append(f"it wasn't committed late: {entry}")
        return faults

    def _not_between(self, cell: Cell, entries: Sequence[dict[str, Any]]) -> list[str]:
        """The product's other points: which WHMCS calls with an effect must have been answered, and which not sent."""
        passed = {
            "claimed": (),
            "whmcs_create:begun": (),
            "sf_success_update:begun": ("AddOrder", "AcceptOrder"),
            "add_order:recorded": ("AddOrder",),
            "elected": ("AddOrder",),
            "accept_order:recorded": ("AddOrder", "AcceptOrder"),
            "AddOrder:sending": (),
            "AcceptOrder:sending": ("AddOrder",),
            "CancelOrder:sending": ("AddOrder",),
        }[cell.what]
        seen = {
            entry["action"]
            for entry in entries
            if entry["mark"] == cell.wanted.order
            and entry["received"] <= cell.struck_at
            and entry["id"] > cell.first["whmcs"]
            and entry["action"] in ("AddOrder", "AcceptOrder", "CancelOrder")
        }
        return [] if seen == set(passed) else [f"calls before the strike were {sorted(seen)}"]

    def _is(self, cell: Cell, call: Call, entry: dict[str, Any]) -> bool:
        if entry["action"] != call.action or entry["id"] <= cell.first[call.side]:
            return False
        if call.contains and call.contains not in str(entry["params"]):
            return False
        if call.by == "client":
            return bool(entry["client"] == str(cell.wanted.client))
        return call.by == "nothing" or cell.wanted.order in (entry["order"], entry["mark"])
