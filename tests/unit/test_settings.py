"""Settings: what is misspelt, missing or contradictory stops the start with one sentence each, naming the variable."""

from __future__ import annotations

import ipaddress
from dataclasses import fields
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from portal.settings import Settings, SettingsError, checks
from portal.settings.addresses import sentinel_address
from portal.settings.kinds import Operator

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
LONG = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The least a development portal starts with."""
    (tmp_path / "sf.key").write_bytes(KEY.private_bytes(*PEM, serialization.NoEncryption()))
    return {
        "PORTAL_ENV": "development",
        "SF_LOGIN_URL": "https://login.salesforce.com",
        "SF_CLIENT_ID": "consumer-key",
        "SF_USERNAME": "portal@example.com",
        "SF_PRIVATE_KEY_PATH": str(tmp_path / "sf.key"),
        "SF_WEBHOOK_SECRET": f"sf-{LONG}",
        "PORTAL_PRICEBOOK_ID": "01s000000000001AAA",
        "WHMCS_API_URL": "https://whmcs.example.com/includes/api.php",
        "WHMCS_API_IDENTIFIER": "identifier",
        "WHMCS_API_SECRET": "secret",
    }


@pytest.fixture
def production(environ: dict[str, str]) -> dict[str, str]:
    """The least a production portal starts with."""
    return environ | {
        "PORTAL_ENV": "production",
        "PORTAL_BASE_URL": "https://portal.example.com/shop",
        "DATABASE_URL": "postgresql://portal@db/portal",
        "REDIS_URL": "redis://redis/0",
        "SECRET_KEY": LONG,
        "SMTP_URL": "smtp://mail.example.com",
        "MAIL_FROM": "orders@example.com",
        "BRAND_NAME": "Example Hosting",
        "BRAND_SUPPORT_EMAIL": "support@example.com",
    }


def faults(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environ)
    return caught.value.faults


def test_the_least_that_starts(environ: dict[str, str], production: dict[str, str]) -> None:
    assert not Settings.from_environ(environ).production
    assert Settings.from_environ(production).production


def test_without_portal_env_it_is_production(production: dict[str, str]) -> None:
    del production["PORTAL_ENV"]
    assert Settings.from_environ(production).production
    del production["DATABASE_URL"]
    assert len(faults(production)) == 1


@pytest.mark.parametrize(
    "name",
    [
        "SF_LOGIN_URL",
        "SF_CLIENT_ID",
        "SF_USERNAME",
        "SF_PRIVATE_KEY_PATH",
        "SF_WEBHOOK_SECRET",
        "PORTAL_PRICEBOOK_ID",
        "WHMCS_API_URL",
        "WHMCS_API_IDENTIFIER",
        "WHMCS_API_SECRET",
    ],
)
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_a_missing_setting_is_named(environ: dict[str, str], name: str, how: str) -> None:
    if how == "empty":
        environ[name] = ""
    else:
        del environ[name]
    [sentence] = faults(environ)
    assert sentence.startswith(f"{name} is missing: ")


@pytest.mark.parametrize(
    "name",
    [
        "PORTAL_BASE_URL",
        "DATABASE_URL",
        "REDIS_URL",
        "SECRET_KEY",
        "SMTP_URL",
        "MAIL_FROM",
        "BRAND_NAME",
        "BRAND_SUPPORT_EMAIL",
    ],
)
def test_production_needs_more_than_development(production: dict[str, str], environ: dict[str, str], name: str) -> None:
    del production[name]
    [sentence] = faults(production)
    assert sentence.startswith(f"{name} is missing: ")
    Settings.from_environ(environ)


MISSPELT = [
    ("PORTAL_BASE_URL", "portal.example.com"),
    ("PORTAL_BASE_URL", "https://portal.example.com/?a=1"),
    ("DATABASE_URL", "mysql://db/portal"),
    ("REDIS_URL", "http://redis"),
    ("TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.1/8"),
    ("SF_LOGIN_URL", "login.salesforce.com"),
    ("SF_PRIVATE_KEY_PATH", "/nowhere/sf.key"),
    ("SF_API_VERSION", "v67"),
    ("SF_WEBHOOK_IP_ALLOWLIST", "13.108.0.0/14,203.0.113.300"),
    ("WEBHOOK_TIMESTAMP_TOLERANCE", "5m"),
    ("WEBHOOK_TIMESTAMP_TOLERANCE", "300000.0"),
    ("WEBHOOK_TIMESTAMP_TOLERANCE", "-1"),
    ("WEBHOOK_TIMESTAMP_TOLERANCE", "٣٠٠٠"),
    ("PORTAL_PRICEBOOK_ID", "standard"),
    ("WHMCS_API_URL", "ftp://whmcs"),
    ("WHMCS_MAX_REQUEST_SECONDS", "1e3"),
    ("WHMCS_MAX_IN_FLIGHT", "0"),
    ("WHMCS_CREATE_CLIENTS", "maybe"),
    ("WHMCS_PRICE_SOURCE", "Salesforce"),
    ("WHMCS_WEBHOOK_IP_ALLOWLIST", "::1/129"),
    ("FULFILLMENT_WAIT_SECONDS", "121"),
    ("FULFILLMENT_MAX_WAITERS", "many"),
    ("FULFILLMENT_RETRY_SCHEDULE", "5;15"),
    ("FULFILLMENT_RETRY_SCHEDULE", ","),
    ("FULFILLMENT_SLOTS", "0"),
    ("SMTP_URL", "mail.example.com:25"),
    ("SMTP_URL", "smtp://x:notaport"),
    ("SMTP_URL", "smtp://user:pass/word@x:25"),
    ("SMTP_URL", "smtp://:25"),
    ("PORTAL_BASE_URL", "http://"),
    ("PORTAL_BASE_URL", "http://portal.example.com:https"),
    ("DATABASE_URL", "postgresql://db:54x32/portal"),
    ("DATABASE_URL", "postgresql://db:99999/portal"),
    ("DATABASE_URL", "postgresql://db,db2:0/portal"),
    ("DATABASE_URL", "postgresql://db"),
    ("DATABASE_URL", "postgresql://db/portal?sslmode=verify"),
    ("DATABASE_URL", "postgresql://db/portal?target_session_attrs=rw"),
    ("REDIS_URL", "redis://redis:port/0"),
    ("REDIS_URL", "redis://redis/first"),
    ("REDIS_URL", "redis://redis/0?ssl=true"),
    ("REDIS_URL", "redis://one,two/0"),
    ("REDIS_URL", "redis+sentinel://one:26379,:26379/service/0"),
    ("REDIS_URL", "redis+sentinel://one:26379/service/zero"),
    ("REDIS_URL", "redis+sentinel://one/service/0?ssl=perhaps"),
    ("REDIS_URL", "redis+sentinel:///service/0"),
    ("MAIL_FROM", "orders"),
    ("OPS_EMAILS", "ops@example.com, boss"),
    ("OPS_EMAILS", "ops@example.com:write"),
    ("OPS_EMAILS", "ops@example.com, OPS@example.com:read"),
    ("ALERT_FAILURE_RATE", "10%"),
    ("ALERT_FAILURE_RATE", "1.5"),
    ("SECURITY_ALERT_WEBHOOK", "hooks.example.com"),
    ("METRICS_ALLOWLIST", "localhost"),
    ("RETENTION_DAYS", "0"),
    ("BRAND_ACCENT", "blue"),
]


@pytest.mark.parametrize(("name", "value"), MISSPELT)
def test_a_misspelt_setting_is_named(environ: dict[str, str], name: str, value: str) -> None:
    [sentence] = faults(environ | {name: value})
    assert sentence.startswith(f"{name} ")
    assert "\n" not in sentence


def test_a_misspelt_environment_is_no_development(production: dict[str, str]) -> None:
    assert faults(production | {"PORTAL_ENV": "prod"}) == ["PORTAL_ENV must be one of: production, development"]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("SF_WEBHOOK_IP_ALOWLIST", "SF_WEBHOOK_IP_ALLOWLIST"),
        ("FULFILMENT_SLOTS", "FULFILLMENT_SLOTS"),
        ("WHMCS_WEBHOOK_SECRET_FIEL", "WHMCS_WEBHOOK_SECRET_FILE"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("PORTAL_PRICEBOOK_ID_FILE", "PORTAL_PRICEBOOK_ID"),
        ("SMPT_URL", "SMTP_URL"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("REDIS_ULR", "REDIS_URL"),
        ("OPS_EMAIL", "OPS_EMAILS"),
        ("WEB_THREAD", "WEB_THREADS"),
        ("ERDIS_RUL", "REDIS_URL"),
    ],
)
def test_a_misspelt_name_is_no_silence(production: dict[str, str], wrong: str, right: str) -> None:
    production.pop(right, None)
    sentences = faults(production | {wrong: "1"})
    assert f"{wrong} is no setting: did you mean {right}?" in sentences


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("DATABASE_URL", "postgresql://portal:{}@db/portal"),
        ("DATABASE_URL", "postgresql://portal:x{}@db:port/portal?sslmode=wrong"),
        ("DATABASE_URL", "postgresql://portal:x/{}@db/portal"),
        ("DATABASE_URL", "postgresql://portal:x?{}@db/portal"),
        ("DATABASE_URL", "postgresql://portal:x[{}@db/portal"),
        ("DATABASE_URL", "postgresql://portal:{}\u2100@db/portal"),
        ("REDIS_URL", "redis://:x?{}@redis:1/0"),
        ("REDIS_URL", "redis+sentinel://:x/{}@redis:1/0"),
        ("SMTP_URL", "smtp://user:{}/@mail:25"),
    ],
)
def test_no_fault_of_an_address_shows_a_piece_of_its_password(
    production: dict[str, str], name: str, address: str
) -> None:
    try:
        Settings.from_environ(production | {name: address.format("canary51f2")})
    except SettingsError as error:
        assert "canary" not in str(error)


def test_a_placeholder_is_told_beside_the_other_faults(production: dict[str, str]) -> None:
    told = faults(
        production
        | {
            "PORTAL_BASE_URL": "http://portal.example.com",
            "BRAND_NAME": "Northwind Hosting",
            "BRAND_SUPPORT_EMAIL": "support@localhost",
            "WHMCS_MAX_IN_FLIGHT": "lots",
            "SF_PRIVATE_KEY_PATH": "",
        }
    )
    assert {sentence.split()[0] for sentence in told} == {
        "PORTAL_BASE_URL",
        "BRAND_NAME",
        "BRAND_SUPPORT_EMAIL",
        "WHMCS_MAX_IN_FLIGHT",
        "SF_PRIVATE_KEY_PATH",
    }


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("postgres://u:p%40ss@db/portal", "postgresql+psycopg://u:p%40ss@db/portal"),
        (
            "postgresql://u@db,db2:5433/portal?sslmode=verify-full",
            "postgresql+psycopg://u@/portal?sslmode=verify-full&host=db,db2&port=5432,5433"
            "&target_session_attrs=read-write",
        ),
        (
            "postgresql://u@db,db2/portal?target_session_attrs=any",
            "postgresql+psycopg://u@/portal?target_session_attrs=any&host=db,db2&port=5432,5432",
        ),
        ("postgresql://u@/portal?host=/run/postgresql", "postgresql+psycopg://u@/portal?host=/run/postgresql"),
    ],
)
def test_a_database_is_named_as_others_name_it(production: dict[str, str], address: str, meant: str) -> None:
    assert Settings.from_environ(production | {"DATABASE_URL": address}).ledger_url == meant


def test_a_sentinels_address_is_read_whole() -> None:
    address = sentinel_address(
        "redis+sentinel://user:p%40ss@host:26380,host2,[::1]:5/service/3?ssl=true&sentinel_password=q%26"
    )
    assert address.hosts == (("host", 26380), ("host2", 26379), ("::1", 5))
    assert (address.service, address.database) == ("service", 3)
    assert (address.username, address.password, address.sentinel_password) == ("user", "p@ss", "q&")
    assert address.tls
    assert address.sentinel_tls
    assert "p@ss" not in repr(address)
    assert not sentinel_address("rediss+sentinel://h/s?sentinel_ssl=false").sentinel_tls
    assert sentinel_address("rediss+sentinel://h/s").tls


def test_names_of_other_programs_are_none_of_ours(production: dict[str, str]) -> None:
    Settings.from_environ(production | {"SF_AUTOUPDATE_DISABLE": "true", "PATH": "/bin", "REDIS_URI": "redis://other"})


def test_every_fault_is_told_at_once(environ: dict[str, str]) -> None:
    del environ["SF_CLIENT_ID"]
    sentences = faults(environ | {"WHMCS_MAX_IN_FLIGHT": "lots", "BRAND_ACCENT": "blue"})
    assert [sentence.split()[0] for sentence in sentences] == ["SF_CLIENT_ID", "WHMCS_MAX_IN_FLIGHT", "BRAND_ACCENT"]


@pytest.mark.parametrize("name", ["SF_WEBHOOK_SECRET", "WHMCS_WEBHOOK_SECRET", "SECRET_KEY"])
def test_a_previous_secret_needs_a_present_one(environ: dict[str, str], name: str) -> None:
    environ.pop(name, None)
    [sentence] = faults(environ | {f"{name}_PREVIOUS": LONG})
    assert sentence.startswith((f"{name}_PREVIOUS is set although", f"{name} is missing"))


@pytest.mark.parametrize(
    "name",
    ["SF_WEBHOOK_SECRET", "SF_WEBHOOK_SECRET_PREVIOUS", "WHMCS_WEBHOOK_SECRET", "SECRET_KEY", "SECRET_KEY_PREVIOUS"],
)
def test_production_refuses_short_secrets(production: dict[str, str], name: str) -> None:
    [sentence] = faults(production | {name: "x" * 31})
    assert sentence == f"{name} must have at least 32 bytes in production"
    Settings.from_environ(production | {name: "x" * 32})


def test_the_doors_need_different_secrets(environ: dict[str, str]) -> None:
    [sentence] = faults(environ | {"WHMCS_WEBHOOK_SECRET": environ["SF_WEBHOOK_SECRET"]})
    assert "WHMCS_WEBHOOK_SECRET" in sentence
    assert "SF_WEBHOOK_SECRET" in sentence


def test_production_is_https_except_on_this_machine(production: dict[str, str]) -> None:
    assert faults(production | {"PORTAL_BASE_URL": "http://portal.example.com"}) == [
        "PORTAL_BASE_URL must start with https:// in production"
    ]
    Settings.from_environ(production | {"PORTAL_BASE_URL": "http://127.0.0.1:8000"})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ssh-rsa AAAA",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        KEY.private_bytes(*PEM, serialization.BestAvailableEncryption(b"passphrase")),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(*PEM, serialization.NoEncryption()),
    ],
    ids=["empty", "ssh public", "broken", "encrypted", "elliptic curve"],
)
def test_the_private_key_must_be_one(environ: dict[str, str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sf.key").write_bytes(content)
    [sentence] = faults(environ)
    assert sentence.startswith("SF_PRIVATE_KEY_PATH ")


SECRETS = [setting.name.upper() for setting in fields(Settings) if setting.metadata["secret"]]


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_may_come_from_a_file(production: dict[str, str], tmp_path: Path, name: str) -> None:
    value = {
        "DATABASE_URL": "postgresql://u:p@db/portal",
        "REDIS_URL": "redis://:p@redis/1",
        "SMTP_URL": "smtp://u:p@mail:25",
        "SECURITY_ALERT_WEBHOOK": "https://hooks.example.com/x",
    }.get(name, "from-a-file-0123456789abcdef0123456789\n")
    production["WHMCS_WEBHOOK_SECRET"] = f"whmcs-{LONG}"
    production["SECURITY_ALERT_WEBHOOK"] = "https://hooks.example.com/x"
    production.pop(name, None)
    path = tmp_path / "secret"
    path.write_text(f"{value}\n")
    settings = Settings.from_environ(production | {f"{name}_FILE": str(path)})
    assert getattr(settings, name.lower()) == value, "one trailing newline is dropped, and only one"


def test_a_secret_in_two_places_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(LONG)
    [sentence] = faults(environ | {"SF_WEBHOOK_SECRET_FILE": str(tmp_path / "secret")})
    assert sentence == "SF_WEBHOOK_SECRET and SF_WEBHOOK_SECRET_FILE are both set: keep one"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_secrets_file_that_holds_none_is_refused(
    environ: dict[str, str], tmp_path: Path, content: bytes | None
) -> None:
    del environ["WHMCS_API_SECRET"]
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    [sentence] = faults(environ | {"WHMCS_API_SECRET_FILE": str(tmp_path / "secret")})
    assert sentence.startswith("WHMCS_API_SECRET_FILE names ")


def test_no_fault_shows_a_secret(production: dict[str, str]) -> None:
    canary = "canary-51f2"
    for name in SECRETS:
        environ = production | {name: canary}
        try:
            Settings.from_environ(environ)
        except SettingsError as error:
            assert canary not in str(error)


def test_values_are_typed(production: dict[str, str]) -> None:
    settings = Settings.from_environ(
        production
        | {
            "SF_WEBHOOK_IP_ALLOWLIST": "13.108.0.0/14, 2001:db8::/32",
            "WHMCS_CREATE_CLIENTS": "1",
            "FULFILLMENT_RETRY_SCHEDULE": "1,2.5",
            "FULFILLMENT_MAX_WAITERS": "0",
            "OPS_EMAILS": "A@example.com, b@example.com:read",
        }
    )
    assert settings.sf_webhook_ip_allowlist == (
        ipaddress.ip_network("13.108.0.0/14"),
        ipaddress.ip_network("2001:db8::/32"),
    )
    assert settings.whmcs_create_clients is True
    assert settings.fulfillment_retry_schedule == (1.0, 2.5)
    assert settings.fulfillment_max_waiters == 0
    assert settings.ops_emails == (Operator("a@example.com", True), Operator("b@example.com", False))
    assert settings.ledger_url == "postgresql+psycopg://portal@db/portal"


@pytest.mark.parametrize(
    ("login", "audience"),
    [
        ("https://login.salesforce.com", "https://login.salesforce.com"),
        ("https://test.salesforce.com", "https://test.salesforce.com"),
        ("https://acme--uat.sandbox.my.salesforce.com", "https://test.salesforce.com"),
        ("https://acme.my.salesforce.com", "https://login.salesforce.com"),
    ],
)
def test_the_audience_follows_the_login_address(environ: dict[str, str], login: str, audience: str) -> None:
    assert Settings.from_environ(environ | {"SF_LOGIN_URL": login}).salesforce_audience == audience
    assert Settings.from_environ(environ | {"SF_LOGIN_URL": login, "SF_AUDIENCE": "https://x"}).salesforce_audience == (
        "https://x"
    )


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"ALERT_EMAILS": "ops@example.com", "SMTP_URL": ""}, "ALERT_EMAILS is set although SMTP_URL isn't"),
        ({"SECURITY_ALERT_SECRET": "x"}, "SECURITY_ALERT_SECRET is set although SECURITY_ALERT_WEBHOOK isn't"),
        ({"ALERT_FAILURE_RATE": "0.2"}, "ALERT_FAILURE_RATE is set, but nobody would be told"),
        ({"ALERT_AFTER_SECONDS": "5"}, "ALERT_AFTER_SECONDS is set, but nobody would be told"),
        ({"SF_CERTIFICATE_PATH": __file__}, "SF_CERTIFICATE_PATH must name a file with a certificate"),
    ],
)
def test_half_configured_alerting_stops_the_start(environ: dict[str, str], changes: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environ | changes)
    assert [each for each in caught.value.faults if each.startswith(fault)], caught.value.faults


def test_alerting_that_is_whole_starts(environ: dict[str, str]) -> None:
    mails = {"ALERT_EMAILS": "ops@example.com", "SMTP_URL": "smtp://mail.example.com", "ALERT_FAILURE_RATE": "0.2"}
    assert Settings.from_environ(environ | mails).alert_failure_rate == 0.2
    hook = {"SECURITY_ALERT_WEBHOOK": "https://hooks.example.com/x", "ALERT_STUCK_SECONDS": "60"}
    assert Settings.from_environ(environ | hook).alert_stuck_seconds == 60.0


def test_traces_need_their_packages(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    traced = environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}
    assert Settings.from_environ(traced).otel_exporter_otlp_endpoint == "http://127.0.0.1:4318"
    assert not checks.installed("opentelemetry_is_not.here")
    monkeypatch.setattr(checks, "installed", lambda _module: False)
    [sentence] = faults(traced)
    assert sentence.startswith("OTEL_EXPORTER_OTLP_ENDPOINT needs the packages of requirements-traces.txt")
