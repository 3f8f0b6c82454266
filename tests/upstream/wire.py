"""A server on a raw socket that misbehaves as told: real sockets are the only honest stand-in for a broken network."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl


@dataclass
class Seen:
    """One request as it arrived. `connection`: which connection of the server it came over, from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def form(self) -> dict[str, str]:
        """The body's form fields."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


#: Does something with the socket; True keeps the connection for the next request.
Act = Callable[["Wire", socket.socket, Seen], bool]


@dataclass
class Wire:
    """The running server: `acts` are used up one a request, the last one stays; `seen` is what arrived."""

    acts: list[Act]
    address: str = ""
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    lock: threading.Lock = field(default_factory=threading.Lock)


def answer(body: Any = b"", status: int = 200, keep: bool = True, **headers: str) -> Act:
    """An ordinary answer; anything but bytes goes as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def act(wire: Wire, sock: socket.socket, seen: Seen) -> bool:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if not keep:
            lines.append("Connection: close")
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        return keep

    return act


def drop(wire: Wire, sock: socket.socket, seen: Seen) -> bool:
    """Close after the request has been read, without a word."""
    return False


def raw(content: bytes) -> Act:
    """Exactly these bytes, then close."""

    def act(wire: Wire, sock: socket.socket, seen: Seen) -> bool:
        sock.sendall(content)
        return False

    return act


def hang(wire: Wire, sock: socket.socket, seen: Seen) -> bool:
    """Say nothing until the test is over."""
    wire.stopping.wait(60)
    return False


def drip(head: bytes, drop_of: bytes, times: int = 600) -> Act:
    """`head`, then `drop_of` ten times a second: each read succeeds, the whole never ends."""

    def act(wire: Wire, sock: socket.socket, seen: Seen) -> bool:
        with contextlib.suppress(OSError):
            sock.sendall(head)
            for _ in range(times):
                if wire.stopping.wait(0.1):
                    break
                sock.sendall(drop_of)
        return False

    return act


def then_close(act: Act) -> Act:
    """Answer as if the connection were kept, then close it: a keep-alive connection that died meanwhile."""

    def closing(wire: Wire, sock: socket.socket, seen: Seen) -> bool:
        act(wire, sock, seen)
        return False

    return closing


@contextlib.contextmanager
def serving(*acts: Act, tls: ssl.SSLContext | None = None) -> Iterator[Wire]:
    """A server on a free port of 127.0.0.1 with these acts."""
    wire = Wire(list(acts))
    listener = socket.create_server(("127.0.0.1", 0))
    wire.address = f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    threads: list[threading.Thread] = []
    open_socks: set[socket.socket] = set()

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            wire.connections += 1
            thread = threading.Thread(target=talk, args=(sock, wire.connections), daemon=True)
            threads.append(thread)
            thread.start()

    def talk(sock: socket.socket, number: int) -> None:
        try:
            if tls is not None:
                sock = tls.wrap_socket(sock, server_side=True)
            open_socks.add(sock)
            with sock.makefile("rb") as reader:
                while (seen := _read(reader, number)) is not None:
                    with wire.lock:
                        wire.seen.append(seen)
                        act = wire.acts.pop(0) if len(wire.acts) > 1 else wire.acts[0]
                    if not act(wire, sock, seen):
                        break
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
            open_socks.discard(sock)
            wire.closed.release()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield wire
    finally:
        wire.stopping.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)
        for sock in list(open_socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)


def _read(reader: Any, number: int) -> Seen | None:
    line = reader.readline()
    if not line:
        return None
    method, target, _ = line.decode().split(" ")
    headers: dict[str, str] = {}
    while (header := reader.readline()) not in (b"\r\n", b""):
        name, _, value = header.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", "0")))
    return Seen(method, target, headers, body, number)


def unused_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
