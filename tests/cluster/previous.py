"""The version before this one, from the repository's history: the newest whose ledger is an older one, but goes on
working on this version's (docs/deployment/upgrade.md, "Migrations in two phases").
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from portal.ledger import migrate
from sandbox.processes import ROOT

_VERSIONS = "portal/ledger/migrations/versions/"
_NUMBER = re.compile(rf"^{_VERSIONS}([0-9]{{4}})_.*\.py$", re.MULTILINE)


def find() -> tuple[str, str]:
    """Its commit and an empty text, or an empty text and, in a sentence, why there is none."""
    oldest, newest = migrate.compatible_from(migrate.head()), migrate.head()
    if oldest == newest:
        return "", f"the migration {newest} isn't marked as compatible with an older version"
    listed = subprocess.run(
        ["git", "rev-list", "--date-order", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    for commit in listed.stdout.split():
        numbers = _NUMBER.findall(_git("ls-tree", "--name-only", commit, _VERSIONS).decode())
        if oldest <= max(numbers, default="") < newest:
            return commit, ""
    return "", f"the repository's history here has no version with a ledger from {oldest} to before {newest}"


def unpack(commit: str, folder: Path) -> Path:
    """All files of a commit, in a new folder."""
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", folder], input=_git("archive", commit), check=True)
    return folder


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout
