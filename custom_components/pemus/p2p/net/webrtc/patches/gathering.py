"""Limits how long a connection gathers its own addresses, and lets what it started finish.

aioice waits five seconds for STUN and TURN servers, and aiortc cannot set another limit. When the gathering is
cancelled, aioice abandons its requests: a TURN server may have allocated a relay by then, which nobody gives back. A
related report is https://github.com/aiortc/aioice/issues/78.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from aioice import Candidate
from aioice.ice import Connection

GATHERING_TIMEOUT: Final = 2
"""Seconds to wait for STUN and TURN servers. Both homes continue with the addresses that are known by then."""


class Gathering:
    """Replaces how an ICE connection gathers its candidates."""

    def __init__(self, ice: Connection) -> None:
        """Patch a connection that has not gathered anything yet."""
        self._gather = partial(ice.get_component_candidates, timeout=GATHERING_TIMEOUT)
        self._task: asyncio.Task[list[Candidate]] | None = None
        ice.get_component_candidates = self._shielded  # type: ignore[method-assign, assignment]

    async def finished(self) -> None:
        """Wait until nothing is being gathered, so that closing the connection gives everything back."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _shielded(self, component: int, addresses: list[str]) -> list[Candidate]:
        """Gather to the end, also if the caller is cancelled."""
        work = self._gather(component=component, addresses=addresses)
        self._task = asyncio.create_task(work, name="gather candidates")
        return await asyncio.shield(self._task)
