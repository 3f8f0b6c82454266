"""A forwarding header counts only when a trusted proxy wrote it, and then only as far as such proxies wrote it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.web.client_address import allowed, inside, parse_address, sender

PROXIES = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "fd00::/8", "127.0.0.1")]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "forwarded", "found"),
    [
        ("198.51.100.7", None, None, "198.51.100.7"),
        # nobody is believed who isn't trusted
        ("198.51.100.7", "13.108.0.1", None, "198.51.100.7"),
        ("198.51.100.7", None, "for=13.108.0.1", "198.51.100.7"),
        # a trusted proxy is, for its own entry: the right-most
        ("10.0.0.1", "13.108.0.1", None, "13.108.0.1"),
        ("10.0.0.1", "13.108.0.1, 198.51.100.7", None, "198.51.100.7"),
        ("10.0.0.1", "13.108.0.1, 198.51.100.7, 10.9.9.9", None, "198.51.100.7"),
        ("10.0.0.1", "10.1.1.1, 10.9.9.9", None, "10.1.1.1"),
        ("10.0.0.1", None, None, "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.7", None, "198.51.100.7"),
        ("fd00::1", "2001:db8::5", None, "2001:db8::5"),
        ("10.0.0.1", "::ffff:198.51.100.7", None, "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7:4711", None, "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::5]:4711", None, "2001:db8::5"),
        ("10.0.0.1", None, 'for="[2001:db8::5]:4711";proto=https', "2001:db8::5"),
        ("10.0.0.1", None, "for=13.108.0.1, For=198.51.100.7;by=10.0.0.1", "198.51.100.7"),
        ("10.0.0.1", None, 'for="13.108.0.1, for=198.51.100.7', "198.51.100.7"),  # a quote left open by a sender
        # what can't be read hides who sent it
        ("10.0.0.1", "13.108.0.1, unknown", None, None),
        ("10.0.0.1", "13.108.0.1,", None, None),
        ("10.0.0.1", "", None, None),
        ("10.0.0.1", None, "for=_hidden", None),
        ("10.0.0.1", None, "proto=https", None),
        ("10.0.0.1", None, "xfor=13.108.0.1", None),
        # two headers: only when they agree; else one of them came through unread
        ("10.0.0.1", "198.51.100.7", "for=198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7", "for=13.108.0.1", "10.0.0.1"),
        # a Unix socket's other end can only be a proxy on this host
        ("", "198.51.100.7", None, "198.51.100.7"),
        ("", None, None, None),
        ("garbage", "198.51.100.7", None, None),
    ],
)
def test_who_sent_it(peer: str, forwarded_for: str | None, forwarded: str | None, found: str | None) -> None:
    address = sender(peer, forwarded_for, forwarded, PROXIES)
    assert (None if address is None else str(address)) == found


def test_without_trusted_proxies_no_header_is_read() -> None:
    assert str(sender("10.0.0.1", "198.51.100.7", "for=198.51.100.7", [])) == "10.0.0.1"
    assert sender("", "198.51.100.7", None, []) is None


def test_networks() -> None:
    mapped = [ipaddress.ip_network("::ffff:192.0.2.0/120")]
    assert inside(parse_address("192.0.2.5"), mapped)
    assert not inside(parse_address("192.0.3.5"), mapped)
    assert inside(parse_address("::ffff:10.1.2.3"), PROXIES)
    assert not inside(parse_address("8.8.8.8"), [ipaddress.ip_network("::/0")])
    assert inside(parse_address("2001:db8::1%eth0"), [ipaddress.ip_network("2001:db8::/32")])
    assert not inside(None, PROXIES)


def test_an_empty_allowlist_lets_everybody_in_and_any_other_nobody_unknown() -> None:
    assert allowed(None, [])
    assert not allowed(None, PROXIES)
    assert allowed(parse_address("10.0.0.1"), PROXIES)
    assert not allowed(parse_address("8.8.8.8"), PROXIES)


@given(st.text(max_size=80), st.none() | st.text(max_size=120), st.none() | st.text(max_size=120))
def test_garbage_never_raises_and_never_makes_a_trusted_address(peer: str, one: str | None, two: str | None) -> None:
    found = sender(peer, one, two, PROXIES)
    if parse_address(peer) is None and peer:
        assert found is None


@given(st.lists(st.sampled_from(["10.0.0.2", "13.108.0.1", "198.51.100.7", "x", "fd00::2", ""]), max_size=6))
def test_what_a_sender_puts_in_front_changes_nothing(claimed: list[str]) -> None:
    header = ",".join([*claimed, "203.0.113.9"])
    assert str(sender("10.0.0.1", header, None, PROXIES)) == "203.0.113.9"
    assert str(sender("203.0.113.9", ",".join(claimed), None, PROXIES)) == "203.0.113.9"
