"""What is fetched from friends: waiting for bytes, keeping copies, and how far everything is."""

from __future__ import annotations

from aiohttp import web

from ..core.errors import NotFound
from ..models import Arrived, WaitQuery
from ..models.transfers import Transfers
from .media import ITEM, item_ref
from .requests import COMPONENTS, answer, body, done, quick, slow

routes = web.RouteTableDef()


@routes.get("/v1/transfers")
@quick
async def transfers(request: web.Request) -> web.Response:
    """Return how far friends' items have arrived."""
    return answer(Transfers(items=request.app[COMPONENTS].downloads.list()))


@routes.put("/v1/streaming")
@quick
async def streaming(request: web.Request) -> web.Response:
    """Note that bytes of an item that is being played have just been sent."""
    swarm = request.app[COMPONENTS].active_swarm
    if swarm is not None:
        swarm.streaming()
    return done()


@routes.post(f"{ITEM}/wait")
@slow
async def wait(request: web.Request) -> web.Response:
    """Wait for bytes of an item. Return up to where they are there."""
    query = await body(request, WaitQuery)
    downloads = request.app[COMPONENTS].downloads
    stop = await downloads.wait(
        *_remote(request), query.reader, query.start, query.stop, path=query.path
    )
    return answer(Arrived(stop=stop))


@routes.delete(f"{ITEM}/readers/{{reader}}")
@quick
async def release(request: web.Request) -> web.Response:
    """Forget a reader."""
    downloads = request.app[COMPONENTS].downloads
    downloads.release(*_remote(request), request.match_info["reader"])
    return done()


@routes.put(f"{ITEM}/pin")
@slow
async def pin(request: web.Request) -> web.Response:
    """Fetch all of an item and keep it."""
    components = request.app[COMPONENTS]
    owner, item = _remote(request)
    await components.friends.friend(owner).items.prepare(item)
    return answer(await components.downloads.pin(owner, item))


@routes.delete(f"{ITEM}/pin")
@quick
async def unpin(request: web.Request) -> web.Response:
    """Keep an item no longer than others."""
    return answer(await request.app[COMPONENTS].downloads.unpin(*_remote(request)))


def _remote(request: web.Request) -> tuple[str, str]:
    """Return owner and id of the friend's item that a path names. Raises NotFound."""
    ref = item_ref(request)
    if ref.owner is None:
        raise NotFound("that is an item of this home, which is not fetched")
    return ref.owner, ref.id
