"""Tests side by side (`pytest -n 2 --dist loadfile`): a file's tests stay together, and time is measured in quiet.

Every process of pytest-xdist has stacks, folders and ports of its own. What remains shared is the processor: a test
marked `quiet` runs while no other test does, in whichever process.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


class Room:
    """A lock over two files: many tests may be in the room, or one that wants quiet.

    Everybody passes the door; who wants quiet keeps it shut until the room is empty, so that the others' coming and
    going can't keep it out for ever.
    """

    def __init__(self, folder: Path) -> None:
        self._door = os.open(folder / "door", os.O_RDWR | os.O_CREAT)
        self._room = os.open(folder / "room", os.O_RDWR | os.O_CREAT)

    def enter(self, *, alone: bool) -> None:
        """Wait until there is room."""
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)

    def leave(self) -> None:
        """Let others in."""
        fcntl.flock(self._room, fcntl.LOCK_UN)


class Quiet:
    """Keeps a quiet test's neighbours waiting."""

    def __init__(self, room: Room) -> None:
        self._room = room

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """A whole test, with the fixtures it starts and ends."""
        self._room.enter(alone=item.get_closest_marker("quiet") is not None)
        try:
            return (yield)
        finally:
            self._room.leave()


class Host:
    """What the process that started the others does: it makes them a room, and removes it at the end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="portal-tests-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a new process where the room is."""
        node.workerinput["room"] = self._folder.name

    def pytest_unconfigure(self) -> None:
        """All have ended."""
        self._folder.cleanup()


def pytest_configure(config: pytest.Config) -> None:
    """Under pytest-xdist, make or enter the room."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:
        config.pluginmanager.register(Quiet(Room(Path(worker["room"]))))
    elif config.getoption("numprocesses", None):
        config.pluginmanager.register(Host())
