"""HTTP towards Salesforce and WHMCS: one total deadline a call, and the truth about whether anything was sent.

`requests` bounds each read, not the call, and can't say whether a lost request may have been carried out. Here every
socket operation gets what is left of the call's deadline, and a flag turns when the first byte goes out, so that an
error says either "nothing was sent" or "nobody knows".

Decisions: connections are kept alive, but one that has rested for MAX_IDLE_SECONDS isn't used again (a server that is
just closing it would turn the next AddOrder into a riddle); nothing is ever sent twice by itself; redirects aren't
followed (a form with secrets in it would be sent elsewhere); proxy settings, .netrc and CA bundles of the environment
are ignored, and cookies aren't kept (PHP would queue the calls of one session). What can't be interrupted is the
system's look-up of a name; `before_send` is asked after it.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import io
import logging
import os
import re
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from portal.domain.model import PortalError, UpstreamError

log = logging.getLogger("portal.upstream")

T = TypeVar("T")

MAX_IDLE_SECONDS: Final = 4.0  # below the five after which Apache and many proxies close a resting connection
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
MAX_MESSAGE_CHARACTERS: Final = 500

#: How a call can end, as the observer hears it.
OK: Final = "ok"
REFUSED: Final = "refused"  # the other side said no, for good
UNAVAILABLE: Final = "unavailable"  # it said nothing useful, but surely did nothing, or the call only reads
UNKNOWN: Final = "unknown"  # it may have done what was asked
EXPIRED: Final = "expired"  # the token was too old; the call is repeated with a new one

Observer = Callable[[str, str, str, float, UpstreamError | None], None]


class AnswerTooLarge(Exception):
    """The answer's body has more than MAX_ANSWER_BYTES."""


class TokenExpired(Exception):
    """Raised by a call when its token was refused; no failure of the other side."""


