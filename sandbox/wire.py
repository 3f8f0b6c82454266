"""Small threaded HTTP/1.1 server whose handlers hold the raw socket, because faults must be able to drop or hang it.

`http.server` parses headers through the e-mail package (slow), and a WSGI server hides the connection; the
sandboxes need neither WSGI nor speed tricks beyond keep-alive and TCP_NODELAY.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

MAX_HEAD_BYTES = 65536
MAX_BODY_BYTES = 32 * 1024 * 1024


class BadRequest(Exception):
    """The bytes on the connection are not an HTTP request we take; the connection is closed."""


class Request:
    """One request as it came in: `path` is decoded, `query` is the raw query string, header names are lower-case."""

    __slots__ = (
        "body",
        "connection",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query",
        "raw_path",
        "received",
        "received_mono",
    )

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes, connection: Connection):
        self.method = method
        parts = urlsplit(target) if "://" in target[:8] else None
        if parts is not None:
            self.raw_path, self.query = parts.path or "/", parts.query
        else:
            self.raw_path, _, self.query = target.partition("?")
        self.path = unquote(self.raw_path)
        self.headers = headers
        self.body = body
        self.connection = connection
        self.received = time.time()
        self.received_mono = time.monotonic()
        self.keep_alive = True

    def args(self) -> dict[str, str]:
        """Query parameters, the last of each name."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def form(self) -> dict[str, str]:
        """The form body's parameters, the last of each name (flat; WHMCS' nested ones are parsed in whmcs/php.py)."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def form_lists(self) -> dict[str, list[str]]:
        """The form body's parameters, every value of each name."""
        return parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)

    def json(self) -> Any:
        """The body as JSON (an empty body is an empty object); ValueError when it isn't JSON."""
        return json.loads(self.body) if self.body.strip() else {}


class Response:
    """An answer; `headers` are extra headers beside Content-Type and Content-Length."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        status: int = 200,
        body: bytes | str = b"",
        content_type: str = "text/html; charset=utf-8",
        headers: Iterable[tuple[str, str]] = (),
    ):
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.content_type = content_type
        self.headers = list(headers)


def json_response(value: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """`value` as application/json;charset=UTF-8."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(status, body, "application/json;charset=UTF-8", headers)


def redirect(location: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """303 See Other, for the buttons."""
    return Response(303, b"", headers=[("Location", location), *headers])


class Connection:
    """One accepted socket, with what the faults need: is the peer still there, close it, reset it."""

    def __init__(self, sock: socket.socket, peer: tuple[Any, ...]):
        self.sock = sock
        self.peer = peer
        self.closed = False

    def peer_gone(self) -> bool:
        """True once the other end has closed (or reset) the connection."""
        if self.closed:
            return True
        try:
            readable, _, _ = select.select([self.sock], [], [], 0)
            return bool(readable) and self.sock.recv(1, socket.MSG_PEEK) == b""
        except (OSError, ValueError):
            return True

    def close(self, reset: bool = False) -> None:
        """Closes the connection; `reset` makes the peer see ECONNRESET instead of an orderly end."""
        self.closed = True
        with contextlib.suppress(OSError):
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.sock.close()

    def send(self, response: Response, keep_alive: bool, head_only: bool = False) -> bool:
        """Writes the answer; False when the peer is gone."""
        try:
            reason = HTTPStatus(response.status).phrase
        except ValueError:
            reason = "Status"
        lines = [f"HTTP/1.1 {response.status} {reason}"]
        if response.status != 204:
            lines.append(f"Content-Length: {len(response.body)}")
        if response.body:
            lines.append(f"Content-Type: {response.content_type}")
        lines.extend(f"{name}: {value}" for name, value in response.headers)
        if not any(name.lower() == "date" for name, _ in response.headers):  # a fault may tell another time
            lines.append(f"Date: {formatdate(usegmt=True)}")
        if not keep_alive:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        try:
            self.sock.sendall(head if head_only or response.status == 204 else head + response.body)
        except OSError:
            self.closed = True
            return False
        return True


def _read_request(reader: Any, connection: Connection) -> Request | None:
    line = reader.readline(MAX_HEAD_BYTES)
    while line in (b"\r\n", b"\n"):
        line = reader.readline(MAX_HEAD_BYTES)
    if not line:
        return None
    received, received_mono = time.time(), time.monotonic()
    parts = line.decode("latin-1").rstrip("\r\n").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest("request line")
    headers: dict[str, str] = {}
    size = 0
    while True:
        header = reader.readline(MAX_HEAD_BYTES)
        size += len(header)
        if header in (b"\r\n", b"\n"):
            break
        if not header or size > MAX_HEAD_BYTES:
            raise BadRequest("headers")
        name, colon, value = header.decode("latin-1").partition(":")
        if not colon:
            raise BadRequest("header line")
        headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        connection.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = b""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        chunks = []
        while True:
            length = int(reader.readline(1024).split(b";")[0] or b"0", 16)
            if length == 0:
                while reader.readline(MAX_HEAD_BYTES) not in (b"\r\n", b"\n", b""):
                    pass
                break
            chunks.append(reader.read(length))
            reader.readline(16)
        body = b"".join(chunks)
    elif headers.get("content-length"):
        length = int(headers["content-length"])
        if not 0 <= length <= MAX_BODY_BYTES:
            raise BadRequest("length")
        body = reader.read(length)
        if len(body) < length:
            raise BadRequest("short body")
    request = Request(parts[0], parts[1], headers, body, connection)
    request.received, request.received_mono = received, received_mono
    wants = headers.get("connection", "").lower()
    request.keep_alive = wants != "close" if parts[2] == "HTTP/1.1" else wants == "keep-alive"
    return request


class Server:
    """Accepts connections, one daemon thread each; `serve(request)` answers True to keep the connection."""

    def __init__(self, host: str, port: int, serve: Callable[[Request], bool]):
        self._serve = serve
        self._listener = socket.create_server((host, port), backlog=512)
        self._open: set[Connection] = set()
        self._lock = threading.Lock()
        self._stopping = False
        address = self._listener.getsockname()
        self.port: int = address[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}"

    def start(self) -> None:
        """Accepts in a background thread."""
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def stop(self) -> None:
        """Closes the listener and every connection."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.close()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                sock, peer = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, peer)
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: Connection) -> None:
        reader = connection.sock.makefile("rb", 16384)
        try:
            while not self._stopping and not connection.closed:
                request = _read_request(reader, connection)
                if request is None or not self._serve(request):
                    return
        except (BadRequest, ValueError):
            connection.send(Response(400, "Bad Request"), keep_alive=False)
        except OSError:
            pass
        except Exception:
            # A fault of the sandbox itself must be seen on stderr and never look like an upstream's answer.
            traceback.print_exc(file=sys.stderr)
        finally:
            with contextlib.suppress(OSError):
                reader.close()
            connection.close()
            with self._lock:
                self._open.discard(connection)
