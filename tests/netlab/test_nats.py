"""Homes behind routers of all kinds, none of which opens a port for them."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.netlab import Internet, Lab, Nat, Router, SignalingServer

from .conftest import Settle
from .people import Film, Home, happens, pair, watch, watch_all


async def test_three_homes_behind_nats_of_three_kinds_meet(
    lab: Lab, internet: Internet, server: SignalingServer, settle: Settle, film: Film
) -> None:
    """PC 1 - router 1 - PC 2 - router 2 - PC 3 - router 3."""
    cone = Router(lab, internet, Nat.FULL_CONE, "192.168.1.0/24")
    restricted = Router(lab, internet, Nat.PORT_RESTRICTED, "192.168.2.0/24")
    symmetric = Router(lab, internet, Nat.SYMMETRIC, "192.168.3.0/24")
    ann, bob, cleo = await asyncio.gather(
        settle("Ann", cone.host(), server.url),
        settle("Bob", restricted.host(), server.url, shares=True),
        settle("Cleo", symmetric.host(), server.url),
    )

    ocean = await pair(ann, bob, "direct")
    await watch(ann, bob, ocean, film, "direct")
    # Bob cannot know which of Cleo's ports outside to send to, and Cleo has another one for each of his.
    ocean = await pair(cleo, bob, "relayed")
    await watch(cleo, bob, ocean, film, "relayed")


async def test_both_behind_port_restricted_nats_meet_directly(
    lab: Lab, internet: Internet, server: SignalingServer, settle: Settle, film: Film
) -> None:
    ann, bob = await asyncio.gather(
        settle("Ann", Router(lab, internet).host(), server.url),
        settle("Bob", Router(lab, internet).host(), server.url, shares=True),
    )

    ocean = await pair(ann, bob, "direct")
    await watch_all(ann, bob, ocean, film, "direct")


async def test_both_behind_symmetric_nats_meet_through_the_relay(
    lab: Lab, internet: Internet, server: SignalingServer, settle: Settle, film: Film
) -> None:
    ann, bob = await asyncio.gather(
        settle("Ann", Router(lab, internet, Nat.SYMMETRIC).host(), server.url),
        settle(
            "Bob",
            Router(lab, internet, Nat.SYMMETRIC).host(),
            server.url,
            shares=True,
        ),
    )

    ocean = await pair(ann, bob, "relayed")
    await watch(ann, bob, ocean, film, "relayed")

    # A look for a direct path finds none, and leaves the link as it is.
    async def have_looked() -> bool:
        return all("There is no better path" in _log(home) for home in (ann, bob))

    await happens(have_looked, "a look for a direct path")
    # Two, if both had something to say at once when they became friends.
    assert _links(ann) <= 2


def _log(home: Home) -> str:
    return home.log.read_text("utf-8", "replace")


def _links(home: Home) -> int:
    """Return how many links were opened to and from a home."""
    return _log(home).count("A link to ")


async def test_a_home_behind_two_nats_is_met_directly(
    lab: Lab, internet: Internet, server: SignalingServer, settle: Settle, film: Film
) -> None:
    carrier = Router(lab, internet, network="100.64.0.0/10")
    ann, bob = await asyncio.gather(
        settle("Ann", Router(lab, internet).host(), server.url),
        settle("Bob", Router(lab, carrier).host(), server.url, shares=True),
    )

    ocean = await pair(ann, bob, "direct")
    await watch(ann, bob, ocean, film, "direct")


async def test_homes_that_have_ipv6_alone_meet_directly(
    lab: Lab, internet: Internet, server: SignalingServer, settle: Settle, film: Film
) -> None:
    ann, bob = await asyncio.gather(
        settle("Ann", Router(lab, internet, None, "2a0f:1::/64").host(), server.url6),
        settle(
            "Bob",
            Router(lab, internet, None, "2a0f:2::/64").host(),
            server.url6,
            shares=True,
        ),
    )

    ocean = await pair(ann, bob, "direct")
    await watch(ann, bob, ocean, film, "direct")


@pytest.mark.parametrize("nat", [Nat.PORT_RESTRICTED, Nat.SYMMETRIC])
async def test_a_line_that_loses_packets_delivers_a_whole_film(
    lab: Lab,
    internet: Internet,
    server: SignalingServer,
    settle: Settle,
    film: Film,
    nat: Nat,
) -> None:
    lossy = Router(lab, internet, nat)
    lossy.lose(2)
    ann, bob = await asyncio.gather(
        settle("Ann", lossy.host(), server.url),
        settle("Bob", Router(lab, internet).host(), server.url, shares=True),
    )

    path = "direct" if nat is Nat.PORT_RESTRICTED else "relayed"
    ocean = await pair(ann, bob, path)
    await watch(ann, bob, ocean, film, path)
