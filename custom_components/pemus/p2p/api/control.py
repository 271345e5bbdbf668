"""The home itself: its state, its configuration, its identity."""

from __future__ import annotations

from aiohttp import web

from ..models import EngineConfig, Home
from .requests import HOME, answer, body, quick, slow

routes = web.RouteTableDef()


@routes.get("/v1/status")
@quick
async def status(request: web.Request) -> web.Response:
    """Return the present state."""
    return answer(request.app[HOME].status())


@routes.put("/v1/config")
@slow
async def configure(request: web.Request) -> web.Response:
    """Apply the differences between a configuration and what runs."""
    home = request.app[HOME]
    await home.configure(await body(request, EngineConfig))
    return answer(home.status())


@routes.put("/v1/identity")
@quick
async def restore_identity(request: web.Request) -> web.Response:
    """Load the key again, which may have been brought back."""
    return answer(Home(id=await request.app[HOME].restore_identity()))


@routes.post("/v1/identity")
@quick
async def new_identity(request: web.Request) -> web.Response:
    """Become another home, which no friend knows."""
    return answer(Home(id=await request.app[HOME].new_identity()))
