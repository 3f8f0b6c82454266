"""The documentation is held against the code: settings, make targets, routes, error codes, dependencies, links.

`python -m tests.unit.test_docs` writes the table of settings in docs/setup.md anew.
"""

from __future__ import annotations

import ast
import re
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app import create_app
from portal.domain.model import ErrorCode
from portal.settings import Settings
from portal.web import problems
from portal.webhooks.verifier import Reason

ROOT = Path(__file__).parents[2]
SETUP = ROOT / "docs" / "setup.md"
BEGIN = "<!-- settings: written by `python -m tests.unit.test_docs` -->"
END = "<!-- end of settings -->"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "integrations").glob("*/*.md")),
    *sorted((ROOT / "deploy").glob("*.md")),
]


def text_of_all() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


# --- settings ----------------------------------------------------------------------------------------------------


def settings_tables() -> str:
    """The settings, grouped as portal/settings/__init__.py groups them, as tables."""
    by_name = {setting.name: setting for setting in fields(Settings)}
    source = (ROOT / "portal" / "settings" / "__init__.py").read_text(encoding="utf-8")
    lines: list[str] = []
    for line in source[source.index("class Settings:") : source.index("    @classmethod")].splitlines():
        if heading := re.match(r"    # (.+)", line):
            lines += ["", f"### {heading[1]}", "", "| variable | default | what it is |", "| --- | --- | --- |"]
        elif (name := re.match(r"    ([a-z_]+):", line)) and name[1] in by_name:
            lines.append(row(by_name.pop(name[1])))
    assert not by_name, f"settings before the first heading: {sorted(by_name)}"
    return "\n".join(lines).strip() + "\n"


def row(setting: Field[Any]) -> str:
    lock = " 🔒" if setting.metadata["secret"] else ""
    return f"| `{setting.name.upper()}`{lock} | {default(setting)} | {setting.metadata['doc']} |"


def default(setting: Field[Any]) -> str:
    value, needed = setting.default, setting.metadata["needed"]
    if needed == "always" and value in ("", None, Path()):
        return "**needed**"
    if isinstance(value, tuple):
        value = ",".join(f"{each:.12g}" if isinstance(each, float) else str(each) for each in value)
    elif isinstance(value, bool):
        value = int(value)
    elif isinstance(value, float):
        value = f"{value:g}"
    shown = f"`{value}`" if value not in (None, "") else "–"
    if needed == "production":
        return "**needed in production**" if shown == "–" else f"**needed in production**, else {shown}"
    return shown


def test_the_table_of_settings_is_the_settings() -> None:
    text = SETUP.read_text(encoding="utf-8")
    written = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip() + "\n"
    assert written == settings_tables(), "run `python -m tests.unit.test_docs`"


def test_no_page_names_a_setting_there_is_not() -> None:
    known = {setting.name.upper() for setting in fields(Settings)}
    known |= {f"{name}{suffix}" for name in known for suffix in ("_FILE", "_PREVIOUS")}
    prefixes = ("SF_", "WHMCS_", "PORTAL_", "FULFILLMENT_", "BRAND_", "ALERT_", "WEBHOOK_", "METRICS_", "CATALOGUE_")
    error_codes = set(ErrorCode)
    wrong = {
        name
        for name in re.findall(r"`([A-Z][A-Z0-9_]+)[`=]", text_of_all())
        if name.startswith(prefixes) and name not in known | error_codes
    }
    # The tests' own, that of the examples for senders, and Compose's.
    assert not wrong - {"PORTAL_TEST_NO_SKIPS", "PORTAL_URL", "PORTAL_HOST"}


# --- make ----------------------------------------------------------------------------------------------------------


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_every_make_target_in_the_docs_exists() -> None:
    named = set(re.findall(r"(?:`|^    )make ([a-z][a-z0-9-]*)", text_of_all(), re.MULTILINE))
    assert named
    assert named <= make_targets()


