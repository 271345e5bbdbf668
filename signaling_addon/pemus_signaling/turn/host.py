"""Where clients reach coturn, for STUN and TURN."""

from __future__ import annotations

from ipaddress import ip_address
import re
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from pemus_signaling.net.answers import bad_request
from pemus_signaling.settings import Settings

_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,253}")


class TurnHost:
    """Where clients reach coturn."""

    def __init__(self, settings: Settings) -> None:
        """Take it from the settings, if they say so."""
        self._name = settings.turn_host
        if self._name is None and settings.origins:
            self._name = urlsplit(settings.origins[0]).hostname
        self._port = settings.turn_port

    def place(self, request: web.Request) -> str:
        """Return host and port, as URIs write them (RFC 7065). Raises Failure if the request does not name a host."""
        if self._name is not None:
            return f"{_written(self._name)}:{self._port}"
        name = request.url.host or ""
        if (written := _written(name)) and (":" in name or _NAME.fullmatch(name)):
            return f"{written}:{self._port}"
        raise bad_request("The request does not name a host.")

    def stun(self, request: web.Request) -> list[str]:
        """Return the URLs of STUN, which needs no credentials. Raises Failure."""
        return [f"stun:{self.place(request)}"]


def _written(host: str) -> str:
    """Return a host with brackets if it is an IPv6 address."""
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        return host
