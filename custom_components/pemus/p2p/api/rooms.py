"""Rooms: who is there, and sending guests away. The rooms themselves come with the configuration."""

from __future__ import annotations

from aiohttp import web

from ..models.rooms import Guests
from .requests import COMPONENTS, answer, done, quick

routes = web.RouteTableDef()


@routes.get("/v1/rooms/{room}/guests")
@quick
async def guests(request: web.Request) -> web.Response:
    """Return the guests of a room."""
    rooms = request.app[COMPONENTS].rooms
    return answer(Guests(guests=rooms.guests(request.match_info["room"])))


@routes.delete("/v1/rooms/{room}/guests/{guest}")
@quick
async def disconnect(request: web.Request) -> web.Response:
    """Send a guest away."""
    rooms = request.app[COMPONENTS].rooms
    rooms.disconnect(request.match_info["room"], request.match_info["guest"])
    return done()
