"""Every setting of the portal: read from the environment once, typed, and refused when half-configured.

Each field below is one environment variable of the same name in capitals. A secret may come as NAME_FILE instead
(its one trailing newline is dropped). All faults are reported together, one sentence each, naming the variable.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from portal import setting_kinds as kind
from portal.setting_kinds import IpNetwork


class SettingsError(Exception):
    """The portal can't start with these settings; `faults` has one sentence each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _setting(
    parse: Callable[[str], Any], default: Any = None, *, secret: bool = False, needed: str = "", doc: str
) -> Any:
    """One variable. needed: "" optional, "always", or "production". Its default stands when it is unset or empty."""
    return field(default=default, metadata={"parse": parse, "secret": secret, "needed": needed, "doc": doc})


@dataclass(frozen=True)
class Settings:
    """See docs/setup.md for what each is for. Optional ones without a default are None or empty."""

    # Where it runs
    portal_env: str = _setting(
        kind.choice("production", "development"), "production", doc="`production` or `development`"
    )
    portal_base_url: str = _setting(
        kind.web_url,
        "http://127.0.0.1:8000",
        needed="production",
        doc="the address customers use, with its path prefix if any; every link is built from it",
    )
    portal_var_dir: Path = _setting(
        kind.path, Path("var"), doc="where development keeps its SQLite ledger and its embedded Valkey"
    )
    database_url: str | None = _setting(
        kind.url("postgresql", "postgresql+psycopg", "sqlite"),
        needed="production",
        secret=True,
        doc="the ledger; development without it uses SQLite under PORTAL_VAR_DIR",
    )
    redis_url: str | None = _setting(
        kind.url("redis", "rediss", "unix", "redis+sentinel"),
        needed="production",
        secret=True,
        doc="the queue and the nonces; development without it starts an embedded Valkey",
    )
    secret_key: str | None = _setting(
        kind.text, secret=True, needed="production", doc="signs sessions and links; at least 32 characters"
    )
    secret_key_previous: str | None = _setting(
        kind.text, secret=True, doc="the SECRET_KEY before the last rotation: still verifies"
    )
    trusted_proxies: tuple[IpNetwork, ...] = _setting(
        kind.networks, (), doc="addresses (CIDR) of proxies whose X-Forwarded-For or Forwarded header is believed"
    )
    # Salesforce
    sf_login_url: str = _setting(
        kind.web_url, "", needed="always", doc="where a token is asked for: `https://login.salesforce.com` or My Domain"
    )
    sf_audience: str | None = _setting(
        kind.text, doc="the JWT's audience; derived from SF_LOGIN_URL where unset (login or test.salesforce.com)"
    )
    sf_client_id: str = _setting(kind.text, "", needed="always", doc="the External Client App's consumer key")
    sf_username: str = _setting(kind.text, "", needed="always", doc="the API user")
    sf_private_key_path: Path = _setting(
        kind.readable_file, Path(), needed="always", doc="PEM file of the private key that signs the JWT"
    )
    sf_api_version: str = _setting(kind.text, "67.0", doc="REST API version")
    sf_webhook_secret: str = _setting(
        kind.text,
        "",
        secret=True,
        needed="always",
        doc="signs Salesforce's calls to us; at least 32 bytes in production",
    )
    sf_webhook_secret_previous: str | None = _setting(
        kind.text, secret=True, doc="the secret before the last rotation: still verifies"
    )
    sf_webhook_ip_allowlist: tuple[IpNetwork, ...] = _setting(
        kind.networks, (), doc="addresses (CIDR) Salesforce may call from; empty: any"
    )
    sf_unfulfillable_statuses: tuple[str, ...] = _setting(
        kind.words, ("Draft", "Cancelled", "Rejected"), doc="Order.Status values that are never fulfilled"
    )
    webhook_timestamp_tolerance: int = _setting(
        kind.whole(1000, 86_400_000), 300_000, doc="milliseconds a signed timestamp may be off, both ways"
    )
    portal_pricebook_id: str = _setting(kind.text, "", needed="always", doc="the Pricebook2 the catalogue is made of")
    # WHMCS
    whmcs_api_url: str = _setting(kind.web_url, "", needed="always", doc="…/includes/api.php")
    whmcs_api_identifier: str = _setting(kind.text, "", secret=True, needed="always", doc="API credentials' identifier")
    whmcs_api_secret: str = _setting(kind.text, "", secret=True, needed="always", doc="API credentials' secret")
    whmcs_api_access_key: str | None = _setting(
        kind.text, secret=True, doc="the access key of WHMCS' configuration.php, instead of an IP allowlist there"
    )
    whmcs_payment_method: str | None = _setting(
        kind.text, doc="system name of the gateway orders are placed with (`mailin`); unset: the client's own default"
    )
    whmcs_invoice_gateways: tuple[str, ...] = _setting(
        kind.words, (), doc="gateways that need no stored payment method (bank transfer)"
    )
    whmcs_marker_custom_field: str | None = _setting(
        kind.text, doc="name of a product custom field that also carries the order's reference (sfOrderId=…)"
    )
    whmcs_max_request_seconds: float = _setting(
        kind.decimal(0.5, 3600), 120.0, doc="the longest a request can still take effect in WHMCS after it was sent"
    )
    whmcs_max_in_flight: int = _setting(kind.whole(1, 1000), 8, doc="WHMCS calls at the same time, over all workers")
    whmcs_create_clients: bool = _setting(
        kind.boolean, False, doc="1: an account without a WHMCS client gets one (AddClient)"
    )
    whmcs_price_source: str = _setting(
        kind.choice("whmcs", "salesforce"), "whmcs", doc="whose prices count; `salesforce` sends priceoverride"
    )
    whmcs_client_area_url: str | None = _setting(kind.web_url, doc="the client area, linked from a provisioned order")
    whmcs_webhook_secret: str | None = _setting(
        kind.text, secret=True, doc="signs WHMCS' calls to us; without it that receiver doesn't exist"
    )
    whmcs_webhook_secret_previous: str | None = _setting(kind.text, secret=True, doc="as for Salesforce")
    whmcs_webhook_ip_allowlist: tuple[IpNetwork, ...] = _setting(kind.networks, (), doc="as for Salesforce")
    # Fulfillment
    fulfillment_wait_seconds: float = _setting(
        kind.decimal(0, 120), 25.0, doc="how long a webhook request waits for the outcome at most"
    )
    fulfillment_max_waiters: int | None = _setting(
        kind.whole(0, 10_000), doc="webhook requests that may wait at once in one web process; default: its threads - 4"
    )
    fulfillment_retry_schedule: tuple[float, ...] = _setting(
        kind.schedule,
        (5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0),
        doc="seconds before each retry of a transient failure; after the last the order is Failed",
    )
    whmcs_audit_schedule: tuple[float, ...] = _setting(
        kind.schedule,
        (3600.0, 86_400.0, 604_800.0, 2_592_000.0),
        doc="seconds after which a provisioned order is looked at in WHMCS again; the last one repeats",
    )
    fulfillment_slots: int = _setting(kind.whole(1, 256), 4, doc="orders one `python -m jobs.worker` runs at once")
    fulfillment_processes: int = _setting(
        kind.whole(1, 64), 2, doc="processes that share these slots; as many as the worker may use CPU cores"
    )
    # Mail and alerts
    smtp_url: str | None = _setting(
        kind.url("smtp", "smtps"), secret=True, doc="smtp://user:password@host:port (smtps:// for TLS from the start)"
    )
    mail_from: str = _setting(kind.email, "orders@localhost", doc="sender of the portal's e-mails")
    ops_emails: tuple[str, ...] = _setting(kind.emails, (), doc="not used yet: who may sign in as an operator")
    alert_emails: tuple[str, ...] = _setting(kind.emails, (), doc="not used yet: who gets alerts by e-mail")
    alert_failure_rate: float = _setting(
        kind.decimal(0, 1), 0.1, doc="not used yet: share of failed fulfillments that alerts"
    )
    alert_window_seconds: int = _setting(
        kind.whole(10, 86_400), 3600, doc="not used yet: over how many seconds that share is taken"
    )
    security_alert_webhook: str | None = _setting(
        kind.web_url, secret=True, doc="gets a digest of security events that exceed a rate"
    )
    security_alert_secret: str | None = _setting(
        kind.text, secret=True, doc="signs that digest; unset: a key derived from SECRET_KEY"
    )
    security_alert_events: int = _setting(kind.whole(1, 1_000_000), 20, doc="security events that make a digest …")
    security_alert_window_seconds: int = _setting(kind.whole(1, 86_400), 300, doc="… when they come within so long")
    security_alert_cooldown_seconds: int = _setting(kind.whole(0, 86_400), 900, doc="pause between two digests")
    metrics_allowlist: tuple[IpNetwork, ...] = _setting(kind.networks, (), doc="addresses that may read /metrics")
    metrics_token: str | None = _setting(kind.text, secret=True, doc="bearer token that may read /metrics")
    retention_days: int = _setting(
        kind.whole(1, 36_500), 400, doc="not used yet: days for which finished orders' details are kept"
    )
    # Limits of the receivers, as flask-limiter writes them
    webhook_rate_limit: str = _setting(kind.rate, "6000/minute", doc="signed requests of one address")
    webhook_global_limit: str = _setting(kind.rate, "12000/minute", doc="signed requests of all addresses together")
    webhook_forgery_limit: str = _setting(kind.rate, "600/minute", doc="forged requests of one address before 429s")
    # Catalogue
    catalogue_domain_families: tuple[str, ...] = _setting(
        kind.words,
        ("Hosting", "Web Hosting", "Domain", "Domains", "SSL"),
        doc="Product2.Family values whose products need a domain name",
    )
    catalogue_hostname_families: tuple[str, ...] = _setting(
        kind.words,
        ("Server", "Servers", "VPS", "Dedicated Server"),
        doc="Product2.Family values whose products need a hostname",
    )
    # Limits of the customers' pages
    sign_in_mails_per_hour: int = _setting(
        kind.whole(1, 100_000), 5, doc="sign-in links mailed to one address; of more nobody is told"
    )
    sign_in_asks_per_hour: int = _setting(
        kind.whole(1, 1_000_000), 30, doc="sign-in links asked for by one client; more get a page that says so"
    )
    sign_in_total_per_hour: int = _setting(
        kind.whole(1, 1_000_000),
        600,
        doc="sign-in links asked for by all clients together: each may cost Salesforce a query; more get a page that "
        "says so",
    )
    # Brand
    brand_name: str = _setting(kind.text, "Northwind Hosting", doc="the company customers see")
    brand_logo_url: str | None = _setting(kind.web_url, doc="its logo")
    brand_accent: str = _setting(kind.colour, "#0b5fff", doc="its colour")
    brand_currency: str = _setting(
        kind.text, "USD", doc="the currency of prices, where Salesforce has only one and so names none"
    )
    brand_review_time: str = _setting(
        kind.text, "one working day", doc="how long your review of an order usually takes, in words customers read"
    )
    brand_support_email: str = _setting(kind.email, "support@localhost", doc="where customers may ask")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check everything. Raises SettingsError with all faults at once."""
        faults: list[str] = []
        values: dict[str, Any] = {}
        for setting in fields(cls):
            _read(setting, environ, values, faults)
        faults.extend(misspelt(environ))
        if not faults:
            settings = cls(**values)
            faults = settings._contradictions(environ)
            if not faults:
                return settings
        raise SettingsError(faults)

    @property
    def production(self) -> bool:
        """Whether this isn't a developer's machine: everything is checked strictly."""
        return self.portal_env == "production"

    @property
    def ledger_url(self) -> str:
        """DATABASE_URL in SQLAlchemy's terms, or development's SQLite file."""
        if self.database_url is None:
            return f"sqlite:///{self.portal_var_dir.resolve() / 'ledger.sqlite3'}"
        return self.database_url.replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def salesforce_audience(self) -> str:
        """SF_AUDIENCE, else the login host's own, which a My Domain address can't tell."""
        if self.sf_audience:
            return self.sf_audience
        host = urlsplit(self.sf_login_url).hostname or ""
        sandbox = host == "test.salesforce.com" or ".sandbox." in host
        return "https://test.salesforce.com" if sandbox else "https://login.salesforce.com"

    def _contradictions(self, environ: Mapping[str, str]) -> list[str]:
        faults = []
        if not _holds_rsa_key(self.sf_private_key_path):
            faults.append(
                "SF_PRIVATE_KEY_PATH must name an unencrypted RSA private key in PEM form, which this file isn't: "
                f"{self.sf_private_key_path}"
            )
        if len(self.portal_pricebook_id) not in (15, 18) or not self.portal_pricebook_id.isalnum():
            faults.append("PORTAL_PRICEBOOK_ID must be a Salesforce id of 15 or 18 characters")
        if not re.fullmatch(r"[0-9]{2,3}\.0", self.sf_api_version):
            faults.append("SF_API_VERSION must be an API version such as 67.0")
        for name, current, previous in (
            ("SF_WEBHOOK_SECRET", self.sf_webhook_secret, self.sf_webhook_secret_previous),
            ("WHMCS_WEBHOOK_SECRET", self.whmcs_webhook_secret, self.whmcs_webhook_secret_previous),
            ("SECRET_KEY", self.secret_key, self.secret_key_previous),
        ):
            if previous and not current:
                faults.append(f"{name}_PREVIOUS is set although {name} isn't: give the secret that signs now")
            for label, secret in ((name, current), (f"{name}_PREVIOUS", previous)):
                if self.production and secret and len(secret.encode()) < 32:
                    faults.append(f"{label} must have at least 32 bytes in production")
        if self.sf_webhook_secret and self.whmcs_webhook_secret and self.sf_webhook_secret == self.whmcs_webhook_secret:
            faults.append("WHMCS_WEBHOOK_SECRET must differ from SF_WEBHOOK_SECRET: each receiver has its own secret")
        if self.production and not self.portal_base_url.startswith("https://") and not _loopback(self.portal_base_url):
            faults.append("PORTAL_BASE_URL must start with https:// in production")
        return faults


def _holds_rsa_key(path: Path) -> bool:
    try:
        return isinstance(load_pem_private_key(path.read_bytes(), None), RSAPrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each name that is almost a setting's: a lost letter in an allowlist's must not let everybody in.

    Each begins with the name.
    """
    known = {name for setting in fields(Settings) for name in _names(setting)}
    faults = []
    for name in sorted(set(environ) - known):
        meant = difflib.get_close_matches(name, known - set(environ), n=1, cutoff=0.85)
        if meant:
            faults.append(f"{name} is no setting: did you mean {meant[0]}?")
    return faults


def _names(setting: Field[Any]) -> list[str]:
    name = setting.name.upper()
    return [name, f"{name}_FILE"] if setting.metadata["secret"] else [name]


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _read(setting: Field[Any], environ: Mapping[str, str], values: dict[str, Any], faults: list[str]) -> None:
    name = setting.name.upper()
    raw = environ.get(name, "")
    if setting.metadata["secret"] and environ.get(f"{name}_FILE"):
        if raw:
            faults.append(f"{name} and {name}_FILE are both set: keep one")
            return
        try:
            raw = Path(environ[f"{name}_FILE"]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            faults.append(f"{name}_FILE names a file that can't be read: {environ[f'{name}_FILE']}")
            return
        raw = raw.removesuffix("\n").removesuffix("\r")
        if not raw:
            faults.append(f"{name}_FILE names an empty file: {environ[f'{name}_FILE']}")
            return
    if not raw:
        needed = setting.metadata["needed"]
        production = environ.get("PORTAL_ENV", "production") != "development"
        if needed == "always" or needed == "production" and production:
            faults.append(f"{name} is missing: {setting.metadata['doc']}")
        return
    try:
        values[setting.name] = setting.metadata["parse"](raw)
    except ValueError as error:
        faults.append(f"{name} {error}")
