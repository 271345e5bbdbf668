"""What a signalling server hands out for STUN and TURN: read with care, and kept for as long as it is good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
import re
import time
from typing import Final

from ..lan import is_near
from ..webrtc.ice import IceServer

LIFE: Final = 3600.0
"""Seconds that credentials are good for, and no longer than that whatever is said."""
MARGIN: Final = 300.0
"""Seconds before their end in which they are handed out only if there are no newer ones."""
AGAIN: Final = 30.0
"""Seconds until a server that gave none is asked again."""
MAX_SERVERS: Final = 8
MAX_URLS: Final = 8
"""Of one server."""
MAX_HOSTS: Final = 8
"""Of all servers together, of those that are looked up."""
MAX_TEXT: Final = 512
"""Characters of a user name or a credential."""

_SHORTEST: Final = 60.0
_HOST: Final = "[A-Za-z0-9._-]{1,253}"
_URL: Final = re.compile(
    rf"stuns?:{_HOST}(:(?P<stun>[0-9]{{1,5}}))?|turns?:{_HOST}(:(?P<turn>[0-9]{{1,5}}))?(\?transport=(udp|tcp))?"
)
"""aiortc refuses to make any connection with what it does not understand, such as IPv6 addresses."""


class Credentials:
    """What a server handed out last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Have none. The clock tells seconds and never goes back."""
        self._clock = clock
        self._servers: tuple[IceServer, ...] = ()
        self._ask_at = self._ends_at = float("-inf")

    @property
    def servers(self) -> tuple[IceServer, ...]:
        """Those that are good at present."""
        return self._servers if self._clock() < self._ends_at else ()

    @property
    def are_wanted(self) -> bool:
        """Whether it is time to ask for others."""
        return self._clock() >= self._ask_at

    def keep(self, answer: object, refused: Collection[str] = ()) -> None:
        """Take the server's answer in the place of the former one. If there is nothing in it, that one is kept.

        Hosts that are `refused` are left out.
        """
        servers = _without(read_ice_servers(answer), refused)
        if not servers or not isinstance(answer, dict):
            self.put_off()
            return
        life = lasting(answer.get("expires"))
        now = self._clock()
        self._servers, self._ends_at = servers, now + life
        self._ask_at = now + max(life - MARGIN, life / 2)

    def put_off(self) -> None:
        """Ask no more for a while: the server has none at present."""
        self._ask_at = self._clock() + AGAIN

    def forget(self) -> None:
        """Have none."""
        self._servers = ()
        self._ask_at = self._ends_at = float("-inf")


def lasting(expires: object) -> float:
    """Return for how many seconds something is good that ends, by the server's clock, at this time since the Unix epoch.

    A time that makes no sense means the usual life: then one of the two clocks is wrong.
    """
    if not isinstance(expires, int | float):
        return LIFE
    left = expires - time.time()
    return min(left, LIFE) if left >= _SHORTEST else LIFE


def read_ice_servers(answer: object) -> tuple[IceServer, ...]:
    """Return the servers in an answer, without those that are not as they should be."""
    listed = answer.get("iceServers") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        return ()
    read = (_read_server(each) for each in listed[:MAX_SERVERS])
    return tuple(server for server in read if server is not None)


async def hosts_inside(answer: object) -> set[str]:
    """Return the hosts in an answer that are not out on the public internet, or of which that is not known.

    A server out there has no business at them: a home would connect to its own network, or to itself, for somebody else.
    """
    named = {_host(url) for each in read_ice_servers(answer) for url in each.urls}
    looked = sorted(named)[:MAX_HOSTS]
    found = await asyncio.gather(*map(_is_host_public, looked))
    public = {host for host, is_out in zip(looked, found, strict=True) if is_out}
    return named - public


async def _is_host_public(host: str) -> bool:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return all(is_public(str(place[0])) for *_, place in found)


def is_public(text: str) -> bool:
    """Tell whether an IP address is one of the public internet, and not in this home's own network."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_global and not address.is_multicast and not is_near(address)


def _host(url: str) -> str:
    return url.split(":")[1].partition("?")[0]


def _without(
    servers: tuple[IceServer, ...], hosts: Collection[str]
) -> tuple[IceServer, ...]:
    left = (
        replace(each, urls=tuple(url for url in each.urls if _host(url) not in hosts))
        for each in servers
    )
    return tuple(each for each in left if each.urls)


def _read_server(value: object) -> IceServer | None:
    if not isinstance(value, dict):
        return None
    listed = value.get("urls")
    if isinstance(listed, str):
        listed = [listed]
    if not isinstance(listed, list):
        return None
    urls = tuple(url for url in listed[:MAX_URLS] if _is_url(url))
    username, credential = value.get("username"), value.get("credential")
    if not urls or not _is_text(username) or not _is_text(credential):
        return None
    if any(url.startswith("turn") for url in urls) and not (username and credential):
        return None
    return IceServer(urls=urls, username=username, credential=credential)


def _is_url(value: object) -> bool:
    if not isinstance(value, str) or (found := _URL.fullmatch(value)) is None:
        return False
    port = found["stun"] or found["turn"]
    return port is None or 0 < int(port) < 65536


def _is_text(value: object) -> bool:
    return value is None or (
        isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()
    )
