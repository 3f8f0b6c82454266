"""The WHMCS client against servers that misbehave on the wire, and against the pretend WHMCS."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import logging
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from portal.clients import transport
from portal.clients.http import Hooks, SendChecks
from portal.clients.whmcs.client import WhmcsClient
from portal.domain.ids import bears_reference, external_reference
from portal.domain.model import LeaseLost, OrderLine, Setup, UpstreamError
from sandbox.whmcs.app import Whmcs
from tests.upstream.sandboxes import IDENTIFIER, SECRET, whmcs_client, whmcs_sandbox
from tests.upstream.wire import Act, Wire, answer, drip, drop, hang, raw, serving, then_close, unused_port

SUCCESS = {"result": "success"}
ADDED = {"result": "success", "orderid": "7", "serviceids": "11,12", "invoiceid": "3"}
LINES = [OrderLine(pid="5", billing_cycle="monthly", quantity=1)]


@contextlib.contextmanager
def talking_to(*acts: Act, **limits: Any) -> Iterator[tuple[Wire, WhmcsClient]]:
    with serving(*acts) as wire:
        client = whmcs_client(wire.address, **limits)
        try:
            yield wire, client
        finally:
            client.close()


def add_order(client: WhmcsClient) -> Any:
    return client.add_order("1", "mailin", LINES, notes=external_reference("801D000000K0fXOIAZ"), custom_fields={})


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


def tls_server(folder: Path) -> tuple[ssl.SSLContext, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, path


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


# --- secrets -------------------------------------------------------------------------------------------


def test_no_secret_and_no_customer_data_gets_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    canaries = [IDENTIFIER, SECRET, "jane.canary@example.com", "canary-street", "canary-password", "canary-access"]
    message = (
        f"Bad login for {IDENTIFIER}/{SECRET.upper()} of jane.canary@example.com, Canary-Street: "
        "password=canary-password"
    )
    acts = [
        answer({"result": "error", "message": message}),
        answer({"result": "error", "message": message}, 403),
        answer(message.encode(), 500),
        drop,
        raw(message.encode()),
    ]
    with talking_to(*acts, access_key="canary-access") as (wire, client):
        details = {"firstname": "Jane", "email": "jane.canary@example.com", "address1": "canary-street"}
        texts = [repr(client), str(client)]
        for _ in acts:
            with pytest.raises(UpstreamError) as caught:
                client.add_client(details)
            error: BaseException | None = caught.value
            assert error is not None
            assert error.__cause__ is None
            assert error.__context__ is None
            texts += [str(error), repr(error)]
        assert all(seen.target == "/includes/api.php" for seen in wire.seen)
        assert wire.seen[0].form["secret"] == SECRET
        assert wire.seen[0].form["accesskey"] == "canary-access"
    said = "\n".join([*texts, caplog.text]).lower()
    assert [canary for canary in canaries if canary.lower() in said] == []


# --- what WHMCS says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("Invalid IP 203.0.113.9", "203.0.113.9"),
        ("Authentication Failed", "WHMCS_API_IDENTIFIER"),
        ("Invalid or missing credentials", "WHMCS_API_SECRET"),
        ('Invalid Permissions: API action "addorder" is not allowed', "API role"),
    ],
)
def test_being_locked_out_is_no_fault_of_the_order(message: str, hint: str) -> None:
    refusal = answer({"result": "error", "message": message}, 403)
    with talking_to(refusal) as (_, client), pytest.raises(UpstreamError) as caught:
        add_order(client)
    error = caught.value
    assert (error.permanent, error.unknown, error.code) == (False, False, "auth")
    assert hint in error.message


def test_a_server_modules_authentication_failed_is_not_ours() -> None:
    refusal = answer({"result": "error", "message": "Authentication Failed"})
    with talking_to(refusal) as (_, client), pytest.raises(UpstreamError) as caught:
        client.accept_order("7")
    assert (caught.value.permanent, caught.value.code) == (True, "refused")


def test_add_order_on_the_wire() -> None:
    lines = [
        OrderLine(pid="5", billing_cycle="monthly", quantity=1, domain="a.example", price_override="9.50"),
        OrderLine(pid="6", billing_cycle="annually", quantity=3, hostname="h1"),
    ]
    with talking_to(answer({**ADDED, "orderid": 9, "invoiceid": 0, "serviceids": "11,12"})) as (wire, client):
        added = client.add_order("1", "mailin", lines, notes="sfOrderId=x", custom_fields={"6": {"101": "7"}})
        form = wire.seen[0].form
    assert (added.order_id, added.service_ids, added.invoice_id) == ("9", ("11", "12"), None)
    expected = {
        "action": "AddOrder",
        "responsetype": "json",
        "identifier": IDENTIFIER,
        "secret": SECRET,
        "clientid": "1",
        "paymentmethod": "mailin",
        "noemail": "1",
        "notes": "sfOrderId=x",
        "pid[0]": "5",
        "qty[0]": "1",
        "billingcycle[0]": "monthly",
        "domain[0]": "a.example",
        "priceoverride[0]": "9.50",
        "pid[1]": "6",
        "qty[1]": "3",
        "billingcycle[1]": "annually",
        "hostname[1]": "h1",
        "customfields[1]": "YToxOntpOjEwMTtzOjE6IjciO30=",
    }
    assert form == expected


def test_quantities_of_one_are_left_out_and_old_answers_understood() -> None:
    old = answer({"result": "success", "orderid": "9", "productids": "4", "invoiceid": ""})
    with talking_to(old) as (wire, client):
        added = add_order(client)
        assert not [name for name in wire.seen[0].form if name.startswith("qty")]
    assert (added.service_ids, added.invoice_id) == (("4",), None)


def orders_page(ids: list[int], total: int | str) -> Act:
    rows = [{"id": str(number), "userid": "1", "status": "Pending", "notes": ""} for number in ids]
    return answer({"result": "success", "totalresults": total, "orders": {"order": rows} if rows else ""})


def test_a_listing_is_read_to_its_end_though_pages_are_short() -> None:
    with talking_to(orders_page([1, 2], "5"), orders_page([3, 4], 5), orders_page([5], "5")) as (wire, client):
        assert [order.id for order in client.orders_of("1")] == ["1", "2", "3", "4", "5"]
        assert [seen.form["limitstart"] for seen in wire.seen] == ["0", "2", "4"]
        assert {seen.form["userid"] for seen in wire.seen} == {"1"}


def test_a_listing_that_changed_while_being_read_is_read_again() -> None:
    # An order placed between the pages pushes 2 onto the second page, too.
    acts = [orders_page([3, 2], 3), orders_page([2, 1], 4), orders_page([4, 3], 4), orders_page([2, 1], 4)]
    with talking_to(*acts) as (wire, client):
        assert {order.id for order in client.orders_of("1")} == {"1", "2", "3", "4"}
        assert len(wire.seen) == 4


def test_a_row_that_slipped_between_pages_is_found_in_a_second_pass() -> None:
    acts = [orders_page([1, 2], 3), orders_page([2], 3), orders_page([2, 3], 3)]
    with talking_to(*acts) as (_, client):
        assert {order.id for order in client.orders_of("1")} == {"1", "2", "3"}


@pytest.mark.parametrize(
    "acts",
    [
        [orders_page([1], 2)],  # the same page, whatever is asked
        [orders_page([1], 3), orders_page([], 3)] * 6,  # rows that are never given
        [orders_page([1], total) for total in range(2, 20)],  # never the same twice
        [answer({"result": "success", "orders": ""})],  # no total at all
        [orders_page([1, 2, 3], 2)],  # more than there are
    ],
)
def test_a_listing_that_never_adds_up_is_unstable_and_ends(acts: list[Act]) -> None:
    with talking_to(*acts) as (wire, client), pytest.raises(UpstreamError) as caught:
        client.orders_of("1")
    assert (caught.value.code, caught.value.permanent, caught.value.unknown) == ("listing_unstable", False, False)
    assert len(wire.seen) <= 20


def test_an_empty_listing() -> None:
    with talking_to(orders_page([], "0")) as (wire, client):
        assert client.orders_of("1") == []
        assert len(wire.seen) == 1


def test_a_client_that_was_not_asked_for_is_refused() -> None:
    stranger = {"result": "success", "client": {"id": "2", "email": "b@example.com", "status": "Active"}}
    with talking_to(answer(stranger)) as (_, client):
        with pytest.raises(UpstreamError):
            client.client(client_id="1")
        assert client.client(email="a@example.com") is None
        found = client.client(email="B@Example.com")
        assert found is not None
        assert found.id == "2"


def test_products_are_asked_one_by_one_where_lists_are_not_understood() -> None:
    def product(pid: int) -> dict[str, Any]:
        return {"pid": pid, "name": "P", "paytype": "recurring", "pricing": {"USD": {"monthly": "1.00"}}}

    acts = [
        answer({"result": "success", "products": {"product": [product(5)]}}),
        answer({"result": "success", "products": {"product": product(6)}}),
        answer({"result": "success", "totalresults": 0, "products": ""}),
    ]
    with talking_to(*acts) as (wire, client):
        assert [found.pid for found in client.products(["5", "6", "7", "5"])] == ["5", "6"]
        assert [seen.form["pid"] for seen in wire.seen] == ["5,6,7", "6", "7"]


def test_a_destination_whmcs_does_not_know_is_left_out() -> None:
    link = "https://billing.example/oauth/singlesignon.php?access_token=x"
    acts = [
        answer({"result": "error", "message": "Invalid destination"}),
        answer({"result": "success", "access_token": "x", "redirect_url": link}),
    ]
    with talking_to(*acts) as (wire, client):
        assert client.sso_link("1", "clientarea:nowhere") == link
        assert "destination" not in wire.seen[1].form
    script = answer({"result": "success", "redirect_url": "javascript:alert(1)"})
    with talking_to(script) as (_, client), pytest.raises(UpstreamError):
        client.sso_link("1")


# --- the pretend WHMCS ---------------------------------------------------------------------------------


SEED = {
    "clients": [
        {
            "id": 1,
            "firstname": "Ada",
            "lastname": "L",
            "email": "ada@example.com",
            "address1": "1 St",
            "city": "X",
            "state": "Y",
            "postcode": "1",
            "country": "GB",
            "phonenumber": "1",
            "defaultgateway": "stripe",
        },
        {
            "id": 2,
            "firstname": "Bob",
            "lastname": "B",
            "email": "bob@example.com",
            "address1": "1 St",
            "city": "X",
            "state": "Y",
            "postcode": "1",
            "country": "GB",
            "phonenumber": "1",
        },
    ],
    "products": [
        {
            "id": 5,
            "name": "Starter",
            "pricing": {"monthly": "10.00", "annually": "100.00"},
            "customfields": [{"id": 101, "name": "Salesforce Order"}],
        },
        {"id": 6, "name": "Setup", "paytype": "onetime", "pricing": {"monthly": "50.00"}},
    ],
    "paymethods": [{"userid": 1, "type": "RemoteCreditCard", "gateway_name": "stripe", "remote_token": "tok_canary"}],
}


@pytest.fixture(params=["strings", "ints"])
def pretend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Whmcs, WhmcsClient]]:
    empty = "object" if request.param == "ints" else "string"
    with whmcs_sandbox(tmp_path, ids=request.param, empty_lists=empty) as (sandbox, client):
        sandbox.seed(SEED)
        yield sandbox, client


def test_an_orders_life(pretend: tuple[Whmcs, WhmcsClient]) -> None:
    _, client = pretend
    sf_order_id = "801D000000K0fXOIAZ"
    products = client.products(["5", "6", "99"])
    assert [(product.pid, product.name) for product in products] == [("5", "Starter"), ("6", "Setup")]
    assert products[0].cycles >= {"monthly", "annually"}
    assert "biennially" not in products[0].cycles
    assert products[0].custom_fields == {"Salesforce Order": "101"}
    assert products[1].cycles == {"onetime"}

    assert client.services("1") == []
    lines = [
        OrderLine(pid="5", billing_cycle="annually", quantity=1, domain="ada.example"),
        OrderLine(pid="6", billing_cycle="onetime", quantity=1),
    ]
    added = client.add_order(
        "1",
        "stripe",
        lines,
        notes=external_reference(sf_order_id),
        custom_fields={"5": {"101": external_reference(sf_order_id)}},
    )
    assert len(added.service_ids) == 2
    order = client.order(added.order_id)
    assert order is not None
    assert (order.client_id, order.status) == ("1", "Pending")
    assert order.service_ids == added.service_ids
    assert order.line_item_count == 2
    assert order.invoice_known
    assert order.invoice_id == added.invoice_id
    assert bears_reference(order.notes, sf_order_id)
    assert client.orders_of("1") == [order]
    assert client.orders_of("2") == []
    assert client.order("999") is None

    client.accept_order(added.order_id)
    with pytest.raises(UpstreamError) as caught:
        client.accept_order(added.order_id)
    assert caught.value.permanent
    assert "Order ID not found or Status not Pending" in caught.value.message
    services = client.services("1")
    assert {service.id for service in services} == set(added.service_ids)
    assert {service.status for service in services} <= {"Active", "Completed"}
    first = next(service for service in services if service.pid == "5")
    assert (first.order_id, first.domain, first.name) == (added.order_id, "ada.example", "Starter")
    assert first.custom_fields == {"Salesforce Order": external_reference(sf_order_id)}
    assert client.services("1", first.id) == [first]
    assert client.invoice_status(added.invoice_id or "") == "Unpaid"
    assert client.invoice_status("999") is None
    client.module_create(first.id)

    stray = client.add_order("1", "stripe", LINES, notes="", custom_fields={})
    client.cancel_order(stray.order_id)
    cancelled = client.order(stray.order_id)
    assert cancelled is not None
    assert cancelled.status == "Cancelled"


def test_clients_and_their_payment_methods(pretend: tuple[Whmcs, WhmcsClient]) -> None:
    _, client = pretend
    found = client.client(client_id="1")
    assert found is not None
    assert (found.id, found.email, found.status, found.default_gateway) == ("1", "ada@example.com", "Active", "stripe")
    assert client.client(email="ADA@example.com") == found
    assert client.client(client_id="77") is None
    assert client.client(email="nobody@example.com") is None
    methods = client.pay_methods("1")
    assert [(method.type, method.gateway) for method in methods] == [("RemoteCreditCard", "stripe")]
    assert "tok_canary" not in repr(methods)
    assert client.pay_methods("2") == []
    made = client.add_client(
        {
            "firstname": "Cy",
            "lastname": "C",
            "email": "cy@example.com",
            "address1": "2 St",
            "city": "X",
            "state": "Y",
            "postcode": "1",
            "country": "GB",
            "phonenumber": "2",
        }
    )
    assert client.client(email="cy@example.com") == client.client(client_id=made)
    with pytest.raises(UpstreamError) as caught:
        client.add_client(
            {
                "firstname": "Cy",
                "lastname": "C",
                "email": "cy@example.com",
                "address1": "2 St",
                "city": "X",
                "state": "Y",
                "postcode": "1",
                "country": "GB",
                "phonenumber": "2",
            }
        )
    assert caught.value.permanent
    assert client.sso_link(made).startswith("http")
    assert {"stripe", "mailin"} <= {gateway.module for gateway in client.payment_gateways()}


def test_hundreds_of_unordered_orders_are_all_seen(tmp_path: Path) -> None:
    with whmcs_sandbox(tmp_path, unordered=True) as (sandbox, client):
        sandbox.seed(SEED)
        sandbox.seed({"orders": [{"id": number, "userid": 1} for number in range(1, 612)]})
        # Pages shuffled against each other need not add up; when they don't, that must be said.
        try:
            orders = client.orders_of("1")
        except UpstreamError as error:
            assert error.code == "listing_unstable"
        else:
            assert {order.id for order in orders} == {str(number) for number in range(1, 612)}
        assert len(client.orders_of("2")) == 0


def test_an_order_that_commits_although_its_answer_was_lost(pretend: tuple[Whmcs, WhmcsClient]) -> None:
    sandbox, client = pretend
    sandbox.faults.add({"kind": "drop_after", "action": "AddOrder"})
    with pytest.raises(UpstreamError) as caught:
        add_order(client)
    assert caught.value.unknown
    assert [bears_reference(order.notes, "801D000000K0fXOIAZ") for order in client.orders_of("1")] == [True]


# --- words -----------------------------------------------------------------------------------------------------

READS: dict[str, Callable[[WhmcsClient], Any]] = {
    "GetClientsDetails": lambda client: client.client(client_id="7"),
    "GetPayMethods": lambda client: client.pay_methods("7"),
    "GetClientsProducts": lambda client: client.services("7"),
    "GetOrders": lambda client: client.orders_of("7"),
    "GetProducts": lambda client: client.products(["5"]),
    "GetInvoice": lambda client: client.invoice_status("9"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("SQLSTATE[HY000] [2002] Connection refused", "trouble_of_the_moment"),
        ("Down for Maintenance (Err 3)", "trouble_of_the_moment"),
        ("", "trouble_of_the_moment"),
        ("Please try again", "unknown_words"),
        ("Call to undefined function", "unknown_words"),
        ("The server said: client not found in its cache", "unknown_words"),
    ],
)
def test_unknown_words_on_a_read_are_passing_trouble(read: Callable[[WhmcsClient], Any], words: str, code: str) -> None:
    with (
        talking_to(answer({"result": "error", "message": words})) as (_, client),
        pytest.raises(UpstreamError) as caught,
    ):
        read(client)
    error = caught.value
    assert (error.permanent, error.unknown, error.setup, error.code) == (False, False, None, code)


def test_the_few_words_that_are_final_for_a_read() -> None:
    def said(words: str) -> Any:
        return talking_to(answer({"result": "error", "message": words}))

    for words in ("Client Not Found", "Client ID Not Found."):
        for action in ("GetPayMethods", "GetClientsProducts"):
            with said(words) as (_, client), pytest.raises(UpstreamError) as caught:
                READS[action](client)
            assert (caught.value.permanent, caught.value.code) == (True, "client_not_found")
        with said(words) as (_, client):
            assert client.client(client_id="7") is None
    with said("Order ID Not Found") as (_, client):
        assert client.order("7") is None
    with said("Invoice ID Not Found") as (_, client):
        assert client.invoice_status("7") is None


@pytest.mark.parametrize("read", [read for action, read in READS.items() if action != "GetClientsDetails"])
@pytest.mark.parametrize("body", [{"result": "success", "warning": "Deprecated"}, {"warning": "Deprecated"}])
def test_a_bare_warning_says_nothing_about_what_there_is(read: Callable[[WhmcsClient], Any], body: Any) -> None:
    with talking_to(answer(body)) as (_, client), pytest.raises(UpstreamError) as caught:
        read(client)
    assert not caught.value.permanent and caught.value.code in ("unexpected_answer", "no_result")


def test_a_bare_warning_leaves_an_effect_unknown() -> None:
    for call in (add_order, lambda client: client.accept_order("7")):
        with talking_to(answer({"warning": "Deprecated"})) as (_, client), pytest.raises(UpstreamError) as caught:
            call(client)
        assert (caught.value.unknown, caught.value.permanent, caught.value.code) == (True, False, "no_result")


@pytest.mark.parametrize(
    ("words", "permanent"),
    [
        ("Client ID Not Found", True),
        ("Unable to add order when client status is Closed", True),
        ("Invalid Payment Method. Valid options include mailin,paypal", True),
        ("No items added to cart so order cannot proceed", True),
        ("Expecting parameter 'pid' to be an array", True),
        ("Deadlock found when trying to get lock", False),
        ("A hook says no", False),
    ],
)
def test_add_order_is_refused_for_good_in_documented_words_only(words: str, permanent: bool) -> None:
    with (
        talking_to(answer({"result": "error", "message": words})) as (_, client),
        pytest.raises(UpstreamError) as caught,
    ):
        add_order(client)
    error = caught.value
    assert (error.permanent, error.unknown, error.action) == (permanent, False, "AddOrder")
    assert words in error.message


@pytest.mark.parametrize(
    ("words", "permanent"),
    [
        ("Order ID not found or Status not Pending", True),
        ("Could not connect to the server", True),
        ("The account already exists", True),
        ("SQLSTATE[40001]: Serialization failure: 1213 Deadlock found", False),
        ("Down for Maintenance (Err 3)", False),
    ],
)
def test_a_modules_words_refuse_an_acceptance_and_whmcs_own_trouble_does_not(words: str, permanent: bool) -> None:
    with (
        talking_to(answer({"result": "error", "message": words})) as (_, client),
        pytest.raises(UpstreamError) as caught,
    ):
        client.accept_order("7")
    assert (caught.value.permanent, caught.value.unknown) == (permanent, False)
    assert not permanent or words in caught.value.message


@pytest.mark.parametrize(
    ("status", "words", "setup"),
    [
        (403, "Invalid IP 203.0.113.9", Setup.SIDE),
        (403, "Authentication Failed", Setup.SIDE),
        (200, "Invalid or missing credentials", Setup.SIDE),
        (403, 'Invalid Permissions: API action "getorders" is not allowed', Setup.ACTION),
        (200, 'Invalid API Action: "getorders" is not a valid API action', Setup.ACTION),
    ],
)
def test_what_concerns_the_installation_is_its_set_up(status: int, words: str, setup: Setup) -> None:
    act = answer({"result": "error", "message": words}, status)
    with talking_to(act) as (_, client), pytest.raises(UpstreamError) as caught:
        client.orders_of("7")
    assert (caught.value.setup, caught.value.permanent, caught.value.code) == (setup, False, "auth")
    assert words in caught.value.message
