"""A Home Assistant, and a home without one, become friends."""

from __future__ import annotations

from demo.home import HOST, Home
from demo.two_homes import PAIR_TIMEOUT, engine, pemus_id, wait_for_list

from .engine_home import SHARE, EngineHome


async def introduce(
    home: Home, other: EngineHome, home_address: str = HOST, other_address: str = HOST
) -> None:
    """Show a home, and one without a Home Assistant, to each other as the local network would."""
    peers = (await engine(home, "status"))["peers"]
    here = {"id": other.id, "name": other.name, "port": other.port}
    there = {"id": peers["id"], "name": home.name, "port": peers["port"]}
    await other.ask("PUT", "lan", {"homes": [there | {"addresses": [home_address]}]})
    await engine(home, "lan", "PUT", {"homes": [here | {"addresses": [other_address]}]})


async def befriend(
    home: Home, other: EngineHome, seconds: float = PAIR_TIMEOUT
) -> None:
    """Make a home, and one without a Home Assistant, friends; wait until what the latter shares is listed.

    Raises HomeError, EngineHomeError.
    """
    ours = await pemus_id(home)
    request = {"home_id": other.id, "shares": []}
    await home.post("/api/services/pemus/request_friend", request)

    async def has(state: str) -> bool:
        pairings = (await other.peers())["pairings"]
        return any(each["home"] == ours and each["state"] == state for each in pairings)

    await other.until(lambda: has("comparing"), "a request", seconds)
    await other.ask("PUT", f"pairings/{ours}/answer", {"accept": True})
    await other.until(lambda: has("paired"), "pairing", seconds)
    friend = {"id": ours, "name": home.name, "shares": [SHARE]}
    await other.configure(friends=[friend])
    await wait_for_list(home, other.id, seconds)
