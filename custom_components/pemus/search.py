"""Searching this home and its friends at once."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
import logging

from .coordinator import PemusCoordinator
from .engine.client import EngineError
from .identifiers import home_node, owner_of
from .p2p.models import Item, Node, SearchQuery, SearchResult

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """An item that matches, and whose it is."""

    item: Item
    owner: str | None
    """PeMuS ID of a friend, None for this home."""


@dataclass(frozen=True, slots=True)
class Results:
    """What matches: the best of each home first, and what cannot be had at present last."""

    items: tuple[Found, ...]
    nodes: tuple[Node, ...]


async def async_search(
    coordinator: PemusCoordinator, query: SearchQuery, *, with_friends: bool
) -> Results:
    """Search below a place, and in all friends' libraries `with_friends`.

    A friend whose library is not known yet has nothing to be found. Raises EngineError, EngineUnavailable.
    """
    client = coordinator.engine.client
    places = [query.below]
    if with_friends:
        places += [home_node(friend.id) for friend in coordinator.config.friends]

    async def search(place: str) -> SearchResult:
        try:
            return await client.search(replace(query, below=place))
        except EngineError as err:
            if place == query.below:
                raise
            _LOGGER.debug("A friend's library was not searched: %s", err)
            return SearchResult(items=(), nodes=())

    answers = await asyncio.gather(*map(search, places))
    found = _in_turn(
        [Found(item, owner_of(place)) for item in answer.items]
        for place, answer in zip(places, answers, strict=True)
    )
    return Results(
        tuple(sorted(found, key=lambda each: not each.item.available)[: query.limit]),
        tuple(node for answer in answers for node in answer.nodes),
    )


def _in_turn(lists: Iterable[list[Found]]) -> list[Found]:
    """Return the first of each list, then the second of each: how well a thing matches is known among its own only."""
    return [
        each for each in chain.from_iterable(zip_longest(*lists)) if each is not None
    ]
