"""A gunicorn worker that slow senders can't starve, so that no proxy is needed in front of the receivers for that.

gunicorn's gthread gives a connection a thread as soon as its first bytes are there, and the thread then waits for the
rest: sixteen connections that stop in the middle of a header or a body hold up everybody. Here the event loop gathers
head and body, against one deadline for both, and only a whole request gets a thread. Connections that wait to become
one are capped: the one that has waited longest makes room for a new one. What the bytes mean stays gunicorn's to say.
"""

from __future__ import annotations

import contextlib
import errno
import json
import random
import re
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from gunicorn import util
from gunicorn.http.errors import InvalidHeader, InvalidRequestLine
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn

from portal.web import batch
from portal.web.incoming import Incoming
from portal.web.sockets import Caught, Gathered, Kept
from portal.web.threads import ToldWorker

#: From a request's first byte (or the connection's start) to its last, head and body together.
REQUEST_SECONDS: Final = 10.0
#: Connections of one process that are idle or have sent only a part of a request.
MAX_INCOMPLETE: Final = 512
_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 256 * 1024
_SEND_TIMEOUT: Final = struct.pack("@ll", 10, 0)  # a struct timeval: a reader who stalls gives its thread back
#: So long a stopping worker goes on taking connections: those whose handshake was under way when it began to stop.
_DRAIN_SECONDS: Final = 0.25
#: So long a stopping worker keeps an idle connection, if its client does: a proxy may be sending a request on it just
#: now, and is told to close it with the answer. nginx closes them itself after 10 s (deploy/nginx).
_IDLE_SECONDS: Final = 12.0
#: Requests after which a kept connection is ended, a number between these for each: whoever is idle then takes the new
#: one. Else the process that happened to take most connections of a few busy clients would keep all their work.
_REQUESTS_A_CONNECTION: Final = (20, 40)

