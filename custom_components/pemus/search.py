"""Searches this home and its friends concurrently."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, zip_longest
import logging

from .engine.client import EngineError
from .home import Home
from .p2p.models import Item, SearchQuery, SearchResult
from .p2p.models.items import home_node

_LOGGER = logging.getLogger(__name__)


async def async_search(
    home: Home, query: SearchQuery, *, with_friends: bool
) -> SearchResult:
    """Search below a node, and in the libraries of all friends if `with_friends`.

    The results of the homes alternate, best first. Unavailable items come last. A friend whose library is not known
    yet has no results. Raises EngineError, EngineUnavailable.
    """
    client = home.engine.client
    places = [query.below]
    if with_friends:
        places += [home_node(friend.id) for friend in home.configuration.config.friends]

    async def search(place: str) -> SearchResult:
        try:
            return await client.search(replace(query, below=place))
        except EngineError as err:
            if place == query.below:
                raise
            _LOGGER.debug("Failed to search a friend's library: %s", err)
            return SearchResult(items=(), nodes=())

    answers = await asyncio.gather(*map(search, places))
    found = _in_turn(answer.items for answer in answers)
    return SearchResult(
        items=tuple(sorted(found, key=lambda item: not item.available)[: query.limit]),
        nodes=tuple(node for answer in answers for node in answer.nodes),
    )


def _in_turn(lists: Iterable[tuple[Item, ...]]) -> list[Item]:
    """Interleave the lists: results are ranked within one home only."""
    return [
        each for each in chain.from_iterable(zip_longest(*lists)) if each is not None
    ]
