"""Whose address a connection has, also behind proxies, and where its client believes to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
import re
from typing import Final

_AUTHORITY: Final = re.compile(
    r"(\[[0-9a-f:.]+\]|[a-z0-9._~-]+)(?::([0-9]{1,5}))?", re.IGNORECASE
)
_USUAL_PORT: Final = {"http": 80, "https": 443}
_MAPPED: Final = "::ffff:"
_IPV6_PREFIX: Final = 64


class Networks:
    """Networks that an address may be of."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Take networks like `10.0.0.0/8`. Raises ValueError."""
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(network) for network in networks
        ]

    def __contains__(self, address: str) -> bool:
        """Tell whether an address is of one of them. What is no address is not."""
        if not self._networks or (known := read_address(address)) is None:
            return False
        return any(known in network for network in self._networks)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of who began a request.

        `peer` is who sent it to us, `forwarded` are the values of its X-Forwarded-For. Each proxy adds whom it got the
        request from at the right, so what is believed goes from the right for as long as those who said it are proxies
        of these networks. What stands further left may be anybody's invention.
        """
        address = peer
        for hop in reversed(
            [hop.strip() for value in forwarded for hop in value.split(",")]
        ):
            if address not in self:
                break
            known = read_address(hop)
            if known is None:
                break
            address = str(known)
        return address


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address, an IPv4 one in IPv6's clothes (RFC 4291, section 2.5.5.2) as itself; None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def plain_address(text: str) -> str:
    """Return an address as the system tells it: without what interface it is on, and an IPv4 one as itself."""
    text = text.partition("%")[0]
    return text[len(_MAPPED) :] if text.startswith(_MAPPED) and "." in text else text


def household(address: str) -> str:
    """Return what limits count as one client: an IPv4 address, or the IPv6 network that one customer is given."""
    if ":" not in address:
        return address
    known = read_address(address)
    if not isinstance(known, IPv6Address):
        return str(known)
    return str(IPv6Network((int(known) >> _IPV6_PREFIX << _IPV6_PREFIX, _IPV6_PREFIX)))


def network_of(address: str) -> str:
    """Return what totals count as one network: 256 IPv4 addresses, or the IPv6 network that one customer is given at most.

    Behind the address translation of a carrier that may be thousands of customers.
    """
    known = read_address(address)
    if known is None:
        return address
    prefix = 24 if known.version == 4 else 48
    return str(ip_network(f"{known}/{prefix}", strict=False))


class Origins:
    """The server's own origins (RFC 6454), as its clients see them."""

    def __init__(self, origins: Sequence[str]) -> None:
        """Have these. Without any, an origin is only known to a client that connected to a literal address."""
        self._origins = origins

    def seen_by(
        self, host: str, local: str, port: int, *, secure: bool, proxied: bool
    ) -> str:
        """Return the origin that a client connected to, or an empty text if that is none of this server's.

        `host` is the request's Host, `local` and `port` are where the connection came in, `secure` is whether with TLS, and
        `proxied` is whether a proxy did it for the client.
        """
        for origin in self._origins:
            if origin.partition("://")[2] == host.lower():
                return origin
        literal = (
            ""
            if proxied
            else _literal(host, local, port, "https" if secure else "http")
        )
        # A proxy may tell another host than its client did. The client signs what it knows, so that a wrong guess proves
        # nothing to anybody.
        return literal or (self._origins[0] if self._origins else "")


def _literal(host: str, local: str, port: int, scheme: str) -> str:
    """Return the origin of a client that named the very address that it connected to."""
    if host == f"{local}:{port}":
        # What most who come this way say.
        return _origin(scheme, local, port)
    found = _AUTHORITY.fullmatch(host)
    here = read_address(local)
    if found is None or here is None or int(found[2] or _USUAL_PORT[scheme]) != port:
        return ""
    name = found[1].lower()
    if read_address(name.strip("[]")) == here or (
        name == "localhost" and here.is_loopback
    ):
        return _origin(scheme, name, port)
    return ""


def _origin(scheme: str, name: str, port: int) -> str:
    return (
        f"{scheme}://{name}"
        if port == _USUAL_PORT[scheme]
        else f"{scheme}://{name}:{port}"
    )
