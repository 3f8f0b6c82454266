"""On the wire a delivery has the same answer past Flask and through it, whatever is odd about the request.

Each is sent twice to the running server: with a Prefer that has it run in a batch, and with one that says the same but
goes to a thread (portal.webhooks.door).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.webhooks.attack import statuses
from tests.webhooks.callout import Call
from tests.webhooks.running import RunningPortal

HOST = "Host: portal.example"
PLAIN = ["Connection: close"]

#: More header lines, and which status they have in the end.
HEADERS = {
    "Accept-Encoding: gzip": 202,
    "Accept-Language: de\r\nCookie: portal_forms=x": 202,
    "Accept: text/html\r\nOrigin: https://evil.example": 202,
    "X-HTTP-Method-Override: DELETE": 202,
    "Expect: 100-continue": 202,
    "Upgrade: websocket\r\nConnection: upgrade": 400,
    "Content-Encoding: identity": 202,
    "Content-Encoding: gzip": 415,
    "Transfer-Encoding: chunked": 400,
    "portal.fault: x\r\nPortal_Fault: x\r\nportal.request_id: x": 202,
    "SCRIPT_NAME: /x\r\nScript-Name: /x\r\nPath-Info: /x": 202,
    "X-Request-Id: forged": 202,
    "Idempotency-Key: another": 400,
    "X-SF-Nonce: another": 400,
    "X_SF_Nonce: another": 202,
    f"X-Large: {'a' * 8000}": 202,
    f"X-Large: {'a' * 8200}": 431,
    "X-Nul: \0": 400,
    "X-Odd: \xff": 202,
    "X-Forwarded-For: 198.51.100.7": 403,
    "X-Forwarded-For: 192.0.2.7, 198.51.100.7": 403,
    "X-Forwarded-For: 198.51.100.7, 192.0.2.7": 202,
    "X-Forwarded-For: 192.0.2.7, unknown": 403,
    "X-Forwarded-For: 2001:db8::1": 202,
    'Forwarded: for="[2001:db8::1]:80"\r\nX-Forwarded-For: 198.51.100.7': 202,  # neither is believed
}
#: The address, `{id}` for the order's 15 characters and `{end}` for the three after them.
TARGETS = {
    "/orders/{id}/fulfill": 202,
    "/shop/orders/{id}{end}/fulfill?a=b": 202,
    "/shop/shop/orders/{id}{end}/fulfill": 404,
    "http://portal.example/orders/{id}{end}/fulfill": 202,
    "/x/orders/{id}{end}/fulfill": 404,
    "/shop//orders/{id}{end}/fulfill": 202,
    "/orders/{id}{end}/fulfill/": 404,
    "/orders/{id}{end}/fulfil%6c": 202,
    "/orders/{id}%00/fulfill": 400,
    "/orders/{id}{end}%0a/fulfill": 400,
    "/orders/{id}%2f/fulfill": 404,
    "/orders/%ff{id}/fulfill": 400,
}
HOSTS = {"": 202, "..": 400, "a" * 64: 400, "[::1]:80": 202, "a:b:c": 202, "x:99999": 202}
#: Content-Length, beside the right one.
LENGTHS = {"0{}": 202, "+{}": 400, "{}, {}": 400, "": 400, "0": 401, "70000": 413}


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    folder: Path = tmp_path_factory.mktemp("door")
    with RunningPortal(
        folder / "p",
        WEB_CONCURRENCY="1",
        PORTAL_BASE_URL="https://portal.example/shop",
        TRUSTED_PROXIES="127.0.0.0/8",
        SF_WEBHOOK_IP_ALLOWLIST="192.0.2.0/24,2001:db8::/32,127.0.0.0/8",
    ) as running:
        yield running


def answer(portal: RunningPortal, data: bytes, call: Call) -> tuple[list[bytes], bytes]:
    """Head, sorted, and body, without what differs from one request to the next."""
    with closing(socket.create_connection(("127.0.0.1", portal.port), 30)) as sock:
        sock.sendall(data)
        received = sock.makefile("rb").read()
    told = received.replace(call.order_id.encode(), b"ORDER")
    told = re.sub(rb"\r\n(Date|X-Request-Id): [^\r]+", b"", told)
    head, _, body = told.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    assert statuses(received), received
    return sorted(head.split(b"\r\n")), body


def check(
    portal: RunningPortal,
    status: int,
    *,
    target: str = "/orders/{id}{end}/fulfill",
    lines: str = "X-More: 1",
    host: str = HOST,
    length: str = "{}",
) -> None:
    answers = []
    for prefer in ("respond-async", "respond-async;x"):
        call = Call()
        body = call.body()
        path = target.replace("{id}", call.order_id[:15]).replace("{end}", call.order_id[15:])
        told = {**call.headers(), "Prefer": prefer, "Content-Length": length.format(len(body), len(body))}
        head = [f"POST {path} HTTP/1.1", host, *PLAIN, *[f"{name}: {value}" for name, value in told.items()], lines]
        answers.append(answer(portal, "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body, call))
    assert answers[0] == answers[1]
    (first,) = (each for each in answers[0][0] if each.startswith(b"HTTP/"))
    assert int(first.split()[1]) == status


@pytest.mark.parametrize(("lines", "status"), HEADERS.items())
def test_headers(portal: RunningPortal, lines: str, status: int) -> None:
    check(portal, status, lines=lines)


@pytest.mark.parametrize(("target", "status"), TARGETS.items())
def test_addresses(portal: RunningPortal, target: str, status: int) -> None:
    check(portal, status, target=target)


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_hosts(portal: RunningPortal, host: str, status: int) -> None:
    check(portal, status, host=f"Host: {host}")


@pytest.mark.parametrize(("length", "status"), LENGTHS.items())
def test_lengths(portal: RunningPortal, length: str, status: int) -> None:
    check(portal, status, length=length)


def test_one_connection_for_all_ways(portal: RunningPortal) -> None:
    """Requests sent behind each other without waiting are answered in their order, in a batch or in a thread."""
    kinds = [("respond-async", 202), ("respond-async;x", 202), ("wait=0", 202), ("respond-async", 401)]
    data, wanted = b"", []
    for prefer, status in kinds * 3:
        call = Call()
        headers = {**call.headers(), "Prefer": prefer, "Content-Length": str(len(call.body()))}
        if status == 401:
            headers["X-SF-Signature"] = "0" * 64
        lines = [f"POST {call.path} HTTP/1.1", HOST, *[f"{name}: {value}" for name, value in headers.items()]]
        data += "\r\n".join(lines).encode() + b"\r\n\r\n" + call.body()
        wanted.append(status)
    received = b""
    with closing(socket.create_connection(("127.0.0.1", portal.port), 30)) as sock:
        sock.settimeout(30)
        sock.sendall(data)
        while statuses(received) != wanted:
            piece = sock.recv(65536)
            assert piece, statuses(received)
            received += piece
