"""The web server under slow senders and in its last moments: good requests are served, and everybody gets an answer."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.webhooks.attack import exchange, statuses
from tests.webhooks.callout import Call
from tests.webhooks.hostile import chunked, right
from tests.webhooks.running import RunningPortal


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    with RunningPortal(tmp_path_factory.mktemp("portal"), WEB_CONCURRENCY="1", WEB_THREADS="4") as running:
        yield running


def connect(portal: RunningPortal) -> socket.socket:
    return socket.create_connection(("127.0.0.1", portal.port), timeout=60)


def patient() -> bytes:
    """A right request that waits for its outcome."""
    return right().replace(b"Prefer: respond-async\r\n", b"")


def read_answer(sock: socket.socket) -> tuple[int, bytes]:
    """One answer off a connection that stays open, and not a byte of the next one, which may be there already."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, f"the connection ended after {head!r}"
        head += byte
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    body = b""
    while length is None or len(body) < int(length[1]):
        more = sock.recv(65536 if length is None else int(length[1]) - len(body))
        if not more:
            break
        body += more
    return int(head.split(b" ", 2)[1]), body


@pytest.mark.parametrize("stalled", [16, 700])
def test_good_requests_are_served_while_others_stall(portal: RunningPortal, stalled: int) -> None:
    """Four threads, and far more connections that are silent, stop in a header, in a body or in a chunk."""
    beginnings = [b"", right()[:40], right()[:-20], chunked()[:-20]]
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(portal)) for _ in range(stalled)]
        for number, sock in enumerate(slow):
            sock.sendall(beginnings[number % 4])
        for _ in range(20):
            assert exchange(portal.port, right(), "127.0.0.1") == [202]
        # all of it was served while the others were still waited for, or had made room
        if stalled == 16:
            assert sum(still_open(sock) for sock in slow) == stalled


def still_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_a_slow_sender_is_told_and_ended(portal: RunningPortal) -> None:
    with connect(portal) as trickling, connect(portal) as silent:
        ended = threading.Event()

        def trickle() -> None:
            for byte in right():
                if ended.wait(0.2):
                    return
                try:
                    trickling.sendall(bytes([byte]))
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            status, body = read_answer(trickling)
            assert (status, json.loads(body)["code"]) == (408, "request_timeout")
            assert silent.recv(1) == b""
        finally:
            ended.set()
            thread.join(30)


def test_a_connection_serves_one_request_after_the_other(portal: RunningPortal) -> None:
    with connect(portal) as sock:
        for make in (right, chunked, right):
            sock.sendall(make())
            assert read_answer(sock)[0] == 202
        sock.sendall(right() + chunked() + right(Call(secret="wrong")))  # all at once
        assert [read_answer(sock)[0] for _ in range(3)] == [202, 202, 401]
        sock.sendall(right().replace(b"Prefer:", b"Connection: close\r\nPrefer:"))
        assert read_answer(sock)[0] == 202
        assert sock.recv(1) == b""


def test_a_sender_that_waits_for_100_continue_gets_it(portal: RunningPortal) -> None:
    head, body = right(Call(), Expect="100-continue").split(b"\r\n\r\n", 1)
    with connect(portal) as sock:
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(body)
        assert read_answer(sock)[0] in (100, 202)


def test_a_body_too_large_is_refused_before_it_is_sent(portal: RunningPortal) -> None:
    call = Call()
    with connect(portal) as sock:
        head = f"POST {call.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n".encode()
        sock.sendall(head)
        status, body = read_answer(sock)
        assert (status, json.loads(body)["code"]) == (413, "body_too_large")
        assert sock.recv(1) == b""


def test_what_gunicorn_itself_refuses_is_a_problem_too(portal: RunningPortal) -> None:
    with connect(portal) as sock:
        sock.sendall(right().replace(b"\r\n", b"\r\n folded: x\r\n", 1))
        status, body = read_answer(sock)
        told = json.loads(body)
        assert (status, told["status"], told["code"], told["title"]) == (400, 400, "bad_request", "Bad Request")


def test_an_end_of_the_other_side_costs_nothing(portal: RunningPortal) -> None:
    for cut in (0, 1, 50, len(right()) - 1):
        assert exchange(portal.port, right()[:cut], "127.0.0.1") == []
    assert exchange(portal.port, right(), "127.0.0.1") == [202]
    assert statuses(b"") == []


