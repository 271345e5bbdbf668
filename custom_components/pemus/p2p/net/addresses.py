"""IP addresses: their notation, and whether they belong to the local network."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import ifaddr


def read_address(text: str) -> IPv4Address | IPv6Address:
    """Return the address in a text, with an IPv4-mapped IPv6 address as IPv4. Raises ValueError.

    A socket for both families reports IPv4 addresses as mapped ones (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2).
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_near(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address can be one of the local network: private, or in one of this machine's own networks."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified or address.is_multicast:
        return False
    # Homes on one machine connect over loopback. Nothing else there answers such a request.
    if address.is_private or address.is_link_local or address.is_loopback:
        return True
    return any(address in network for network in _networks())


def _networks() -> list[Any]:
    found = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            text = each.ip if isinstance(each.ip, str) else each.ip[0]
            with suppress(ValueError):
                found.append(ip_network(f"{text}/{each.network_prefix}", strict=False))
    return found
