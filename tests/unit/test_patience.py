"""How long a process waits for a Redis that says nothing, against sockets that do just that."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from portal.queue import patience
from portal.queue.redis import connect_redis
from portal.settings import Settings


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with shorter times."""
    monkeypatch.setattr(patience, "TRIP_SECONDS", 0.3)
    monkeypatch.setattr(patience, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 0.8)


class Server:
    """Understands enough of the protocol to answer every command with +OK, `pause` seconds late; None: never."""

    def __init__(self, pause: float | None) -> None:
        self.pause = pause
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._ended = threading.Event()
        self._socks: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._socks.append(sock)
                threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock, sock.makefile("rb") as reader:
            while line := reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    words.append(reader.read(int(reader.readline()[1:]) + 2)[:-2].upper())
                if words[0] in (b"HELLO", b"CLIENT"):
                    sock.sendall(b"-ERR unknown command\r\n")
                    continue
                if self.pause is None:
                    self._ended.wait(60)
                    return
                self._ended.wait(self.pause)
                sock.sendall(b"+OK\r\n")

    def close(self) -> None:
        self._ended.set()
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(pause: float | None) -> Iterator[tuple[Server, redis.Redis]]:
    """A server that answers after so many seconds, and a client of it."""
    server = Server(pause)
    client = connect_redis(Settings(redis_url=f"{server.url}?protocol=2"))
    try:
        yield server, client
    finally:
        client.close()
        server.close()


def seconds_of(client: redis.Redis) -> float:
    began = time.monotonic()
    with pytest.raises(redis.RedisError):
        client.set("a", "b")
    return time.monotonic() - began


@pytest.mark.usefixtures("hurried")
def test_a_silent_server_is_waited_for_once() -> None:
    with serving(None) as (server, client):
        assert seconds_of(client) >= 0.25
        assert max(seconds_of(client) for _ in range(20)) < 0.2
        assert server.connections <= 2
        server.pause = 0.0
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError):
                assert client.set("a", "b")
                break
        else:
            raise AssertionError("it is believed to be silent for ever")


@pytest.mark.usefixtures("hurried")
def test_after_the_silence_one_thread_alone_finds_out() -> None:
    with serving(None) as (_server, client):
        seconds_of(client)
        time.sleep(0.6)
        took: list[float] = []
        threads = [threading.Thread(target=lambda: took.append(seconds_of(client))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len([each for each in took if each > 0.25]) == 1


@pytest.mark.quiet
@pytest.mark.usefixtures("hurried")
def test_a_request_has_one_budget_for_all_its_trips() -> None:
    with serving(0.2) as (_server, client):
        assert client.set("a", "b")
        patience.begin_request()
        try:
            began = time.monotonic()
            with pytest.raises(redis.TimeoutError):
                for _ in range(20):
                    client.set("a", "b")
            assert time.monotonic() - began < 1.6
            patience.begin_request()
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:  # the next request has a budget of its own
                patience.begin_request()
                with contextlib.suppress(redis.RedisError):
                    assert client.set("a", "b")
                    break
            else:
                raise AssertionError("the budget wasn't renewed")
        finally:
            patience._request.left = None


def test_a_refusal_is_an_answer() -> None:
    silence = patience.Silence()
    silence.waited_in_vain()
    with pytest.raises(redis.ConnectionError):
        silence.check()
    silence.heard()
    silence.check()
