"""deploy/compose.yaml without an engine: by the specification's schema, by docker-compose itself, and for hardening."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from ruamel.yaml import YAML

from tests.deploy.tools import assignments, run, said, tool, unknown_variables

PROCESSES = {
    "web": None,  # the image's own command
    "worker": ["python", "-m", "jobs.worker"],
    "sweep": ["python", "-m", "jobs.sweep"],
    "migrate": ["flask", "db", "upgrade"],
}


def schema(path: Path, _root: Path, _scratch: Path) -> list[str]:
    """The compose specification's."""
    outcome = CliRunner().invoke(check_jsonschema, ["--builtin-schema", "vendor.compose-spec", str(path)])
    return [outcome.output] if outcome.exit_code else []


def resolved(path: Path, root: Path, scratch: Path) -> tuple[list[str], Any]:
    """(faults, the file as docker-compose reads it, with .env.example as .env)."""
    docker_compose = tool("docker-compose", "Debian's docker-compose")
    shutil.copytree(root / "deploy", scratch / "deploy", dirs_exist_ok=True)
    shutil.copy(root / ".env.example", scratch / ".env")
    copy = scratch / "deploy" / path.name
    # Debian 12's docker-compose doesn't know a project's name yet; the schema has checked it.
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("name:")]
    copy.write_text("\n".join(lines), encoding="utf-8")
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(scratch), "PORTAL_HOST": "portal.example.com"}
    outcome = run([docker_compose, "--file", copy, "config"], env=environ, cwd=scratch)
    return said(outcome), YAML(typ="safe").load(outcome.stdout) if outcome.returncode == 0 else None


def config(path: Path, root: Path, scratch: Path) -> list[str]:
    """docker-compose resolves it, and wants PORTAL_HOST."""
    return resolved(path, root, scratch)[0]


def hardening(path: Path, root: Path, scratch: Path) -> list[str]:
    """The processes are all there, may do little, get every secret that the settings name, and only known variables."""
    faults, whole = resolved(path, root, scratch)
    if faults:
        return faults
    services = whole["services"]
    example = assignments((root / ".env.example").read_text(encoding="utf-8"))
    for name, command in PROCESSES.items():
        service = services.get(name, {})
        if service.get("command") != command:
            faults.append(f"{name} must run {command}")
        hard = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"], "init": True}
        faults += [f"{name}: {key} must be {value}" for key, value in hard.items() if service.get(key) != value]
        environ = service.get("environment") or {}
        faults += [f"{name}: {fault}" for fault in unknown_variables(set(environ), root)]
        mounted = {str(secret["target"]) for secret in service.get("secrets", [])}
        wanted = {
            str(value)
            for key, value in {**example, **environ}.items()
            if key.endswith("_FILE") or key == "SF_PRIVATE_KEY_PATH"
        }
        faults += [f"{name}: {missing} isn't mounted" for missing in sorted(wanted - mounted)]
        faults += [f"{name}: {left} is mounted and not used" for left in sorted(mounted - wanted)]
        if name != "migrate" and service.get("restart") != "unless-stopped":
            faults.append(f"{name} must come back by itself")
    for name, service in services.items():
        if name not in PROCESSES and (":" not in service["image"] or service["image"].endswith(":latest")):
            faults.append(f"{name}: which version of {service['image']}?")
        if name not in ("proxy",) and service.get("ports"):
            faults.append(f"{name} is open to the host: only the proxy should be")
        for volume in service.get("volumes", []):
            source = str(volume).split(":")[0]
            if source.startswith("/") and not Path(source).exists():
                faults.append(f"{name}: {source} isn't there to be mounted")
    return faults
