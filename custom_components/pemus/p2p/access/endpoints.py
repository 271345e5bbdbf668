"""Which IP addresses another home may be at.

Whoever makes a ticket says where this home's engine calls. No ticket of somebody else may lead to this machine, or to what
is no home: services that trust whoever reaches them listen there.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

type Address = IPv4Address | IPv6Address

_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""Prefixes behind which translators put IPv4 addresses (RFC 6052, RFC 8215)."""
_COMPATIBLE: Final = IPv6Network("::/96")
"""IPv4 addresses as IPv6 once wrote them (RFC 4291 section 2.5.5.1)."""
_NO_HOST: Final = (IPv4Network("0.0.0.0/8"), IPv4Network("240.0.0.0/4"))
"""This network, and what is reserved, the broadcast among it (RFC 6890)."""
_SITE_LOCAL: Final = IPv6Network("fec0::/10")


def target(address: Address) -> Address:
    """Return the address that is reached by one: that in an IPv6 address which stands for one of IPv4."""
    if isinstance(address, IPv4Address):
        return address
    if (mapped := address.ipv4_mapped or address.sixtofour) is not None:
        return mapped
    if address.teredo is not None:
        return address.teredo[1]
    is_old = address in _COMPATIBLE and int(address) > 1
    if is_old or any(address in network for network in _NAT64):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_own(address: Address) -> bool:
    """Tell whether an address leads to the machine that calls it."""
    return target(address).is_loopback


def is_elsewhere(address: Address) -> bool:
    """Tell whether an address may be that of an engine on another machine."""
    found = target(address)
    if isinstance(found, IPv4Address):
        strange = any(found in network for network in _NO_HOST)
    else:
        # The name of an interface makes sense to one machine only.
        strange = found.scope_id is not None or found in _SITE_LOCAL
    return not (
        strange
        or found.is_loopback
        or found.is_link_local
        or found.is_multicast
        or found.is_unspecified
    )
