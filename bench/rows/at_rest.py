"""What the portal costs when it has nothing to do: commits, processor time, and the memory of a further slot."""

from __future__ import annotations

import contextlib
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench import orders
from bench.foreign import descendants, seconds_of
from bench.harness import Figures, Group, Row, Side, at_most
from tests.crash.harness import CrashStack

MANY, FEW = 16, 2
#: What a slot cost as a process of its own, in MiB.
ONCE: Final = 12.5
#: Seconds after the last order until nothing of it is left to do.
SETTLES: Final = 8.0

_PROCESSES: Final = ("web", "worker", "sweep", "valkey")
_COMMITS: Final = "at rest, 16 slots: ledger commits per second"
_CPU: Final = "at rest, 16 slots: processor time of all processes, % of a core"
_MEMORY: Final = "memory per additional slot, MiB: PSS(16) − PSS(2) over 14, beside 12.5 of a process per slot"


class AtRest(Group):
    """After some orders: every slot has been used."""

    name = "at-rest"
    promised = ((_COMMITS, "≤ 6"), (_CPU, "≤ 2"), (_MEMORY, "≤ 0.3 ×"))

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """Two portals, one with 16 slots and one with 2; one rests beside the other."""
        with contextlib.ExitStack() as up:
            sides = []
            for slots in (MANY, FEW):
                folder = Path(up.enter_context(tempfile.TemporaryDirectory(prefix="order-portal-bench-")))
                stack = up.enter_context(orders.own_stack(folder, {"FULFILLMENT_SLOTS": str(slots)}))
                stack.start()
                orders.delay(stack, 0.1)  # so that all slots are busy at once
                orders.fulfilled(stack, 3 * MANY)
                orders.wait_until_told(stack)
                sides.append(Side(f"{slots} slots", partial(_measure, stack)))
            time.sleep(SETTLES)
            yield sides

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """Three."""
        many, few = medians[f"{MANY} slots"], medians[f"{FEW} slots"]
        more = (many["MiB"] - few["MiB"]) / (MANY - FEW)
        return [
            Row(_COMMITS, many["commits"], None, None, "≤ 6", many["commits"] <= 6),
            Row(_CPU, many["cpu"], None, None, "≤ 2", many["cpu"] <= 2),
            at_most(_MEMORY, more, ONCE, 0.3),
        ]


def _measure(stack: CrashStack, seconds: float) -> Figures:
    pids = [pid for name in _PROCESSES for pid in descendants(stack.child(name).pid)]
    while True:
        begun = time.monotonic()
        used, (generation, commits) = sum(map(seconds_of, pids)), _commits(stack.ledger_path)
        time.sleep(seconds)
        passed = time.monotonic() - begun
        cpu = sum(map(seconds_of, pids)) - used
        later, more = _commits(stack.ledger_path)
        if later == generation:
            break  # else SQLite has begun its log anew, and commits can't be told apart
    return {"commits": (more - commits) / passed, "cpu": 100 * cpu / passed, "MiB": sum(map(_pss_mib, pids))}


def _commits(ledger: Path) -> tuple[bytes, int]:
    """The generation of SQLite's write-ahead log, and the commits in it (https://sqlite.org/fileformat2.html#walformat)."""
    data = ledger.with_name(f"{ledger.name}-wal").read_bytes()
    page = struct.unpack(">I", data[8:12])[0]
    salt, count = data[16:24], 0
    for offset in range(32, len(data) - page - 23, 24 + page):
        frame = data[offset : offset + 24]
        if frame[8:16] != salt:
            break
        count += struct.unpack(">I", frame[4:8])[0] != 0  # the size of the database: said by a commit's last frame
    return salt, count


def _pss_mib(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
