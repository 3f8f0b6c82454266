"""An answer of a batch goes out in one piece, and a client that is slow to read holds up none of the others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gunicorn.util import close_graceful

from portal.web.server import Connection, PatientWorker
from portal.web.sockets import Gathered


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def read(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        found += sock.recv(count - len(found))
    return found


def handled(
    sock: socket.socket, *parts: bytes, again: bool = True, close: bool = False
) -> tuple[PatientWorker, Any, Any]:
    """What becomes of a request of a batch whose answer has these parts."""
    worker = PatientWorker.__new__(PatientWorker)
    conn = cast(Connection, SimpleNamespace(sock=sock))

    def handle(conn: Connection) -> bool:
        conn.sock.setblocking(True)
        for part in parts:
            conn.sock.sendall(part)
        if close:
            conn.sock.close()
        return again

    worker.handle = handle  # type: ignore[method-assign]
    result = worker._handle_gathered(conn)
    assert conn.sock is sock
    return worker, conn, result


def test_head_and_body_go_out_together(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    gathered = Gathered(ours)
    gathered.sendall(b"head")
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    gathered.sendall(b"body")
    assert gathered.flush() == b""
    assert theirs.recv(100) == b"headbody"


def test_what_gunicorn_breaks_off_is_sent_so_far(pair: tuple[socket.socket, socket.socket]) -> None:
    gathered = Gathered(pair[0])
    gathered.sendall(b"half an ans")
    close_graceful(gathered)
    assert gathered.ended
    assert gathered.flush() == b""
    assert pair[1].recv(100) == b"half an ans"


@pytest.mark.parametrize(("again", "close", "kept"), [(True, False, True), (False, False, False), (True, True, False)])
def test_whether_the_connection_goes_on(
    pair: tuple[socket.socket, socket.socket], again: bool, close: bool, kept: bool
) -> None:
    _worker, _conn, result = handled(pair[0], b"answer", again=again, close=close)
    assert result is kept
    assert pair[1].recv(100) == b"answer"


def test_a_slow_reader_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    answer = bytes(range(256)) * 40_000
    worker, conn, rest = handled(ours, answer[:100], answer[100:])
    assert isinstance(rest, bytes)
    assert answer.endswith(rest)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(read(theirs, len(answer))))
    reader.start()
    assert worker._send_rest(conn, rest) is False  # in a thread of its own; the connection ends
    reader.join(60)
    assert found == [answer]


def test_whose_client_is_gone_is_no_fault_of_the_others(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()
    with pytest.raises(OSError, match="Broken pipe"):
        handled(pair[0], b"answer")
