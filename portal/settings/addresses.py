"""Addresses of servers, as libpq, Redis and mail servers take them: checked at the start, not at the first order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from portal.settings.kinds import boolean

#: What libpq takes for these; a misspelt one would only be found out when a connection is made.
_LIBPQ: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
#: No fault repeats what it found wrong: it may be a piece of a password.
_ENCODE: Final = "special characters of a user or password must be percent-encoded (%40 for @)"
_REDIS_TLS: Final = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
)


def _hosts(parts: SplitResult, *, usual_port: int) -> tuple[tuple[str, int], ...]:
    """The hosts an address lists, each with its port. Raises ValueError for a port that is none, and for no host
    beside others; an address without any gives ().
    """
    listed = parts.netloc.rpartition("@")[2]
    found = []
    for each in listed.split(",") if listed else ():
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(.*))?", each)
        if match is None:
            raise ValueError(f"names a host that is none (an IPv6 address stands in brackets); {_ENCODE}")
        host, port = match[1].strip("[]"), match[2]
        if port and not (re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
            raise ValueError(f"has a port that is no number from 1 to 65535; {_ENCODE}")
        if not host and "," in listed:
            raise ValueError("lists a host without a name")
        found.append((host, int(port) if port else usual_port))
    return tuple(found)


def _options(parts: SplitResult) -> dict[str, str]:
    return dict(parse_qsl(parts.query, keep_blank_values=True))


def database_url(raw: str) -> str:
    """A database's address: PostgreSQL's, as libpq takes it (several hosts, too), or SQLite's."""
    parts = urlsplit(url("postgresql", "postgres", "postgresql+psycopg", "sqlite")(raw))
    if parts.scheme == "sqlite":
        return raw
    _hosts(parts, usual_port=5432)
    options = _options(parts)
    for name, words in _LIBPQ.items():
        if name in options and options[name] not in words:
            raise ValueError(f"has an unknown {name}: it must be one of: {', '.join(words)}")
    if not parts.path.strip("/") and "dbname" not in options:
        raise ValueError("must name a database: postgresql://user:password@host/database")
    return raw


def sqlalchemy_url(raw: str) -> str:
    """A database_url as SQLAlchemy takes it. Of several hosts, the one that takes writes is meant."""
    parts = urlsplit(raw)
    if parts.scheme == "sqlite":
        return raw
    before, at, listed = parts.netloc.rpartition("@")
    query = parts.query
    if "," in listed:
        hosts = _hosts(parts, usual_port=5432)
        lists = f"host={','.join(host for host, _ in hosts)}&port={','.join(str(port) for _, port in hosts)}"
        query, listed = "&".join(filter(None, (query, lists))), ""
    options = _options(parts)
    if ("," in parts.netloc or "," in options.get("host", "")) and "target_session_attrs" not in options:
        query += "&target_session_attrs=read-write"
    return parts._replace(scheme="postgresql+psycopg", netloc=f"{before}{at}{listed}", query=query).geturl()


@dataclass(frozen=True)
class SentinelAddress:
    """redis+sentinel://user:password@host:port,host/service/database?…; a host's port is 26379 unless it says so."""

    hosts: tuple[tuple[str, int], ...]
    service: str
    database: int
    username: str | None
    password: str | None = field(repr=False)
    sentinel_username: str | None
    sentinel_password: str | None = field(repr=False)
    tls: bool
    sentinel_tls: bool
    tls_options: dict[str, str]


def sentinel_address(raw: str) -> SentinelAddress:
    """What a redis+sentinel:// (or rediss+sentinel://: with TLS) address says. Raises ValueError."""
    parts = urlsplit(raw)
    hosts = _hosts(parts, usual_port=26379)
    if not hosts or not hosts[0][0]:
        raise ValueError("must name Sentinel's hosts: redis+sentinel://host:26379,host2/service/0")
    service, _, database = unquote(parts.path).strip("/").partition("/")
    options = _options(parts)
    tls = parts.scheme == "rediss+sentinel" or _switch(options, "ssl", default=False)
    sentinel_tls = _switch(options, "sentinel_ssl", default=tls)
    known = {"ssl", "sentinel_ssl", "sentinel_username", "sentinel_password"} | _REDIS_TLS
    _refuse_unknown(options, known)
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return SentinelAddress(
        hosts=hosts,
        service=service or "mymaster",
        database=_database_number(database),
        username=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_username=options.get("sentinel_username") or None,
        sentinel_password=options.get("sentinel_password") or None,
        tls=tls,
        sentinel_tls=sentinel_tls,
        tls_options={name: value for name, value in options.items() if name in _REDIS_TLS},
    )


def redis_url(raw: str) -> str:
    """The address of a Redis or Valkey: redis://, rediss:// (TLS), unix://, or Sentinels that know where it is."""
    parts = urlsplit(url("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")(raw))
    if parts.scheme.endswith("+sentinel"):
        sentinel_address(raw)
        return raw
    options = _options(parts)
    _refuse_unknown(options, {"db", "username", "password", *(_REDIS_TLS if parts.scheme == "rediss" else ())})
    if parts.scheme != "unix":
        if len(_hosts(parts, usual_port=6379)) != 1:
            raise ValueError("must name one host; several are Sentinel's: redis+sentinel://host,host2/service/0")
        _database_number(parts.path.strip("/"))
    _database_number(options.get("db", ""))
    return raw


def smtp_url(raw: str) -> str:
    """A mail server's address."""
    parts = urlsplit(url("smtp", "smtps")(raw))
    hosts = _hosts(parts, usual_port=0)
    if len(hosts) != 1 or not hosts[0][0]:
        raise ValueError("must name one host: smtp://user:password@host:port")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("ends with the port: a special character in user or password must be percent-encoded")
    return raw


def _switch(options: dict[str, str], name: str, *, default: bool) -> bool:
    try:
        return boolean(options[name]) if name in options else default
    except ValueError:
        raise ValueError(f"has a {name} that is neither true nor false") from None


def _database_number(text: str) -> int:
    if text and not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError("must end with the number of a database, such as /0")
    return int(text or 0)


def _refuse_unknown(options: dict[str, str], known: set[str]) -> None:
    if set(options) - known:
        hint = " (TLS is what rediss:// is for)" if "ssl" in options else ""
        raise ValueError(f"has something behind its ? that nothing here understands{hint}; {_ENCODE}")


def url(*schemes: str) -> Callable[[str], str]:
    """An address of one of these schemes."""

    def parse(raw: str) -> str:
        try:
            parts = urlsplit(raw)
        except ValueError:  # its own text repeats the address
            raise ValueError("must be an address, which this isn't") from None
        if parts.scheme not in schemes or not (parts.netloc or parts.path):
            raise ValueError(f"must be an address that starts with {' or '.join(s + '://' for s in schemes)}")
        return raw

    return parse


def web_url(raw: str) -> str:
    """An http(s) address, without the slash at its end."""
    value = url("http", "https")(raw).rstrip("/")
    parts = urlsplit(value)
    _hosts(parts, usual_port=0)
    if not parts.hostname or parts.username or parts.query or parts.fragment or "," in parts.netloc:
        raise ValueError("must be a plain http:// or https:// address without user, query or fragment")
    return value