#: Header fields that mean one thing or nothing: two of them are no list.
_ONCE: Final = frozenset({"AUTHORIZATION", "CONTENT-LENGTH", "CONTENT-TYPE", "HOST", "IDEMPOTENCY-KEY"})
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+;=%:\[\]-]*", re.ASCII)


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection, and what it is waited for."""

    def __init__(self, worker: PatientWorker, sock: socket.socket, peer: Any, server: Any) -> None:
        super().__init__(worker.cfg, sock, peer, server)
        self.incoming = Incoming()
        self.deadline = 0.0
        self.lingering = False
        self.answered = False  # a request of it: a proxy may keep it for its next
        self.drained = 0
        self.sent = b""  # the bytes of its request, while it is run in a batch
        self.requests_left = random.randint(*_REQUESTS_A_CONNECTION)
        # gunicorn's own first steps (waiting for data, TLS, protocol negotiation) don't apply.
        self.initialized = self.data_ready = True


class PatientWorker(ToldWorker):
    """gthread, with patience for slow senders in the event loop instead of in the threads."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker can't do. Raises RuntimeError."""
        super().check_config(cfg, log)
        if cfg.is_ssl or cfg.proxy_protocol != "off" or cfg.protocol != "http":
            raise RuntimeError("this worker speaks plain HTTP/1: let a proxy in front do TLS")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.incomplete: dict[int, Connection] = {}  # by file descriptor; who has waited longest comes first
        self.batches: list[batch.BatchThread] = []  # one for each kind of Lifecycle.batched
        self.together: list[list[Connection]] = []  # for each of these, what has come in this round of the loop

    def load_wsgi(self) -> None:
        """The application says which of its requests may be run together."""
        super().load_wsgi()
        self.batches = [batch.BatchThread(self._handle_together) for _kind in self.lifecycle.batched]
        self.together = [[] for _kind in self.batches]

    # --- the event loop's side -----------------------------------------------------------------------------

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One round of the loop, at most `timeout` seconds; what has come in it for a batch is handed on together."""
        super().wait_for_and_dispatch_events(timeout)
        for thread, conns in zip(self.batches, self.together, strict=True):
            if conns:
                thread.put(conns)
                conns.clear()

    def accept(self, listener: Any) -> None:
        """Take a new connection, and what it has sent already.

        One in each round of the loop: what else has come is done first, and another process that is idle may take the
        next.
        """
        self._accept_one(listener)

    def _accept_one(self, listener: Any) -> bool:
        """False: there is none, or no room for it."""
        try:
            sock, peer = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self.incomplete:
                self._close(next(iter(self.incomplete.values())))
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return False
        self.nr_conns += 1
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        conn = Connection(self, sock, peer, listener.getsockname())
        self._expect(conn, REQUEST_SECONDS)
        self._readable(conn, conn.sock)
        return True

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take connections or not. At the end: take those that the kernel has let in, then close the socket at once, so
        that nobody is let in who would be reset when this process ends (portal.web.listening).
        """
        if not enabled and not self.alive:
            deadline = time.monotonic() + _DRAIN_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                self.wait_for_and_dispatch_events(left)
            for listener in self.sockets:
                while self._accept_one(listener):
                    pass
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()

    def _expect(self, conn: Connection, seconds: float) -> None:
        """Wait for a connection's next bytes, in the loop."""
        if conn.sock.gettimeout() != 0:
            conn.sock.setblocking(False)
        conn.deadline = time.monotonic() + seconds
        self.incomplete[conn.sock.fileno()] = conn
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._readable, conn))
        while len(self.incomplete) > MAX_INCOMPLETE:
            self._close(next(iter(self.incomplete.values())))

    def _forget(self, conn: Connection) -> None:
        if self.incomplete.pop(conn.sock.fileno(), None) is not None:
            self.poller.unregister(conn.sock)

    def _close(self, conn: Connection) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

    def _readable(self, conn: Connection, _sock: Any) -> None:
        if conn.sock.fileno() not in self.incomplete:  # closed to make room, in this very round
            return
        try:
            data = conn.sock.recv(64 * 1024)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._close(conn)
        elif conn.lingering:
            conn.drained += len(data)
            if conn.drained > _LINGER_BYTES:
                self._close(conn)
        else:
            if not conn.incoming.data:
                conn.deadline = min(conn.deadline, time.monotonic() + REQUEST_SECONDS)
            conn.incoming.data += data
            self._judge(conn)

    def _judge(self, conn: Connection) -> None:
        """Give a whole request a thread, or a place in a batch."""
        incoming = conn.incoming
        if not incoming.complete():
            if incoming.wants_continue:
                incoming.wants_continue = False
                self._send(conn, b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self._forget(conn)
        if incoming.head_too_large:
            self._send(conn, problem(431, "Request Header Fields Too Large", "headers_too_large"))
            self._linger(conn)
            return
        sent = bytes(incoming.data)
        incoming.data.clear()
        self._parse(conn, sent)
        for kind, conns in zip(self.lifecycle.batched, self.together, strict=False):
            if incoming.whole and kind(sent):
                conn.sent = sent
                conns.append(conn)
                return
        self.enqueue_req(conn)

    def _parse(self, conn: Connection, sent: bytes) -> None:
        conn.parser = RequestParser(self.cfg, conn.sock, conn.client)
        conn.parser.unreader = Kept(conn.sock, sent)

    def _finish_together(self, conns: Sequence[Connection], results: Sequence[Any]) -> None:
        """A batch is done; who has left it begins again in a thread, and who reads slowly is waited for in one."""
        for conn, result in zip(conns, results, strict=True):
            if isinstance(result, batch.Left):
                self._parse(conn, conn.sent)
                self.enqueue_req(conn)
            elif isinstance(result, bytes):
                rest = self.tpool.submit(self._send_rest, conn, result)
                rest.add_done_callback(partial(self.method_queue.defer, self.finish_request, conn))
            else:
                self._finished(conn, again=result is True)  # else an exception: gunicorn has closed or answered it

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        """A thread is done with a connection's request."""
        try:
            again = bool(not fs.cancelled() and fs.result())
        except Exception:
            again = False
        self._finished(conn, again=again)

    def _finished(self, conn: Connection, *, again: bool) -> None:
        """again: the connection may have another request."""
        if not again or not conn.incoming.whole:
            self._linger(conn)
            return
        conn.answered = True
        conn.incoming = Incoming(conn.parser.unreader.take_buffered())
        self._expect(conn, REQUEST_SECONDS if conn.incoming.data else self.cfg.keepalive)
        if conn.incoming.data:
            self._judge(conn)

    def _linger(self, conn: Connection) -> None:
        """End a connection so that its last answer isn't lost to a reset (RFC 9112 section 9.6), in the loop."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.nr_conns -= 1
            conn.close()
            return
        conn.lingering = True
        self._expect(conn, _LINGER_SECONDS)

    def _send(self, conn: Connection, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it will be noticed when it is read from
            conn.sock.send(data)

    def murder_keepalived(self, force: bool = False) -> None:
        """End the connections whose time is over (at the end: all)."""
        now = time.monotonic()
        for conn in [each for each in self.incomplete.values() if force or each.deadline <= now]:
            if conn.incoming.data and not conn.lingering:
                self._send(conn, problem(408, "Request Timeout", "request_timeout"))
            self._close(conn)

    def murder_pending(self) -> None:
        """gthread's second list of waiting connections isn't used."""

    def _cap_keepalive(self, deadline: float) -> None:
        """No connection waits longer than until `deadline` (seconds of time.monotonic): an idle one that a proxy keeps
        has a little longer (_IDLE_SECONDS).
        """
        idle = deadline - STOP_KEEPALIVE_LINGER + _IDLE_SECONDS
        for conn in self.incomplete.values():
            kept = conn.answered and not conn.incoming.data and not conn.lingering
            conn.deadline = min(conn.deadline, idle if kept else deadline)

    # --- the threads' side ---------------------------------------------------------------------------------

    def _handle_together(self, conns: Sequence[Connection]) -> None:
        """Answer the requests of a batch, in its thread."""
        results = batch.run([partial(self._handle_gathered, conn) for conn in conns])
        self.method_queue.defer(self._finish_together, conns, results)

    def _handle_gathered(self, conn: Connection) -> bool | bytes:
        """As `handle`; bytes: so much of the answer is still to be sent, which may take its time."""
        sock, conn.sock = conn.sock, Gathered(conn.sock)
        try:
            again = self.handle(conn)
        finally:
            gathered, conn.sock = conn.sock, sock
        return gathered.flush() or (again is True and not gathered.ended)

    def _send_rest(self, conn: Connection, rest: bytes) -> bool:
        conn.sock.setblocking(True)
        conn.sock.sendall(rest)  # as long as SO_SNDTIMEO has it
        return False

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Answer; a request that wasn't whole ends its connection, and so does its last one."""
        refuse_malformed(req)
        conn.requests_left -= 1
        if not conn.incoming.whole or conn.requests_left <= 0:
            req.force_close()
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """gunicorn's own refusals, in the shape of all others."""
        caught = Caught()
        super().handle_error(req, caught, addr, exc)
        match = re.match(rb"HTTP/1\.1 ([0-9]{3}) ([^\r]*)\r\n", caught.sent)
        status, reason = (int(match[1]), match[2].decode("latin-1")) if match else (500, "Internal Server Error")
        try:
            util.write(client, problem(status, reason, "bad_request" if status == 400 else f"http_{status}"))
        except OSError:
            self.log.debug("Failed to send error message.")


def refuse_malformed(req: Any) -> None:
    """Refuse what HTTP forbids and gunicorn lets through (RFC 9112, 3.2 and 6.1; RFC 9110, 5.3 and 7.1).

    Raises one of gunicorn's own errors, which is answered with 400.
    """
    values: dict[str, list[str]] = {}
    for name, value in req.headers:
        values.setdefault(name, []).append(value)
    for name, found in values.items():
        if len(found) > 1 and (name in _ONCE or name.startswith(("X-SF-", "X-WHMCS-"))):
            raise InvalidHeader(name, req=req)
    hosts = values.get("HOST", [])
    if (not hosts and req.version >= (1, 1)) or (hosts and not _HOST.fullmatch(hosts[0])):
        raise InvalidHeader("HOST", req=req)
    if values.get("TRANSFER-ENCODING", ["chunked"])[0].lower() != "chunked":
        raise InvalidHeader("TRANSFER-ENCODING", req=req)
    if "#" in req.uri:
        raise InvalidRequestLine(req.uri)


def problem(status: int, reason: str, code: str) -> bytes:
    """A whole HTTP response with a problem document (RFC 9457), for what never became a request of the application."""
    body = json.dumps(
        {"type": f"urn:order-portal:problem:{code}", "title": reason, "status": status, "code": code}
    ).encode()
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
    return head.encode() + f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
