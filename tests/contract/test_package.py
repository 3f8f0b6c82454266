"""What is said of the Salesforce package is so: dependencies explained, checks listed, options existing."""

from __future__ import annotations

import json
import re
from pathlib import Path

from integrations.salesforce.checks.catalogue import CHECKS
from integrations.salesforce.checks.platform import PROJECT

ROOT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
SETUP = (ROOT / "docs" / "salesforce-setup.md").read_text(encoding="utf-8")


def test_every_npm_package_says_why_it_is_here() -> None:
    package = json.loads((PROJECT / "package.json").read_text(encoding="utf-8"))
    named = {*package["devDependencies"], *package["optionalDependencies"]}
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    section = text.split("## For checking the Salesforce side")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| ([@a-z0-9/-]+) \| \S", section, re.MULTILINE)) - {"package", "---"} == named


def test_every_check_is_in_the_readme_and_has_faults_to_find() -> None:
    table = README.split("## What was checked, and how")[1].split("\n### ")[0]
    listed = {name for row in re.findall(r"^\| ([a-z, -]+) \|", table, re.MULTILINE) for name in row.split(", ")}
    assert listed - {"check", "---"} == {check.name for check in CHECKS}
    assert all(check.plants for check in CHECKS)


def test_the_readme_says_what_was_not_run() -> None:
    assert "**The Apex here is written, not run.**" in README
    assert "None of this runs the Apex tests" in README
    assert "## Confirm in a real org" in SETUP


def test_every_option_of_the_install_script_that_the_pages_name_exists() -> None:
    script = (PROJECT / "bin" / "install.mjs").read_text(encoding="utf-8")
    usage = script[script.index("const USAGE") : script.index("const { values: options }")]
    there = set(re.findall(r"--[a-z-]+", usage))
    commands = re.findall(r"node bin/install\.mjs[^\n`]*(?:\\\n[^\n`]*)?", README + SETUP)
    named = {option for command in commands for option in re.findall(r"--[a-z-]+", command)}
    assert len(commands) > 5
    assert named <= there
    assert there <= set(re.findall(r"--[a-z-]+", README + SETUP))


def test_every_word_of_the_connection_test_is_explained() -> None:
    table = SETUP.split("### What the connection test says")[1].split("\n## ")[0]
    classes = PROJECT / "force-app" / "main" / "default" / "classes"
    for name in ("OrderProvisioningAnswer", "OrderProvisioningCallout"):
        for code in re.findall(r"'([A-Z]+(?:_[A-Z]+)+)'", (classes / f"{name}.cls").read_text(encoding="utf-8")):
            assert code in table, code