def test_every_make_target_is_in_the_readme_or_the_docs() -> None:
    named = set(re.findall(r"make ([a-z][a-z0-9-]*)", text_of_all()))
    assert make_targets() - {"help"} <= named


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_code_is_in_the_runbook(code: ErrorCode) -> None:
    assert f"`{code}`" in (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def test_every_problem_code_is_documented_and_no_other() -> None:
    """The `code` of every problem+json the product can answer, fulfillments' own aside."""
    codes = set(problems._CODES.values()) | set(Reason)
    for path in sorted((ROOT / "portal").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"Problem": 1, "unavailable": 0}.get(node.func.id)
                if place is not None and isinstance(code := node.args[place], ast.Constant):
                    codes.add(str(code.value))
    written = re.findall(r"^\| `([a-z_]+)` \| \d{3} \|", (ROOT / "docs/http.md").read_text("utf-8"), re.MULTILINE)
    assert len(written) == len(set(written))
    assert set(written) == codes


def test_every_route_is_documented(application: Flask) -> None:
    written = {
        (method, path)
        for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`]*)`", (ROOT / "docs/http.md").read_text("utf-8"))
    }
    routes = {
        (method, plain(rule.rule))
        for rule in application.url_map.iter_rules()
        if not rule.endpoint.startswith("rq_dashboard.") or rule.rule == "/ops/rq/"  # its others are its own
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert written == routes


def plain(route: str) -> str:
    """`/orders/<string:sf_order_id>/fulfill` as the docs write it: `/orders/{sfOrderId}/fulfill`."""

    def name(match: re.Match[str]) -> str:
        first, *rest = match[1].rpartition(":")[2].split("_")
        return "{" + first + "".join(word.title() for word in rest) + "}"

    return re.sub(r"<([^>]+)>", name, route)


@pytest.fixture
def application(tmp_path: Path, private_key: Path) -> Flask:
    """The application with every receiver there is, connected to nothing."""
    return create_app(
        Settings.from_environ(
            {
                "PORTAL_ENV": "development",
                "SF_LOGIN_URL": "https://sf.example",
                "SF_CLIENT_ID": "id",
                "SF_USERNAME": "user",
                "SF_WEBHOOK_SECRET": "s" * 32,
                "SF_PRIVATE_KEY_PATH": str(private_key),
                "PORTAL_PRICEBOOK_ID": "01s000000000001AAA",
                "WHMCS_API_URL": "http://127.0.0.1:9/includes/api.php",
                "WHMCS_API_IDENTIFIER": "i",
                "WHMCS_API_SECRET": "s",
                "WHMCS_WEBHOOK_SECRET": "w" * 32,
                "METRICS_TOKEN": "m" * 32,
                "DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}",
                "REDIS_URL": f"unix://{tmp_path / 'none.sock'}",
            }
        )
    )


def test_every_flask_command_in_the_docs_exists_and_the_other_way_round(application: Flask) -> None:
    there = {
        (group, name)
        for group, command in application.cli.commands.items()
        for name in getattr(command, "commands", {"": None})
    }
    written = set()
    for group, name in re.findall(r"flask ([a-z-]+)(?: ([a-z-]+))?", text_of_all()):
        written.add((group, name if isinstance(application.cli.commands.get(group), click.Group) else ""))
    assert written == there


# --- dependencies --------------------------------------------------------------------------------------------------


def pins(path: Path) -> dict[str, tuple[str, bool]]:
    """Package → (requirement, asked for by name) of a requirements file, without the files it includes."""
    found: dict[str, tuple[str, bool]] = {}
    by_name = "# needed by those" in path.read_text(encoding="utf-8")
    direct = True
    for line in path.read_text(encoding="utf-8").splitlines():
        if line == "# needed by those":
            direct = False
        if line and not line.startswith(("#", "-r")):
            requirement = Requirement(line)
            found[canonicalize_name(requirement.name)] = (line, direct if by_name else requirement.name != "atpublic")
    return found


FILES = {
    "To run": ROOT / "requirements.txt",
    "For traces": ROOT / "requirements-traces.txt",
    "For the demo": ROOT / "sandbox" / "requirements.txt",
    "For tests and checks": ROOT / "requirements-dev.txt",
}


@pytest.mark.parametrize("part", FILES)
def test_every_dependency_says_why_it_is_here(part: str) -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    section = text.split(f"## {part}")[1].split("\n## ")[0]
    explained = set(re.findall(r"^\| ([a-z0-9-]+) \| \S", section, re.MULTILINE)) - {"package", "---"}
    assert explained == {name for name, (_, direct) in pins(FILES[part]).items() if direct}


def test_every_package_is_pinned_exactly() -> None:
    for path in FILES.values():
        for line, _ in pins(path).values():
            assert re.search(r"==[0-9][0-9a-z.]*(;|$)", line), line


def test_the_pins_are_closed() -> None:
    """Whatever a pinned package needs, on any Python this runs on, is pinned too."""
    from importlib.metadata import PackageNotFoundError, distribution

    pinned = {name: Requirement(line) for path in FILES.values() for name, (line, _) in pins(path).items()}
    missing = set()
    for name, pin in pinned.items():
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            assert pin.marker, f"{name} isn't installed"
            continue
        for need in map(Requirement, needs):
            for version in ("3.11.2", "3.11.9", "3.12.3", "3.13.1"):
                environment = {"python_version": version.rpartition(".")[0], "python_full_version": version}
                extras = pin.extras or {""}
                wanted = need.marker is None or any(
                    need.marker.evaluate({**environment, "extra": extra}) for extra in extras
                )
                if need.name == "pip":
                    continue  # every virtual environment brings its own
                found = pinned.get(canonicalize_name(need.name))
                if wanted and (found is None or found.marker and not found.marker.evaluate(environment)):
                    missing.add(f"{need.name} for {name} on {version}")
    assert not missing


# --- links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", text):
        if "://" not in target:
            other = (page.parent / target if target else page).read_text(encoding="utf-8")
            headings = {
                re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
                for heading in re.findall(r"^#+ (.+)$", other, re.MULTILINE)
            }
            assert anchor in headings, f"{target}#{anchor}"


def write_settings_table() -> None:
    text = SETUP.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    SETUP.write_text(f"{head}\n\n{settings_tables()}\n{tail}", encoding="utf-8")


if __name__ == "__main__":
    write_settings_table()
