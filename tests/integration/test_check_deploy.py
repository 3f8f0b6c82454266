"""`make check-deploy` finds what it is there for: each fault below is put into a copy of the files, and told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.deploy import check, compose, image, kubernetes, settings, stores, systemd
from tests.deploy.tools import ROOT, Unchecked, assignments, known_variables, needed_variables, tool

COPIED = ("deploy", "Dockerfile", ".dockerignore", "Procfile", ".env.example")

K8S, SYSTEMD, NGINX = "deploy/kubernetes", "deploy/systemd", "deploy/nginx"
WORKER = f"{SYSTEMD}/order-portal-worker.service"

# file, what stands there, what stands there instead, the check, words of what it says
FAULTS: list[tuple[str, str, str, check.Check, str]] = [
    ("Dockerfile", "USER 10001:10001", "USER root", image.hardening, "USER must be a number"),
    ("Dockerfile", "USER 10001:10001\n", "", image.hardening, "USER must be a number"),
    ("Dockerfile", 'CMD ["gunicorn", "wsgi:app"]', "CMD gunicorn wsgi:app", image.hardening, "SIGTERM"),
    ("Dockerfile", "COPY templates templates", "COPY template templates", image.hardening, "template isn't there"),
    ("Dockerfile", "python:3.11-slim-bookworm", "python", image.hardening, "which version"),
    ("Dockerfile", "WEB_BIND=", "WEB_BINDS=", image.hardening, "WEB_BINDS is no setting"),
    ("Dockerfile", "HEALTHCHECK --interval", "# HEALTHCHECK --interval", image.hardening, "no HEALTHCHECK"),
    ("Dockerfile", "WORKDIR /app\nCOPY requirements", "WORKDIR app\nCOPY requirements", image.hadolint, "DL3000"),
    (".dockerignore", "!static\n", "", image.ignored, "static is copied but kept out"),
    (".dockerignore", "!static\n", "!static\n!docs\n", image.ignored, "docs is let in"),
    ("Procfile", "jobs.sweep", "jobs.swoop", image.procfile, "sweep must run"),
    ("Procfile", "sweep: ", "sweeper: ", image.procfile, "sweeper is no process"),
    (".env.example", "SMTP_URL_FILE=/", "SMPT_URL_FILE=/", settings.example_starts, "SMPT_URL_FILE is no setting"),
    (".env.example", "SECRET_KEY_FILE=", "#SECRET_KEY_FILE=", settings.example_starts, "SECRET_KEY_FILE is needed"),
    (".env.example", "BRAND_NAME=Example", 'BRAND_NAME="Example', settings.example_starts, "differently"),
    (".env.example", "BRAND_CURRENCY=", "SECRET_KEY=x\nBRAND_CURRENCY=", settings.example_starts, "its file belongs"),
    (".env.example", "=https://portal.", "=http://portal.", settings.example_starts, "https:// in production"),
    (".env.example", "# WHMCS tells", "# WHMCS_TELL tells", settings.names_exist, "WHMCS_TELL is no setting"),
    ("deploy/compose.yaml", "read_only: true", "readonly: true", compose.schema, "readonly"),
    ("deploy/compose.yaml", "read_only: true", "read_only: false", compose.hardening, "web: read_only must be True"),
    ("deploy/compose.yaml", "image: caddy:2", "image: caddy", compose.hardening, "which version of caddy"),
    ("deploy/compose.yaml", "  valkey: {condition", "  vallkey: {condition", compose.config, "vallkey"),
    ("deploy/compose.yaml", "    TRUSTED_PROXIES:", "    TRUSTED_PROXY:", compose.hardening, "TRUSTED_PROXY is no"),
    (
        "deploy/compose.yaml",
        "    - {source: smtp_url, target: /app/secrets/smtp_url}\n  networks",
        "  networks",
        compose.hardening,
        "web: /app/secrets/smtp_url isn't mounted",
    ),
    (
        "deploy/compose.yaml",
        "    image: valkey/",
        '    ports: ["6379:6379"]\n    image: valkey/',
        compose.hardening,
        "open",
    ),
    (f"{K8S}/run/web.yaml", "replicas: 2", "replica: 2", kubernetes.schemas, "replica"),
    (f"{K8S}/run/web.yaml", "replicas: 2", "replicas: 1", kubernetes.hardening, "ever be drained"),
    (f"{K8S}/run/web.yaml", "path: /health, port", "path: /ready, port", kubernetes.hardening, "/ready"),
    (
        f"{K8S}/run/web.yaml",
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        kubernetes.hardening,
        "readOnlyRootFilesystem must be True",
    ),
    (
        f"{K8S}/run/worker.yaml",
        "mountPath: /app/secrets",
        "mountPath: /secrets",
        kubernetes.hardening,
        "names a file in no mounted folder",
    ),
    (f"{K8S}/settings/portal.env", "BRAND_NAME=", "BRAND_NAMES=", kubernetes.hardening, "BRAND_NAMES is no setting"),
    (WORKER, "ProtectHome=yes", "ProtectHomes=yes", systemd.verify, "ProtectHomes"),
    (WORKER, "bin/python -m", "bin/python4 -m", systemd.verify, "python4"),
    (WORKER, "jobs.worker", "jobs.walker", systemd.verify, "jobs.walker is no module"),
    (WORKER, "PYTHONUNBUFFERED=1", "PORTAL_ENVS=1", systemd.verify, "PORTAL_ENVS is no"),
    (
        f"{SYSTEMD}/order-portal.target",
        "order-portal-sweep.service",
        "order-portal-swep.service",
        systemd.verify,
        "swep",
    ),
    (WORKER, "NoNewPrivileges=yes\nCapabilityBoundingSet=\n", "", systemd.security, "CapabilityBoundingSet"),
    (
        f"{NGINX}/site.conf",
        "proxy_pass http://order_portal",
        "proxy_pass http://other_portal",
        check.nginx,
        "other_portal",
    ),
    (
        f"{NGINX}/order-portal-server.conf",
        "client_max_body_size",
        "client_most_body_size",
        check.nginx,
        "client_most_body_size",
    ),
    (f"{NGINX}/plesk.conf", "proxy_http_version 1.1;", "proxy_http_version 1.1", check.nginx, "plesk.conf: "),
    ("deploy/caddy/Caddyfile", "lb_try_duration", "lb_tried_duration", check.caddy, "lb_tried_duration"),
    ("deploy/valkey/valkey.conf", "noeviction", "allkeys-lru", stores.valkey, "maxmemory-policy must be noeviction"),
    ("deploy/valkey/valkey.conf", "appendonly yes", "appendonly no", stores.valkey, "appendonly must be yes"),
]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The repository, its deployment files copied so that they can be spoilt."""
    root = tmp_path / "house"
    root.mkdir()
    for path in ROOT.iterdir():
        if path.name not in (*COPIED, ".git", "var"):
            (root / path.name).symlink_to(path)
    for name in COPIED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, root / name)
    return root


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "there", "instead", "run", "told"), FAULTS, ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_fault_is_told(
    name: str, there: str, instead: str, run: check.Check, told: str, house: Path, scratch: Path
) -> None:
    path = house / name
    text = path.read_text(encoding="utf-8")
    assert there in text, "the file has changed: spoil it in another way"
    path.write_text(text.replace(there, instead, 1), encoding="utf-8")
    kubernetes.build.cache_clear()
    faults = checked(run, path, house, scratch)
    assert any(told in fault for fault in faults), faults


