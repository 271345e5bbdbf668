"""IP addresses in their usual notation."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def read_address(text: str) -> IPv4Address | IPv6Address:
    """Return the address in a text, with an IPv4-mapped IPv6 address as IPv4. Raises ValueError.

    A socket for both families reports IPv4 addresses as mapped ones (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2).
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
