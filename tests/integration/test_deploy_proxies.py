"""deploy/'s nginx and Caddy in front of the running portal: the right address, no token in a log, never a bare 502."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.deploy.proxies import Caddy, Nginx, Proxy
from tests.deploy.tools import free_port
from tests.webhooks.callout import Call
from tests.webhooks.running import RunningPortal

pytestmark = [
    pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="nginx isn't installed"),
    pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy isn't installed"),
]

#: Loopback has more addresses than one: this one may call, the proxy (127.0.0.1) is trusted, others may not.
ALLOWED = "127.0.0.2"
#: A client beyond a load balancer.
FAR_AWAY = "203.0.113.9"


def portal(folder: Path, base_url: str) -> RunningPortal:
    return RunningPortal(
        folder,
        PORTAL_BASE_URL=base_url,
        TRUSTED_PROXIES="127.0.0.1",
        SF_WEBHOOK_IP_ALLOWLIST=f"{ALLOWED},{FAR_AWAY}",
        WEB_CONCURRENCY="1",
    )


@pytest.fixture(scope="module")
def at_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    with portal(tmp_path_factory.mktemp("at-root"), "https://portal.example.com") as running:
        yield running


@pytest.fixture(scope="module")
def under_prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    with portal(tmp_path_factory.mktemp("prefix"), "https://www.example.com/portal") as running:
        yield running


def nobody() -> str:
    return f"127.0.0.1:{free_port()}"


Make = Callable[..., Proxy]
KINDS = {
    "nginx": lambda folder, upstreams: Nginx(folder, "site.conf", upstreams),
    "plesk": lambda folder, upstreams: Nginx(folder, "plesk.conf", upstreams[::-1]),
    "caddy": lambda folder, upstreams: Caddy(folder, "Caddyfile", upstreams),
}
PREFIXED = {
    "nginx": lambda folder, upstreams: Nginx(folder, "site-with-prefix.conf", upstreams),
    "caddy": lambda folder, upstreams: Caddy(folder, "Caddyfile.prefix", upstreams),
}


def click(proxy: Proxy, *, source: str, prefix: str = "", host: str = "portal.example.com", **headers: str) -> int:
    """A signed call's status."""
    call = Call()
    body = call.body()
    sent = {**call.headers(body), "Prefer": "respond-async", **headers}
    status, _, _ = proxy.ask("POST", prefix + call.path, body, sent, host=host, source=source)
    return status


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_call_gets_through_with_its_senders_address_and_no_other(
    make: Make, tmp_path: Path, at_root: RunningPortal
) -> None:
    with make(tmp_path / "proxy", [nobody(), f"127.0.0.1:{at_root.port}"]) as proxy:
        # The first web server of the two is away: nobody notices.
        proxy.wait_for_health_checks()
        for _ in range(4):
            assert click(proxy, source=ALLOWED) == 202
        assert click(proxy, source="127.0.0.3") == 403
        forged = {"X-Forwarded-For": ALLOWED, "Forwarded": f"for={ALLOWED}", "X-Real-IP": ALLOWED}
        assert click(proxy, source="127.0.0.3", **forged) == 403
        assert click(proxy, source=ALLOWED, Forwarded="for=198.51.100.1") == 202


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_pages_know_their_host_and_that_it_is_https(make: Make, tmp_path: Path, at_root: RunningPortal) -> None:
    with make(tmp_path / "proxy", [nobody(), f"127.0.0.1:{at_root.port}"]) as proxy:
        status, headers, body = proxy.ask("GET", "/sign-in")
        assert status == 200
        assert b"<form" in body
        assert "secure" in headers["set-cookie"].lower()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_while_no_web_server_answers_it_says_when_to_come_again_and_logs_no_token(make: Make, tmp_path: Path) -> None:
    with make(tmp_path / "proxy", [nobody(), nobody()]) as proxy:
        for method, path in (
            ("POST", Call().path),
            ("GET", "/sign-in/link/abc.TOKEN-1"),
            ("GET", "/o/TOKEN-2?x=TOKEN-3"),
        ):
            status, headers, _ = proxy.ask(method, path, None, {"Referer": "https://portal.example.com/o/TOKEN-4"})
            assert status == 503
            assert int(headers["retry-after"]) > 0
    assert "TOKEN" not in proxy.logs()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_served_link_leaves_no_token_in_the_log(make: Make, tmp_path: Path, at_root: RunningPortal) -> None:
    with make(tmp_path / "proxy", [nobody(), f"127.0.0.1:{at_root.port}"]) as proxy:
        status, _, _ = proxy.ask("GET", "/sign-in/link/abc.TOKEN")
        assert status < 500
        assert proxy.ask("GET", "/health/live")[0] == 200
    assert "TOKEN" not in proxy.logs()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_what_is_too_large_is_refused(make: Make, tmp_path: Path, at_root: RunningPortal) -> None:
    with make(tmp_path / "proxy", [nobody(), f"127.0.0.1:{at_root.port}"]) as proxy:
        proxy.wait_for_health_checks()
        assert proxy.ask("POST", Call().path, b"x" * 80_000, source=ALLOWED)[0] == 413


