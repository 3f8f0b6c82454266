"""The charts of /ops as SVG, drawn here: no script, no colour alone, and the figures stand in a table beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from portal.domain.model import State
from portal.ledger.hourly import Hour
from portal.ops.console.words import seconds, utc

WIDTH: Final = 480
HEIGHT: Final = 120
_OUTCOMES: Final = (State.PROVISIONED, State.FAILED, State.NEEDS_DECISION)
_SHARES: Final = ((0.5, "p50"), (0.95, "p95"))


def ended_by_hour(hours: Sequence[Hour]) -> Markup:
    """Bars: how many orders ended in each hour, by outcome, one upon the other."""
    most = max((sum(hour.ended.values()) for hour in hours), default=0) or 1
    step = WIDTH / max(1, len(hours))
    bars = []
    for index, hour in enumerate(hours):
        top = float(HEIGHT)
        for state in _OUTCOMES:
            number = hour.ended.get(state, 0)
            if number:
                tall = number / most * HEIGHT
                top -= tall
                bars.append(
                    f'<rect class="bar-{state.value}" x="{index * step + 1:.1f}" y="{top:.1f}" '
                    f'width="{step - 2:.1f}" height="{tall:.1f}"/>'
                )
    total = sum(sum(hour.ended.values()) for hour in hours)
    return _svg(f"Orders ended in each of the last {len(hours)} hours: {total} in all, {most} at most", bars, f"{most}")


def percentiles(hours: Sequence[Hour]) -> Markup:
    """Lines: within how many seconds half, and 95 %, of each hour's provisioned orders were done."""
    values = {name: [hour.percentile(share) for hour in hours] for share, name in _SHARES}
    most = max((value for line in values.values() for value in line if value is not None), default=0.0) or 1.0
    step = WIDTH / max(1, len(hours))
    drawn = []
    for name, line in values.items():
        points = [
            (index * step + step / 2, HEIGHT - value / most * HEIGHT)
            for index, value in enumerate(line)
            if value is not None
        ]
        drawn.append(f'<polyline class="line-{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        drawn += [f'<circle class="dot-{name}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    words = f"Time from click to provisioned in each of the last {len(hours)} hours, at most {seconds(most)}"
    return _svg(words, drawn, seconds(most))


def _svg(words: str, parts: Sequence[str], most: str) -> Markup:
    """`parts` are made of numbers and fixed words alone."""
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT + 4, words)
    line = f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>'
    label = Markup('<text class="chart-most" x="2" y="12">{}</text>').format(most)
    return head + Markup(line + "".join(parts)) + label + Markup("</svg>")


def rows(hours: Sequence[Hour]) -> list[tuple[str, list[int], list[str]]]:
    """The same figures for a table: the hour, its ends by outcome, its percentiles; hours without an end left out."""
    return [
        (
            utc(hour.start)[:16],
            [hour.ended.get(state, 0) for state in _OUTCOMES],
            [seconds(hour.percentile(share)) for share, _ in _SHARES],
        )
        for hour in reversed(hours)
        if hour.ended
    ]
