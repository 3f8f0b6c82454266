"""The files that other people's programs read (GitHub, Dependabot, pre-commit, editors) are what those understand."""

from __future__ import annotations

import datetime
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"

SCHEMAS = {
    "workflows/*.yml": ("vendor.github-workflows", "custom.github-workflows-require-timeout"),
    "dependabot.yml": ("vendor.dependabot",),
    "ISSUE_TEMPLATE/[!c]*.yml": ("vendor.github-issue-forms",),
    "ISSUE_TEMPLATE/config.yml": ("vendor.github-issue-config",),
}
CHECKS = [
    (path.relative_to(ROOT), schema)
    for pattern, schemas in SCHEMAS.items()
    for path in sorted(GITHUB.glob(pattern))
    for schema in schemas
]


def read(path: str) -> Any:
    return YAML(typ="safe").load(ROOT / path)


@pytest.mark.parametrize(("path", "schema"), CHECKS, ids=lambda each: str(each))
def test_github_understands_the_file(path: Path, schema: str) -> None:
    outcome = CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, str(ROOT / path)])
    assert outcome.exit_code == 0, outcome.output


def test_every_yaml_file_for_github_has_a_schema() -> None:
    assert {ROOT / path for path, _ in CHECKS} == {*GITHUB.rglob("*.yml"), *GITHUB.rglob("*.yaml")}


def test_the_workflow_runs_what_ci_runs_and_nothing_else_of_ours() -> None:
    steps = read(".github/workflows/ci.yml")["jobs"]["ci"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands[-1] == "bash .ci/run"
    assert (ROOT / ".ci" / "run").is_file()
    assert not [command for command in commands[:-1] if re.search(r"\b(make|pytest|pip)\b", command)]


def test_actions_are_pinned_to_a_commit() -> None:
    used = re.findall(r"uses: (\S+)", (GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert used
    assert not [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)]


def test_dependabot_knows_every_folder_with_pinned_packages() -> None:
    watched = {
        (update["package-ecosystem"], folder.strip("/"))
        for update in read(".github/dependabot.yml")["updates"]
        for folder in update.get("directories", [update.get("directory")])
    }
    with_requirements = {
        str(path.parent.relative_to(ROOT)).removeprefix(".")
        for path in [*ROOT.glob("requirements*.txt"), *ROOT.glob("*/requirements*.txt")]
    }
    assert {("pip", folder) for folder in with_requirements} <= watched
    assert not [folder for _, folder in watched if not (ROOT / folder).is_dir()]


def test_the_hooks_call_the_projects_own_tools() -> None:
    """.venv/bin has them once requirements-dev.txt is installed; `make` puts them nowhere else."""
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    wanted = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    for hook in repository["hooks"]:
        command, *arguments = shlex.split(hook["entry"])
        folder, _, tool = command.rpartition("/")
        assert folder == ".venv/bin"
        assert re.search(rf"^{tool}==", wanted, re.MULTILINE), f"{tool} isn't in requirements-dev.txt"
        assert hook["language"] == "system"
        assert arguments[:1] in (["format"], ["check"], []), "what `make lint` calls"
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    assert {shlex.split(hook["entry"])[0].rpartition("/")[2] for hook in repository["hooks"]} == set(
        re.findall(r"\$\(BIN\)/(\w+)", lint)
    )


def test_the_newest_release_is_the_version_of_the_package() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in headings[1:]]
    assert all(released)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert released[0]
    assert released[0][1] == project["version"]
    assert released == sorted(released, key=lambda each: each[2] if each else "", reverse=True)
    assert all(datetime.date.fromisoformat(each[2]) for each in released if each)


def test_editors_are_told_what_ruff_insists_on() -> None:
    sections: dict[str, dict[str, str]] = {"": {}}
    name = ""
    for line in (ROOT / ".editorconfig").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            sections[name] = {}
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections[name][key.strip()] = value.strip()
    (python,) = [values for pattern, values in sections.items() if "py" in re.split(r"[*.{},]+", pattern)]
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert python["max_line_length"] == str(ruff["line-length"])
    assert python["indent_size"] == "4"
    assert sections["{Makefile,*.mk}"]["indent_style"] == "tab"
