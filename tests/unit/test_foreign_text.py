"""Whatever a header or parameter holds, its reader gives a value or None, and never raises."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portal.customers.order_list import read_cursor
from portal.web.client_address import network_of, parse_address, sender
from portal.web.foreign_text import host_and_port, host_of_origin, storable
from portal.webhooks.taking import read_preference

#: Text with everything in it, and text made of what addresses are made of.
ANY = st.text(st.characters(), max_size=60) | st.text("http://[]:@%?#.0f\\ ٠\0\ud800-", max_size=40)


@given(ANY)
@example("http://[")
@example("[::1")
@example("a:99999999999999999999")
@example("1.2.3.4:٣")
def test_no_reader_of_a_header_raises(text: str) -> None:
    host_and_port(text)
    host_of_origin(text)
    parse_address(text)
    sender("127.0.0.1", text, text, (ipaddress.ip_network("127.0.0.0/8"),))
    read_preference(text, 25.0)
    read_cursor(text)


@given(ANY)
def test_a_host_that_is_read_is_the_one_a_url_has(text: str) -> None:
    found = host_and_port(text)
    if found is not None:
        parts = urlsplit(f"//{text}") if "[" not in text or _is_ip(found[0]) else None
        if parts is not None:
            assert (parts.hostname, parts.port) == found


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("shop.example", ("shop.example", None)),
        ("Shop.Example:8443", ("shop.example", 8443)),
        ("[::1]:80", ("::1", 80)),
        ("127.0.0.1:", ("127.0.0.1", None)),
        ("user@shop.example", None),
        ("shop.example:65536", None),
        ("shop.example/", None),
        ("[::1", None),
        ("", None),
    ],
)
def test_hosts(text: str, found: tuple[str, int | None] | None) -> None:
    assert host_and_port(text) == found


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://shop.example", "shop.example"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[", "["),  # equals no host
        ("ftp://shop.example", None),
        ("https://shop.example/", None),
        ("//shop.example", None),
        ("null", None),
        ("", None),
    ],
)
def test_origins(text: str, host: str | None) -> None:
    assert host_of_origin(text) == host


def test_what_no_database_takes() -> None:
    assert storable(["", "Ünïcode \U0001f680", "\x01\x7f"])
    for text in ("\0", "a\0b", "\ud800", "a\udfff"):
        assert not storable(["fine", text])


def test_addresses_of_one_ipv6_site_are_one_asker() -> None:
    def who(text: str) -> str:
        return network_of(parse_address(text))

    assert who("2001:db8:1:2::1") == who("2001:db8:1:2:ffff:ffff:ffff:ffff") == "2001:db8:1:2::/64"
    assert who("2001:db8:1:3::1") != who("2001:db8:1:2::1")
    assert who("192.0.2.1") == who("::ffff:192.0.2.1") == "192.0.2.1" != who("192.0.2.2")
    assert network_of(None) == "unknown"
