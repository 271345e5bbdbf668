"""The addresses of clients, also behind proxies, and the origins that clients connect to."""

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
    """A set of networks."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Parse networks like `10.0.0.0/8`. Raises ValueError."""
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(network) for network in networks
        ]

    def __contains__(self, address: str) -> bool:
        """Return whether an address is in one of the networks. False if it is not an address."""
        if not self._networks or (known := read_address(address)) is None:
            return False
        return any(known in network for network in self._networks)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client of a request. These networks contain the trusted proxies.

        `peer` is the other end of the connection, `forwarded` are the values of X-Forwarded-For. Each proxy appends the
        address that it got the request from. So the values are trusted from the right as long as trusted proxies added
        them. Values further left may be forged.
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
    """Parse an IP address. IPv4-mapped ones (RFC 4291, section 2.5.5.2) become IPv4. Return None if it is not an address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def plain_address(text: str) -> str:
    """Return an address of a socket without its interface. IPv4-mapped ones become IPv4."""
    text = text.partition("%")[0]
    return text[len(_MAPPED) :] if text.startswith(_MAPPED) and "." in text else text


def household(address: str) -> str:
    """Return what limits count as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    if ":" not in address:
        return address
    known = read_address(address)
    if not isinstance(known, IPv6Address):
        return str(known)
    return str(IPv6Network((int(known) >> _IPV6_PREFIX << _IPV6_PREFIX, _IPV6_PREFIX)))


def network_of(address: str) -> str:
    """Return what totals count as one network: /24 for IPv4, or /48 for IPv6, the largest that one customer gets.

    Behind CGNAT, it may have thousands of customers.
    """
    known = read_address(address)
    if known is None:
        return address
    prefix = 24 if known.version == 4 else 48
    return str(ip_network(f"{known}/{prefix}", strict=False))


class Origins:
    """The origins (RFC 6454) of this server."""

    def __init__(self, origins: Sequence[str]) -> None:
        """Set the origins. Without any, only clients that connect to a literal address have an origin."""
        self._origins = origins

    def seen_by(
        self, host: str, local: str, port: int, *, secure: bool, proxied: bool
    ) -> str:
        """Return the origin that a client connected to, or an empty string if it is not one of this server.

        `host` is the Host of the request, `local` and `port` are the local end of the connection, `secure` means TLS, and
        `proxied` means that a proxy forwarded the request.
        """
        for origin in self._origins:
            if origin.partition("://")[2] == host.lower():
                return origin
        literal = (
            ""
            if proxied
            else _literal(host, local, port, "https" if secure else "http")
        )
        # A proxy may change the Host. The client signs the origin that it knows, so a wrong guess here only makes the proof
        # fail.
        return literal or (self._origins[0] if self._origins else "")


def _literal(host: str, local: str, port: int, scheme: str) -> str:
    """Return the origin of a client whose Host is the address that it connected to, otherwise an empty string."""
    if host == f"{local}:{port}":
        # The common case.
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
