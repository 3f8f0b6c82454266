"""The result of `make bench`: a table for people, and one line of JSON, the last one."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bench.harness import Row

_HEAD = ("row", "ours", "peer", "ratio", "target", "held")


def table(rows: Sequence[Row]) -> str:
    """The rows in columns, notes below them."""
    cells = [
        _HEAD,
        *((r.name, *map(_number, (r.ours, r.peer, r.ratio)), r.target, "yes" if r.held else "NO") for r in rows),
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    notes = [f"  {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def document(rows: Sequence[Row]) -> str:
    """The JSON line."""
    return json.dumps(
        {
            "rows": [
                {
                    "name": row.name,
                    "ours": _rounded(row.ours),
                    "peer": _rounded(row.peer),
                    "ratio": _rounded(row.ratio),
                    "target": row.target,
                    "held": row.held,
                    **({"note": row.note} if row.note else {}),
                }
                for row in rows
            ]
        },
        ensure_ascii=False,
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
