"""The STUN and TURN servers that a signalling server offers: checked, and kept for as long as they are valid."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
import re
import time
from typing import Final

from ..addresses import is_near
from ..webrtc.ice import IceServer

MAX_VALIDITY: Final = 3600.0
"""Seconds for which credentials are valid, and the longest time that is believed."""
RENEW_MARGIN: Final = 300.0
"""Seconds before credentials expire in which new ones are requested."""
RETRY_PAUSE: Final = 30.0
"""Seconds until a server that offered none is asked again."""
MAX_SERVERS: Final = 8
MAX_URLS: Final = 8
"""URLs of one server."""
MAX_HOSTS: Final = 8
"""Hosts of all servers together that are resolved."""
MAX_TEXT: Final = 512
"""Characters of a user name or a credential."""

_MIN_VALIDITY: Final = 60.0
_HOST: Final = "[A-Za-z0-9._-]{1,253}"
_URL: Final = re.compile(
    rf"stuns?:{_HOST}(:(?P<stun>[0-9]{{1,5}}))?|turns?:{_HOST}(:(?P<turn>[0-9]{{1,5}}))?(\?transport=(udp|tcp))?"
)
"""aiortc makes no connection at all with a URL that it does not support, such as one with an IPv6 address."""


class Credentials:
    """The last credentials of one signalling server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with none. The clock returns seconds and never goes back."""
        self._clock = clock
        self._servers: tuple[IceServer, ...] = ()
        self._ask_at = self._ends_at = float("-inf")

    @property
    def servers(self) -> tuple[IceServer, ...]:
        """The servers that are valid at present."""
        return self._servers if self._clock() < self._ends_at else ()

    @property
    def are_wanted(self) -> bool:
        """Whether it is time to request new ones."""
        return self._clock() >= self._ask_at

    def keep(self, answer: object, refused: Collection[str] = ()) -> None:
        """Replace the credentials by those in a response, if there are any in it. Hosts in `refused` are ignored."""
        servers = _without(read_ice_servers(answer), refused)
        if not servers or not isinstance(answer, dict):
            self.put_off()
            return
        life = validity(answer.get("expires"))
        now = self._clock()
        self._servers, self._ends_at = servers, now + life
        self._ask_at = now + max(life - RENEW_MARGIN, life / 2)

    def put_off(self) -> None:
        """Request none for a while, because the server has none at present."""
        self._ask_at = self._clock() + RETRY_PAUSE

    def forget(self) -> None:
        """Drop all credentials."""
        self._servers = ()
        self._ask_at = self._ends_at = float("-inf")


def validity(expires: object) -> float:
    """Return the seconds until a time since the Unix epoch, which a server gave as the end of something's validity.

    The usual time is returned for a time that makes no sense, because one of the two clocks is wrong then.
    """
    if not isinstance(expires, int | float):
        return MAX_VALIDITY
    left = expires - time.time()
    return min(left, MAX_VALIDITY) if left >= _MIN_VALIDITY else MAX_VALIDITY


def read_ice_servers(answer: object) -> tuple[IceServer, ...]:
    """Return the valid servers in a response."""
    listed = answer.get("iceServers") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        return ()
    read = (_read_server(each) for each in listed[:MAX_SERVERS])
    return tuple(server for server in read if server is not None)


async def hosts_inside(answer: object) -> set[str]:
    """Return the hosts in a response that are not known to be on the public internet.

    A public signalling server must not name them: the home would connect to its own network, or to itself, for somebody
    else.
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
    """Tell whether an IP address is on the public internet, and not in this home's own network."""
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