@pytest.mark.parametrize(
    ("server", "ending"), [("patient", signal.SIGTERM), ("patient", signal.SIGINT), ("gthread", signal.SIGTERM)]
)
def test_a_stopping_server_answers_everybody_who_waits(tmp_path: Path, server: str, ending: signal.Signals) -> None:
    settings = {"WEB_SERVER": server, "WEB_CONCURRENCY": "1", "WEB_THREADS": "8", "FULFILLMENT_WAIT_SECONDS": "100"}
    with RunningPortal(tmp_path / "p", **settings) as portal:
        answers: list[list[int]] = []

        def wait() -> None:
            answers.append(exchange(portal.port, patient(), "127.0.0.1"))

        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads:
            thread.start()
        portal.wait_for(lambda: portal.query("SELECT count(*) FROM fulfillments")[0][0] == 4, "the orders")
        # with half of its threads waiting, the server goes on serving
        assert exchange(portal.port, right(), "127.0.0.1") == [202]
        portal.web.send_signal(ending)
        for thread in threads:
            thread.join(60)
        assert portal.web.wait(60) == 0
        if ending is signal.SIGTERM:
            assert answers == [[202]] * 4


def test_whoever_is_let_in_by_a_stopping_server_is_answered(tmp_path: Path) -> None:
    """The kernel goes on taking connections while requests that wait get their answers: none may be reset.

    2026: nginx' log had "recv() failed (104)" after 3 of 11 restarts, for calls that had waited.
    """
    with RunningPortal(tmp_path / "p", WEB_CONCURRENCY="2", WEB_THREADS="8", FULFILLMENT_WAIT_SECONDS="20") as portal:
        waiting = [threading.Thread(target=exchange, args=(portal.port, patient(), "127.0.0.1")) for _ in range(3)]
        for thread in waiting:
            thread.start()
        portal.wait_for(lambda: portal.query("SELECT count(*) FROM fulfillments")[0][0] == 3, "the orders")
        answers: list[list[int]] = []
        gone = threading.Event()

        def ask() -> None:
            while not gone.is_set():
                try:
                    sock = socket.create_connection(("127.0.0.1", portal.port), 5)
                except OSError:
                    gone.set()  # refused: nobody was let in
                    return
                with closing(sock):
                    sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    sock.settimeout(30)
                    data = b""
                    while piece := sock.recv(4096):  # a ConnectionResetError ends the thread without an answer
                        data += piece
                    answers.append(statuses(data))

        faults: list[BaseException] = []
        threading.excepthook, before = (
            lambda args: faults.append(args.exc_value or RuntimeError()),
            threading.excepthook,
        )
        try:
            asking = [threading.Thread(target=ask) for _ in range(8)]
            for thread in asking:
                thread.start()
            portal.wait_for(lambda: len(answers) > 20, "some answers")
            portal.web.send_signal(signal.SIGTERM)
            for thread in [*asking, *waiting]:
                thread.join(60)
        finally:
            threading.excepthook = before
        assert portal.web.wait(60) == 0
        assert faults == []
        assert {status for each in answers for status in each} == {200}


def test_a_request_on_a_kept_connection_is_answered_by_a_stopping_server(tmp_path: Path) -> None:
    """A proxy keeps its connections, and may send on one just when the server was told to stop."""
    with RunningPortal(tmp_path / "p", WEB_CONCURRENCY="1") as portal, connect(portal) as sock:
        sock.sendall(right())
        assert read_answer(sock)[0] == 202
        portal.web.send_signal(signal.SIGTERM)
        time.sleep(4)  # longer than gunicorn keeps an idle connection then
        sock.sendall(right())
        assert read_answer(sock)[0] == 202
        assert sock.recv(1) == b""
        assert portal.web.wait(30) == 0


def test_more_waiters_than_places_are_answered_at_once(tmp_path: Path) -> None:
    with RunningPortal(
        tmp_path / "p", WEB_CONCURRENCY="1", FULFILLMENT_MAX_WAITERS="1", FULFILLMENT_WAIT_SECONDS="60"
    ) as portal:
        first = threading.Thread(target=exchange, args=(portal.port, patient(), "127.0.0.1"))
        first.start()
        portal.wait_for(lambda: portal.query("SELECT count(*) FROM fulfillments")[0][0] == 1, "the first order")
        started = time.monotonic()
        assert exchange(portal.port, patient(), "127.0.0.1") == [202]
        assert time.monotonic() - started < 50  # it didn't wait its minute
        assert first.is_alive()
        portal.stop()
        first.join(60)


def test_a_kept_connection_has_a_last_request_and_is_told_so(portal: RunningPortal) -> None:
    """So that the connections of a few busy clients don't stay with the process that happened to take them."""
    with closing(http.client.HTTPConnection("127.0.0.1", portal.port, timeout=60)) as connection:
        connection.connect()
        first = connection.sock
        count, last = 0, False
        while not last:
            assert connection.sock is first
            count += 1
            connection.request("GET", "/health/live")
            response = connection.getresponse()
            assert response.status == 200
            response.read()
            last = response.getheader("Connection") == "close"
        assert 20 <= count <= 40
