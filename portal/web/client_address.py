"""Whose address a request really comes from, and whether it may come in.

A forwarding header is only as good as who wrote it: it counts when the peer itself is a proxy we were told to trust
(TRUSTED_PROXIES), and then only its right-most entry that isn't such a proxy. Anything else in it is a claim.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^\s;,"]*))\s*(?=;|$)', re.IGNORECASE)


def sender(
    peer: str, forwarded_for: str | None, forwarded: str | None, trusted: Sequence[IpNetwork]
) -> IpAddress | None:
    """The address to judge a request by; None when there is none to be known.

    peer: the socket's other end, "" for a Unix socket (which only a proxy on this host can be, so it counts as
    trusted once any proxy is); forwarded_for, forwarded: the headers, several of a kind joined by commas.
    Never raises, whatever the headers hold.
    """
    address = parse_address(peer)
    if not trusted or (address is not None and not inside(address, trusted)) or (address is None and peer):
        return address
    chains = []
    if forwarded_for is not None:
        chains.append([parse_address(entry) for entry in forwarded_for.split(",")])
    if forwarded is not None:
        chains.append([_forwarded_entry(entry) for entry in forwarded.split(",")])
    claims = {_right_most_untrusted(chain, address, trusted) for chain in chains}
    # Two headers that disagree: one of them came through the proxy unread, and which is unknown. Believe neither.
    return claims.pop() if len(claims) == 1 else address


@lru_cache(maxsize=1024)  # the same few senders and proxies, again and again
def parse_address(text: str) -> IpAddress | None:
    """An address, with or without port, brackets or zone; IPv4 written as IPv6 becomes IPv4. None for all else."""
    text = text.strip(" \t")
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not re.fullmatch(r":[0-9]{1,5}", port, re.ASCII)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):
            return None
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def inside(address: IpAddress | None, networks: Sequence[IpNetwork]) -> bool:
    """Whether the address is in any of the networks; an IPv4 network written as mapped IPv6 counts as well."""
    if address is None:
        return False
    candidates: list[IpAddress] = [address]
    if isinstance(address, ipaddress.IPv4Address):
        candidates.append(ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed))
    return any(
        candidate in network
        for network in networks
        for candidate in candidates
        if candidate.version == network.version and (candidate is address or network.prefixlen >= 96)
    )


@lru_cache(maxsize=1024)
def network_of(address: IpAddress | None) -> str:
    """What one asker is counted by: an IPv4 address, an IPv6 address's /64, "unknown" for None."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address.packed[:8] + bytes(8), 64)))
    return str(address or "unknown")


def allowed(address: IpAddress | None, networks: Sequence[IpNetwork]) -> bool:
    """Whether an allowlist lets this address in; an empty one lets everybody in."""
    return not networks or inside(address, networks)


def _right_most_untrusted(
    chain: Sequence[IpAddress | None], peer: IpAddress | None, trusted: Sequence[IpNetwork]
) -> IpAddress | None:
    nearest = peer
    for entry in reversed(chain):
        if entry is None:  # what the proxy saw can't be read ("unknown", "_hidden", garbage): then nobody is known
            return None
        if not inside(entry, trusted):
            return entry
        nearest = entry
    return nearest


def _forwarded_entry(entry: str) -> IpAddress | None:
    match = _FORWARDED_FOR.search(entry.strip(" \t"))
    return parse_address(match.group(1) if match.group(1) is not None else match.group(2)) if match else None
