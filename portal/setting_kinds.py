"""The kinds of settings: how one variable's text becomes a value. Each raises ValueError with what it wants instead."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def text(raw: str) -> str:
    """Any text."""
    return raw


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


# --- addresses of servers ------------------------------------------------------------------------------------------

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


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def parse(raw: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", raw) or not low <= int(raw) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(raw)

    return parse


def decimal(low: float, high: float) -> Callable[[str], float]:
    """A number from `low` to `high`, with six decimal places at most."""

    def parse(raw: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", raw) or not low <= float(raw) <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(raw)

    return parse


def choice(*words: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(raw: str) -> str:
        if raw not in words:
            raise ValueError(f"must be one of: {', '.join(words)}")
        return raw

    return parse


def boolean(raw: str) -> bool:
    """1 or 0, or the words for it."""
    if raw.lower() in ("1", "true", "yes", "on"):
        return True
    if raw.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be 1 or 0")


def words(raw: str) -> tuple[str, ...]:
    """Texts separated by commas; spaces around them don't count."""
    return tuple(word.strip() for word in raw.split(",") if word.strip())


def networks(raw: str) -> tuple[IpNetwork, ...]:
    """IP addresses and CIDR blocks separated by commas."""
    networks = []
    for word in words(raw):
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ValueError(f"has {word!r}, which is no IP address or CIDR block ({error})") from None
    return tuple(networks)


def emails(raw: str) -> tuple[str, ...]:
    """E-mail addresses separated by commas."""
    addresses = words(raw)
    for address in addresses:
        email(address)
    return addresses


def email(raw: str) -> str:
    """One e-mail address: whether it exists only a mail can tell."""
    if not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", raw):
        raise ValueError(f"has {raw!r}, which is no e-mail address")
    return raw


def schedule(raw: str) -> tuple[float, ...]:
    """Seconds separated by commas, at least one."""
    pauses = words(raw)
    if not pauses or not all(re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", pause) for pause in pauses):
        raise ValueError("must be seconds separated by commas, such as 5,30,120")
    return tuple(float(pause) for pause in pauses)


def rate(raw: str) -> str:
    """A rate as flask-limiter writes it."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour|day)", raw):
        raise ValueError("must be a rate such as 600/minute (per second, minute, hour or day)")
    return raw


def colour(raw: str) -> str:
    """A colour as #rrggbb."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", raw):
        raise ValueError("must be a colour such as #0b5fff")
    return raw


def readable_file(raw: str) -> Path:
    """The path of a file that can be read."""
    path = Path(raw)
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"names a file that can't be read ({error.strerror}): {raw}") from None
    return path


#: What browsers show, by the end of a file's name.
IMAGES = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
MOST_IMAGE_BYTES = 256 * 1024


def image_file(raw: str) -> Path:
    """The path of an image that can be read."""
    path = readable_file(raw)
    if path.suffix.lower() not in IMAGES:
        raise ValueError(f"must name an SVG, PNG, WebP or JPEG file: {raw}")
    if path.stat().st_size > MOST_IMAGE_BYTES:
        raise ValueError(f"names a file of more than {MOST_IMAGE_BYTES // 1024} KB: {raw}")
    return path


def path(raw: str) -> Path:
    """A path, whether there is something or not."""
    return Path(raw)


def holds_rsa_key(path: Path) -> bool:
    """Whether a file is the PEM of an RSA private key without a passphrase."""
    try:
        return isinstance(load_pem_private_key(path.read_bytes(), None), RSAPrivateKey)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return False


def loopback(url: str) -> bool:
    """Whether a web address is one of this machine alone."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def two_slips_apart(name: str, other: str) -> bool:
    """Whether two slips of a finger (a letter lost, added, exchanged or swapped) lead from one name to the other; one,
    where the names are too short to be told from another program's.
    """
    allowed = 1 if len(other) < 8 else 2
    if abs(len(name) - len(other)) > allowed or not set(name) & set(other):
        return False
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(name, 1):
        last, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and name[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1] <= allowed
