"""The pages of docs/deployment are held against the deployment files; test_docs holds every page against the code."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from portal.settings import Settings
from tests.deploy.tools import ROOT, assignments, known_variables

PAGES = sorted((ROOT / "docs" / "deployment").glob("*.md"))
#: Of the tests, of Compose's and of Plesk's; none of the portal's processes gets them.
NO_SETTINGS = {"PORTAL_HOST", "PORTAL_SECRETS"}


def text_of_all() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_there_are_pages() -> None:
    wanted = {"systemd", "compose", "kubernetes", "plesk", "database", "redis", "backup", "upgrade", "rollback"}
    assert wanted <= {page.stem for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_readme_leads_to_every_page(page: Path) -> None:
    assert f"(docs/deployment/{page.name})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_exists() -> None:
    known = known_variables()
    first_words = {name.partition("_")[0] for name in known}
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text_of_all()))
    wrong = {name for name in named - known - NO_SETTINGS if name.partition("_")[0] in first_words}
    assert not wrong


def test_every_file_and_unit_exists() -> None:
    text = text_of_all()
    for path in set(re.findall(r"(?<![\w/.])deploy/[\w./@*-]*\w", text)):
        assert list(ROOT.glob(path)), path
    units = {path.name for path in (ROOT / "deploy" / "systemd").iterdir()}
    for unit in set(re.findall(r"order-portal-(?:web@|worker|sweep|migrate)", text)):
        assert f"{unit}.service" in units
    deployments = (ROOT / "deploy" / "kubernetes" / "run" / "web.yaml").read_text(encoding="utf-8")
    for name in set(re.findall(r"deployment/([\w-]+)", text)):
        assert f"name: {name}\n" in deployments


def test_the_steps_make_every_secret_that_the_example_names() -> None:
    needed = {
        Path(value).name
        for name, value in assignments((ROOT / ".env.example").read_text(encoding="utf-8")).items()
        if name.endswith("_FILE") or name == "SF_PRIVATE_KEY_PATH"
    }
    for page in ("systemd.md", "compose.md", "kubernetes.md"):
        text = (ROOT / "docs" / "deployment" / page).read_text(encoding="utf-8")
        assert {name for name in needed if name not in text} == set(), page


def test_files_name_the_present_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    found = {
        path.name: set(re.findall(r"(?:order-portal:|newTag: )(\d[\w.]*)", path.read_text(encoding="utf-8")))
        for path in (
            ROOT / "deploy" / "compose.yaml",
            ROOT / "deploy" / "kubernetes" / "settings" / "kustomization.yaml",
            *PAGES,
        )
    }
    assert {name: versions for name, versions in found.items() if versions - {version}} == {}
    assert found["compose.yaml"] == found["kustomization.yaml"] == {version}


def test_the_connections_are_what_the_threads_come_to() -> None:
    """With the defaults, and with two of each: the sum that the page tells."""
    text = (ROOT / "docs" / "deployment" / "database.md").read_text(encoding="utf-8")
    told = {name: int(number) for name, number in re.findall(r"^\| ([a-z ]+) \| .* \| (\d+) \|$", text, re.MULTILINE)}
    server = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")
    concurrency, threads = (
        int(found[1])
        for name in ("WEB_CONCURRENCY", "WEB_THREADS")
        if (found := re.search(rf'"{name}", (\d+)\)', server))
    )
    defaults = {setting.name: setting.default for setting in fields(Settings)}
    # Each slot and each process' heartbeat; three threads, a poll and a heartbeat of the relay.
    worker = defaults["fulfillment_slots"] + defaults["fulfillment_processes"] + 5
    assert told == {"web server": concurrency * (threads + 1), "worker": worker, "sweep": 3}
    assert f"they come to {2 * sum(told.values())}." in text
    assert 2 * sum(told.values()) <= 100 - 3 - 1, "more than PostgreSQL has by default, a command's among them"
