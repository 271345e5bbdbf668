"""The one place that decides who may have what: asked for each list, range, picture, subtitle file, ticket and torrent.

It decides by the configuration as it is at this moment. A friend may have what lies in the shares that it was granted, and
nobody else anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..core.errors import EngineError, NotFound
from ..models import EngineConfig, Item, ShareStatus
from ..torrent.store import Grant


@dataclass(frozen=True, slots=True)
class Audience:
    """Somebody to whom this home gives items."""

    id: str
    """PeMuS ID of a friend."""
    shares: frozenset[str]
    """Ids of the shares whose items it may have."""

    def may_have(self, share: str) -> bool:
        """Tell whether it may have the items of a share."""
        return share in self.shares


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

    def __init__(self, library: Library, config: Callable[[], EngineConfig]) -> None:
        """Decide about a library, by what `config` returns at each moment."""
        self._library = library
        self._config = config

    def audience(self, home: str) -> Audience:
        """Return what a home may have now: nothing if it is no friend."""
        config = self._config()
        granted = config.shares_of(home) or ()
        return Audience(home, frozenset(granted) & {each.id for each in config.shares})

    async def item(self, home: str, item_id: str) -> Item:
        """Return an item that a home may have. Raises NotFound, whether there is no such item or it may not, and Unavailable."""
        item = await self._library.item(item_id)
        if not self.audience(home).may_have(item.share):
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
            elif not audiences[each.receiver].may_have(share):
                refused.append(each)
        return refused, unknown
