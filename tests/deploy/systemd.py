"""deploy/systemd without systemd running: `systemd-analyze verify` over a tree of its own, and its `security`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.deploy.tools import BIN, run, said, tool, unknown_variables

#: systemd's own measure of what a service might do, from 0.0 to 10.0; "OK" starts at 5.0.
MOST_EXPOSED = 1.5
SYSTEM_UNITS = Path("/usr/lib/systemd/system")


def verify(path: Path, root: Path, scratch: Path) -> list[str]:
    """systemd understands every line, every unit that is named exists, and so does every command."""
    analyze = tool("systemd-analyze", "Debian's systemd")
    tree = scratch / "tree"
    etc = tree / "etc" / "systemd" / "system"
    etc.mkdir(parents=True)
    source = SYSTEM_UNITS if SYSTEM_UNITS.is_dir() else Path("/lib/systemd/system")
    shutil.copytree(source, tree / "usr" / "lib" / "systemd" / "system", symlinks=True, ignore_dangling_symlinks=True)
    for unit in sorted((root / "deploy" / "systemd").iterdir()):
        shutil.copy(unit, etc / unit.name)
    _programs(tree)
    instance = path.name.replace("@.", "@8001.")
    outcome = run([analyze, "verify", "--man=no", "--recursive-errors=yes", f"--root={tree}", instance])
    text = path.read_text(encoding="utf-8")
    faults = said(outcome) or ([outcome.stdout.strip()] if outcome.stdout.strip() else [])
    faults += [
        f"{word} is no page" for word in re.findall(r"file:/opt/order-portal/(\S+)", text) if not (root / word).exists()
    ]
    units = {unit.name for unit in (root / "deploy" / "systemd").iterdir()}
    for named in set(re.findall(r"order-portal[\w-]*(?:@\w*)?\.(?:service|target)", re.sub(r"(?m)^#.*", "", text))):
        if re.sub(r"@\w*", "@", named) not in units:
            faults.append(f"{named} is no unit")
    for module in re.findall(r"python -m ([\w.]+)", text):
        if not (root / f"{module.replace('.', '/')}.py").exists():
            faults.append(f"{module} is no module")
    environ = {
        name for line in re.findall(r"^Environment=(.*)$", text, re.MULTILINE) for name in re.findall(r"(\w+)=", line)
    }
    environ |= set(re.findall(r"\s([A-Z][A-Z0-9_]*)=", " ".join(re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE))))
    return faults + unknown_variables(environ, root)


def _programs(tree: Path) -> None:
    """Where the units look for programs: those that an installation has there, and no others."""
    there = [
        Path("/opt/order-portal/.venv/bin") / name for name in ("python", "flask", "gunicorn") if (BIN / name).exists()
    ]
    for program in (*there, Path("/usr/bin/env")):
        place = tree / program.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", place)
    for folder in ("opt/order-portal", "etc/order-portal"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    for name in ("portal.env", "database_owner_url"):
        (tree / "etc" / "order-portal" / name).touch()


def security(path: Path, _root: Path, _scratch: Path) -> list[str]:
    """systemd's own rating of what the service could do if it were taken over."""
    outcome = run(
        [
            tool("systemd-analyze", "Debian's systemd"),
            "security",
            "--offline=yes",
            "--no-pager",
            f"--threshold={round(MOST_EXPOSED * 10)}",
            path,
        ]
    )
    if outcome.returncode == 0:
        return []
    open_doors = [line for line in outcome.stdout.splitlines() if line.startswith("✗") or "exposure" in line]
    return ["\n".join(open_doors) or outcome.stdout]
