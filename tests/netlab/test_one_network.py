"""Homes in one local network, which find each other without any server."""

from __future__ import annotations

from tests.lab.netlab import Internet, Lab, Router

from .conftest import Settle
from .people import Film, pair, watch_all


async def test_homes_in_one_network_pair_list_and_play_without_a_server(
    lab: Lab, settle: Settle, film: Film
) -> None:
    router = Router(lab, Internet(lab))
    ann = await settle("Ann", router.host())
    bob = await settle("Bob", router.host(), shares=True)
    await ann.meets(bob)

    ocean = await pair(ann, bob, "lan")
    await watch_all(ann, bob, ocean, film, "lan")
