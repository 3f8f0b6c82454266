"""Programs that npm has: installed once beside the demo's data, exactly as a lock file says."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

LISTS = ("package.json", "package-lock.json", ".npmrc")
INSTALL_SECONDS = 900


def install(lists: Path, into: Path) -> Path:
    """The folder `node_modules` of what `lists` names; installed where it isn't there or isn't what the lock file says.

    Skips the test that asks where npm is missing, or can't install it.
    """
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm isn't installed: what the npm registry has can't be fetched")
    wanted = hashlib.sha256(b"".join((lists / name).read_bytes() for name in LISTS)).hexdigest()
    into.mkdir(parents=True, exist_ok=True)
    stamp = into / "installed"
    with (into / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text(encoding="ascii") != wanted:
            stamp.unlink(missing_ok=True)
            for name in LISTS:
                shutil.copy(lists / name, into / name)
            try:
                done = subprocess.run(
                    [npm, "ci"], cwd=into, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm did not finish within {INSTALL_SECONDS} s: is its registry reachable?")
            if done.returncode:
                pytest.skip(f"npm could not install it: {(done.stderr or done.stdout).strip()[:500]}")
            stamp.write_text(wanted, encoding="ascii")
    return into / "node_modules"
