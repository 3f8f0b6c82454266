"""The connections to Salesforce and WHMCS: one total deadline a call, and the truth about whether anything was sent.

`requests` bounds each read, not the call, and can't say whether a lost request may have been carried out. Here every
socket operation gets what is left of the call's deadline, and a flag turns when the first byte goes out, so that an
error says either "nothing was sent" or "nobody knows".

Decisions: connections are kept alive, but one that has rested for MAX_IDLE_SECONDS isn't used again (a server that is
just closing it would turn the next AddOrder into a riddle); nothing is ever sent twice by itself; redirects aren't
followed (a form with secrets in it would be sent elsewhere); proxy settings, .netrc and CA bundles of the environment
are ignored, and cookies aren't kept (PHP would queue the calls of one session). Looking up the name, connecting and TLS
are inside the deadline, and `before_send` is asked after all of them, right before the first byte of the request.
"""

from __future__ import annotations

import email.utils
import http.client
import io
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
from requests.adapters import HTTPAdapter

MAX_IDLE_SECONDS: Final = 4.0  # below the five after which Apache and many proxies close a resting connection
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS: Final = 86_400.0


class AnswerTooLarge(Exception):
    """The answer's body has more than MAX_ANSWER_BYTES."""


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


current = _ThreadState()


# --- names ---------------------------------------------------------------------------------------------


class _LookUp(threading.Thread):
    """One look-up of a name by the system, which can't be interrupted: who waits for it may stop waiting."""

    def __init__(self, host: str, port: int | None) -> None:
        super().__init__(name="name-look-up", daemon=True)
        self._host, self._port = host, port
        self.done = threading.Event()
        self.found: list[Any] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self.found = socket.getaddrinfo(self._host, self._port, 0, socket.SOCK_STREAM)
        except Exception as error:
            self.failure = error
        finally:
            _look_ups.pop(_look_up_key(self._host, self._port), None)
            self.done.set()


#: The look-ups under way: however many calls want a name, and however slow it is, one thread asks for it.
_look_ups: dict[tuple[int, str, int | None], _LookUp] = {}
_look_ups_lock = threading.Lock()
os.register_at_fork(after_in_child=lambda: _look_ups_lock._at_fork_reinit())  # type: ignore[attr-defined]


def _look_up_key(host: str, port: int | None) -> tuple[int, str, int | None]:
    return os.getpid(), host, port  # a look-up that was under way at a fork never ends in the child


def look_up(host: str, port: int | None, seconds: float) -> list[Any]:
    """The addresses of a host, as socket.getaddrinfo gives them, within `seconds`.

    Raises TimeoutError, and what socket.getaddrinfo raises.
    """
    try:
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name
    with _look_ups_lock:
        key = _look_up_key(host, port)
        under_way = _look_ups.get(key)
        if under_way is None:
            under_way = _look_ups[key] = _LookUp(host, port)
            under_way.start()
    if not under_way.done.wait(seconds):
        raise TimeoutError("the name wasn't looked up in time")
    if under_way.failure is not None:
        raise under_way.failure
    return under_way.found


# --- sockets that know the deadline --------------------------------------------------------------------


def open_socket(host: str, port: int | None, left: Callable[[], float]) -> socket.socket:
    """A TCP connection made while `left()` gives seconds; its time-out is what is left then.

    Raises OSError: socket.gaierror for an unknown name, TimeoutError when the time is over; and UnicodeError.
    """
    found = look_up(host, port, left())
    failure: OSError = ConnectionError("no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            # One address that swallows packets must not use up the time of the next.
            sock.settimeout(max(left() / 2, 0.05) if len(found) > 1 else left())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
            sock.settimeout(left())  # what TLS may take, all of its reads together
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise failure


class DeadlineReader(io.RawIOBase):
    """The receiving end of a socket, each read of which may take what is left (`left`: seconds; None: no limit)."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, left: Callable[[], float | None]) -> None:
        self._raw = raw
        self._sock = sock
        self._left = left

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read within what is left."""
        left = self._left()
        if left is not None:
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Close the socket's file, too."""
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """http.client's response over a `DeadlineReader`: a server can't stretch the call by dripping bytes."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw: Any = self.fp.detach()
        self.fp = io.BufferedReader(DeadlineReader(raw, sock, _left_of_exchange))


def _left_of_exchange() -> float | None:
    return None if current.exchange is None else current.exchange.left()


class _TimedConnection(urllib3.connection.HTTPConnection):
    """Connects and sends within the deadline, asks `before_send` right before the first byte."""

    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        exchange = current.exchange
        if exchange is None:
            return super()._new_conn()
        try:
            return open_socket(self._dns_host, self.port, exchange.left)
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from error
        except (OSError, UnicodeError) as error:
            raise urllib3.exceptions.NewConnectionError(self, "no connection") from error

    def send(self, data: Any) -> None:
        exchange = current.exchange
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
        exchange = current.exchange
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


def retry_after_seconds(value: str | None, *, now: float | None = None) -> float | None:
    """Retry-After (RFC 9110 §10.2.3: seconds or an HTTP date) as seconds from now, at most a day; None for nonsense."""
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(moment - (time.time() if now is None else now), 0.0), MAX_RETRY_AFTER_SECONDS)
