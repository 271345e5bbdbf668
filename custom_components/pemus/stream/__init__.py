"""The range view: sends files from the disk to browsers, televisions and speakers.

A request passes through these modules:

- `views`: the routes, authorization and CORS.
- `locations`: a cache of file locations. The engine is asked only on a miss or after a file changed.
- `plan`, with `conditions`, `ranges`, `dlna` and `naming`: pure functions from the request headers to the response.
- `responses`: opens the file, sends the response, and handles errors.
- `senders`: send the body in windows, by sendfile or by reading and writing.
- `disk` and `workers`: blocking disk access, in threads that can be abandoned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from homeassistant.const import EVENT_HOMEASSISTANT_CLOSE
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from custom_components.pemus.engine.process import Engine, EngineState
from custom_components.pemus.p2p.models import Event as EngineEvent, Hello, ItemsChanged

from .locations import FileSource, Locations
from .naming import stream_path, streamed_item, subtitles_path, thumbnail_path
from .views import StreamView, SubtitlesView, ThumbnailView
from .workers import DiskWorkers

__all__ = [
    "FileSource",
    "async_follow",
    "async_forget",
    "async_register",
    "stream_path",
    "streamed_item",
    "subtitles_path",
    "thumbnail_path",
]

_VIEWS: Final = (StreamView, ThumbnailView, SubtitlesView)

_DATA_LOCATIONS: HassKey[Locations] = HassKey("pemus_stream_locations")


@callback
def async_register(hass: HomeAssistant, source: Callable[[], FileSource]) -> None:
    """Register the views, once per run of Home Assistant. `source` returns the current engine client."""
    locations = hass.data[_DATA_LOCATIONS] = Locations(source)
    workers = DiskWorkers()
    for view in _VIEWS:
        hass.http.register_view(view(locations, workers))

    async def close(_: Event) -> None:
        await locations.close()
        await workers.close()

    hass.bus.async_listen_once(EVENT_HOMEASSISTANT_CLOSE, close)


@callback
def async_follow(hass: HomeAssistant, engine: Engine) -> None:
    """Drop cached files when the engine reports changes.

    After a crash the cache is kept, so that playback continues.
    """

    @callback
    def on_event(event: EngineEvent | None) -> None:
        if isinstance(event, ItemsChanged):
            async_forget(hass, event.items)
        elif isinstance(event, Hello) or engine.state is EngineState.STOPPED:
            # Changes before the Hello were not reported. A stopped engine shares nothing.
            async_forget(hass, None)

    engine.async_subscribe(on_event)


@callback
def async_forget(hass: HomeAssistant, items: Iterable[str] | None) -> None:
    """Drop the cached files of these items, or all if None."""
    if (locations := hass.data.get(_DATA_LOCATIONS)) is not None:
        locations.forget(items)
