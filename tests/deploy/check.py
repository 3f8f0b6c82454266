"""`make check-deploy`: every deployment file is held against what will read it; ends with a JSON line.

    python -m tests.deploy.check

prints a line for each check of each file, then {"files","checked","failed"}: how many files there are, how many had
every one of their checks made, and how many have a fault or a check that wasn't made. A file that no check is for
fails, and so does one whose program is missing here. Exit status 0 only when nothing failed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from tests.deploy import compose, image, kubernetes, monitoring, stores, systemd
from tests.deploy.proxies import CADDYFILES, NGINX_SITES, Caddy, Nginx
from tests.deploy.settings import example_starts, names_exist
from tests.deploy.tools import ROOT, Unchecked

#: (file, repository's root, scratch folder) → its faults, one sentence each. Raises Unchecked.
Check = Callable[[Path, Path, Path], list[str]]


def nginx(path: Path, root: Path, scratch: Path) -> list[str]:
    """A site with both other parts, by `nginx -t`; the other parts with every site."""
    sites = [path.name] if path.name in (*NGINX_SITES, "plesk.conf") else list(NGINX_SITES)
    return [
        f"{site}: {fault}" for site in sites for fault in Nginx(scratch / f"nginx-{site}", site, root=root).faults()
    ]


def caddy(path: Path, root: Path, scratch: Path) -> list[str]:
    """By `caddy validate`."""
    if path.name not in CADDYFILES:
        return ["no test runs this file: add it to tests/deploy/proxies.py"]
    return Caddy(scratch / "caddy", path.name, root=root).faults()


def linked(path: Path, root: Path, _scratch: Path) -> list[str]:
    """deploy/README.md names every file."""
    text = path.read_text(encoding="utf-8")
    return [
        f"says nothing about {name}"
        for name in sorted(
            {str(other.relative_to(root / "deploy").parts[0]) for other in files(root) if within(other, root)}
        )
        if f"]({name}" not in text and name != path.name
    ]


def within(path: Path, root: Path) -> bool:
    """Whether a path is under deploy/."""
    return path.is_relative_to(root / "deploy")


#: A file's path → its checks, by the name that is printed. All patterns that fit count.
CHECKS: Final[dict[str, dict[str, Check]]] = {
    "*": {"names of settings": names_exist},
    "Dockerfile": {"hadolint": image.hadolint, "hardening": image.hardening, "starts as user 10001": image.starts},
    ".dockerignore": {"what is let in": image.ignored},
    "Procfile": {"commands run": image.procfile},
    ".env.example": {"starts in production": example_starts},
    "deploy/README.md": {"names every file": linked},
    "deploy/compose.yaml": {
        "schema": compose.schema,
        "docker-compose config": compose.config,
        "hardening": compose.hardening,
    },
    "deploy/kubernetes/*": {
        "kubectl kustomize, schemas": kubernetes.schemas,
        "hardening": kubernetes.hardening,
    },
    "deploy/systemd/*": {"systemd-analyze verify": systemd.verify},
    "deploy/systemd/*.service": {"systemd-analyze security": systemd.security},
    "deploy/nginx/*": {"nginx -t": nginx},
    "deploy/caddy/*": {"caddy validate": caddy},
    "deploy/prometheus/*": {"promtool": monitoring.rules},
    "deploy/grafana/*": {"promtool, names": monitoring.dashboard},
    "deploy/postgresql/*": {"run on PostgreSQL": stores.roles},
    "deploy/valkey/*": {"run by Valkey": stores.valkey},
}


def files(root: Path = ROOT) -> list[Path]:
    """Every deployment file."""
    top = [root / name for name in ("Dockerfile", ".dockerignore", "Procfile", ".env.example")]
    return [*top, *sorted(path for path in (root / "deploy").rglob("*") if path.is_file())]


@dataclass(frozen=True)
class Outcome:
    """What came out of one file's checks, and the lines to print."""

    made: bool
    good: bool
    lines: list[str]


def check(path: Path, root: Path, scratch: Path) -> Outcome:
    """Make one file's checks."""
    name = str(path.relative_to(root))
    checks = {
        title: run for pattern, some in CHECKS.items() if fnmatchcase(name, pattern) for title, run in some.items()
    }
    made = len(checks) > 1  # the one that fits every file isn't enough
    good = True
    lines = [] if made else [f"{name:46} no check is for it: add one to tests/deploy/check.py"]
    for number, (title, run) in enumerate(checks.items()):
        folder = scratch / f"{name.replace('/', '+')}-{number}"
        folder.mkdir(parents=True)
        begun = time.monotonic()
        try:
            faults = run(path, root, folder)
        except Unchecked as error:
            made, faults = False, [f"NOT CHECKED: {error}"]
        good = good and not faults
        seconds = time.monotonic() - begun
        lines.append(f"{name:46} {title:28} {'FAILED' if faults else 'ok':6} {seconds:6.1f} s")
        lines += ["    " + fault.replace("\n", "\n    ") for fault in faults]
    return Outcome(made, good, lines)


def main(root: Path = ROOT) -> int:
    """Check everything, two files at a time; returns the exit status."""
    total = files(root)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="check-deploy-") as scratch, ThreadPoolExecutor(max_workers=2) as pool:
        Path(scratch).chmod(0o755)  # one check changes to a user of its own
        for outcome in pool.map(lambda path: check(path, root, Path(scratch)), total):
            print("\n".join(outcome.lines), flush=True)
            outcomes.append(outcome)
    checked = sum(outcome.made for outcome in outcomes)
    failed = sum(not (outcome.made and outcome.good) for outcome in outcomes)
    print(json.dumps({"files": len(total), "checked": checked, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
