"""Media of this home and of friends: items with their files, the tree, and the search.

An item's path names its owner: a friend's PeMuS ID, or `self` for this home.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from .. import homes
from ..core.errors import NotFound
from ..models import SearchQuery
from ..models.items import ItemRef, owner_of
from .requests import COMPONENTS, HOME, answer, body, number, quick, slow

ITEM: Final = "/v1/items/{owner}/{item}"

routes = web.RouteTableDef()


def item_ref(request: web.Request) -> ItemRef:
    """Return the item that a path names. Raises NotFound."""
    ref = ItemRef.of_path(request.match_info["owner"], request.match_info["item"])
    if not ref.is_valid:
        raise NotFound("there is no such item")
    return ref


@routes.post("/v1/rescan")
@quick
async def rescan(request: web.Request) -> web.Response:
    """Begin to scan a share, or all of them."""
    request.app[COMPONENTS].library.rescan(request.query.get("share"))
    return answer(request.app[HOME].status(), status=202)


@routes.get(ITEM)
@quick
async def item(request: web.Request) -> web.Response:
    """Return an item."""
    ref = item_ref(request)
    media = homes.media_of(request.app[COMPONENTS], ref.owner)
    return answer(await media.item(ref.id))


@routes.get(f"{ITEM}/file")
@quick
async def file(request: web.Request) -> web.Response:
    """Return an item's file: as it is on disk now, or where it arrives."""
    ref = item_ref(request)
    media = homes.media_of(request.app[COMPONENTS], ref.owner)
    return answer(await media.file(ref.id))


@routes.get(f"{ITEM}/thumbnail")
@slow
async def thumbnail(request: web.Request) -> web.Response:
    """Return an item's picture, made or fetched first if need be."""
    ref = item_ref(request)
    media = homes.media_of(request.app[COMPONENTS], ref.owner)
    return answer(await media.thumbnail(ref.id))


@routes.get(f"{ITEM}/subtitles/{{index}}")
@slow
async def subtitles(request: web.Request) -> web.Response:
    """Return one of an item's subtitles as WebVTT, converted or fetched first if need be."""
    ref = item_ref(request)
    media = homes.media_of(request.app[COMPONENTS], ref.owner)
    return answer(await media.subtitles(ref.id, number(request, "index")))


@routes.get("/v1/browse")
@quick
async def browse(request: web.Request) -> web.Response:
    """Return what lies in a node."""
    node = request.query.get("node", "")
    return answer(await homes.browse(request.app[COMPONENTS], node))


@routes.get("/v1/folder")
@quick
async def folder(request: web.Request) -> web.Response:
    """Return the folder that a node of this home shows."""
    library = request.app[COMPONENTS].library
    return answer(await library.folder(request.query.get("node", "")))


@routes.post("/v1/search")
@quick
async def search(request: web.Request) -> web.Response:
    """Return what matches below a node."""
    query = await body(request, SearchQuery)
    media = homes.media_of(request.app[COMPONENTS], owner_of(query.below))
    return answer(await media.search(query))
