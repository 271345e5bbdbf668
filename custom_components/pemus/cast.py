"""Plays PeMuS's media on Google Cast devices: with title and picture, and with the subtitles that lie beside a film.

The integration `cast` asks this module before it plays anything, a media source's address among it, by default: as a
live stream without a name.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from homeassistant.components.media_player import (
    BrowseMedia,
    MediaType,
    async_process_play_media_url,
)
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.network import is_hass_url
from yarl import URL

from .addresses import Addresses, async_base
from .const import DOMAIN
from .engine.client import EngineError, EngineUnavailable
from .home import async_get_home
from .p2p.models import Item, Kind
from .p2p.models.items import ItemRef
from .stream import streamed_item

if TYPE_CHECKING:
    from pychromecast import Chromecast

RECEIVER: Final = "default_media_receiver"
METADATA_TYPES: Final = {Kind.VIDEO: 1, Kind.MUSIC: 3, Kind.PHOTO: 4}
"""MetadataType of the Cast SDK: a movie, a track, a photo."""
UNKNOWN_LANGUAGE: Final = "und"
"""BCP 47. A track of subtitles must have a language."""

_LOGGER = logging.getLogger(__name__)


async def async_get_media_browser_root_object(
    hass: HomeAssistant, cast_type: str
) -> list[BrowseMedia]:
    """Return nothing: PeMuS is in the media browser already, as a media source."""
    return []


async def async_browse_media(
    hass: HomeAssistant,
    media_content_type: MediaType | str,
    media_content_id: str,
    cast_type: str,
) -> BrowseMedia | None:
    """Return nothing, likewise."""
    return None


async def async_play_media(
    hass: HomeAssistant,
    cast_entity_id: str,
    chromecast: Chromecast,
    media_type: MediaType | str,
    media_id: str,
) -> bool:
    """Play an item of this home or of another one. Returns False for anything else."""
    if (wanted := _wanted(hass, media_id)) is None:
        return False
    if (item := await _item(hass, wanted)) is None:
        # Then it is played by default. It may play none the less.
        return False
    url = async_process_play_media_url(hass, media_id)
    addresses = Addresses.of(hass, item, async_base(hass))
    await hass.async_add_executor_job(
        _play, chromecast, _load(item, url, media_type, addresses)
    )
    return True


def _wanted(hass: HomeAssistant, media_id: str) -> ItemRef | None:
    """Return the item that an address of this home names."""
    try:
        url = URL(media_id)
    except ValueError:
        return None
    if url.absolute and not is_hass_url(hass, media_id):
        return None
    return streamed_item(url.path)


async def _item(hass: HomeAssistant, ref: ItemRef) -> Item | None:
    """Return what is known of an item, None if that is nothing."""
    if (home := async_get_home(hass)) is None:
        return None
    client = home.engine.client
    try:
        return await client.item(ref)
    except (EngineError, EngineUnavailable) as err:
        _LOGGER.debug("An item is cast without its title: %s", err)
        return None


def _load(
    item: Item, url: str, media_type: str, addresses: Addresses
) -> dict[str, Any]:
    """Return what the receiver is told to play."""
    metadata = {
        "metadataType": METADATA_TYPES[item.kind],
        "title": item.title,
        "artist": item.artist,
        "albumName": item.album,
        "albumArtist": item.album_artist,
        "trackNumber": item.track,
        "discNumber": item.disc,
        "creationDateTime": item.taken,
        "images": addresses.thumbnail and [{"url": addresses.thumbnail}],
    }
    media: dict[str, Any] = {
        "duration": item.duration,
        "tracks": [
            {
                "trackId": number,
                "type": "TEXT",
                "subtype": "SUBTITLES",
                "trackContentId": subtitles_url,
                "trackContentType": "text/vtt",
                "language": subtitle.language or UNKNOWN_LANGUAGE,
                "name": subtitle.name,
            }
            for number, (subtitle, subtitles_url) in enumerate(
                zip(item.subtitles, addresses.subtitles, strict=True), 1
            )
        ],
    }
    return {
        "media_id": url,
        "media_type": media_type,
        "stream_type": "BUFFERED",
        "metadata": {key: value for key, value in metadata.items() if value},
        "media_info": {key: value for key, value in media.items() if value},
    }


def _play(chromecast: Chromecast, load: dict[str, Any]) -> None:
    """Have the receiver start. This waits for its answer.

    Raises:
        HomeAssistantError: it cannot be reached, or does not want to.

    """
    from pychromecast.error import PyChromecastError
    from pychromecast.quick_play import quick_play

    try:
        quick_play(chromecast, RECEIVER, load)
    except PyChromecastError as err:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="cast_failed",
            translation_placeholders={"error": str(err)},
        ) from err
