"""Friends: pairing, blocked homes, and what the local network shows."""

from __future__ import annotations

from aiohttp import web

from ..models.homes import LanHomes, PairingAnswer, PairingQuery
from .requests import COMPONENTS, answer, body, done, quick

routes = web.RouteTableDef()


@routes.post("/v1/pairings")
@quick
async def request_pairing(request: web.Request) -> web.Response:
    """Ask another home to become a friend."""
    query = await body(request, PairingQuery)
    pairings = request.app[COMPONENTS].friends.pairings
    return answer(pairings.request(query.home, trusted=query.trusted), status=201)


@routes.put("/v1/pairings/{home}/answer")
@quick
async def answer_pairing(request: web.Request) -> web.Response:
    """Accept or refuse a pairing."""
    reply = await body(request, PairingAnswer)
    request.app[COMPONENTS].friends.pairings.answer(
        request.match_info["home"],
        accept=reply.accept,
        block=reply.block,
        words=reply.words,
    )
    return done()


@routes.delete("/v1/pairings/{home}")
@quick
async def forget_pairing(request: web.Request) -> web.Response:
    """Take a request back, or forget how a pairing ended."""
    request.app[COMPONENTS].friends.pairings.forget(request.match_info["home"])
    return done()


@routes.delete("/v1/blocked/{home}")
@quick
async def unblock(request: web.Request) -> web.Response:
    """Show a home's requests again."""
    request.app[COMPONENTS].friends.pairings.unblock(request.match_info["home"])
    return done()


@routes.put("/v1/lan")
@quick
async def lan_homes(request: web.Request) -> web.Response:
    """Take note of all homes that the local network shows now."""
    shown = await body(request, LanHomes)
    request.app[COMPONENTS].friends.connections.show(shown.homes)
    return done()


@routes.put("/v1/network")
@quick
async def network_changed(request: web.Request) -> web.Response:
    """Try everything again at once that waits for a connection, also after another home used the same identity."""
    request.app[COMPONENTS].friends.resume()
    return done()
