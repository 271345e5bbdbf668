"""The engine as a whole: what its parts do when one of them fails, or when the home becomes another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
import tempfile

import pytest

from p2p.engine import Engine
from p2p.errors import Unavailable
from p2p.library.store import StoreFull
from p2p.models import EngineConfig
from p2p.peers.facts import FriendConfig, PairingQuery
from p2p.peers.identity import Identity

FRIEND = Identity.of(bytes([9] * 32)).id


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="pemus-") as name:
        folder = Path(name)
        made = Engine(
            data=folder / "data", cache=folder / "cache", socket=folder / "socket"
        )
        async with made.running(EngineConfig(home_name="Ann")):
            yield made


def friends(engine: Engine) -> list[str]:
    peers = engine.status().peers
    assert peers is not None
    return [each.id for each in peers.friends]


async def test_who_was_removed_is_no_friend_even_if_the_library_cannot_be_written(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    friend = FriendConfig(id=FRIEND, name="Bob")
    await engine.configure(EngineConfig(home_name="Ann", friends=(friend,)))
    assert friends(engine) == [FRIEND]

    async def full(_config: EngineConfig) -> None:
        raise StoreFull("no room")

    monkeypatch.setattr(engine._library, "_apply", full)
    with pytest.raises(Unavailable):
        await engine.configure(EngineConfig(home_name="Ann"))
    assert not friends(engine)
    # And not the other way round either.
    monkeypatch.undo()
    applied = asyncio.Event()
    whole = engine._library.apply

    async def noted(config: EngineConfig) -> None:
        await whole(config)
        applied.set()

    async def broken(_config: EngineConfig) -> None:
        raise OSError("broken")

    monkeypatch.setattr(engine._library, "apply", noted)
    monkeypatch.setattr(engine._peers, "apply", broken)
    with pytest.raises(OSError, match="broken"):
        await engine.configure(EngineConfig(home_name="Ann"))
    assert applied.is_set()


async def test_a_home_that_becomes_another_asks_nobody_any_more(engine: Engine) -> None:
    former = engine.home()
    await engine.request_pairing(PairingQuery(home=FRIEND))
    assert await engine.new_identity() != former
    peers = engine.status().peers
    assert peers is not None
    assert not peers.pairings
