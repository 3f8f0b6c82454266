"""No token of a mailed link is in a log of the web server, well-formed or not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from portal.web.access_log import without_tokens
from tests.webhooks.running import RunningPortal

TOKEN = "WyJhYmMiLDE3MDAwMDBd.canary-7f3a-in-a-path"


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[RunningPortal]:
    with RunningPortal(tmp_path / "p", WEB_CONCURRENCY="1", WEB_ACCESS_LOG="-", WEB_LOG_LEVEL="debug") as running:
        yield running


def send(portal: RunningPortal, request: str) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", portal.port), timeout=30)) as sock:
        sock.sendall(request.encode())
        return sock.makefile("rb").read()


@pytest.mark.parametrize("path", ["/sign-in/link/", "/o/"])
def test_links_are_logged_without_their_tokens(portal: RunningPortal, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT"):
        send(portal, f"{method} {path}{TOKEN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    for target in (f"{path}{TOKEN}/more", f"{path}{TOKEN}?x={TOKEN}", f"/{path}{TOKEN}", f"{path}{TOKEN}#x"):
        send(portal, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    send(portal, f"GET /health/live HTTP/1.1\r\nHost: x\r\nReferer: http://x{path}{TOKEN}\r\nConnection: close\r\n\r\n")
    send(portal, f"GET {path}{TOKEN} HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n")  # no HTTP
    send(portal, f"GET {path}{TOKEN} HTTP/7.5\r\nHost: x\r\n\r\n")
    portal.wait_for(lambda: f"GET {path}[token]" in portal.log(), "the access log's lines")
    portal.wait_for(lambda: "GET /health/live 200" in portal.log(), "the access log's lines")
    portal.stop()
    assert "canary" not in portal.log()


def test_what_is_no_link_stays_readable() -> None:
    for path in ("/orders/PO-AAAA-BBBB/status", "/orders/801D000000K0fXOIAZ/fulfill", "/static/o/", "/o/"):
        assert without_tokens(f"GET {path} HTTP/1.1") == f"GET {path} HTTP/1.1"
