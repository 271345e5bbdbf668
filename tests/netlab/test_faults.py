"""What goes wrong while somebody watches a film: servers that end, homes that move, engines that are killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.lab.netlab import Internet, Lab, Router, SignalingServer

from .conftest import Settle
from .people import SIZE, Film, Home, Viewer, happens, pair

BACK = 15.0
"""Seconds after which an engine that was killed has to be back, and the film to go on."""


@pytest.fixture
def own_server(lab: Lab, tmp_path: Path) -> tuple[Internet, SignalingServer]:
    """Have a signalling server that may be ended."""
    internet = Internet(lab)
    server = SignalingServer(lab, internet, tmp_path)
    server.start()
    return internet, server


async def test_a_film_goes_on_when_the_signalling_server_ends(
    lab: Lab,
    own_server: tuple[Internet, SignalingServer],
    settle: Settle,
    film: Film,
) -> None:
    internet, server = own_server
    ann, bob = await asyncio.gather(
        settle("Ann", Router(lab, internet).host(), server.url),
        settle("Bob", Router(lab, internet).host(), server.url, shares=True),
    )
    ocean = await pair(ann, bob, "direct")

    viewer = Viewer(ann, bob, ocean, film)
    await viewer.is_watching(0.1)
    server.kill()
    await viewer.sees_it_all()
    await ann.reaches(bob, "direct")


async def test_homes_in_one_network_pair_and_play_though_their_server_has_ended(
    lab: Lab,
    own_server: tuple[Internet, SignalingServer],
    settle: Settle,
    film: Film,
) -> None:
    internet, server = own_server
    router = Router(lab, internet)
    ann, bob = await asyncio.gather(
        settle("Ann", router.host(), server.url),
        settle("Bob", router.host(), server.url, shares=True),
    )

    async def connected() -> bool:
        return all(
            [(await home.peers())["servers"][0]["connected"] for home in (ann, bob)]
        )

    await happens(connected, "a connection to the signalling server")
    server.kill()
    await ann.meets(bob)
    ocean = await pair(ann, bob, "lan")
    assert await ann.play(bob, ocean) == film.digest()


async def test_a_film_goes_on_when_a_router_gets_another_address(
    lab: Lab, internet: Internet, server: SignalingServer, settle: Settle, film: Film
) -> None:
    router = Router(lab, internet)
    ann, bob = await asyncio.gather(
        settle("Ann", Router(lab, internet).host(), server.url),
        settle("Bob", router.host(), server.url, shares=True),
    )
    ocean = await pair(ann, bob, "direct")

    viewer = Viewer(ann, bob, ocean, film)
    await viewer.is_watching(0.1)
    router.renumber()
    await bob.hears_of_a_new_network()
    await viewer.sees_it_all()
    await ann.reaches(bob, "direct")


async def test_a_film_goes_on_when_its_owner_gets_another_address_in_the_local_network(
    lab: Lab, settle: Settle, film: Film
) -> None:
    router = Router(lab, Internet(lab))
    ann = await settle("Ann", router.host())
    bob = await settle("Bob", router.host(), shares=True)
    await ann.meets(bob)
    ocean = await pair(ann, bob, "lan")

    viewer = Viewer(ann, bob, ocean, film)
    await viewer.is_watching(0.1)
    bob.host.move()
    await bob.hears_of_a_new_network()
    await ann.meets(bob)
    await viewer.sees_it_all()
    await ann.reaches(bob, "lan")


async def two_neighbours(
    lab: Lab, internet: Internet, server: SignalingServer, settle: Settle
) -> tuple[Home, Home, str]:
    """Ann, who may watch Bob's film behind another router."""
    ann, bob = await asyncio.gather(
        settle("Ann", Router(lab, internet).host(), server.url),
        settle("Bob", Router(lab, internet).host(), server.url, shares=True),
    )
    return ann, bob, await pair(ann, bob, "direct")


async def test_a_viewer_that_was_killed_goes_on_from_its_cache(
    lab: Lab, internet: Internet, server: SignalingServer, settle: Settle, film: Film
) -> None:
    ann, bob, ocean = await two_neighbours(lab, internet, server, settle)
    viewer = Viewer(ann, bob, ocean, film)
    await viewer.is_watching(0.3)
    await ann.kill()
    await viewer.is_cut_off()
    seen = viewer.seen

    received = ann.host.namespace.received
    async with asyncio.timeout(BACK):
        await ann.start()
        assert await ann.play(bob, ocean, 0, seen) == film.digest(0, seen)
        # Nearly all of it was here.
        assert ann.host.namespace.received - received < seen / 2
        assert await ann.play(bob, ocean, seen, 1_000_000) == film.digest(
            seen, seen + 1_000_000
        )
    assert await ann.play(bob, ocean) == film.digest()
    await ann.reaches(bob, "direct")


async def test_a_film_goes_on_when_its_owner_was_killed(
    lab: Lab, internet: Internet, server: SignalingServer, settle: Settle, film: Film
) -> None:
    ann, bob, ocean = await two_neighbours(lab, internet, server, settle)
    viewer = Viewer(ann, bob, ocean, film)
    await viewer.is_watching(0.3)
    await bob.kill()
    # What was on its way is over soon.
    await asyncio.sleep(1)
    seen = viewer.seen
    assert seen < SIZE
    async with asyncio.timeout(BACK):
        await bob.start()
        await viewer.has_seen(seen + 1_000_000)
    await viewer.sees_it_all()
    await ann.reaches(bob, "direct")
