"""How Redis is reached: REDIS_URL, Sentinel's master, or development's own Valkey."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis import ConnectionError as RedisConnectionError
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from portal.queue.embedded import ensure_valkey
from portal.queue.patience import TRIP_SECONDS, have_patience
from portal.settings import Settings


def connect_redis(settings: Settings, *, blocking: bool = False) -> Redis:
    """A client of REDIS_URL, or of development's own Valkey. blocking: for calls that wait on the server; the others
    give up soon when it doesn't answer (portal.queue.patience).

    redis+sentinel://host:port,host:port/service/db asks Sentinel for the master. Connects to nothing yet, but starts
    the Valkey; raises RuntimeError when that doesn't start.
    """
    url = settings.redis_url or ensure_valkey(settings.portal_var_dir)
    # Who asks has an answer for a Redis that is away; redis-py's own ten tries with growing pauses would only delay it.
    # Once more only where a kept connection turns out to be closed: a server that is silent would be waited for twice.
    timeouts: dict[str, Any] = {
        "socket_connect_timeout": 3 if blocking else TRIP_SECONDS,
        "socket_timeout": 30 if blocking else TRIP_SECONDS,
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    }
    client = _client(url, timeouts)
    if not blocking:
        have_patience(client.connection_pool)
    return client


def _client(url: str, timeouts: dict[str, Any]) -> Redis:
    if not url.startswith("redis+sentinel://"):
        return Redis.from_url(url, health_check_interval=30, **timeouts)
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    hosts = [each.rpartition(":") for each in parts.netloc.rpartition("@")[2].split(",")]
    addresses = [(host, int(port)) for host, _, port in hosts]
    sentinel: Any = Sentinel(addresses, socket_timeout=TRIP_SECONDS / len(addresses))  # type: ignore[no-untyped-call]
    database_number = int(database or 0)
    master: Redis = sentinel.master_for(service or "mymaster", db=database_number, password=parts.password, **timeouts)
    return master
