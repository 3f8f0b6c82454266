"""The programs the checks run: npm's packages (installed here when needed), a Node that the CLI takes, Java."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from integrations.salesforce.checks.platform import PROJECT

MODULES = PROJECT / "node_modules"
CLI_NODE = 22  # `sf` crashes on older ones


class Missing(Exception):
    """A program or a package isn't to be had; the message is for people."""


@dataclass
class Result:
    """What a check says."""

    passed: bool
    output: str


@dataclass
class Tools:
    """Finds programs once; use `node` and `java` to run them."""

    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="salesforce-home-")))

    def install(self) -> None:
        """`npm ci`, when node_modules isn't there or was made from another package-lock.json. Raises Missing."""
        stamp = MODULES / ".installed"
        lock = hashlib.sha256((PROJECT / "package-lock.json").read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text(encoding="ascii") == lock:
            return
        npm = shutil.which("npm")
        if npm is None:
            raise Missing("npm isn't installed (Debian: apt-get install npm)")
        print("Installing what checks the Salesforce side (npm ci) …", flush=True)
        words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=1200, check=False)
        if done.returncode:
            raise Missing(f"npm couldn't install the packages: {(done.stderr or done.stdout).strip()[-400:]}")
        stamp.write_text(lock, encoding="ascii")

    def node_path(self, at_least: int = 20) -> str:
        """A Node of at least this major version: npm's own package of it, else the machine's. Raises Missing."""
        machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        own = MODULES / f"node-{platform.system().lower()}-{machine}" / "bin" / "node"
        found = str(own) if own.exists() else shutil.which("node")
        if found is None:
            raise Missing("Node isn't installed (Debian: apt-get install nodejs)")
        told = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
        if int(told.lstrip("v").split(".")[0]) < at_least:
            raise Missing(f"this needs Node {at_least}; there is {told.strip()}")
        return found

    def node(self, project: Path, *words: str, at_least: int = 20, **environment: str) -> Result:
        """A program of npm's, in a project."""
        self.install()
        return self._run([self.node_path(at_least), *words], project, environment)

    def java(self, project: Path, *words: str) -> Result:
        """A Java program of those that Code Analyzer brings."""
        self.install()
        java = shutil.which("java")
        if java is None:
            raise Missing("Java isn't installed (Debian: apt-get install default-jre-headless)")
        jars = MODULES / "@salesforce" / "code-analyzer-pmd-engine" / "dist" / "java-lib"
        return self._run([java, "-cp", f"{jars}/*", *words], project, {})

    def _run(self, words: Sequence[str], project: Path, environment: Mapping[str, str]) -> Result:
        done = subprocess.run(
            words,
            cwd=project,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env={
                **os.environ,
                "HOME": str(self.home),  # nothing of the user's own settings, and none written there
                "CI": "true",
                "SF_DISABLE_TELEMETRY": "true",
                "SF_AUTOUPDATE_DISABLE": "true",
                "SF_SKIP_NEW_VERSION_CHECK": "true",
                **environment,
            },
        )
        return Result(done.returncode == 0, f"{done.stdout}{done.stderr}")
