"""`make audit`: are known weaknesses in the packages we pin, and what are those packages (an SBOM, CycloneDX)?

pip-audit asks PyPI's advisory database. What it couldn't ask about is said as plainly as what it found: silence is no
all-clear. The SBOM needs no network. Ends with one JSON line. Its exit code is 1 for weaknesses, and with --strict 2
where not everything could be asked about.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).parents[1]
#: What runs in production comes first: a weakness there counts more.
FILES = ("requirements.txt", "sandbox/requirements.txt", "requirements-dev.txt")
PATIENCE = 300.0  # seconds for pip-audit


@dataclass
class Audit:
    """What pip-audit said of some packages."""

    weaknesses: list[str] = field(default_factory=list)
    not_asked: dict[str, str] = field(default_factory=dict)  # package → why
    asked: int = 0


def pins(*files: str) -> dict[str, str]:
    """Package → version, of the files' pinned lines."""
    found = {}
    for file in files:
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", line)
            if match:
                found[match[1]] = match[2]
    return found


def ask(packages: dict[str, str], command: Sequence[str] = (sys.executable, "-m", "pip_audit")) -> Audit:
    """Have pip-audit ask about these versions."""
    listed = "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))
    options = ["--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off", "--requirement=/dev/stdin"]
    try:
        done = subprocess.run(
            [*command, *options], input=listed, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        told = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return Audit(not_asked=dict.fromkeys(packages, f"no answer within {PATIENCE:.0f} seconds"))
    except (ValueError, KeyError, TypeError):
        why = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return Audit(not_asked=dict.fromkeys(packages, why))
    return read(told, packages)


def read(told: Sequence[dict[str, Any]], packages: dict[str, str]) -> Audit:
    """pip-audit's JSON. A package that it skipped, or left out, was not asked about."""
    audit = Audit(not_asked=dict.fromkeys(packages, "pip-audit left it out"))
    folded = {_folded(name): name for name in packages}
    for each in told:
        name = folded.get(_folded(each["name"]), each["name"])
        if "skip_reason" in each:
            audit.not_asked[name] = each["skip_reason"]
            continue
        audit.not_asked.pop(name, None)
        audit.asked += 1
        for weakness in each.get("vulns", ()):
            fixed = ", ".join(weakness.get("fix_versions") or ()) or "no version yet"
            audit.weaknesses.append(f"{name} {each['version']}: {weakness['id']}, mended in {fixed}")
    return audit


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def sbom(packages: dict[str, str]) -> str:
    """CycloneDX 1.6 as JSON: each package with its version, purl and, where it is installed, its licence."""
    licences = LicenseFactory()
    bom = Bom()
    portal = Component(name="order-portal", type=ComponentType.APPLICATION, bom_ref="order-portal")
    bom.metadata.component = portal
    for name, version in sorted(packages.items()):
        component = Component(
            name=name,
            version=version,
            purl=PackageURL("pypi", name=_folded(name), version=version),
            bom_ref=f"{name}=={version}",
        )
        expression = _licence(name)
        if expression:
            component.licenses.add(licences.make_from_string(expression))
        bom.components.add(component)
    bom.register_dependency(portal, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _licence(name: str) -> str | None:
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return None
    told = {name: found[name] for name in ("License-Expression", "License") if name in found}
    text = told.get("License-Expression") or told.get("License") or ""
    return text if text and len(text) < 100 and "\n" not in text else None


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sbom", type=Path, default=ROOT / "var" / "sbom.json", help="where the SBOM goes")
    parser.add_argument("--strict", action="store_true", help="fail where not everything could be asked about")
    arguments = parser.parse_args()
    arguments.sbom.parent.mkdir(parents=True, exist_ok=True)
    arguments.sbom.write_text(sbom(pins("requirements.txt")), encoding="utf-8")
    audit = ask(pins(*FILES))
    for weakness in audit.weaknesses:
        print(f"× {weakness}")
    if audit.not_asked:
        reasons = sorted(set(audit.not_asked.values()))
        print(f"‼ {len(audit.not_asked)} of {audit.asked + len(audit.not_asked)} packages could NOT be checked:")
        print(*(f"    {reason}" for reason in reasons[:3]), sep="\n")
        print("  The vulnerability database wasn't reached for them. No all-clear: run it where it can be reached.")
    elif not audit.weaknesses:
        print(f"✓ no known weakness in {audit.asked} packages")
    print(f"SBOM of what runs in production: {arguments.sbom}")
    told = {"asked": audit.asked, "notAsked": len(audit.not_asked), "weaknesses": len(audit.weaknesses)}
    print(json.dumps({"audit": told, "sbom": str(arguments.sbom)}))
    return 1 if audit.weaknesses else 2 if audit.not_asked and arguments.strict else 0


if __name__ == "__main__":
    sys.exit(main())
