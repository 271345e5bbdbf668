"""The range view: sends files from the disk to browsers, televisions and speakers.

A request passes through these modules, each of which has one idea:

- `views`: the addresses, and who may read.
- `facts`: what is known of a file; the engine is asked only when that is nothing, or no longer true.
- `plan`, with `conditions`, `ranges`, `dlna` and `naming`: from headers and facts to the whole answer. Pure functions.
- `responses`: from the plan to the last byte, and what becomes of each thing that may go wrong.
- `senders`: a window after the other, by sendfile or by reading and writing.
- `disk` and `workers`: everything that may wait for a disk, in threads that may be left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from homeassistant.const import EVENT_HOMEASSISTANT_CLOSE
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from custom_components.pemus.engine.process import Engine, EngineState
from custom_components.pemus.p2p.models import Event as EngineEvent, Hello, ItemsChanged

from .facts import Facts, FileSource
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

_DATA_FACTS: HassKey[Facts] = HassKey("pemus_stream_facts")


@callback
def async_register(hass: HomeAssistant, source: Callable[[], FileSource]) -> None:
    """Register the views, once per run of Home Assistant. They serve what `source` returns until Home Assistant stops."""
    facts = hass.data[_DATA_FACTS] = Facts(source)
    workers = DiskWorkers()
    for view in _VIEWS:
        hass.http.register_view(view(facts, workers))

    async def close(_: Event) -> None:
        await facts.close()
        await workers.close()

    hass.bus.async_listen_once(EVENT_HOMEASSISTANT_CLOSE, close)


@callback
def async_follow(hass: HomeAssistant, engine: Engine) -> None:
    """Forget what the engine reports as changed, for as long as it lives.

    A crash is no reason to forget: what is being played at that moment plays on.
    """

    @callback
    def on_event(event: EngineEvent | None) -> None:
        if isinstance(event, ItemsChanged):
            async_forget(hass, event.items)
        elif isinstance(event, Hello) or engine.state is EngineState.STOPPED:
            # What changed before the hello was not reported, and an engine that was stopped shares nothing.
            async_forget(hass, None)

    engine.async_subscribe(on_event)


@callback
def async_forget(hass: HomeAssistant, items: Iterable[str] | None) -> None:
    """Forget what is known of these items' files, or of all: they have changed, or may have."""
    if (facts := hass.data.get(_DATA_FACTS)) is not None:
        facts.forget(items)
