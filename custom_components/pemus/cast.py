"""The `cast` platform: plays media on Google Cast devices with title, picture, and subtitles.

Without it, the integration `cast` plays an item of a media source as an untitled live stream.
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
"""MetadataType of the Cast SDK: movie, music track, photo."""
UNKNOWN_LANGUAGE: Final = "und"
"""BCP 47. A subtitle track must have a language."""

_LOGGER = logging.getLogger(__name__)


async def async_get_media_browser_root_object(
    hass: HomeAssistant, cast_type: str
) -> list[BrowseMedia]:
    """Return nothing, because the media source is already in the media browser."""
    return []


async def async_browse_media(
    hass: HomeAssistant,
    media_content_type: MediaType | str,
    media_content_id: str,
    cast_type: str,
) -> BrowseMedia | None:
    """Return nothing, because the media source handles browsing."""
    return None


async def async_play_media(
    hass: HomeAssistant,
    cast_entity_id: str,
    chromecast: Chromecast,
    media_type: MediaType | str,
    media_id: str,
) -> bool:
    """Play an item of this home or of a friend. Return False for anything else."""
    if (wanted := _wanted(hass, media_id)) is None:
        return False
    if (item := await _item(hass, wanted)) is None:
        # Let the integration `cast` try it.
        return False
    url = async_process_play_media_url(hass, media_id)
    addresses = Addresses.of(hass, item, async_base(hass))
    await hass.async_add_executor_job(
        _play, chromecast, _load(item, url, media_type, addresses)
    )
    return True


def _wanted(hass: HomeAssistant, media_id: str) -> ItemRef | None:
    """Return the item of a media id or URL of this home, or None."""
    try:
        url = URL(media_id)
    except ValueError:
        return None
    if url.absolute and not is_hass_url(hass, media_id):
        return None
    return streamed_item(url.path)


async def _item(hass: HomeAssistant, ref: ItemRef) -> Item | None:
    """Return an item, or None if the engine does not provide it."""
    if (home := async_get_home(hass)) is None:
        return None
    client = home.engine.client
    try:
        return await client.item(ref)
    except (EngineError, EngineUnavailable) as err:
        _LOGGER.debug("Failed to get the metadata of an item to cast: %s", err)
        return None


def _load(
    item: Item, url: str, media_type: str, addresses: Addresses
) -> dict[str, Any]:
    """Return the receiver's LOAD request."""
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
    """Send the LOAD request to the receiver and wait for its answer.

    Raises:
        HomeAssistantError: The receiver cannot be reached, or refused the request.

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
