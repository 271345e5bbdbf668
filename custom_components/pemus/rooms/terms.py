"""Rooms as config subentries, and their links.

The title of a room is its name. Its data holds what it shares, the secret of its link, and a key made from the password,
but never the password.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Self

from homeassistant.config_entries import ConfigEntry, ConfigSubentry
from homeassistant.const import CONF_PASSWORD
from homeassistant.core import HomeAssistant, callback
from homeassistant.util import dt as dt_util
import segno

from custom_components.pemus.const import CONF_NOTE, CONF_UPLOAD_LIMIT, SUBENTRY_ROOM
from custom_components.pemus.friends.terms import clean_name
from custom_components.pemus.options import MBIT, NO_LIMIT
from custom_components.pemus.p2p.models.rooms import (
    DEFAULT_GUESTS,
    MAX_NOTE,
    RoomConfig,
    RoomFolder,
    RoomPassword,
    RoomStatus,
    new_secret,
)

CONF_DOWNLOADS: Final = "downloads"
CONF_EXPIRES: Final = "expires"
CONF_FOLDERS: Final = "folders"
CONF_GUESTS: Final = "guests"
CONF_ITEMS: Final = "items"
CONF_SECRET: Final = "secret"  # noqa: S105

DEFAULT_DAYS: Final = 7
MAX_DAYS: Final = 3650
SECONDS_PER_DAY: Final = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomTerms:
    """What a room shares, with whom, and for how long."""

    items: tuple[str, ...] = ()
    """The engine's ids."""
    folders: tuple[RoomFolder, ...] = ()
    secret: str
    password: RoomPassword | None = None
    expires: float
    """Unix time."""
    downloads: int = 0
    upload_limit: float = NO_LIMIT
    """In Mbit/s, for all guests of the room together."""
    guests: int = DEFAULT_GUESTS
    note: str = ""

    @classmethod
    def new(cls, items: tuple[str, ...], folders: tuple[RoomFolder, ...]) -> Self:
        """Return the terms of a new room, with a new secret."""
        expires = dt_util.utcnow().timestamp() + DEFAULT_DAYS * SECONDS_PER_DAY
        return cls(items=items, folders=folders, secret=new_secret(), expires=expires)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the terms in the data of a subentry."""
        password = data[CONF_PASSWORD]
        return cls(
            items=tuple(data[CONF_ITEMS]),
            folders=tuple(RoomFolder(**folder) for folder in data[CONF_FOLDERS]),
            secret=data[CONF_SECRET],
            password=None if password is None else RoomPassword(**password),
            expires=data[CONF_EXPIRES],
            downloads=data[CONF_DOWNLOADS],
            upload_limit=data[CONF_UPLOAD_LIMIT],
            guests=data[CONF_GUESTS],
            note=data[CONF_NOTE],
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the terms as the data of a subentry, which is stored as JSON."""
        data = asdict(self)
        return {
            **data,
            CONF_ITEMS: list(self.items),
            CONF_FOLDERS: list(data["folders"]),
        }

    async def with_password(self, hass: HomeAssistant, password: str) -> Self:
        """Return the terms with another password, or without one if it is empty."""
        if not password:
            return replace(self, password=None)
        made = await hass.async_add_executor_job(RoomPassword.of, password)
        return replace(self, password=made)


def room_subentries(entry: ConfigEntry) -> list[ConfigSubentry]:
    """Return the rooms of a config entry."""
    return entry.get_subentries_of_type(SUBENTRY_ROOM)


def room_id(subentry: ConfigSubentry) -> str:
    """Return the engine's id of a room."""
    return subentry.subentry_id.lower()


def room_config(subentry: ConfigSubentry) -> RoomConfig:
    """Return the engine's configuration of a room."""
    terms = RoomTerms.of(subentry.data)
    return RoomConfig(
        id=room_id(subentry),
        name=subentry.title,
        items=terms.items,
        folders=terms.folders,
        secret=terms.secret,
        password=terms.password,
        expires=terms.expires,
        downloads=terms.downloads,
        upload_limit=round(terms.upload_limit * MBIT),
        guests=terms.guests,
        note=terms.note[:MAX_NOTE],
    )


@callback
def async_add_room(
    hass: HomeAssistant, entry: ConfigEntry, name: str, terms: RoomTerms
) -> ConfigSubentry:
    """Add a room. The update listener of the entry sends it to the engine."""
    room = ConfigSubentry(
        data=MappingProxyType(terms.as_dict()),
        subentry_type=SUBENTRY_ROOM,
        title=clean_name(name),
        unique_id=None,
    )
    hass.config_entries.async_add_subentry(entry, room)
    return room


def link(subentry: ConfigSubentry, status: RoomStatus) -> str | None:
    """Return the link that guests open, or None while there is none. It holds the secret."""
    if status.link is None:
        return None
    return f"{status.link}#{subentry.data[CONF_SECRET]}"


def qr_code(address: str) -> str:
    """Return a QR code as a PNG in a data URL."""
    code = segno.make(address, error="m", micro=False)
    return code.png_data_uri(scale=6, border=4)


def spoken_code(status: RoomStatus) -> str | None:
    """Return what can be said aloud in place of the link of a room with a password, or None while there is no link."""
    return None if status.link is None else status.link.rpartition("/")[2]
