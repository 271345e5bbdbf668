"""Makes and changes rooms, for the actions and the dialogs."""

import asyncio
from collections.abc import Iterable
from typing import Final

from homeassistant.config_entries import ConfigSubentry
from homeassistant.core import callback

from custom_components.pemus.const import MEDIA_SOURCE
from custom_components.pemus.home import Home
from custom_components.pemus.p2p.models.items import ItemRef
from custom_components.pemus.p2p.models.rooms import RoomFolder, RoomStatus

from .terms import room_id

LINK_TIMEOUT: Final = 10.0
"""How long to wait for a new room's link, in seconds."""


class NotShareable(Exception):
    """What was selected cannot be shared with guests. The message names it."""


async def async_resolve(
    home: Home, media_content_ids: Iterable[str]
) -> tuple[tuple[str, ...], tuple[RoomFolder, ...]]:
    """Return the items and folders with these media content ids.

    Raises NotShareable for what does not belong to this home, EngineError and EngineUnavailable.
    """
    items: dict[str, None] = {}
    folders: dict[RoomFolder, None] = {}
    client = home.engine.client
    for content_id in media_content_ids:
        node = content_id.strip().removeprefix(MEDIA_SOURCE)
        ref = ItemRef.of_node(node)
        if ref is None:
            folders[await client.folder(node)] = None
        elif ref.owner is not None:
            raise NotShareable(content_id)
        else:
            items[(await client.item(ref)).id] = None
    return tuple(items), tuple(folders)


@callback
def async_status(home: Home, room: ConfigSubentry) -> RoomStatus | None:
    """Return the engine's status of a room, or None until it knows the room."""
    wanted = room_id(room)
    status = home.coordinator.data
    return next((each for each in status.rooms if each.id == wanted), None)


async def async_wait_for_link(home: Home, room: ConfigSubentry) -> RoomStatus | None:
    """Return the status of a room once it has a link, or whatever is known of it after LINK_TIMEOUT."""
    changed = asyncio.Event()
    unsubscribe = home.coordinator.async_add_listener(changed.set)
    try:
        async with asyncio.timeout(LINK_TIMEOUT):
            while (status := async_status(home, room)) is None or status.link is None:
                await changed.wait()
                changed.clear()
    except TimeoutError:
        return async_status(home, room)
    finally:
        unsubscribe()
    return status
