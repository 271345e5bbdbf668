"""A channel to another home that somebody on this machine holds: a WebSocket whose messages are the channel's.

Who may connect to the engine's socket may carry what two engines have to say to each other before they meet. Tools and
tests do so; homes that are linked have their link for it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import WSMsgType, web

from ..core.errors import BadRequest
from ..models.homes import is_home
from .backend import Backend

MAX_MESSAGE: Final = 64 * 1024
SEND_TIMEOUT: Final = 10
HEARTBEAT: Final = 10


async def carry(backend: Backend, request: web.Request) -> web.WebSocketResponse:
    """Serve a channel until whoever holds it leaves."""
    home = request.match_info["home"]
    if not is_home(home) or home == backend.home():
        raise BadRequest("the other end is not another home")
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MAX_MESSAGE)

    async def send(message: bytes) -> None:
        async with asyncio.timeout(SEND_TIMEOUT):
            await socket.send_bytes(message)

    await socket.prepare(request)
    async with backend.channel(home, send) as receive:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                receive(message.data)
    return socket
