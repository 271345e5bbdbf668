"""Discovery: an app of Home Assistant tells the Supervisor where this server is, so that the integration finds it.

The Supervisor passes the message to Home Assistant, which starts a config flow
(https://developers.home-assistant.io/docs/apps/communication). If this fails, users enter the address themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
import logging
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

TOKEN: Final = "SUPERVISOR_TOKEN"  # noqa: S105
"""The environment variable with the token of an app."""
SUPERVISOR: Final = "http://supervisor"
SERVICE: Final = "pemus"
TIMEOUT: Final = 10.0
"""Time limit for an answer of the Supervisor, in seconds."""
ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 5.0
"""Seconds before the second attempt. They double each time."""

_LOGGER = logging.getLogger(__name__)


def describe(
    port: int, path: str, origins: tuple[str, ...], *, secure: bool
) -> dict[str, Any]:
    """Return the message for the integration. Apps and Home Assistant share the network of the host, so the host is loopback."""
    return {
        "host": "127.0.0.1",
        "port": port,
        "path": path,
        "ssl": secure,
        "origin": origins[0] if origins else None,
    }


async def announce(
    config: Mapping[str, Any], token: str, supervisor: str = SUPERVISOR
) -> bool:
    """Send a message to the Supervisor, with several attempts. Return whether it was accepted."""
    pause = FIRST_PAUSE
    headers = {"Authorization": f"Bearer {token}"}
    message = {"service": SERVICE, "config": dict(config)}
    async with ClientSession(
        timeout=ClientTimeout(total=TIMEOUT), headers=headers
    ) as session:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(pause)
                pause *= 2
            try:
                async with session.post(
                    f"{supervisor}/discovery", json=message
                ) as response:
                    if response.ok:
                        _LOGGER.info("Home Assistant knows this server now")
                        return True
                    problem = f"status {response.status}"
                    # Another attempt would fail too.
                    if response.status < 500:
                        break
            except (ClientError, OSError, TimeoutError) as error:
                problem = type(error).__name__
    _LOGGER.warning(
        "This server could not be announced to Home Assistant (%s). Enter its address there yourself",
        problem,
    )
    return False
