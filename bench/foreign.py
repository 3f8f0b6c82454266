"""How much of the processor others used during a measurement: what the machine did, minus what our own processes did.

Our own are this process and all its descendants. `adopt_orphans()` first: then also those whose parent has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """Descendants whose parent ends become this process's own children (Linux)."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class ForeignCpu:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._all, self._own = _machine(), own_seconds()

    def cores(self) -> float:
        """Cores that were busy for others since then, on average; steal (a hypervisor's other guests) counts too."""
        passed = time.monotonic() - self._begun
        foreign = (_machine() - self._all) - (own_seconds() - self._own)
        return max(0.0, foreign / passed)


def seconds_of(pid: int) -> float:
    """Processor seconds of a process and its children that have ended."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        # The name may hold spaces and brackets: what follows the last one is the state, then the numbers.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(each) for each in fields[11:15]) / _TICKS
    return 0.0


def descendants(root: int) -> list[int]:
    """The process and everything below it."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = Path(f"/proc/{entry}/stat").read_text()
                children[int(stat.rpartition(")")[2].split()[1])].append(int(entry))
    found, open_ = [], [root]
    while open_:
        pid = open_.pop()
        found.append(pid)
        open_ += children[pid]
    return found


def own_seconds() -> float:
    """Processor seconds of this process and everything below it."""
    return sum(seconds_of(pid) for pid in descendants(os.getpid()))


def _machine() -> float:
    """Processor seconds of all programs and the kernel on their behalf, and steal; interrupts are nobody's."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, steal = fields[0], fields[1], fields[2], fields[7]
    return (user + nice + system + steal) / _TICKS
