"""What the checks of the deployment files share: programs, faults, the names of settings, an installation to start."""

from __future__ import annotations

import ast
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from portal.settings import Settings
from sandbox.processes import port_or_free

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

#: Variables of others that may stand in the deployment files: Python's, the shell's, and the containers' beside ours.
OTHERS = frozenset({"PATH", "PORT", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"})


class Unchecked(Exception):
    """A check couldn't be made: its program isn't there."""


def tool(name: str, package: str) -> str:
    """A program's path: the virtual environment's, else the system's. Raises Unchecked, naming the Debian package."""
    found = shutil.which(name, path=os.pathsep.join([str(BIN), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is None:
        raise Unchecked(f"{name} isn't there ({package})")
    return found


def run(argv: Sequence[str | Path], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its output is text, its errors are in stdout, too. One that hangs has failed."""
    words = [str(word) for word in argv]
    usual: dict[str, Any] = {"stdin": subprocess.DEVNULL, "text": True, "timeout": 120, "check": False}
    usual |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
    try:
        return subprocess.run(words, **usual)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, f"{words[0]} hangs")


def said(outcome: subprocess.CompletedProcess[str]) -> list[str]:
    """A program's complaints: none when it ended well."""
    return [] if outcome.returncode == 0 else [outcome.stdout.strip() or f"exit status {outcome.returncode}"]


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    return port_or_free(0)


# --- settings ------------------------------------------------------------------------------------------------------


def known_variables(root: Path = ROOT) -> set[str]:
    """Every variable the portal's processes read: portal/settings' (as NAME_FILE, too) and gunicorn.conf.py's."""
    names = {setting.name.upper() for setting in fields(Settings)}
    names |= {f"{setting.name.upper()}_FILE" for setting in fields(Settings) if setting.metadata["secret"]}
    server = ast.parse((root / "gunicorn.conf.py").read_text(encoding="utf-8"))
    words = [node.value for node in ast.walk(server) if isinstance(node, ast.Constant)]
    names |= {word for word in words if isinstance(word, str) and re.fullmatch(r"WEB_[A-Z_]+", word)}
    return names


def needed_variables() -> set[str]:
    """What production can't start without; the secret ones as NAME_FILE."""
    return {
        f"{setting.name.upper()}_FILE" if setting.metadata["secret"] else setting.name.upper()
        for setting in fields(Settings)
        if setting.metadata["needed"]
    }


def unknown_variables(names: set[str], root: Path = ROOT) -> list[str]:
    """Of variables that a file hands to the portal's processes, those that nothing reads; one sentence each."""
    return [f"{name} is no setting of the portal" for name in sorted(names - known_variables(root) - OTHERS)]


def assignments(text: str) -> dict[str, str]:
    """NAME=value lines as systemd, Docker and Kubernetes read them alike. Raises ValueError for what they don't."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise ValueError(f"no NAME=value: {line}")
        if value != value.strip() or re.search(r"""["'\\`]|\$|\s#""", value):
            raise ValueError(f"systemd, Docker and Kubernetes would read this differently: {line}")
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = value
    return found


def make_secrets(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The same variables with every file of a secret made anew in `folder`, named as it is in the installation."""
    folder.mkdir(parents=True, exist_ok=True)
    made = dict(environ)
    values = {
        "DATABASE_URL_FILE": f"sqlite:///{folder.parent / 'ledger.sqlite3'}",
        "REDIS_URL_FILE": f"unix://{folder.parent / 'valkey.sock'}",
        "SMTP_URL_FILE": "smtp://127.0.0.1:9",
    }
    for name, path in environ.items():
        if name == "SF_PRIVATE_KEY_PATH":
            content = private_key()
        elif name.endswith("_FILE"):
            content = values.get(name, secrets.token_hex(32)) + "\n"
        else:
            continue
        place = folder / Path(path).name
        place.write_text(content, encoding="ascii")
        made[name] = str(place)
    return made


def private_key() -> str:
    """A fresh RSA key as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
