"""A component for a Home Assistant that is measured: it tells how late the event loop was.

`GET /api/loop_lag` answers with the 99th percentile since the last question, in milliseconds.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from aiohttp import web
from homeassistant.components.http import HomeAssistantView
from homeassistant.core import HomeAssistant
from homeassistant.helpers.typing import ConfigType

PAUSE = 0.01
"""Seconds between two looks."""


class LagView(HomeAssistantView):
    """Tells what was seen."""

    url = "/api/loop_lag"
    name = "api:loop_lag"
    requires_auth = False

    def __init__(self) -> None:
        """Have seen nothing yet."""
        self._late: list[float] = []

    async def watch(self) -> None:
        """Look again and again."""
        while True:
            start = time.perf_counter()
            await asyncio.sleep(PAUSE)
            self._late.append(time.perf_counter() - start - PAUSE)

    async def get(self, request: web.Request) -> web.Response:
        """Answer, and forget."""
        late, self._late = self._late, []
        return self.json({"p99": statistics.quantiles(late, n=100)[98] * 1000})


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Begin to look."""
    view = LagView()
    hass.http.register_view(view)
    hass.async_create_background_task(view.watch(), "loop lag")
    return True
