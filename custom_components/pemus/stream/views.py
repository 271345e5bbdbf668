"""The addresses under which Home Assistant serves PeMuS's files.

Whoever has a token of Home Assistant, or a path that it signed, may read. Anybody else gets a 403 rather than a 401:
each 401 counts towards Home Assistant's ban of the address it went to, and a television with an old link must not lock
a whole household out.

Any page may read with a link that it was given: a Chromecast's receiver is a page of its own origin. Home Assistant's
general CORS support does not allow the Range header, without which a receiver cannot seek.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from homeassistant.core import HomeAssistant
from homeassistant.helpers.http import (
    KEY_AUTHENTICATED,
    HomeAssistantView,
    request_handler_factory,
)

from custom_components.pemus.p2p.models.items import ItemRef, Wanted

from .facts import Facts
from .naming import (
    EXTENSION_PATTERN,
    ITEM_PATTERN,
    OWNER_PATTERN,
    STREAM_PATH,
    SUBTITLES_PATH,
    THUMBNAIL_PATH,
)
from .responses import MediaResponse
from .workers import DiskWorkers

_ITEM: Final = f"{{item:{ITEM_PATTERN}}}"
_OWNER: Final = f"{{owner:{OWNER_PATTERN}}}"
_INDEX: Final = "{index:[0-9]{1,3}}"
_EXTENSION: Final = f"{{extension:{EXTENSION_PATTERN}}}"

_REVALIDATE: Final = "private, no-cache"
"""Kept, but asked for again each time: what an item's address stands for may change."""
_KEEP_A_WHILE: Final = "private, max-age=600"
"""A folder's pictures are shown again and again, and it does not matter if one is a little old."""

_CORS: Final[dict[str, str]] = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, "
    "Last-Modified, Retry-After",
}
_PREFLIGHT: Final[dict[str, str]] = _CORS | {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, HEAD, OPTIONS",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Accept-Encoding, Authorization, Content-Type, If-Match, If-Modified-Since, "
    "If-None-Match, If-Range, If-Unmodified-Since, Range",
    hdrs.ACCESS_CONTROL_MAX_AGE: "86400",
    hdrs.ALLOW: "GET, HEAD, OPTIONS",
}


class MediaView(HomeAssistantView):
    """What the addresses have in common. One with an owner names an item of a friend."""

    requires_auth = False
    cache_control = _REVALIDATE
    for_renderers = False

    def __init__(self, facts: Facts, workers: DiskWorkers) -> None:
        """Serve the files that `facts` knows of."""
        self._facts = facts
        self._workers = workers

    def register(
        self, hass: HomeAssistant, app: web.Application, router: web.UrlDispatcher
    ) -> None:
        """Register the methods, without the general CORS support that would take OPTIONS for itself."""
        assert self.url is not None
        for url in (self.url, *self.extra_urls):
            for method in (self.get, self.head, self.options):
                router.add_route(
                    method.__name__, url, request_handler_factory(hass, self, method)
                )

    async def get(self, request: web.Request, **parts: str) -> web.StreamResponse:
        """Send the file or parts of it."""
        if not request.get(KEY_AUTHENTICATED, False):
            return web.Response(status=HTTPStatus.FORBIDDEN, headers=_CORS)
        return MediaResponse(
            self.wanted(ItemRef(parts.pop("owner", None), parts.pop("item")), **parts),
            self._facts,
            self._workers,
            headers=_CORS,
            cache_control=self.cache_control,
            for_renderers=self.for_renderers,
        )

    async def head(self, request: web.Request, **parts: str) -> web.StreamResponse:
        """Say what a GET would send. Some renderers ask for that first."""
        return await self.get(request, **parts)

    async def options(self, request: web.Request, **parts: str) -> web.Response:
        """Tell a browser what it may ask for from another origin. This is asked without any authorisation."""
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT)

    def wanted(self, item: ItemRef, **parts: str) -> Wanted:
        """Return which file of an item the address names."""
        return Wanted(item)


class StreamView(MediaView):
    """The media themselves. The extension is for players that look at it; the type is that of the file."""

    url = f"{STREAM_PATH}/{_ITEM}.{_EXTENSION}"
    extra_urls = [f"{STREAM_PATH}/{_OWNER}/{_ITEM}.{_EXTENSION}"]
    name = "api:pemus:stream"
    for_renderers = True


class ThumbnailView(MediaView):
    """Posters, covers, and photos made small."""

    url = f"{THUMBNAIL_PATH}/{_ITEM}"
    extra_urls = [f"{THUMBNAIL_PATH}/{_OWNER}/{_ITEM}"]
    name = "api:pemus:thumbnail"
    cache_control = _KEEP_A_WHILE

    def wanted(self, item: ItemRef, **parts: str) -> Wanted:
        """Return which picture the address names."""
        return Wanted(item, picture=True)


class SubtitlesView(MediaView):
    """Subtitles as WebVTT."""

    url = f"{SUBTITLES_PATH}/{_ITEM}/{_INDEX}.vtt"
    extra_urls = [f"{SUBTITLES_PATH}/{_OWNER}/{_ITEM}/{_INDEX}.vtt"]
    name = "api:pemus:subtitles"

    def wanted(self, item: ItemRef, **parts: str) -> Wanted:
        """Return which subtitles the address names."""
        return Wanted(item, subtitles=int(parts["index"]))
