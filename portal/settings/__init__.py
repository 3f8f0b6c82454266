"""Every setting of the portal: read from the environment once, typed, and refused when half-configured.

Each field below is one environment variable of the same name in capitals. A secret may come as NAME_FILE instead
(its one trailing newline is dropped). All faults are reported together, one sentence each, naming the variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from portal.settings import addresses, checks
from portal.settings import kinds as kind
from portal.settings.kinds import IpNetwork
from portal.settings.reading import almost, read, setting

#: What gunicorn.conf.py reads besides: how the web server listens.
SERVER_VARIABLES: Final = (
    "WEB_BIND",
    "WEB_CONCURRENCY",
    "WEB_THREADS",
    "WEB_SERVER",
    "WEB_ACCESS_LOG",
    "WEB_LOG_LEVEL",
)


class SettingsError(Exception):
    """The portal can't start with these settings; `faults` has one sentence each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Settings:
    """See docs/setup.md for what each is for. Optional ones without a default are None or empty."""

    # Where it runs
    portal_env: str = setting(
        kind.choice("production", "development"), "production", doc="`production` or `development`"
    )
    portal_base_url: str = setting(
        addresses.web_url,
        "http://127.0.0.1:8000",
        needed="production",
        doc="the address customers use, with its path prefix if any; every link is built from it",
    )
    portal_var_dir: Path = setting(
        kind.path, Path("var"), doc="where development keeps its SQLite ledger and its embedded Valkey"
    )
    database_url: str | None = setting(
        addresses.database_url,
        needed="production",
        secret=True,
        doc="the ledger; development without it uses SQLite under PORTAL_VAR_DIR",
    )
    redis_url: str | None = setting(
        addresses.redis_url,
        needed="production",
        secret=True,
        doc="the queue and the nonces; development without it starts an embedded Valkey",
    )
    secret_key: str | None = setting(
        kind.text, secret=True, needed="production", doc="signs sessions and links; at least 32 characters"
    )
    secret_key_previous: str | None = setting(
        kind.text, secret=True, doc="the SECRET_KEY before the last rotation: still verifies"
    )
    trusted_proxies: tuple[IpNetwork, ...] = setting(
        kind.networks, (), doc="addresses (CIDR) of proxies whose X-Forwarded-For or Forwarded header is believed"
    )
    # Salesforce
    sf_login_url: str = setting(
        addresses.web_url,
        "",
        needed="always",
        doc="where a token is asked for: `https://login.salesforce.com` or My Domain",
    )
    sf_audience: str | None = setting(
        kind.text, doc="the JWT's audience; derived from SF_LOGIN_URL where unset (login or test.salesforce.com)"
    )
    sf_client_id: str = setting(kind.text, "", needed="always", doc="the External Client App's consumer key")
    sf_username: str = setting(kind.text, "", needed="always", doc="the API user")
    sf_private_key_path: Path = setting(
        kind.readable_file, Path(), needed="always", doc="PEM file of the private key that signs the JWT"
    )
    sf_certificate_path: Path | None = setting(
        kind.certificate_file, doc="PEM file of that key's certificate, as Salesforce has it: its end is told in time"
    )
    sf_api_version: str = setting(kind.text, "67.0", doc="REST API version")
    sf_webhook_secret: str = setting(
        kind.text,
        "",
        secret=True,
        needed="always",
        doc="signs Salesforce's calls to us; at least 32 bytes in production",
    )
    sf_webhook_secret_previous: str | None = setting(
        kind.text, secret=True, doc="the secret before the last rotation: still verifies"
    )
    sf_webhook_ip_allowlist: tuple[IpNetwork, ...] = setting(
        kind.networks, (), doc="addresses (CIDR) Salesforce may call from; empty: any"
    )
    sf_unfulfillable_statuses: tuple[str, ...] = setting(
        kind.words, ("Draft", "Cancelled", "Rejected"), doc="Order.Status values that are never fulfilled"
    )
    webhook_timestamp_tolerance: int = setting(
        kind.whole(1000, 86_400_000), 300_000, doc="milliseconds a signed timestamp may be off, both ways"
    )
    portal_pricebook_id: str = setting(kind.text, "", needed="always", doc="the Pricebook2 the catalogue is made of")
    # WHMCS
    whmcs_api_url: str = setting(addresses.web_url, "", needed="always", doc="…/includes/api.php")
    whmcs_api_identifier: str = setting(kind.text, "", secret=True, needed="always", doc="API credentials' identifier")
    whmcs_api_secret: str = setting(kind.text, "", secret=True, needed="always", doc="API credentials' secret")
    whmcs_api_access_key: str | None = setting(
        kind.text, secret=True, doc="the access key of WHMCS' configuration.php, instead of an IP allowlist there"
    )
    whmcs_payment_method: str | None = setting(
        kind.text, doc="system name of the gateway orders are placed with (`mailin`); unset: the client's own default"
    )
    whmcs_invoice_gateways: tuple[str, ...] = setting(
        kind.words, (), doc="gateways that need no stored payment method (bank transfer)"
    )
    whmcs_marker_custom_field: str | None = setting(
        kind.text, doc="name of a product custom field that also carries the order's reference (sfOrderId=…)"
    )
    whmcs_max_request_seconds: float = setting(
        kind.decimal(0.5, 3600), 120.0, doc="the longest a request can still take effect in WHMCS after it was sent"
    )
    whmcs_max_in_flight: int = setting(kind.whole(1, 1000), 8, doc="WHMCS calls at the same time, over all workers")
    whmcs_create_clients: bool = setting(
        kind.boolean, False, doc="1: an account without a WHMCS client gets one (AddClient)"
    )
    whmcs_price_source: str = setting(
        kind.choice("whmcs", "salesforce"), "whmcs", doc="whose prices count; `salesforce` sends priceoverride"
    )
    whmcs_client_area_url: str | None = setting(
        addresses.web_url, doc="the client area, linked from a provisioned order"
    )
    whmcs_admin_url: str | None = setting(
        addresses.web_url, doc="WHMCS' admin area, linked from `/ops`; unset: `admin` beside `includes`"
    )
    whmcs_webhook_secret: str | None = setting(
        kind.text, secret=True, doc="signs WHMCS' calls to us; without it that receiver doesn't exist"
    )
    whmcs_webhook_secret_previous: str | None = setting(kind.text, secret=True, doc="as for Salesforce")
    whmcs_webhook_ip_allowlist: tuple[IpNetwork, ...] = setting(kind.networks, (), doc="as for Salesforce")
    # Fulfillment
    fulfillment_wait_seconds: float = setting(
        kind.decimal(0, 120), 25.0, doc="how long a webhook request waits for the outcome at most"
    )
    fulfillment_max_waiters: int | None = setting(
        kind.whole(0, 10_000), doc="webhook requests that may wait at once in one web process; default: its threads - 4"
    )
    fulfillment_retry_schedule: tuple[float, ...] = setting(
        kind.schedule,
        (5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0),
        doc="seconds before each retry of a transient failure; after the last the order is Failed",
    )
    whmcs_audit_schedule: tuple[float, ...] = setting(
        kind.schedule,
        (3600.0, 86_400.0, 604_800.0, 2_592_000.0),
        doc="seconds after which a provisioned order is looked at in WHMCS again; the last one repeats",
    )
    fulfillment_slots: int = setting(kind.whole(1, 256), 4, doc="orders one `python -m jobs.worker` runs at once")
    fulfillment_processes: int = setting(
        kind.whole(1, 64), 2, doc="processes that share these slots; as many as the worker may use CPU cores"
    )
    # Mail and alerts
    smtp_url: str | None = setting(
        addresses.smtp_url,
        needed="production",
        secret=True,
        doc="smtp://user:password@host:port (smtps:// for TLS from the start)",
    )
    mail_from: str = setting(kind.email, "orders@localhost", needed="production", doc="sender of the portal's e-mails")
    ops_emails: tuple[kind.Operator, ...] = setting(
        kind.operators,
        (),
        doc="who may sign in to `/ops`: `name@host` may act, `name@host:read` only looks; without it nobody may",
    )
    alert_emails: tuple[str, ...] = setting(kind.emails, (), doc="who gets alerts by e-mail; needs SMTP_URL")
    alert_failure_rate: float = setting(kind.decimal(0, 1), 0.1, doc="share of failed attempts above which is alerted")
    alert_window_seconds: int = setting(kind.whole(10, 86_400), 3600, doc="over how many seconds that share is taken")
    alert_minimum_attempts: int = setting(
        kind.whole(1, 1_000_000), 10, doc="of fewer attempts in that time the share says nothing"
    )
    alert_after_seconds: float = setting(
        kind.decimal(0, 86_400),
        120.0,
        doc="how long an outage, a refusal or a silence must last before it is told, and be over before that is",
    )
    alert_stuck_seconds: float = setting(
        kind.decimal(1, 31_536_000), 3600.0, doc="age of an unfinished order that is told as stuck"
    )
    alert_certificate_days: int = setting(
        kind.whole(1, 365), 21, doc="days before a certificate expires from which on that is told"
    )
    security_alert_webhook: str | None = setting(
        addresses.web_url, secret=True, doc="gets alerts, and a digest of security events that exceed a rate"
    )
    security_alert_secret: str | None = setting(
        kind.text, secret=True, doc="signs what that address gets; unset: a key derived from SECRET_KEY"
    )
    security_alert_events: int = setting(kind.whole(1, 1_000_000), 20, doc="security events that make a digest …")
    security_alert_window_seconds: int = setting(kind.whole(1, 86_400), 300, doc="… when they come within so long")
    security_alert_cooldown_seconds: int = setting(kind.whole(0, 86_400), 900, doc="pause between two digests")
    metrics_allowlist: tuple[IpNetwork, ...] = setting(kind.networks, (), doc="addresses that may read /metrics")
    metrics_token: str | None = setting(kind.text, secret=True, doc="bearer token that may read /metrics")
    otel_exporter_otlp_endpoint: str | None = setting(
        addresses.web_url, doc="an OpenTelemetry collector that takes OTLP over HTTP (`http://…:4318`): gets traces"
    )
    retention_days: int = setting(
        kind.whole(1, 36_500),
        400,
        doc="days for which the details of ended orders are kept: deliveries, steps, messages, events without a person",
    )
    # Limits of the receivers, as flask-limiter writes them
    webhook_rate_limit: str = setting(kind.rate, "6000/minute", doc="signed requests of one address")
    webhook_global_limit: str = setting(kind.rate, "12000/minute", doc="signed requests of all addresses together")
    webhook_forgery_limit: str = setting(kind.rate, "600/minute", doc="forged requests of one address before 429s")
    # Catalogue
    catalogue_domain_families: tuple[str, ...] = setting(
        kind.words,
        ("Hosting", "Web Hosting", "Domain", "Domains", "SSL"),
        doc="Product2.Family values whose products need a domain name",
    )
    catalogue_hostname_families: tuple[str, ...] = setting(
        kind.words,
        ("Server", "Servers", "VPS", "Dedicated Server"),
        doc="Product2.Family values whose products need a hostname",
    )
    # Limits of the customers' pages
    sign_in_mails_per_hour: int = setting(
        kind.whole(1, 100_000), 5, doc="sign-in links mailed to one address; of more nobody is told"
    )
    sign_in_asks_per_hour: int = setting(
        kind.whole(1, 1_000_000), 30, doc="sign-in links asked for by one client; more get a page that says so"
    )
    sign_in_total_per_hour: int = setting(
        kind.whole(1, 1_000_000),
        600,
        doc="sign-in links asked for by all clients together: each may cost Salesforce a query; more get a page that "
        "says so",
    )
    # What customers are told
    tax_note: str = setting(
        kind.text, "", doc="what your prices say about tax, below every sum (`Prices don't include VAT`)"
    )
    review_time_note: str = setting(
        kind.text, "", doc="when you review orders, beside BRAND_REVIEW_TIME (`We review on working days, 9 to 17 CET`)"
    )
    withdrawal: bool = setting(
        kind.boolean,
        False,
        doc="1: customers may withdraw from the contract on their order's page, also once it is set up",
    )
    accessibility_note: str = setting(
        kind.text, "", doc="your accessibility statement: its own page, linked from every page's foot"
    )
    # Brand
    brand_name: str = setting(kind.text, "Northwind Hosting", needed="production", doc="the company customers see")
    brand_logo_url: str | None = setting(addresses.web_url, doc="its logo's address")
    brand_logo_file: Path | None = setting(
        kind.image_file,
        doc="its logo as a file on each host (SVG, PNG, WebP or JPEG, 256 KB at most); goes before the URL",
    )
    brand_address: str = setting(kind.text, "", doc="its postal address, on printed orders")
    brand_accent: str = setting(kind.colour, "#0b5fff", doc="its colour")
    brand_currency: str = setting(
        kind.text, "USD", doc="the currency of prices, where Salesforce has only one and so names none"
    )
    brand_review_time: str = setting(
        kind.text, "one working day", doc="how long your review of an order usually takes, in words customers read"
    )
    brand_support_email: str = setting(
        kind.email, "support@localhost", needed="production", doc="where customers may ask"
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check everything. Raises SettingsError with all faults at once."""
        faults: list[str] = []
        values: dict[str, Any] = {}
        for each in fields(cls):
            read(each, environ, values, faults)
        faults.extend(misspelt(environ))
        # Where one variable is at fault by itself, what it would contradict needn't be said as well.
        told = {fault.partition(" ")[0].removesuffix("_FILE") for fault in faults}
        settings = cls(**values)
        faults += [
            fault
            for fault in [*settings._contradictions(), *settings._half_alerting(environ)]
            if fault.partition(" ")[0].removesuffix("_PREVIOUS") not in told
        ]
        if faults:
            raise SettingsError(faults)
        return settings

    @property
    def production(self) -> bool:
        """Whether this isn't a developer's machine: everything is checked strictly."""
        return self.portal_env == "production"

    @property
    def ledger_url(self) -> str:
        """DATABASE_URL in SQLAlchemy's terms, or development's SQLite file."""
        if self.database_url is None:
            return f"sqlite:///{self.portal_var_dir.resolve() / 'ledger.sqlite3'}"
        return addresses.sqlalchemy_url(self.database_url)

    @property
    def salesforce_audience(self) -> str:
        """SF_AUDIENCE, else the login host's own, which a My Domain address can't tell."""
        if self.sf_audience:
            return self.sf_audience
        host = urlsplit(self.sf_login_url).hostname or ""
        sandbox = host == "test.salesforce.com" or ".sandbox." in host
        return "https://test.salesforce.com" if sandbox else "https://login.salesforce.com"

    def _contradictions(self) -> list[str]:
        """What is wrong with several settings together, or in production alone; each begins with a setting's name."""
        faults = []
        if not checks.holds_rsa_key(self.sf_private_key_path):
            faults.append(
                "SF_PRIVATE_KEY_PATH must name an unencrypted RSA private key in PEM form, which this file isn't: "
                f"{self.sf_private_key_path}"
            )
        if self.otel_exporter_otlp_endpoint and not checks.installed("opentelemetry.exporter.otlp.proto.http"):
            faults.append("OTEL_EXPORTER_OTLP_ENDPOINT needs the packages of requirements-traces.txt: install them")
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
        if (
            self.production
            and not self.portal_base_url.startswith("https://")
            and not checks.loopback(self.portal_base_url)
        ):
            faults.append("PORTAL_BASE_URL must start with https:// in production")
        if self.production:
            faults += self._placeholders()
        return faults

    def _half_alerting(self, environ: Mapping[str, str]) -> list[str]:
        told = bool(self.alert_emails or self.security_alert_webhook)
        return checks.half_alerting(environ, told=told, mail=bool(self.smtp_url))

    def _placeholders(self) -> list[str]:
        """What a customer would read, and nobody has set."""
        faults = []
        if self.brand_name == "Northwind Hosting":
            faults.append("BRAND_NAME is the demo's: name your company")
        for name, address in (("BRAND_SUPPORT_EMAIL", self.brand_support_email), ("MAIL_FROM", self.mail_from)):
            if "." not in address.rpartition("@")[2]:
                faults.append(f"{name} must be an address that customers can write to, which {address} isn't")
        return faults


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each name that is almost a setting's; each begins with the name."""
    return almost(environ, fields(Settings), SERVER_VARIABLES)
