"""Signed addresses of an item's files, for players, phones and dashboards."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from homeassistant.components.http.auth import async_sign_path
from homeassistant.components.media_player.const import CONTENT_AUTH_EXPIRY_TIME
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.network import NoURLAvailableError, get_url

from .p2p.models import Item
from .stream import stream_path, subtitles_path, thumbnail_path


@callback
def async_base(hass: HomeAssistant) -> str:
    """Return the base URL of this Home Assistant, or "" if it is not known."""
    try:
        return get_url(hass)
    except NoURLAvailableError:
        return ""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The signed addresses of an item's files.

    They are valid for a day (CONTENT_AUTH_EXPIRY_TIME), and only until Home Assistant restarts.
    """

    media: str
    thumbnail: str | None
    subtitles: tuple[str, ...]
    """In the order of the item's subtitles."""

    @classmethod
    @callback
    def of(cls, hass: HomeAssistant, item: Item, base: str = "") -> Self:
        """Return the signed addresses of an item, prefixed with `base`."""

        def signed(path: str) -> str:
            lifetime = timedelta(seconds=CONTENT_AUTH_EXPIRY_TIME)
            return f"{base}{async_sign_path(hass, path, lifetime)}"

        return cls(
            signed(stream_path(item.ref, item.name, item.content_type)),
            signed(thumbnail_path(item.ref)) if item.has_thumbnail else None,
            tuple(
                signed(subtitles_path(item.ref, subtitle.index))
                for subtitle in item.subtitles
            ),
        )
