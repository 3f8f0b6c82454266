"""A call's time counts from its intent to its first byte: names, connections and TLS are inside its bounds."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from portal.clients import transport
from portal.clients.whmcs.client import WhmcsClient
from portal.domain.model import OrderLine, UpstreamError
from tests.certificates import tls_server
from tests.upstream.sandboxes import whmcs_client
from tests.upstream.wire import answer, serving

ADDED = {"result": "success", "orderid": "7", "serviceids": "11,12", "invoiceid": "3"}
LINES = [OrderLine(pid="5", billing_cycle="monthly", quantity=1)]


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], list[str]]]:
    """Makes the system's look-up of names last so many seconds; returns the names asked for."""
    released, real = threading.Event(), socket.getaddrinfo

    def slow(seconds: float) -> list[str]:
        asked: list[str] = []

        def getaddrinfo(host: Any, port: Any, family: int = 0, kind: int = 0, protocol: int = 0, flags: int = 0) -> Any:
            if host == "localhost" and not flags & socket.AI_NUMERICHOST:
                asked.append(host)
                released.wait(seconds)
                host = "127.0.0.1"
            return real(host, port, family, kind, protocol, flags)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return asked

    yield slow
    released.set()
    deadline = time.monotonic() + 10
    while transport._look_ups and time.monotonic() < deadline:
        time.sleep(0.01)


def add_order(client: WhmcsClient, before_send: Callable[[], None] | None = None) -> Any:
    return client.add_order("1", "mailin", LINES, notes="", custom_fields={}, before_send=before_send)


def too_late() -> None:
    raise UpstreamError("whmcs", "too late to send the call", permanent=False, reached=False)


def by_name(address: str) -> str:
    return address.replace("127.0.0.1", "localhost")


@pytest.mark.quiet
def test_a_look_up_of_the_name_is_inside_the_deadline(slow_names: Callable[[float], list[str]]) -> None:
    slow_names(30.0)
    with serving(answer(ADDED)) as wire:
        client = whmcs_client(by_name(wire.address), write_seconds=0.5)
        started = time.monotonic()
        with pytest.raises(UpstreamError) as caught:
            add_order(client)
        assert time.monotonic() - started < 5
        client.close()
        assert (caught.value.reached, caught.value.unknown, caught.value.code) == (False, False, "unreachable")
        assert wire.connections == 0


def test_a_slow_look_up_is_waited_for_once_however_many_calls_want_the_name(
    slow_names: Callable[[float], list[str]],
) -> None:
    asked = slow_names(30.0)
    with serving(answer(ADDED)) as wire:
        client = whmcs_client(by_name(wire.address), write_seconds=0.3)
        for _ in range(3):
            with pytest.raises(UpstreamError):
                add_order(client)
        client.close()
    assert asked == ["localhost"]


def test_the_calls_own_check_is_asked_after_the_look_up(slow_names: Callable[[float], list[str]]) -> None:
    slow_names(0.5)
    started = time.monotonic()
    asked_after: list[float] = []

    def check() -> None:
        asked_after.append(time.monotonic() - started)
        too_late()

    with serving(answer(ADDED)) as wire:
        client = whmcs_client(by_name(wire.address), write_seconds=20.0)
        with pytest.raises(UpstreamError, match="too late"):
            add_order(client, check)
        client.close()
        assert wire.seen == []  # not a byte of the order left
    assert asked_after[0] >= 0.5


def test_the_calls_own_check_is_asked_after_a_slow_tls_handshake(tmp_path: Any) -> None:
    context, certificate = tls_server(tmp_path)
    shaking_hands = threading.Event()

    class SlowContext:
        """A server that takes its time before TLS."""

        def wrap_socket(self, sock: socket.socket, server_side: bool) -> ssl.SSLSocket:
            shaking_hands.wait(1.0)
            return context.wrap_socket(sock, server_side=server_side)

    started = time.monotonic()
    asked_after: list[float] = []

    def check() -> None:
        asked_after.append(time.monotonic() - started)
        too_late()

    with serving(answer(ADDED), tls=SlowContext()) as wire:  # type: ignore[arg-type]
        client = whmcs_client(wire.address, write_seconds=20.0)
        client._session().verify = str(certificate)
        with pytest.raises(UpstreamError, match="too late"):
            add_order(client, check)
        client.close()
        assert wire.seen == []
    assert asked_after[0] >= 0.9


@pytest.mark.quiet
def test_a_server_that_never_ends_its_tls_handshake_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, nobody answers
        client = whmcs_client(f"https://127.0.0.1:{silent.getsockname()[1]}", write_seconds=0.6)
        started = time.monotonic()
        with pytest.raises(UpstreamError) as caught:
            add_order(client)
        client.close()
    assert time.monotonic() - started < 5
    assert (caught.value.reached, caught.value.unknown) == (False, False)


def test_a_kept_connection_is_asked_too() -> None:
    asked: list[int] = []
    with serving(answer(ADDED)) as wire:
        client = whmcs_client(wire.address)
        add_order(client, lambda: asked.append(1))
        with pytest.raises(UpstreamError, match="too late"):
            add_order(client, too_late)
        client.close()
        assert (asked, len(wire.seen)) == ([1], 1)
