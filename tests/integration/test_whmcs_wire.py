"""The WHMCS client on the wire: connections, deadlines, TLS, and the hooks around each call."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.clients import transport
from portal.clients.http import Hooks, SendChecks
from portal.domain.model import LeaseLost, UpstreamError
from tests.certificates import tls_server
from tests.upstream.sandboxes import whmcs_client
from tests.upstream.whmcs import ADDED, SUCCESS, add_order, talking_to
from tests.upstream.wire import Act, answer, drip, drop, hang, raw, serving, then_close, unused_port

# --- the wire ------------------------------------------------------------------------------------------


def test_connections_are_kept_alive() -> None:
    with talking_to(answer(SUCCESS)) as (wire, client):
        for _ in range(5):
            client.payment_gateways()
        assert wire.connections == 1
        assert [seen.connection for seen in wire.seen] == [1] * 5


def test_each_thread_has_its_own_connection() -> None:
    with talking_to(answer(SUCCESS)) as (wire, client):
        client.payment_gateways()
        thread = threading.Thread(target=client.payment_gateways)
        thread.start()
        thread.join()
        client.payment_gateways()
        assert [seen.connection for seen in wire.seen] == [1, 2, 1]


def test_a_forked_process_opens_its_own_connection() -> None:
    with talking_to(answer(SUCCESS)) as (wire, client):
        client.payment_gateways()
        child = os.fork()
        if child == 0:
            try:
                client.payment_gateways()
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        client.payment_gateways()
        assert [seen.connection for seen in wire.seen] == [1, 2, 1]


def test_a_connection_that_rested_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_IDLE_SECONDS", -1.0)
    with talking_to(answer(SUCCESS)) as (wire, client):
        client.payment_gateways()
        client.payment_gateways()
        assert [seen.connection for seen in wire.seen] == [1, 2]


def test_a_connection_closed_by_the_server_meanwhile_is_replaced() -> None:
    with talking_to(then_close(answer(SUCCESS)), answer(ADDED)) as (wire, client):
        client.payment_gateways()
        assert wire.closed.acquire(timeout=10)
        assert add_order(client).order_id == "7"
        assert [seen.connection for seen in wire.seen] == [1, 2]


def test_add_order_is_not_sent_again_when_a_kept_connection_dies_under_it() -> None:
    with talking_to(answer(SUCCESS), drop, answer(ADDED)) as (wire, client):
        client.payment_gateways()
        with pytest.raises(UpstreamError) as caught:
            add_order(client)
        assert (caught.value.unknown, caught.value.permanent, caught.value.reached) == (True, False, True)
        assert [seen.form["action"] for seen in wire.seen] == ["GetPaymentMethods", "AddOrder"]
        assert [seen.connection for seen in wire.seen] == [1, 1]


@pytest.mark.parametrize(
    "act",
    [
        drop,
        raw(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"result":'),
        raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"res'),
        raw(b'HTTP/1.1 200 OK\r\n\r\n{"result":"succ'),
        raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
        answer(b""),
        answer(b"<html>Down for maintenance</html>"),
        answer(b"<html>Bad gateway</html>", 502),
        answer(ADDED, 500),
        answer({"result": "error", "message": "boom"}, 500),
        answer({"orderid": "7"}),
        answer([1, 2]),
        answer(b"[" * 100_000),
        answer({"result": "success", "serviceids": "1"}),
        answer({"result": "success", "orderid": "0"}),
        answer(b"<html>Forbidden</html>", 403),
        answer(b"x", Content_Encoding="gzip"),
    ],
)
def test_a_lost_or_unusable_answer_to_add_order_is_unknown(act: Act) -> None:
    with talking_to(act) as (wire, client):
        with pytest.raises(UpstreamError) as caught:
            add_order(client)
        assert (caught.value.unknown, caught.value.permanent) == (True, False)
        assert len(wire.seen) == 1
    # A call that only reads can't have done anything.
    with talking_to(act) as (wire, client), pytest.raises(UpstreamError) as caught:
        client.orders_of("1")
    assert (caught.value.unknown, caught.value.permanent) == (False, False)


@pytest.mark.parametrize(
    ("status", "code"), [(301, "http_301"), (307, "http_307"), (404, "http_404"), (413, "http_413"), (429, "http_429")]
)
def test_answers_that_prove_nothing_was_done(status: int, code: str) -> None:
    act = answer(b"<html></html>", status, Location="http://127.0.0.1:1/elsewhere")
    with talking_to(act) as (wire, client), pytest.raises(UpstreamError) as caught:
        add_order(client)
    assert (caught.value.unknown, caught.value.permanent, caught.value.code) == (False, False, code)
    assert len(wire.seen) == 1  # and no redirect was followed


@pytest.mark.parametrize(
    "act",
    [
        hang,
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_the_deadline_is_for_the_whole_call(act: Act) -> None:
    with talking_to(act, write_seconds=0.6) as (_, client), pytest.raises(UpstreamError) as caught:
        add_order(client)
    assert caught.value.code == "timeout"
    assert (caught.value.unknown, caught.value.permanent) == (True, False)
    assert "0.6 s" in caught.value.message


def test_a_refused_connection_was_not_reached() -> None:
    client = whmcs_client(f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(UpstreamError) as caught:
        add_order(client)
    assert (caught.value.reached, caught.value.unknown, caught.value.permanent) == (False, False, False)
    assert "connection refused" in caught.value.message


def test_an_unknown_name_was_not_reached() -> None:
    client = whmcs_client("http://no-such-host.invalid")
    with pytest.raises(UpstreamError) as caught:
        add_order(client)
    assert (caught.value.reached, caught.value.unknown) == (False, False)
    assert "DNS" in caught.value.message


def test_the_size_of_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 100_000)
    with talking_to(answer({"result": "success", "orderid": "7", "x": "y" * 200_000})) as (_, client):
        with pytest.raises(UpstreamError) as caught:
            add_order(client)
        assert (caught.value.code, caught.value.unknown) == ("too_large", True)


def test_cookies_are_not_sent_back() -> None:
    with talking_to(answer(SUCCESS, Set_Cookie="PHPSESSID=abc; path=/")) as (wire, client):
        client.payment_gateways()
        client.payment_gateways()
        assert "cookie" not in wire.seen[1].headers


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
    with talking_to(answer(SUCCESS)) as (wire, client):
        client.payment_gateways()
        assert len(wire.seen) == 1


def test_retry_after_is_passed_on() -> None:
    with talking_to(answer(b"busy", 503, Retry_After="17")) as (_, client), pytest.raises(UpstreamError) as caught:
        client.order("7")
    assert (caught.value.retry_after, caught.value.status) == (17.0, 503)
    body = {"result": "error", "message": "Too Many Requests"}
    with talking_to(answer(body, 429, Retry_After="5")) as (_, client), pytest.raises(UpstreamError) as caught:
        add_order(client)
    assert (caught.value.retry_after, caught.value.permanent, caught.value.unknown) == (5.0, False, False)


def test_an_untrusted_certificate_gets_no_byte_of_the_call(tmp_path: Path) -> None:
    context, _ = tls_server(tmp_path)
    with serving(answer(ADDED), tls=context) as wire:
        client = whmcs_client(wire.address)
        with pytest.raises(UpstreamError) as caught:
            add_order(client)
        client.close()
        assert (caught.value.reached, caught.value.unknown) == (False, False)
        assert "certificate" in caught.value.message
        assert wire.seen == []


def test_tls_has_the_same_deadline_and_keeps_its_connection(tmp_path: Path) -> None:
    context, certificate = tls_server(tmp_path)
    slow = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x")
    with serving(answer(ADDED), answer(ADDED), slow, tls=context) as wire:
        asked: list[float] = []
        client = whmcs_client(wire.address, write_seconds=3.0, hooks=Hooks(before_send=asked.append))
        client._session().verify = str(certificate)
        assert add_order(client).order_id == "7"
        assert add_order(client).order_id == "7"
        with pytest.raises(UpstreamError) as caught:
            add_order(client)
        client.close()
        assert (caught.value.code, caught.value.unknown) == ("timeout", True)
        assert [seen.connection for seen in wire.seen] == [1, 1, 1]
        assert len(asked) == 3


# --- the hooks -----------------------------------------------------------------------------------------


def test_before_send_can_stop_a_call_before_its_first_byte() -> None:
    left: list[float] = []

    def lost(seconds: float) -> None:
        left.append(seconds)
        if len(left) == 1:
            raise LeaseLost("another worker owns this order now")

    with talking_to(answer(ADDED), hooks=Hooks(before_send=lost)) as (wire, client):
        with pytest.raises(LeaseLost):
            add_order(client)
        assert wire.seen == []
        assert 0 < left[0] <= 10.0
        assert add_order(client).order_id == "7"
        assert len(wire.seen) == 1


def test_every_check_is_asked_also_one_that_was_added_later() -> None:
    asked: list[str] = []
    checks = SendChecks(lambda seconds: asked.append("first"))
    with talking_to(answer(SUCCESS), hooks=Hooks(before_send=checks)) as (wire, client):
        client.payment_gateways()
        checks.add(lambda seconds: asked.append("second"))
        client.payment_gateways()
        assert asked == ["first", "first", "second"]

        def lost(seconds: float) -> None:
            raise LeaseLost("another worker owns this order now")

        checks.add(lost)
        with pytest.raises(LeaseLost):
            client.payment_gateways()
        assert len(wire.seen) == 2


def test_a_call_that_a_hook_stopped_is_not_observed() -> None:
    def stop(*_: object) -> None:
        raise UpstreamError("WHMCS", "the breaker is open", permanent=False, code="breaker", reached=False)

    heard: list[str] = []

    def hear(upstream: str, action: str, outcome: str, seconds: float, error: UpstreamError | None) -> None:
        heard.append(outcome)

    with talking_to(answer(ADDED), hooks=Hooks(before_call=stop, after_call=hear)) as (wire, client):
        with pytest.raises(UpstreamError, match="breaker"):
            add_order(client)
        assert wire.connections == 0
    with talking_to(answer(ADDED), hooks=Hooks(before_send=stop, after_call=hear)) as (wire, client):
        with pytest.raises(UpstreamError, match="breaker"):
            add_order(client)
        assert wire.seen == []
    assert heard == []
    with talking_to(answer(ADDED), hooks=Hooks(after_call=hear)) as (_, client):
        add_order(client)
    assert heard == ["ok"]


def test_the_observer_hears_of_every_call_and_can_not_break_one() -> None:
    refused = answer({"result": "error", "message": "Client ID Not Found"})
    acts = [answer(SUCCESS), refused, answer(b"<html>", 502), drop, answer(b"<html>", 502), answer(ADDED)]
    heard: list[tuple[str, str, str, str]] = []

    def observe(upstream: str, action: str, outcome: str, seconds: float, error: UpstreamError | None) -> None:
        heard.append((upstream, action, outcome, error.code if error else ""))
        if len(heard) == 6:
            raise RuntimeError("metrics are down")
        assert seconds >= 0

    with talking_to(*acts, hooks=Hooks(after_call=observe)) as (_, client):
        client.payment_gateways()
        for _ in range(3):
            with pytest.raises(UpstreamError):
                add_order(client)
        with pytest.raises(UpstreamError):
            client.order("7")
        assert heard == [
            ("WHMCS", "GetPaymentMethods", "ok", ""),
            ("WHMCS", "AddOrder", "refused", "refused"),
            ("WHMCS", "AddOrder", "unknown", "http_502"),
            ("WHMCS", "AddOrder", "unknown", "connection"),
            ("WHMCS", "GetOrders", "unavailable", "http_502"),
        ]
        assert add_order(client).order_id == "7"
        assert heard[5] == ("WHMCS", "AddOrder", "ok", "")


def test_the_slot_is_held_around_each_call_and_given_back() -> None:
    held: list[int] = []

    @contextlib.contextmanager
    def one() -> Iterator[None]:
        held.append(1)
        try:
            yield
        finally:
            held.append(-1)

    during: list[int] = []
    hooks = Hooks(slot=one, before_send=lambda seconds: during.append(sum(held)))
    with talking_to(answer(SUCCESS), drop, hooks=hooks) as (_, client):
        client.payment_gateways()
        with pytest.raises(UpstreamError):
            add_order(client)
        assert during == [1, 1]
        assert sum(held) == 0
