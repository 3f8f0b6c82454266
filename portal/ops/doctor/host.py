"""Whether this machine has room for what the portal keeps on it."""

from __future__ import annotations

import shutil
from pathlib import Path

from portal.ledger import diagnosis
from portal.ops.doctor.model import Check, Context, Finding, error, good, warning
from portal.ops.doctor.settings import SOUND

MEGABYTE = 1024 * 1024
TOO_LITTLE = 100 * MEGABYTE
LITTLE = 1024 * MEGABYTE


def _disk(context: Context) -> Finding:
    places = {context.settings.portal_var_dir.resolve()}
    if (file := diagnosis.sqlite_file(context.ledger)) is not None:
        places.add(file.resolve().parent)
    worst: tuple[int, Path] | None = None
    for place in sorted(places):
        there = next(each for each in (place, *place.parents) if each.exists())
        free = shutil.disk_usage(there).free
        worst = min(worst or (free, place), (free, place))
    assert worst is not None
    return judge(*worst)


def judge(free: int, place: Path) -> Finding:
    """What `free` bytes at `place` mean."""
    told = f"{free // MEGABYTE} MB are free at {place}"
    if free < TOO_LITTLE:
        return error(told)
    return warning(told) if free < LITTLE else good(told)


CHECKS = (
    Check(
        id="host.disk",
        description="there is room under PORTAL_VAR_DIR and for the ledger's file",
        run=_disk,
        cure="Free some space, or move PORTAL_VAR_DIR",
        needs=SOUND,
    ),
)
