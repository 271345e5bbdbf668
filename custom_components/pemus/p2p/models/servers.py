"""Addresses of signalling servers, as people type them and as they are kept."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
import re
from typing import Final

from yarl import URL

MAX_URL: Final = 500
"""Characters of an address."""

_HOST: Final = re.compile(
    r"(?!.{254})[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


def server_url(text: str) -> str:
    """Return a signalling server's address as it is kept: like `https://signal.example/path/`.

    Raises ValueError with a message for whoever typed it.
    """
    text = text.strip()
    if not text.lower().startswith(("https://", "http://")):
        raise ValueError("The address has to begin with https:// or http://.")
    if len(text) > MAX_URL:
        raise ValueError("The address is too long.")
    if "?" in text or "#" in text:
        raise ValueError("The address may have a path, but nothing behind it.")
    if "@" in text:
        raise ValueError("The address must not have a user name.")
    try:
        url = URL(text)
    except ValueError:
        raise ValueError("This is not an address.") from None
    if not _is_host(url.raw_host or "") or not url.port:
        raise ValueError("The address does not name a host that there can be.")
    if not _PATH.fullmatch(url.raw_path):
        raise ValueError("The path of the address has characters that do not belong.")
    return str(url.with_path(f"{url.path.rstrip('/')}/"))


def _is_host(text: str) -> bool:
    with suppress(ValueError):
        return "%" not in text and bool(ip_address(text))
    return _HOST.fullmatch(text) is not None
