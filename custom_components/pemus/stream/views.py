"""The HTTP views of media files, pictures and subtitles.

A request needs a token of Home Assistant or a signed path. Otherwise the response is 403 and not 401, because Home
Assistant counts each 401 towards an IP ban, and a television with an old link must not lock out the whole household.

Web pages of any origin can use a signed link, because the receiver of a Chromecast has its own origin. Home Assistant's
general CORS support does not allow the Range header, which a receiver needs to seek.
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

from .locations import Locations
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
"""Clients can cache the file, but must revalidate it for each use, because its content can change."""
_SHORT_LIVED: Final = "private, max-age=600"
"""Pictures are shown repeatedly, and can be slightly outdated."""

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
    """Base of the views. A path with an owner refers to an item of a friend."""

    requires_auth = False
    cache_control = _REVALIDATE
    for_renderers = False

    def __init__(self, locations: Locations, workers: DiskWorkers) -> None:
        """Create the view."""
        self._locations = locations
        self._workers = workers

    def register(
        self, hass: HomeAssistant, app: web.Application, router: web.UrlDispatcher
    ) -> None:
        """Register the methods without the general CORS support, which would handle OPTIONS itself."""
        assert self.url is not None
        for url in (self.url, *self.extra_urls):
            for method in (self.get, self.head, self.options):
                router.add_route(
                    method.__name__, url, request_handler_factory(hass, self, method)
                )

    async def get(self, request: web.Request, **parts: str) -> web.StreamResponse:
        """Send the file or the requested ranges."""
        if not request.get(KEY_AUTHENTICATED, False):
            return web.Response(status=HTTPStatus.FORBIDDEN, headers=_CORS)
        return MediaResponse(
            self.wanted(ItemRef(parts.pop("owner", None), parts.pop("item")), **parts),
            self._locations,
            self._workers,
            headers=_CORS,
            cache_control=self.cache_control,
            for_renderers=self.for_renderers,
        )

    async def head(self, request: web.Request, **parts: str) -> web.StreamResponse:
        """Send the headers of a GET. Some renderers request them first."""
        return await self.get(request, **parts)

    async def options(self, request: web.Request, **parts: str) -> web.Response:
        """Answer a CORS preflight request, which has no authorization."""
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT)

    def wanted(self, item: ItemRef, **parts: str) -> Wanted:
        """Return the file that the path refers to."""
        return Wanted(item)


class StreamView(MediaView):
    """Media files. The extension in the path is for players that need it, and does not affect the content type."""

    url = f"{STREAM_PATH}/{_ITEM}.{_EXTENSION}"
    extra_urls = [f"{STREAM_PATH}/{_OWNER}/{_ITEM}.{_EXTENSION}"]
    name = "api:pemus:stream"
    for_renderers = True


class ThumbnailView(MediaView):
    """Posters, covers, and thumbnails of photos."""

    url = f"{THUMBNAIL_PATH}/{_ITEM}"
    extra_urls = [f"{THUMBNAIL_PATH}/{_OWNER}/{_ITEM}"]
    name = "api:pemus:thumbnail"
    cache_control = _SHORT_LIVED

    def wanted(self, item: ItemRef, **parts: str) -> Wanted:
        """Return the picture that the path refers to."""
        return Wanted(item, picture=True)


class SubtitlesView(MediaView):
    """Subtitles as WebVTT."""

    url = f"{SUBTITLES_PATH}/{_ITEM}/{_INDEX}.vtt"
    extra_urls = [f"{SUBTITLES_PATH}/{_OWNER}/{_ITEM}/{_INDEX}.vtt"]
    name = "api:pemus:subtitles"

    def wanted(self, item: ItemRef, **parts: str) -> Wanted:
        """Return the subtitles that the path refers to."""
        return Wanted(item, subtitles=int(parts["index"]))
