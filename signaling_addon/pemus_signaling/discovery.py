"""As an app of Home Assistant: tells its Supervisor where this server is, so that the integration finds it.

The Supervisor hands what it is told to Home Assistant, where it begins a config flow
(https://developers.home-assistant.io/docs/apps/communication). Nothing depends on it: without it, people type the address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
import logging
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

TOKEN: Final = "SUPERVISOR_TOKEN"  # noqa: S105
"""The environment variable by which an app knows that it is one."""
SUPERVISOR: Final = "http://supervisor"
SERVICE: Final = "pemus"
TIMEOUT: Final = 10.0
"""Seconds that the Supervisor has for an answer."""
ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 5.0
"""Seconds until the next attempt; twice as long each time."""

_LOGGER = logging.getLogger(__name__)


def whereabouts(
    port: int, path: str, origins: tuple[str, ...], *, secure: bool
) -> dict[str, Any]:
    """Return what the integration is told. App and Home Assistant share the host's network, so the host is the loopback."""
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
    """Tell the Supervisor, if need be several times. Return whether it took it. Raises nothing."""
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
                        _LOGGER.info("Home Assistant was told of this server")
                        return True
                    problem = f"status {response.status}"
                    # It will not think better of what it does not allow.
                    if response.status < 500:
                        break
            except (ClientError, OSError, TimeoutError) as error:
                problem = type(error).__name__
    _LOGGER.warning(
        "Home Assistant could not be told of this server (%s): enter its address there yourself",
        problem,
    )
    return False
