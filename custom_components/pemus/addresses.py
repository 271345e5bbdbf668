"""Addresses that a player, a phone or a dashboard can open by itself: signed, and with the address of this home."""

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
    """Return what comes before a path for who is outside of this process; "" if this home does not know its address."""
    try:
        return get_url(hass)
    except NoURLAvailableError:
        return ""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where an item's files can be had, for as long as Home Assistant has players wait: a day, or until it restarts."""

    media: str
    thumbnail: str | None
    subtitles: tuple[str, ...]
    """As many as the item has, and in that order."""

    @classmethod
    @callback
    def of(cls, hass: HomeAssistant, item: Item, base: str = "") -> Self:
        """Sign the addresses of an item."""

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
