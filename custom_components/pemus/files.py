"""Hands the files of the library to the views, for as long as there is an engine."""

from homeassistant.core import HomeAssistant, callback

from . import stream
from .engine.client import EngineClient, EngineUnavailable
from .engine.process import DATA_ENGINE, Engine, EngineState
from .p2p.models import Event, Hello, ItemsChanged, LocalFile, WaitQuery


class EngineFiles:
    """The files that the engine knows. It is looked up for each, because it comes and goes with the config entry."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Answer for whichever engine there is."""
        self._hass = hass

    async def file(self, item_id: str) -> LocalFile:
        """Return the item's file as it is on disk now."""
        return await self._client.file(item_id)

    async def thumbnail(self, item_id: str) -> LocalFile:
        """Return the item's picture."""
        return await self._client.thumbnail(item_id)

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        """Return one of the item's subtitles as WebVTT."""
        return await self._client.subtitles(item_id, index)

    async def streaming(self) -> None:
        """Tell that bytes of something that is played have just left."""
        await self._client.streaming()

    async def remote_file(self, owner: str, item_id: str) -> LocalFile:
        """Return the file into which another home's item is fetched."""
        return await self._client.remote_file(owner, item_id)

    async def remote_thumbnail(self, owner: str, item_id: str) -> LocalFile:
        """Return the picture of another home's item."""
        return await self._client.remote_thumbnail(owner, item_id)

    async def remote_subtitles(self, owner: str, item_id: str, index: int) -> LocalFile:
        """Return one of the subtitles of another home's item as WebVTT."""
        return await self._client.remote_subtitles(owner, item_id, index)

    async def wait(self, owner: str, item_id: str, query: WaitQuery) -> int:
        """Wait until the first of these bytes are there; return the end of those that are."""
        return await self._client.wait(owner, item_id, query)

    async def release(self, owner: str, item_id: str, reader: str) -> None:
        """Tell that somebody does not read a remote item any more."""
        await self._client.release(owner, item_id, reader)

    @property
    def _client(self) -> EngineClient:
        if (engine := self._hass.data.get(DATA_ENGINE)) is None:
            raise EngineUnavailable("PeMuS is not set up")
        return engine.client


@callback
def async_follow(hass: HomeAssistant, engine: Engine) -> None:
    """Have the views forget what changes, for as long as the engine lives.

    A crash is no reason to forget: what is being played at that moment plays on.
    """

    @callback
    def on_event(event: Event | None) -> None:
        if isinstance(event, ItemsChanged):
            stream.async_forget(hass, event.items)
        elif isinstance(event, Hello) or engine.state is EngineState.STOPPED:
            # Nobody told what changed before the hello, and nothing is shared by an engine that was stopped.
            stream.async_forget(hass, None)

    engine.async_subscribe(on_event)
