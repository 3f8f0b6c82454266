"""The one composition root: from settings to the ledger, Redis, jobs and the clients of both other sides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from portal.clients.circuit_breaker import Breaker
from portal.clients.concurrency import InFlightLimit
from portal.clients.salesforce.client import SalesforceClient
from portal.clients.smtp import Mailer
from portal.clients.whmcs.client import WhmcsClient
from portal.domain.model import UpstreamError
from portal.errors import PortalError
from portal.ledger import installation
from portal.ledger.engine import Ledger
from portal.ledger.migrate import require_migrated
from portal.queue.embedded import ensure_valkey
from portal.queue.jobs import JobQueue
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
    mailer: Mailer
    in_flight: InFlightLimit
    now: Callable[[], float] = time.time
    checks_before_send: list[Callable[[float], None]] = field(default_factory=list)

    def require_migrated(self) -> None:
        """Raises LedgerNotMigrated when the ledger's tables aren't those of this version."""
        require_migrated(self.ledger)

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


class WrongInstallation(PortalError):
    """The ledger belongs to another Salesforce org or WHMCS than the one configured."""


def build_services(settings: Settings) -> Services:
    """Build everything; connects to nothing yet, so that a server may fork afterwards."""
    if settings.ledger_url.startswith("sqlite"):
        settings.portal_var_dir.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(settings.ledger_url)
    redis = connect_redis(settings)
    whmcs, salesforce = WhmcsClient.from_settings(settings), SalesforceClient.from_settings(settings)
    # A holder that was killed gives its place back when the longest call can have ended.
    places = InFlightLimit(redis, "whmcs", settings.whmcs_max_in_flight, lapse=settings.whmcs_max_request_seconds + 10)
    services = Services(
        settings=settings,
        ledger=ledger,
        redis=redis,
        jobs=JobQueue(redis),
        salesforce=salesforce,
        whmcs=whmcs,
        mailer=Mailer(settings),
        in_flight=places,
    )
    whmcs.limiter = places.place
    for client, name in ((whmcs, "whmcs"), (salesforce, "salesforce")):
        _guard(services, client, Breaker(ledger, name, services.now))
    return services


def _guard(services: Services, client: WhmcsClient | SalesforceClient, breaker: Breaker) -> None:
    """Let the breaker, and whatever else must hold before bytes leave, have their say at every call of a client."""

    def before_send(deadline: float) -> None:
        for check in services.checks_before_send:
            check(deadline)

    def observe(_upstream: str, _action: str, _outcome: str, _seconds: float, error: UpstreamError | None) -> None:
        breaker.note(error)

    client.before_call = breaker.check
    client.before_send = before_send
    client.observer = observe


def connect_redis(settings: Settings, *, blocking: bool = False) -> Redis:
    """A client of REDIS_URL, or of development's own Valkey. blocking: for calls that wait on the server.

    redis+sentinel://host:port,host:port/service/db asks Sentinel for the master.
    """
    url = settings.redis_url or ensure_valkey(settings.portal_var_dir)
    # Who asks has an answer for a Redis that is away; redis-py's own ten tries with growing pauses would only delay it.
    timeouts: dict[str, Any] = {
        "socket_connect_timeout": 3,
        "socket_timeout": 30 if blocking else 5,
        "retry": Retry(NoBackoff(), 1),
    }
    if not url.startswith("redis+sentinel://"):
        return Redis.from_url(url, health_check_interval=30, **timeouts)
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    hosts = [each.rpartition(":") for each in parts.netloc.rpartition("@")[2].split(",")]
    addresses = [(host, int(port)) for host, _, port in hosts]
    sentinel: Any = Sentinel(addresses, socket_timeout=3)  # type: ignore[no-untyped-call]
    database_number = int(database or 0)
    master: Redis = sentinel.master_for(service or "mymaster", db=database_number, password=parts.password, **timeouts)
    return master
