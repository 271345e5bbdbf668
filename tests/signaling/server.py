"""A real signalling server for tests: in this process on a free port, or as a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pemus_signaling.server import Server
from pemus_signaling.settings import Settings

ADDRESS = "127.0.0.1"


@asynccontextmanager
async def running(
    prepare: Callable[[Server], None] | None = None, **settings: Any
) -> AsyncIterator[Server]:
    """Run a server in this process. `prepare` may add routes to its front before it starts."""
    server = Server(
        Settings(**{"host": ADDRESS, "port": 0, "retry_after": 0.0, **settings})
    )
    if prepare is not None:
        prepare(server)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def http(server: Server, path: str) -> str:
    """Return the address of a page."""
    return f"http://{ADDRESS}:{server.port}{path}"


def ws(server: Server, path: str) -> str:
    """Return the address of a WebSocket."""
    return f"ws://{ADDRESS}:{server.port}{path}"
