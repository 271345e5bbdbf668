"""Who may fetch what of this home, by the configuration as it is at this moment.

A friend may have what lies in the shares that it was granted. Whoever is no friend may have only what it was given a
ticket for by hand, for as long as that lies in any share.
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

    def is_friend(self, home: str) -> bool:
        """Tell whether a home is a friend."""
        return self._config().shares_of(home) is not None

    def may_have(self, home: str, share: str, *, as_friend: bool) -> bool:
        """Tell whether a home may have what lies in a share, if it has it as a friend, or by hand."""
        config = self._config()
        if share not in {each.id for each in config.shares}:
            return False
        granted = config.shares_of(home)
        return not as_friend if granted is None else share in granted

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
            elif not self.may_have(each.receiver, share, as_friend=each.friend):
                refused.append(each)
        return refused, unknown
