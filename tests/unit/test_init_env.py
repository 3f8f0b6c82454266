"""`flask init-env`: what it writes starts the portal, and nobody else may read it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app import create_commands_app
from portal.settings import Settings

KNOWN = {
    "PORTAL_BASE_URL": "https://portal.example.com",
    "DATABASE_URL": "postgresql://portal:p%40ss@127.0.0.1:1/portal?sslmode=disable&connect_timeout=1",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "SF_LOGIN_URL": "https://login.salesforce.com",
    "SF_CLIENT_ID": "3MVG9",
    "SF_USERNAME": "api@example.com",
    "PORTAL_PRICEBOOK_ID": "01s000000000001AAA",
    "WHMCS_API_URL": "https://whmcs.example.com/includes/api.php",
    "WHMCS_API_IDENTIFIER": "identifier",
    "WHMCS_API_SECRET": "it's $ecret",
    "SMTP_URL": "smtp://mail.example.com",
    "MAIL_FROM": "orders@example.com",
    "BRAND_NAME": "Example Hosting & Söhne",
    "BRAND_SUPPORT_EMAIL": "support@example.com",
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each in KNOWN]:
        monkeypatch.delenv(name)


def init(folder: Path, *words: str, answers: str | None = None) -> Result:
    runner = create_commands_app("nothing is set").test_cli_runner()
    return runner.invoke(args=["init-env", "--output", str(folder / ".env"), *words], input=answers)


def sets(values: dict[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def read_by_a_shell(path: Path) -> dict[str, str]:
    """What `set -a; . ./.env` makes of it."""
    told = subprocess.run(["sh", "-c", 'set -a; . "$1"; env -0', "sh", path], env={}, capture_output=True, check=True)
    return dict(pair.split("=", 1) for pair in told.stdout.decode().split("\0") if "=" in pair and pair[0].isupper())


def test_what_a_script_gets_starts_the_portal(tmp_path: Path) -> None:
    written = init(tmp_path, "--no-input", "--no-doctor", *sets(KNOWN))
    assert written.exit_code == 0, written.output
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    environ = read_by_a_shell(tmp_path / ".env")
    settings = Settings.from_environ({name: value for name, value in environ.items() if name not in ("PWD", "OLDPWD")})
    assert settings.production
    for name, value in KNOWN.items():
        assert str(getattr(settings, name.lower())) == value
    made = {settings.secret_key, settings.sf_webhook_secret, settings.whmcs_webhook_secret, settings.metrics_token}
    assert len(made) == 4
    assert not [secret for secret in made if secret in written.output]


def test_the_key_pair_is_one(tmp_path: Path) -> None:
    init(tmp_path, "--no-input", "--no-doctor", *sets(KNOWN))
    key = load_pem_private_key((tmp_path / "sf-private.key").read_bytes(), None)
    certificate = x509.load_pem_x509_certificate((tmp_path / "sf-private.crt").read_bytes())
    assert certificate.public_key() == key.public_key()
    assert stat.S_IMODE((tmp_path / "sf-private.key").stat().st_mode) == 0o600


def test_no_second_one_is_written_over_the_first(tmp_path: Path) -> None:
    init(tmp_path, "--no-input", "--no-doctor", *sets(KNOWN))
    before = (tmp_path / ".env").read_bytes()
    again = init(tmp_path, "--no-input", "--no-doctor", *sets(KNOWN))
    assert again.exit_code == 1
    assert "is there already" in again.output
    assert (tmp_path / ".env").read_bytes() == before


def test_a_script_is_told_every_fault_and_nothing_is_left_behind(tmp_path: Path) -> None:
    known = {name: value for name, value in KNOWN.items() if name != "SF_CLIENT_ID"} | {"SMTP_URL": "smtp://x:port"}
    refused = init(tmp_path, "--no-input", *sets(known))
    assert refused.exit_code == 1
    assert "SF_CLIENT_ID is missing" in refused.output
    assert "SMTP_URL has a port" in refused.output
    assert not list(tmp_path.iterdir())


def test_a_misspelt_name_is_refused(tmp_path: Path) -> None:
    refused = init(tmp_path, "--no-input", "--set", "DATABSE_URL=x")
    assert refused.exit_code == 2
    assert "did you mean DATABASE_URL?" in refused.output


def test_a_person_is_asked_until_the_answer_is_one(tmp_path: Path) -> None:
    known = {name: value for name, value in KNOWN.items() if name not in ("SMTP_URL", "SF_LOGIN_URL")}
    written = init(tmp_path, "--no-doctor", *sets(known), answers="\nmail.example.com:25\nsmtp://mail.example.com:25\n")
    assert written.exit_code == 0, written.output
    environ = read_by_a_shell(tmp_path / ".env")
    assert environ["SMTP_URL"] == "smtp://mail.example.com:25"
    assert environ["SF_LOGIN_URL"] == "https://login.salesforce.com"


def test_it_ends_with_what_the_doctor_says(tmp_path: Path) -> None:
    written = init(tmp_path, "--no-input", *sets(KNOWN | {"SF_LOGIN_URL": "http://127.0.0.1:1"}))
    assert written.exit_code == 1, "nothing of it can be reached"
    assert "127.0.0.1:1" in written.output
    assert (tmp_path / ".env").exists()


def test_a_developers_needs_no_servers(tmp_path: Path) -> None:
    known = {name: value for name, value in KNOWN.items() if name.startswith(("SF_", "WHMCS_", "PORTAL_PRICE"))}
    written = init(tmp_path, "--development", "--no-input", "--no-doctor", *sets(known))
    assert written.exit_code == 0, written.output
    environ = read_by_a_shell(tmp_path / ".env")
    assert environ["PORTAL_ENV"] == "development"
    assert "DATABASE_URL" not in environ
