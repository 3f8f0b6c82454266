"""The one composition root: from settings to the ledger, Redis, jobs and the clients of both other sides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis, RedisError
from sqlalchemy.engine import Connection

from portal.clients.circuit_breaker import Breaker
from portal.clients.concurrency import InFlightLimit
from portal.clients.http import Hooks, SendChecks
from portal.clients.observed import CallTotals
from portal.clients.salesforce.client import SalesforceClient
from portal.clients.smtp import SmtpTransport
from portal.clients.traces import Traces
from portal.clients.whmcs.client import WhmcsClient
from portal.domain.model import ErrorCode, UpstreamError
from portal.errors import PortalError
from portal.ledger import installation, queueing
from portal.ledger.clock import LedgerClock
from portal.ledger.engine import Ledger
from portal.ledger.migrate import require_migrated
from portal.queue.embedded import ensure_valkey
from portal.queue.jobs import JobQueue
from portal.queue.one_host import claim_host, require_local
from portal.queue.redis import connect_redis, require_redis
from portal.settings import Settings

log = logging.getLogger("portal.services")


@dataclass
class Services:
    """Everything a process of the portal works with; built once by `build_services`."""

    settings: Settings
    ledger: Ledger
    redis: Redis
    jobs: JobQueue
    salesforce: SalesforceClient
    whmcs: WhmcsClient
    smtp: SmtpTransport
    in_flight: InFlightLimit
    send_checks: SendChecks  # asked before every call to Salesforce or WHMCS; a worker process adds its own
    clock: LedgerClock
    now: Callable[[], float]  # the clock: its time is for everything that is written down or falls due
    traces: Traces = field(default_factory=lambda: Traces(None))

    def require_migrated(self) -> None:
        """Raises LedgerNotMigrated when the ledger's tables aren't those of this version."""
        require_migrated(self.ledger)

    def require_one_host(self) -> None:
        """Raises TwoHosts when production's ledger is SQLite and another host works, too."""
        file = self.ledger.url.database
        if not self.settings.production or not self.ledger.sqlite or not file:
            return
        require_local(Path(file))
        try:
            claim_host(self.redis)
        except RedisError as error:
            log.warning("Couldn't ask Redis whether this is the only host", extra={"error": type(error).__name__})

    def require_same_installation(self, *, ask_salesforce: bool = False) -> None:
        """Raises WrongInstallation when the ledger belongs to another WHMCS or Salesforce org than the configured one.

        Which org it is only Salesforce can tell: with ask_salesforce it is asked, and believed unseen while it is away.
        """
        self._require_same("whmcs_address", self.settings.whmcs_api_url, "WHMCS")
        if not ask_salesforce:
            return
        try:
            org = self.salesforce.organization_id()
        except UpstreamError as error:
            log.warning("Couldn't ask Salesforce which org it is", extra={"error": str(error)})
            return
        if org is not None:
            self._require_same("salesforce_org", org, "Salesforce org")

    def accept_installation(self) -> None:
        """From now on the ledger belongs to the configured WHMCS, and to the Salesforce org that next tells its id."""
        with self.ledger.write() as connection:
            installation.put(connection, "whmcs_address", self.settings.whmcs_api_url, now=self.now())
            installation.put(connection, "salesforce_org", None, now=self.now())

    def revive_own_valkey(self) -> None:
        """Start development's own Valkey again if it died. A server named in REDIS_URL is its operator's matter."""
        if self.settings.redis_url is None:
            ensure_valkey(self.settings.portal_var_dir)

    def _require_same(self, key: str, mine: str, what: str) -> None:
        with self.ledger.read() as connection:
            theirs = installation.get(connection, key)
        if theirs is None:
            with self.ledger.write() as connection:
                if installation.get(connection, key) is None:
                    installation.put(connection, key, mine, now=self.now())
                theirs = installation.get(connection, key)
        if theirs != mine:
            raise WrongInstallation(
                f"this ledger belongs to another {what} ({theirs}) than the one configured ({mine}); if that is meant, "
                "run `flask installation accept`"
            )


class CannotStart(PortalError):
    """Something that the settings name can't be used by this process."""


class WrongInstallation(PortalError):
    """The ledger belongs to another Salesforce org or WHMCS than the one configured."""


def _wake(code: ErrorCode, settings: Settings, clock: LedgerClock) -> Callable[[Connection], object]:
    """Lets the orders that waited for a side go on when it answers again: spread over time, no herd after an outage."""
    per_second = float(settings.whmcs_max_in_flight)
    return lambda connection: queueing.wake_waiting(connection, code, now=clock(), per_second=per_second)


def start_services(environ: Mapping[str, str], *, ask_salesforce: bool = False) -> Services:
    """What web server, worker and sweep begin with: everything built, and all that they can't do without looked at.

    Raises SettingsError, or PortalError with a sentence for whoever starts them. ask_salesforce: as for
    `require_same_installation`.
    """
    services = build_services(Settings.from_environ(environ))
    services.require_migrated()
    services.clock.measure()
    services.require_same_installation()
    require_redis(services.settings)
    services.require_one_host()
    if ask_salesforce:
        services.require_same_installation(ask_salesforce=True)
    return services


def build_services(settings: Settings) -> Services:
    """Build everything; connects to nothing yet, so that a server may fork afterwards.

    Raises CannotStart when development's own folder or Valkey can't be used.
    """
    try:
        if settings.database_url is None:
            settings.portal_var_dir.mkdir(parents=True, exist_ok=True)
        redis = connect_redis(settings)
    except OSError as error:
        raise CannotStart(f"PORTAL_VAR_DIR can't be used: {error.filename}: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:  # the embedded Valkey's, and what redis-py makes of an address
        raise CannotStart(f"Redis can't be used: {error}") from error
    ledger = Ledger(settings.ledger_url)
    clock = LedgerClock(ledger)
    # A holder that was killed gives its slot back when the longest call can have ended.
    in_flight = InFlightLimit(
        redis, "whmcs", settings.whmcs_max_in_flight, lapse=settings.whmcs_max_request_seconds + 10
    )
    send_checks = SendChecks()
    traces = Traces.from_settings(settings)
    whmcs_breaker = Breaker(ledger, "whmcs", now=clock, recovered=_wake(ErrorCode.WHMCS_UNAVAILABLE, settings, clock))
    salesforce_breaker = Breaker(
        ledger, "salesforce", now=clock, recovered=_wake(ErrorCode.SALESFORCE_UNAVAILABLE, settings, clock)
    )
    salesforce: SalesforceClient = SalesforceClient.from_settings(
        settings,
        Hooks(
            before_call=salesforce_breaker.check,
            before_send=send_checks,
            after_call=CallTotals(
                ledger, salesforce_breaker.heard, now=clock, quota=lambda: salesforce.api_usage, traces=traces
            ),
        ),
    )
    return Services(
        settings=settings,
        ledger=ledger,
        redis=redis,
        jobs=JobQueue(redis),
        salesforce=salesforce,
        whmcs=WhmcsClient.from_settings(
            settings,
            Hooks(
                before_call=whmcs_breaker.check,
                slot=in_flight.slot,
                before_send=send_checks,
                after_call=CallTotals(ledger, whmcs_breaker.heard, now=clock, traces=traces),
            ),
        ),
        smtp=SmtpTransport.from_settings(settings),
        in_flight=in_flight,
        send_checks=send_checks,
        traces=traces,
        clock=clock,
        now=clock,
    )
