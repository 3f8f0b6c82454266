"""How Redis is reached: REDIS_URL, Sentinel's master, or development's own Valkey; and why it can't be, in words."""

from __future__ import annotations

import os
import ssl
import time
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from portal.errors import PortalError
from portal.queue.embedded import ensure_valkey
from portal.queue.patience import TRIP_SECONDS, have_patience
from portal.settings import Settings
from portal.settings.addresses import SentinelAddress, sentinel_address

#: Seconds for which a starting process waits for a Redis that isn't there yet: both may have been started together.
START_SECONDS: Final = 5.0
#: How long one Sentinel may take to answer: there are others, and one that is gone mustn't use up a request's time.
SENTINEL_SECONDS: Final = 0.5
_PROBE: Final = "portal:start"


class RedisUnusable(PortalError):
    """REDIS_URL leads to no Redis that the portal can use; the text names the host and the reason."""


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


def require_redis(settings: Settings, *, patience: float = START_SECONDS) -> None:
    """Raises RedisUnusable when Redis can't be reached within `patience` seconds, or takes no writes of this user."""
    url = settings.redis_url or ensure_valkey(settings.portal_var_dir)
    timeouts: dict[str, Any] = {"socket_connect_timeout": 3, "socket_timeout": 3, "retry": Retry(NoBackoff(), 0)}
    deadline = time.monotonic() + patience
    while True:
        client = _client(url, timeouts)
        try:
            client.set(_PROBE, "1", px=60_000)
            return
        except (RedisError, OSError) as error:
            lasting = isinstance(error, AuthenticationError | NoPermissionError | ReadOnlyError | ssl.SSLError)
            if lasting or time.monotonic() >= deadline:
                raise RedisUnusable(f"Redis can't be used: {servers(url)}: {_reason(error, client, url)}") from None
            time.sleep(0.2)
        finally:
            client.close()


def servers(url: str) -> str:
    """Whom an address means, for people: host and port, never a user or password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    if not parts.scheme.endswith("+sentinel"):
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    address = sentinel_address(url)
    hosts = ", ".join(f"{host}:{port}" for host, port in address.hosts)
    return f"{address.service} of the Sentinels {hosts}"


def _reason(error: BaseException, client: Redis, url: str) -> str:
    """Why a call to Redis failed, in words that hold no secret of `url`."""
    if isinstance(error, AuthenticationError):
        told = "it refuses the user or password"
    elif isinstance(error, MasterNotFoundError):
        told = _no_master(client)
    elif isinstance(error, ResponseError):
        told = str(error)
    else:
        told = _unreadable(url) or _system_reason(error) + _about_tls(error, url)
    for secret in _secrets(url):
        told = told.replace(secret, "…")
    return told


def _no_master(client: Redis) -> str:
    """Whether no Sentinel answers, or those that do know of no master."""
    pool: Any = client.connection_pool
    told = set()
    for sentinel in pool.sentinel_manager.sentinels:
        try:
            sentinel.sentinel_masters()
        except AuthenticationError:
            told.add("they refuse the user or password (sentinel_username, sentinel_password)")
        except RedisError as error:
            told.add(_system_reason(error))
        else:
            return f"they know of no running master named {pool.service_name}"
    return ", ".join(sorted(told))


def _system_reason(error: BaseException) -> str:
    """The operating system's or TLS' own word, from the bottom of a chain of exceptions."""
    told, below = type(error).__name__, error
    found: BaseException | None = error
    while found is not None:
        below, found = found, found.__cause__ or found.__context__
        if isinstance(below, ssl.SSLEOFError):
            return "TLS: it hangs up, as on a certificate of ours (ssl_certfile) that it misses or doesn't trust"
        if isinstance(below, ssl.SSLError):
            words = f"{below.reason or ''} {getattr(below, 'verify_message', '')}"
            return f"TLS: {words.strip().lower()}"
        if isinstance(below, OSError) and below.strerror:
            told = below.strerror.lower()
        elif isinstance(below, TimeoutError):
            told = "no answer in time"
    return told


def _unreadable(url: str) -> str:
    """Which file of a certificate can't be read: OpenSSL's own complaint names none."""
    for name, path in parse_qsl(urlsplit(url).query):
        if name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") and not os.access(path, os.R_OK):
            return f"{name} can't be read: {path}"
    return ""


def _about_tls(error: BaseException, url: str) -> str:
    """What TLS may have to do with a server that hangs up on the first word, or says nothing to it."""
    if not urlsplit(url).scheme.startswith("rediss"):
        reset = isinstance(error.__cause__ or error.__context__, ConnectionResetError)
        return " (if it speaks TLS, the address begins with rediss)" if reset else ""
    return " (does it speak TLS?)" if isinstance(error, RedisTimeoutError) else ""


def _secrets(url: str) -> list[str]:
    parts = urlsplit(url)
    _, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return [each for each in (password, unquote(password)) if len(each) > 2]


def _client(url: str, timeouts: dict[str, Any]) -> Redis:
    if not urlsplit(url).scheme.endswith("+sentinel"):
        return Redis.from_url(url, health_check_interval=30, **timeouts)
    address = sentinel_address(url)
    tls = {"ssl": True, **_tls_options(address)} if address.tls else {}
    sentinel_tls = {"ssl": True, **_tls_options(address)} if address.sentinel_tls else {}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        address.hosts,
        sentinel_kwargs={
            "socket_timeout": SENTINEL_SECONDS,
            "socket_connect_timeout": SENTINEL_SECONDS,
            "retry": Retry(NoBackoff(), 0),
            "username": address.sentinel_username,
            "password": address.sentinel_password,
            **sentinel_tls,
        },
    )
    master: Redis = sentinel.master_for(
        address.service,
        db=address.database,
        username=address.username,
        password=address.password,
        **tls,
        **timeouts,
    )
    return master


def _tls_options(address: SentinelAddress) -> dict[str, Any]:
    options: dict[str, Any] = dict(address.tls_options)
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() in ("1", "true", "yes", "on")
    return options
