"""What the clients of Salesforce and WHMCS share: a call within its deadline, its hooks, and the one error type."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import requests
import urllib3
import urllib3.exceptions

from portal.clients.transport import MAX_ANSWER_BYTES, AnswerTooLarge, Exchange, Session, current
from portal.domain.model import PortalError, UpstreamError

log = logging.getLogger("portal.clients.http")

T = TypeVar("T")

#: How a call can end, as the observer hears it.
OK: Final = "ok"
REFUSED: Final = "refused"  # the other side said no, for good or until its set-up is mended
UNAVAILABLE: Final = "unavailable"  # it said nothing useful, but surely did nothing, or the call only reads
UNKNOWN: Final = "unknown"  # it may have done what was asked
EXPIRED: Final = "expired"  # what it was made with was too old; the call is repeated with a new one

#: Hears (upstream, action, outcome, seconds the call took, UpstreamError or None).
Observer = Callable[[str, str, str, float, UpstreamError | None], None]


class Outdated(Exception):
    """Raised by a call that was made with outdated knowledge and is repeated; no failure of the other side."""


class TokenExpired(Outdated):
    """The call's token was refused."""


class SendChecks:
    """What must hold right before a call's first byte leaves, the same for every client of a process.

    A worker process adds the check that it still holds its lease once it knows who it is, which is after the fork.
    """

    def __init__(self, *checks: Callable[[float], None]) -> None:
        self._checks = [*checks]

    def add(self, check: Callable[[float], None]) -> None:
        """From now on ask `check` too. It gets the seconds left of the call, and raises a PortalError to stop it."""
        self._checks.append(check)

    def __call__(self, seconds_left: float) -> None:
        """Ask all. Raises what the first one raises that objects."""
        for check in self._checks:
            check(seconds_left)


def _nothing(_action: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What has a say in every HTTP call of a client, or hears of it. By default nothing does.

    before_call  called with the action before all else, connecting and waiting for a slot included; may raise.
    slot         makes the context manager each call is made in, to bound how many are under way; may raise.
    before_send  called with the seconds left of the call right before its first byte is sent; may raise (LeaseLost).
    after_call   called after every call, but not of those that a hook stopped. What it raises is logged, and ignored.
    """

    before_call: Callable[[str], None] = _nothing
    slot: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    before_send: Callable[[float], None] = field(default_factory=SendChecks)
    after_call: Observer | None = None


class UpstreamClient:
    """Base of both clients: sessions, hooks, and the one error type.

    One client may be used by several threads; each has its own connections.
    """

    def __init__(self, upstream: str, hooks: Hooks | None = None) -> None:
        """`upstream`: its name, as errors and observers are given it; `hooks`: None for none."""
        self.upstream = upstream
        self._hooks = hooks if hooks is not None else Hooks()
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

    def exchange(
        self,
        action: str,
        seconds: float,
        run: Callable[[Session], T],
        *,
        effect: bool,
        before_send: Callable[[], None] | None = None,
    ) -> T:
        """Make one HTTP call, `run(session)`, within `seconds` from its start to its last byte.

        `effect`: the call changes something over there, so an answer that got lost leaves it unknown.
        `before_send`: this call's own check beside the hook's, asked on the connected socket; may raise a PortalError.
        `action` names the call for observers; the TimeoutError of a deadline, too, becomes an UpstreamError.
        Raises UpstreamError, what `run` and the hooks raise of the portal's own errors, and Outdated.
        """
        self._hooks.before_call(action)
        with self._hooks.slot():
            session = self._session()
            started = time.monotonic()
            exchange = Exchange(started + seconds, _both(self._hooks.before_send, before_send))
            outcome, error, failure = OK, None, None
            current.exchange = exchange
            try:
                result = run(session)
            except UpstreamError as raised:
                if not exchange.sent:
                    raise  # a hook's
                error = raised
                if error.retry_after is None:
                    error.retry_after = exchange.retry_after
            except Outdated:
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
                current.exchange = None
            if failure is not None:
                error = self._transport_error(failure, exchange, seconds, effect)
            if error is not None:
                error.action = action
                outcome = REFUSED if error.permanent or error.setup else UNKNOWN if error.unknown else UNAVAILABLE
        self._observe(action, outcome, started, error)
        if error is not None:
            # Outside of every `except`: the other libraries' exceptions hold addresses and bodies.
            error.__context__ = None
            raise error
        return result

    def heard_within(self, action: str, error: UpstreamError | None) -> None:
        """Have the observer hear of an error that an answer held, which as a whole was a good one. None: of nothing."""
        if error is not None:
            error.action = action
            self._observe(action, REFUSED, time.monotonic(), error)

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
        if self._hooks.after_call is None:
            return
        try:
            self._hooks.after_call(self.upstream, action, outcome, time.monotonic() - started, error)
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


def _both(hook: Callable[[float], None], own: Callable[[], None] | None) -> Callable[[float], None]:
    if own is None:
        return hook

    def check(seconds_left: float) -> None:
        hook(seconds_left)
        own()

    return check


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


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine itself, where alone http is good enough for a token."""
    return host == "localhost" or host == "::1" or bool(re.fullmatch(r"127(\.[0-9]{1,3}){3}", host))
