"""What one measurement of `make bench` is, and how it is run: sides that alternate, rounds repeated when disturbed.

A Group sets up its sides once (ours and its peers'), and the harness measures one after the other, round after round;
medians over the rounds become the group's rows. A round in which other programs used the processor is repeated; one
that can't be had undisturbed makes all its rows noisy, and noisy or missing rows are rows that aren't held.
"""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from bench.foreign import ForeignCpu

#: Figures of one measurement by name, whatever the side measures: per second, milliseconds, MiB, …
Figures = Mapping[str, float]


class PeerMissing(Exception):
    """A peer isn't there and couldn't be had; `str()` says which and how to get it."""


@dataclass(frozen=True)
class Side:
    """One of those who are compared. measure: takes the seconds it should last (≤ 5)."""

    name: str
    measure: Callable[[float], Figures]


@dataclass(frozen=True)
class Row:
    """One line of the result. ratio: ours over the peer's; held: whether the target was met."""

    name: str
    ours: float | None
    peer: float | None
    ratio: float | None
    target: str
    held: bool
    note: str = ""


def at_least(
    name: str, ours: float, peer: float, ratio: float, *, note: str = "", also: bool = True, else_why: str = ""
) -> Row:
    """A row that is held when ours / peer ≥ ratio, and `also` is true; else_why: the reason, where it isn't."""
    measured = ours / peer if peer else 0.0
    return _row(name, ours, peer, measured, f"≥ {ratio:g} ×", measured >= ratio and also, note, else_why)


def at_most(
    name: str, ours: float, peer: float, ratio: float, *, note: str = "", also: bool = True, else_why: str = ""
) -> Row:
    """A row that is held when ours / peer ≤ ratio, and `also` is true; else_why: the reason, where it isn't."""
    measured = ours / peer if peer else float("inf")
    return _row(name, ours, peer, measured, f"≤ {ratio:g} ×", measured <= ratio and also, note, else_why)


def _row(
    name: str, ours: float, peer: float, measured: float, target: str, held: bool, note: str, else_why: str
) -> Row:
    why = f"{else_why} (docs/performance.md)" if else_why and not held else ""
    return Row(name, ours, peer, measured, target, held, "; ".join(filter(None, (note, why))))


class Group(ABC):
    """Rows that are measured together.

    name: for `--only`; promised: each row's name and target, for when it can't be measured.
    """

    name: str
    promised: Sequence[tuple[str, str]]

    @abstractmethod
    def sides(self) -> AbstractContextManager[Sequence[Side]]:
        """Everything started, the sides ready to be measured; ended with the block. Raises PeerMissing."""

    @abstractmethod
    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """The rows, of each side's medians. Called with the sides still up: what must be checked afterwards is here."""

    def unmeasured(self, why: str) -> list[Row]:
        """The promised rows, none held."""
        return [Row(name, None, None, None, target, False, why) for name, target in self.promised]


@dataclass(frozen=True)
class Plan:
    """How much is measured. seconds: of one measurement; foreign: cores that others may use meanwhile."""

    rounds: int = 3
    seconds: float = 4.0
    foreign: float = 0.25
    repeats: int = 5


def run(group: Group, plan: Plan, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure one group; never raises PeerMissing."""
    try:
        with group.sides() as sides:
            rounds: dict[str, list[Figures]] = {side.name: [] for side in sides}
            left, noisy, done = plan.repeats, False, 0
            while done < plan.rounds:
                measured, worst = _round(sides, plan)
                shown = "; ".join(f"{name}: {_figures(figures)}" for name, figures in measured.items())
                tell(f"{group.name} {done + 1}/{plan.rounds} (foreign CPU {worst:.2f}) {shown}")
                if worst > plan.foreign:
                    if left:
                        left -= 1
                        continue
                    noisy = True
                done += 1
                for name, figures in measured.items():
                    rounds[name].append(figures)
            rows = group.rows({name: medians(figures) for name, figures in rounds.items()})
    except PeerMissing as missing:
        return group.unmeasured(f"peer missing: {missing}")
    if noisy:
        return [replace(row, held=False, note=f"noisy: other programs were busy. {row.note}".strip()) for row in rows]
    return rows


def medians(measured: Sequence[Figures]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(each[name] for each in measured) for name in measured[0]}


def _round(sides: Sequence[Side], plan: Plan) -> tuple[dict[str, Figures], float]:
    """Every side once; and the most cores that others used during one of the measurements."""
    measured: dict[str, Figures] = {}
    worst = 0.0
    for side in sides:
        foreign = ForeignCpu()
        measured[side.name] = side.measure(plan.seconds)
        worst = max(worst, foreign.cores())
    return measured, worst


def _figures(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