@pytest.mark.parametrize("make", PREFIXED.values(), ids=PREFIXED)
def test_under_a_path_of_another_site(make: Make, tmp_path: Path, under_prefix: RunningPortal) -> None:
    host = "www.example.com"
    with make(tmp_path / "proxy", [nobody(), f"127.0.0.1:{under_prefix.port}"]) as proxy:
        proxy.wait_for_health_checks()
        assert click(proxy, source=ALLOWED, prefix="/portal", host=host) == 202
        status, headers, body = proxy.ask("GET", "/portal/sign-in", host=host)
        assert status == 200
        assert b'action="/portal/sign-in"' in body
        assert "path=/portal" in headers["set-cookie"].lower()
        status, headers, _ = proxy.ask("GET", "/portal", host=host)
        assert status == 308
        assert headers["location"].endswith("/portal/")
        # The rest of the site isn't the portal's.
        assert proxy.ask("GET", "/sign-in", host=host)[0] == 404
        assert proxy.ask("GET", "/portal/o/TOKEN", host=host)[0] < 500
    assert "TOKEN" not in proxy.logs()


@pytest.mark.parametrize("make", PREFIXED.values(), ids=PREFIXED)
def test_under_a_path_it_says_when_to_come_again(make: Make, tmp_path: Path) -> None:
    with make(tmp_path / "proxy", [nobody(), nobody()]) as proxy:
        status, headers, _ = proxy.ask("GET", "/portal/o/TOKEN", host="www.example.com")
        assert status == 503
        assert int(headers["retry-after"]) > 0
    assert "TOKEN" not in proxy.logs()


def test_behind_a_load_balancer_the_client_is_whom_the_proxy_protocol_names(
    tmp_path: Path, at_root: RunningPortal
) -> None:
    upstreams = [nobody(), f"127.0.0.1:{at_root.port}"]
    with Nginx(tmp_path / "proxy", "site-behind-load-balancer.conf", upstreams) as proxy:
        for client, expected in ((FAR_AWAY, 202), ("203.0.113.10", 403)):
            call = Call()
            body = call.body()
            status, _, _ = proxy.ask(
                "POST",
                call.path,
                body,
                {**call.headers(body), "Prefer": "respond-async"},
                before_tls=f"PROXY TCP4 {client} 127.0.0.1 40000 443\r\n".encode(),
            )
            assert status == expected
    lines = [json.loads(line) for line in proxy.logs().splitlines() if line.startswith('{"time"')]
    assert {line["address"] for line in lines} == {FAR_AWAY, "203.0.113.10"}


def test_plain_http_is_sent_on_to_https(tmp_path: Path) -> None:
    with (
        Nginx(tmp_path / "proxy", "site.conf", [nobody(), nobody()]) as proxy,
        closing(HTTPConnection("127.0.0.1", proxy.plain_port, timeout=10)) as connection,
    ):
        connection.request("GET", "/orders?x=1", headers={"Host": "portal.example.com"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (301, "https://portal.example.com/orders?x=1")
