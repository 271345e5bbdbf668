"""The configuration of coturn, including the networks that it must not relay to.

TURN sends packets from this machine to any address that a client names. So the configuration denies all networks that are not
part of the public internet, and all networks of this machine. Otherwise, a guest could reach devices in the operator's home.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
import re
import socket
from typing import Final

from pemus_signaling.net.interfaces import Interface, own_addresses

_SECRET: Final = re.compile(r"[\x21\x24-\x7e]{16,256}")
_REALM: Final = re.compile(r"[A-Za-z0-9._-]{1,120}")

# Networks that are not public, from IANA's registries of special-purpose addresses (RFC 6890).
_IPV4: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
# IPv6 uses only 2000::/3. Some networks embed IPv4 addresses, and would bypass the list above.
_IPV6: Final = (
    "::/3",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3ffe::/16",
    "3fff::/20",
    "4000::/2",
    "8000::/1",
)

type Network = IPv4Network | IPv6Network


class CoturnError(Exception):
    """coturn cannot run. The message says why."""


@dataclass(frozen=True, slots=True)
class CoturnSettings:
    """The settings of coturn. Raises ValueError if a value is invalid."""

    secret: str
    """Shared with the server that issues credentials."""
    realm: str = "pemus"
    port: int = 3478
    min_port: int = 49160
    """The first port for relaying. `max_port` is the last."""
    max_port: int = 49959
    external_ip: str | None = None
    """The public address of a machine behind NAT."""
    user_quota: int = 12
    """Allocations per user."""
    total_quota: int = 200
    max_bps: int = 2_500_000
    """Bytes per second of an allocation, in each direction. 0 means unlimited."""
    listen: tuple[str, ...] = ()
    """The addresses to listen on. Empty for all of this machine."""
    relay: tuple[str, ...] = ()
    """The addresses to relay from. If empty, the one with a route to the internet, IPv4 if possible.

    From other addresses, coturn could reach networks that no list contains, because routers trust their own side.
    """
    program: str = "turnserver"

    def __post_init__(self) -> None:
        """Check the texts. A line break in one would add a setting to the file."""
        if not _SECRET.fullmatch(self.secret):
            raise ValueError(
                "turn_secret: must be 16 to 256 printable characters without spaces and quotes"
            )
        if not _REALM.fullmatch(self.realm):
            raise ValueError("turn_realm: must be letters, digits, dots and dashes")
        for address in (
            *self.listen,
            *self.relay,
            *([self.external_ip] if self.external_ip else []),
        ):
            ip_address(address)


def configuration(
    settings: CoturnSettings,
    listen: Sequence[str],
    relay: Sequence[str],
    addresses: Iterable[Interface],
    folder: Path,
) -> list[str]:
    """Return the lines of the configuration file. `addresses` are those of this machine. coturn can write to `folder`."""
    lines = [
        f"listening-port={settings.port}",
        *(f"listening-ip={address}" for address in listen),
        *(f"relay-ip={address}" for address in relay),
        f"min-port={settings.min_port}",
        f"max-port={settings.max_port}",
        f"realm={settings.realm}",
        "use-auth-secret",
        f"static-auth-secret={settings.secret}",
        f"user-quota={settings.user_quota}",
        f"total-quota={settings.total_quota}",
        f"max-bps={settings.max_bps}",
        "stale-nonce=600",
        "fingerprint",
        "no-cli",
        "no-tls",
        "no-dtls",
        "no-tcp-relay",
        "no-multicast-peers",
        "no-rfc5780",
        "no-software-attribute",
        "no-dynamic-ip-list",
        "no-dynamic-realms",
        "no-auth-pings",
        "log-file=stdout",
        "simple-log",
        f"pidfile={folder / 'pid'}",
        # coturn requires a database, though this file has everything it needs.
        f"userdb={folder / 'users'}",
    ]
    if settings.external_ip is not None:
        version = ip_address(settings.external_ip).version
        inside = next(
            (address for address in relay if ip_address(address).version == version),
            None,
        )
        lines.append(
            f"external-ip={settings.external_ip}" + (f"/{inside}" if inside else "")
        )
    return lines + [
        f"denied-peer-ip={network[0]}-{network[-1]}"
        for network in denied_networks(addresses)
    ]


def denied_networks(addresses: Iterable[Interface]) -> list[Network]:
    """Return the networks to deny: those that are not public, and those of `addresses`.

    Some versions of coturn compare IPv6 addresses byte by byte, so each range must be one network. A range that starts with
    the address zero would also match every IPv4 address, so it is left out. coturn denies zero anyway.
    """
    zero = IPv6Network("::/128")
    networks: list[Network] = []
    for network in [
        *map(ip_network, (*_IPV4, *_IPV6)),
        *(address.network for address in addresses),
    ]:
        if not network.prefixlen:
            continue
        if isinstance(network, IPv6Network) and zero[0] in network:
            networks += sorted(network.address_exclude(zero))
        else:
            networks.append(network)
    return list(dict.fromkeys(networks))


def machine_addresses() -> frozenset[Interface]:
    """Return the addresses of this machine without link-local ones, which appear late and are not relayed. Raises CoturnError."""
    try:
        return frozenset(each for each in own_addresses() if not each.ip.is_link_local)
    except (OSError, AttributeError) as error:
        # Without them, the networks to deny are unknown.
        raise CoturnError("the addresses of this machine cannot be read") from error


def choose_addresses(
    settings: CoturnSettings, addresses: frozenset[Interface]
) -> tuple[list[str], list[str]]:
    """Return the addresses to listen on and those to relay from. Raises CoturnError."""
    usable = sorted(
        (each.ip for each in addresses if not each.ip.is_link_local),
        key=lambda ip: (ip.version, int(ip)),
    )
    public = [str(ip) for ip in usable if not ip.is_loopback]
    listen = list(settings.listen) or public
    relay = list(settings.relay)
    if not relay:
        for version in (4, 6):
            if (found := _outbound(version)) is not None and found in public:
                relay = [found]
                break
    if not listen or not relay:
        raise CoturnError("this machine has no address in a network")
    return listen, relay


def _outbound(version: int) -> str | None:
    """Return the address with the route to the internet. This sends no packet."""
    family, far = (
        (socket.AF_INET, "192.88.99.1")
        if version == 4
        else (socket.AF_INET6, "2000::1")
    )
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as outside:
            outside.connect((far, 9))
            return str(outside.getsockname()[0])
    except OSError:
        return None
