"""The one place that decides who may have what: asked for each list, range, picture, subtitle file, ticket and torrent.

It decides by the configuration as it is at this moment. A friend may have what lies in the shares that it was granted,
the guests of a room what is in the room until it expires, and nobody else anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
import time
from typing import Protocol

from ..core.errors import EngineError, NotFound
from ..models import EngineConfig, Item, ShareStatus
from ..models.homes import is_home
from ..models.rooms import RoomFolder
from ..torrent.store import Grant


@dataclass(frozen=True, slots=True)
class Audience:
    """Somebody to whom this home gives items."""

    id: str
    """PeMuS ID of a friend, or the id of a room."""
    shares: frozenset[str] = frozenset()
    """Ids of the shares whose items it may have."""
    items: frozenset[str] = frozenset()
    folders: tuple[RoomFolder, ...] = ()
    """Folders whose items it may have, whatever lies between."""

    def may_have(self, item: Item) -> bool:
        """Tell whether it may have an item."""
        return (
            item.share in self.shares
            or item.id in self.items
            or any(_is_in(item, folder) for folder in self.folders)
        )


class Library(Protocol):
    """What is shared."""

    @property
    def shares(self) -> tuple[ShareStatus, ...]:
        """The shares that the library works with."""

    async def item(self, item_id: str) -> Item:
        """Return an item. Raises NotFound, Unavailable."""

    async def shares_of(self, item_ids: Collection[str]) -> Mapping[str, str]:
        """Return in which share each item lies, without those that do not exist. Raises Unavailable."""


class Access:
    """Decides who may have what."""

    def __init__(
        self,
        library: Library,
        config: Callable[[], EngineConfig],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Decide about a library, by what `config` returns at each moment."""
        self._library = library
        self._config = config
        self._clock = clock

    def audience(self, who: str) -> Audience:
        """Return what a friend or the guests of a room may have now: nothing if there is no such friend or room."""
        config = self._config()
        if not is_home(who) and (room := config.room(who)) is not None:
            if room.expires <= self._clock():
                return Audience(who)
            return Audience(who, items=frozenset(room.items), folders=room.folders)
        granted = config.shares_of(who) or ()
        return Audience(who, frozenset(granted) & {each.id for each in config.shares})

    async def item(self, who: str, item_id: str) -> Item:
        """Return an item that somebody may have. Raises NotFound, whether there is no such item or they may not, and Unavailable."""
        item = await self._library.item(item_id)
        if not self.audience(who).may_have(item):
            raise NotFound("there is no such item")
        return item

    async def refused(self, grants: Iterable[Grant]) -> tuple[list[Grant], list[Grant]]:
        """Return the grants that may not be used any more, and those for which that cannot be decided at present."""
        grants = list(grants)
        try:
            shares = await self._library.shares_of({each.item for each in grants})
        except EngineError:
            return [], grants
        # An item that is missing may be in a share that the library has not got yet.
        known = {share.id for share in self._library.shares}
        is_whole = known.issuperset(each.id for each in self._config().shares)
        audiences = {
            home: self.audience(home) for home in {each.receiver for each in grants}
        }
        refused: list[Grant] = []
        unknown: list[Grant] = []
        for each in grants:
            share = shares.get(each.item)
            if share is None:
                (refused if is_whole else unknown).append(each)
            elif share not in audiences[each.receiver].shares:
                refused.append(each)
        return refused, unknown


def _is_in(item: Item, folder: RoomFolder) -> bool:
    return item.share == folder.share and (
        folder.path in ("", item.folder) or item.folder.startswith(f"{folder.path}/")
    )
