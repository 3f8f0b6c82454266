"""The client of `make bench`: kept connections that send prepared requests, each its next one when the answer is there.

One process without threads, so that it takes little of the processor it shares with what is measured; the same for us
and for every peer. The requests are signed before the clock starts.
"""

from __future__ import annotations

import multiprocessing
import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Final
from urllib.parse import urlsplit

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CLOSES: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
#: Seconds for the last answers once the time is over.
_LAST_ANSWERS: Final = 20.0


@dataclass
class Result:
    """What came back. took: milliseconds of each answer within the time; statuses: of all answers."""

    seconds: float
    took: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0  # connections that ended without an answer

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.took) / self.seconds

    def percentile(self, part: float) -> float:
        """Milliseconds within which this part (0 to 1) of the answers came."""
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("inf")

    def only(self, *statuses: int) -> Result:
        """This. Raises RuntimeError where any answer has another status, or none came: a figure of errors is none."""
        if self.broken or not self.took or set(self.statuses) - set(statuses):
            raise RuntimeError(f"expected only {statuses}: {dict(self.statuses)}, {self.broken} broken connections")
        return self


def drive(url: str, requests: Callable[[], Iterator[bytes]], *, connections: int, seconds: float) -> Result:
    """Send what `requests` gives (called in the client's process) for `seconds`, over that many kept connections."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    client = multiprocessing.get_context("fork").Process(
        target=_client, args=(url, requests, connections, seconds, theirs), daemon=True
    )
    client.start()
    theirs.close()
    result = ours.recv()
    client.join()
    if isinstance(result, BaseException):
        raise result
    assert isinstance(result, Result)
    return result


def prepared(count: int, make: Callable[[int], bytes]) -> Callable[[], Iterator[bytes]]:
    """For `drive`: `count` requests, all made before the clock starts. Raises RuntimeError in it when they run out."""

    def give() -> Iterator[bytes]:
        made = [make(number) for number in range(count)]
        return iter(made)

    return give


def http_request(method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes = b"") -> bytes:
    """The bytes of a request."""
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    if body or method == "POST":
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode("ascii") + b"\r\n" + body


class _Lane:
    """One connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.sock = self._connect()
        self.data = b""
        self.begun = 0.0

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def reconnect(self) -> None:
        self.sock.close()
        self.sock = self._connect()

    def send(self, request: bytes) -> None:
        self.data = b""
        self.begun = time.perf_counter()
        self.sock.sendall(request)

    def answer(self) -> tuple[int, bool] | None:
        """Status and whether the connection ends; None while there is more to come. Raises ConnectionError."""
        read = self.sock.recv(65536)
        if not read:
            raise ConnectionError("the connection ended without an answer")
        self.data += read
        head_ends = self.data.find(b"\r\n\r\n")
        if head_ends < 0:
            return None
        head = self.data[: head_ends + 2]
        status = _STATUS.match(head)
        if status is None:
            raise ConnectionError("the answer isn't HTTP")
        number = int(status[1])
        length = _LENGTH.search(head)
        if number not in (204, 304) and length is None:
            raise ConnectionError("the answer doesn't say how long it is")
        if len(self.data) < head_ends + 4 + (int(length[1]) if length and number not in (204, 304) else 0):
            return None
        return number, _CLOSES.search(head) is not None


def _client(
    url: str, requests: Callable[[], Iterator[bytes]], connections: int, seconds: float, answer_to: Pipe
) -> None:
    try:
        answer_to.send(_drive(url, requests(), connections, seconds))
    except BaseException as error:
        answer_to.send(RuntimeError(f"the client failed: {error!r}"))


def _drive(url: str, requests: Iterator[bytes], connections: int, seconds: float) -> Result:
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    lanes = [_Lane(address) for _ in range(connections)]
    result = Result(seconds)
    selector = selectors.DefaultSelector()
    begun = time.perf_counter()
    end = begun + seconds
    for lane in lanes:
        selector.register(lane.sock, selectors.EVENT_READ, lane)
        lane.send(next(requests))
    busy = len(lanes)
    while busy and time.perf_counter() < end + _LAST_ANSWERS:
        for key, _ in selector.select(0.1):
            lane = key.data
            try:
                found = lane.answer()
            except OSError:
                selector.unregister(key.fileobj)
                result.broken += 1
                busy -= 1
                continue
            if found is None:
                continue
            now = time.perf_counter()
            result.statuses[found[0]] += 1
            if now <= end:
                result.took.append((now - lane.begun) * 1000)
            if found[1] or now >= end:
                selector.unregister(key.fileobj)
            if now >= end:
                busy -= 1
                continue
            if found[1]:
                lane.reconnect()
                selector.register(lane.sock, selectors.EVENT_READ, lane)
            request = next(requests, None)
            if request is None:
                raise RuntimeError("too few requests were prepared")
            lane.send(request)
    for lane in lanes:
        lane.sock.close()
    return result
