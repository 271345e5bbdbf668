"""IP addresses as people know them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def read_address(text: str) -> IPv4Address | IPv6Address:
    """Return the address in a text. Raises ValueError.

    A socket for both families writes an IPv4 address as an IPv6 one (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2): that is
    the IPv4 address here.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