def test_an_object_that_is_never_applied_is_told(house: Path, scratch: Path) -> None:
    whole = house / K8S / "run" / "kustomization.yaml"
    whole.write_text(whole.read_text(encoding="utf-8").replace("  - sweep.yaml\n", ""), encoding="utf-8")
    kubernetes.build.cache_clear()
    faults = checked(kubernetes.schemas, house / K8S / "run" / "sweep.yaml", house, scratch)
    assert "Deployment order-portal-sweep is in no kustomization" in faults


def checked(run: check.Check, path: Path, root: Path, scratch: Path) -> list[str]:
    """A check's faults; skipped, with the reason, where its program is missing."""
    try:
        return run(path, root, scratch)
    except Unchecked as error:
        pytest.skip(str(error))


def test_a_file_that_no_check_is_for_fails(house: Path, scratch: Path) -> None:
    path = house / "deploy" / "ansible" / "site.yml"
    path.parent.mkdir()
    path.write_text("[]\n", encoding="utf-8")
    assert path in check.files(house)
    outcome = check.check(path, house, scratch)
    assert not outcome.made
    assert "no check is for it" in outcome.lines[0]


def test_a_check_that_could_not_be_made_fails(
    house: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_path: Path, _root: Path, _scratch: Path) -> list[str]:
        tool("a-program-that-is-nowhere", "no package")
        return []

    monkeypatch.setattr(check, "CHECKS", {"*": {"names": settings.names_exist, "other": missing}})
    monkeypatch.setattr(check, "files", lambda _root: [house / "Procfile", house / "Dockerfile"])
    assert check.main(house) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"files": 2, "checked": 0, "failed": 2}


def test_every_file_has_a_check_and_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table covers every file there is; the checks themselves `make check-deploy` runs."""
    monkeypatch.setattr(
        check,
        "CHECKS",
        {pattern: {title: lambda *_: [] for title in some} for pattern, some in check.CHECKS.items()},
    )
    assert check.main() == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["files"] == last["checked"] > 20
    assert last["failed"] == 0


def test_variables_are_read_from_the_code_that_reads_them() -> None:
    assert {"SF_WEBHOOK_SECRET_FILE", "PORTAL_BASE_URL", "WEB_THREADS", "WEB_BIND"} <= known_variables()
    assert {"PORTAL_BASE_URL_FILE", "WEB_BIND_FILE"}.isdisjoint(known_variables())
    assert "SF_PRIVATE_KEY_PATH" in needed_variables()
    assert "PORTAL_ENV" not in needed_variables()


@pytest.mark.parametrize("line", ["a=b", "A", 'A="b"', "A= b", "A=b ", "A=b # why", "A=$B", "A=1\nA=2", "export A=1"])
def test_lines_that_the_readers_of_env_files_disagree_on_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        assignments(line)
