"""Hosts that are network namespaces on a bridge of their own: each can be cut off, and nothing of the machine's changes
but one interface, which whoever runs the tests asks the hosts through.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from types import TracebackType
from typing import Final, Self

NETWORK: Final = "10.177.77"


def why_not() -> str:
    """Why there can be no hosts here, in a sentence; empty where there can."""
    if shutil.which("ip") is None:
        return "ip isn't there (Debian's iproute2)"
    name = f"try{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"this user may not make network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return ""


def run(*words: str) -> None:
    """Run a command to its end. Raises CalledProcessError."""
    subprocess.run(words, check=True, capture_output=True)


class Hosts:
    """Hosts by their names; gone when the block ends."""

    def __init__(self, *names: str) -> None:
        self.mark = secrets.token_hex(2)
        self.addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, 11)}

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def on(self, name: str) -> list[str]:
        """What the command line of a process of this host begins with."""
        return ["ip", "netns", "exec", self._space(name)]

    def cut(self, name: str, *, off: bool) -> None:
        """Take a host's cable out, or put it in again."""
        run("ip", "-n", self._space("switch"), "link", "set", self._cable(name), "down" if off else "up")

    def _space(self, name: str) -> str:
        return f"op{self.mark}-{name}"

    def _cable(self, name: str) -> str:
        return f"c{list(self.addresses).index(name)}"

    def _make(self) -> None:
        switch, here = self._space("switch"), f"op{self.mark}"
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "br0", "up")
        for name, address in self.addresses.items():
            space, cable = self._space(name), self._cable(name)
            run("ip", "netns", "add", space)
            run("ip", "-n", switch, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "-n", switch, "link", "set", cable, "master", "br0", "up")
            run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
        run("ip", "link", "add", here, "type", "veth", "peer", "name", "out", "netns", switch)
        run("ip", "-n", switch, "link", "set", "out", "master", "br0", "up")
        run("ip", "addr", "add", f"{NETWORK}.1/24", "dev", here)
        run("ip", "link", "set", here, "up")

    def _remove(self) -> None:
        for words in (
            ("ip", "link", "del", f"op{self.mark}"),
            *(("ip", "netns", "del", self._space(name)) for name in (*self.addresses, "switch")),
        ):
            subprocess.run(words, check=False, capture_output=True, env=os.environ)
