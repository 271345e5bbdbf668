"""Who may fetch what of this home, by the configuration as it is at this moment.

A friend may have what lies in the shares that it was granted, and nobody else anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from ..core.errors import EngineError
from ..models import EngineConfig, ShareStatus
from ..torrent.store import Grant


class Library(Protocol):
    """What is shared."""

    @property
    def shares(self) -> tuple[ShareStatus, ...]:
        """The shares that the library works with."""

    async def shares_of(self, item_ids: Collection[str]) -> Mapping[str, str]:
        """Return in which share each item lies; those that there are not are missing. Raises Unavailable."""


class Access:
    """Decides about grants."""

    def __init__(self, library: Library, config: Callable[[], EngineConfig]) -> None:
        """Decide about a library, by what `config` returns at each moment."""
        self._library = library
        self._config = config

    def may_have(self, home: str, share: str) -> bool:
        """Tell whether a home may have what lies in a share."""
        config = self._config()
        return share in (config.shares_of(home) or ()) and any(
            each.id == share for each in config.shares
        )

    async def refused(self, grants: Iterable[Grant]) -> tuple[list[Grant], list[Grant]]:
        """Return those of the grants that may not be used any more, and those of which that cannot be told at present."""
        grants = list(grants)
        try:
            shares = await self._library.shares_of({each.item for each in grants})
        except EngineError:
            return [], grants
        # An item that is missing may be in a share that the library has not got yet.
        known = {share.id for share in self._library.shares}
        is_whole = known.issuperset(each.id for each in self._config().shares)
        refused: list[Grant] = []
        unknown: list[Grant] = []
        for each in grants:
            share = shares.get(each.item)
            if share is None:
                (refused if is_whole else unknown).append(each)
            elif not self.may_have(each.receiver, share):
                refused.append(each)
        return refused, unknown