@dataclass
class Exchange:
    """One call under way in this thread: what is left of its time, and what became of it."""

    deadline: float  # on the monotonic clock
    before_send: Callable[[float], None] | None = None
    sent: bool = False  # True: at least one byte may have left
    retry_after: float | None = None

    def left(self) -> float:
        """Seconds left; raises TimeoutError when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the call's time is over")
        return left


class _ThreadState(threading.local):
    exchange: Exchange | None = None


_thread = _ThreadState()


# --- sockets that know the deadline --------------------------------------------------------------------


class _DeadlineReader(io.RawIOBase):
    """The receiving end of a socket, each read of which may take what is left of the call's time."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if _thread.exchange is not None:
            self._sock.settimeout(_thread.exchange.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """http.client's response over a `_DeadlineReader`: a server can't stretch the call by dripping bytes."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw: Any = self.fp.detach()
        self.fp = io.BufferedReader(_DeadlineReader(raw, sock))


class _TimedConnection(urllib3.connection.HTTPConnection):
    """Connects and sends within the deadline, asks `before_send` right before the first byte."""

    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        exchange = _thread.exchange
        if exchange is None:
            return super()._new_conn()
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise urllib3.exceptions.NewConnectionError(self, "name not found") from error
        failure: Exception | None = None
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                # One address that swallows packets must not use up the time of the next.
                sock.settimeout(max(exchange.left() / 2, 0.05) if len(found) > 1 else exchange.left())
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
        if isinstance(failure, TimeoutError):
            raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from failure
        raise urllib3.exceptions.NewConnectionError(self, "connection refused") from failure

    def send(self, data: Any) -> None:
        exchange = _thread.exchange
        if exchange is not None:
            if self.sock is None:
                self.connect()
            if not exchange.sent:
                if exchange.before_send is not None:
                    exchange.before_send(exchange.left())
                exchange.sent = True
            self.sock.settimeout(exchange.left())
        super().send(data)


class _TimedTlsConnection(_TimedConnection, urllib3.connection.HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _TlsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _TimedTlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class Session(requests.Session):
    """A requests.Session under the thread's Exchange: bounded time, bounded size, no redirect, cookie or proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers["User-Agent"] = "order-portal"
        self.plain_hosts: frozenset[str] = frozenset()  # host:port reached by http although the address says https
        self.last_used = time.monotonic()
        adapter = _Adapter(max_retries=0)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: the caller sees the 3xx itself."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send, and read the whole body within the deadline and the size limit."""
        exchange = _thread.exchange
        if exchange is None:
            raise RuntimeError("calls are made through UpstreamClient.exchange, which gives them a deadline")
        url = request.url or ""
        if url.startswith("https://") and urlsplit(url).netloc in self.plain_hosts:
            request.url = "http://" + url.removeprefix("https://")
        now = time.monotonic()
        if now - self.last_used > MAX_IDLE_SECONDS:
            self.close()  # the adapters open new connections on their own
        left = exchange.left()
        kwargs.update(stream=True, allow_redirects=False, timeout=(left, left))
        response = super().send(request, **kwargs)
        exchange.retry_after = retry_after_seconds(response.headers.get("Retry-After"))
        try:
            self._read(response)
        except BaseException:
            response.close()
            raise
        self.last_used = time.monotonic()
        return response

    def _read(self, response: requests.Response) -> None:
        chunks = []
        size = 0
        for chunk in response.raw.stream(65536, decode_content=True):
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise AnswerTooLarge
            chunks.append(chunk)
        response.raw.release_conn()
        response._content = b"".join(chunks)
        response._content_consumed = True  # type: ignore[attr-defined]
        response.encoding = "utf-8"  # else `.text` of an error page would guess, slowly


# --- what both clients are ------------------------------------------------------------------------------


class UpstreamClient:
    """Base of both clients: sessions, hooks, and the one error type.

    before_call  called before anything else, connecting and waiting for a place included; may raise (a breaker).
    before_send  called with the seconds left of the call right before its first byte is sent; may raise (LeaseLost).
    observer     called after every HTTP call with (upstream, action, outcome, seconds, UpstreamError or None), but not
                 of those that a hook stopped.
    limiter      makes the context manager each HTTP call is made in, to bound how many are under way.
    All four do nothing by default. One client may be used by several threads; each has its own connections.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.before_call: Callable[[], None] | None = None
        self.before_send: Callable[[float], None] | None = None
        self.observer: Observer | None = None
        self.limiter: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
        self._local = threading.local()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._sessions_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def close(self) -> None:
        """Close the kept connections of every thread; the next call opens new ones."""
        with self._sessions_lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def exchange(self, action: str, seconds: float, run: Callable[[Session], T], *, effect: bool) -> T:
        """Make one HTTP call, `run(session)`, within `seconds` from its start to its last byte.

        `effect`: the call changes something over there, so an answer that got lost leaves it unknown.
        Raises UpstreamError, what `run` and the hooks raise of the portal's own errors, and TokenExpired.
        """
        if self.before_call is not None:
            self.before_call()
        with self.limiter():
            session = self._session()
            started = time.monotonic()
            exchange = Exchange(started + seconds, self.before_send)
            outcome, error, failure = OK, None, None
            _thread.exchange = exchange
            try:
                result = run(session)
            except UpstreamError as raised:
                if not exchange.sent:
                    raise  # a hook's
                error = raised
                if error.retry_after is None:
                    error.retry_after = exchange.retry_after
            except TokenExpired:
                self._observe(action, EXPIRED, started, None)
                raise
            except PortalError:
                raise
            except (
                requests.RequestException,
                urllib3.exceptions.HTTPError,
                http.client.HTTPException,
                AnswerTooLarge,
                OSError,
            ) as raised:
                failure = raised
            finally:
                _thread.exchange = None
            if failure is not None:
                error = self._transport_error(failure, exchange, seconds, effect)
            if error is not None:
                outcome = REFUSED if error.permanent else UNKNOWN if error.unknown else UNAVAILABLE
        self._observe(action, outcome, started, error)
        if error is not None:
            # Outside of every `except`: the other libraries' exceptions hold addresses and bodies.
            error.__context__ = None
            raise error
        return result

    def _session(self) -> Session:
        """This thread's session; a process that was forked since makes its own."""
        pid, session = getattr(self._local, "session", (0, None))
        if session is None or pid != os.getpid():
            if session is not None:
                session.close()  # closes this process' copies of the sockets, says nothing to the other side
            session = Session()
            self._local.session = (os.getpid(), session)
            with self._sessions_lock:
                self._sessions.add(session)
        return session

    def _observe(self, action: str, outcome: str, started: float, error: UpstreamError | None) -> None:
        if self.observer is None:
            return
        try:
            self.observer(self.upstream, action, outcome, time.monotonic() - started, error)
        except Exception:
            log.exception("An observer failed; the call's outcome stands")

    def _transport_error(self, failure: Exception, exchange: Exchange, seconds: float, effect: bool) -> UpstreamError:
        reason, code = _reason(failure)
        if isinstance(failure, AnswerTooLarge):
            message = f"{self.upstream} sent an answer of more than {MAX_ANSWER_BYTES // 1024 // 1024} MiB"
        elif not exchange.sent:
            message, code = f"{self.upstream} can't be reached: {reason}", "unreachable"
        elif code == "timeout":
            message = f"{self.upstream} didn't answer within {seconds:g} s"
        else:
            message = f"the connection to {self.upstream} was lost before the whole answer was there"
        return UpstreamError(
            self.upstream,
            message,
            permanent=False,
            unknown=exchange.sent and effect,
            code=code,
            reached=exchange.sent,
        )


def _reason(failure: BaseException | None) -> tuple[str, str]:
    """A short reason and code for a failure of the transport, from its chain of causes; nothing of their texts."""
    seen: set[int] = set()
    chain: list[BaseException] = []
    todo: list[object] = [failure]
    while todo:
        item = todo.pop()
        if isinstance(item, BaseException) and id(item) not in seen:
            seen.add(id(item))
            chain.append(item)
            todo += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]

    def first(*kinds: type[BaseException]) -> Any:
        return next((item for item in chain if isinstance(item, kinds)), None)

    if first(AnswerTooLarge):
        return "answer too large", "too_large"
    if untrusted := first(ssl.SSLCertVerificationError):
        return f"its TLS certificate isn't trusted ({untrusted.verify_message})", "connection"
    if first(socket.gaierror, UnicodeError):
        return "its name isn't known to DNS", "connection"
    if first(ConnectionRefusedError):
        return "connection refused", "connection"
    if first(TimeoutError, requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        return "no connection in time", "timeout"
    if first(ssl.SSLError):
        return "TLS failed", "connection"
    number = next((item.errno for item in chain if isinstance(item, OSError) and item.errno), None)
    return os.strerror(number).lower() if number else "no connection", "connection"


# --- small things both need -----------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine itself, where alone http is good enough for a token."""
    return host == "localhost" or host == "::1" or bool(re.fullmatch(r"127(\.[0-9]{1,3}){3}", host))


def retry_after_seconds(value: str | None, now: float | None = None) -> float | None:
    """Retry-After (RFC 9110 §10.2.3: seconds or an HTTP date) as seconds from now, at most a day; None for nonsense."""
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(moment - (time.time() if now is None else now), 0.0), MAX_RETRY_AFTER_SECONDS)


_EMAIL = re.compile(r"[^\s@<>\"'(),:;=]+@[^\s@<>\"'(),:;=]+")
_LABELLED = re.compile(
    r"(?i)\b(pass(?:word|wd|phrase)?2?|pwd|secret|(?:(?:access|api|private|remote)[_ -]?)?(?:token|key)|identifier"
    r"|authorization|assertion)\b([\"']?\s*(?:[=:]|\bis\b)\s*(?:bearer\s+)?)(\"[^\"]*\"|'[^']*'|\S+)"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.!~+/=-]{8,}")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The other side's own words, fit for a log: one line, without secrets, e-mail addresses or what looks like a
    password, and of a bounded length."""
    for secret in sorted({secret for secret in secrets if len(secret) > 2}, key=len, reverse=True):
        text = re.sub(re.escape(secret), "[removed]", text, flags=re.IGNORECASE)
    text = _EMAIL.sub("[e-mail]", text)
    text = _BEARER.sub(r"\1[removed]", _LABELLED.sub(r"\1\2[removed]", text))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
