"""A friend that may see one share of two, and knows the ids of what is in the other one: a whole engine, asked as by its link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
import os
from pathlib import Path
import tempfile

import pytest

from p2p.catalogue.wire import Checkpoint, Have, Known, read
from p2p.core.errors import NotFound
from p2p.engine import Engine
from p2p.library.ids import item_id
from p2p.models import EngineConfig, Item, Kind, SearchQuery, ShareConfig
from p2p.models.codec import encode
from p2p.models.homes import FriendConfig
from p2p.net.identity import Identity
from p2p.net.link.frames import Ask
from tests.p2p.media import make
from tests.patience import PATIENCE

FRIEND, STRANGER = (Identity.of(bytes([seed] * 32)).id for seed in (8, 9))
SHARES = ("open", "secret")
LONG_AGO = 1_600_000_000


@dataclass
class Home:
    """A home with two shares, each with a film that has a picture and subtitles."""

    engine: Engine
    config: EngineConfig
    items: dict[str, Item]

    async def grant(self, *shares: str) -> None:
        friend = FriendConfig(id=FRIEND, name="Ann", shares=shares)
        self.config = replace(self.config, friends=(friend,))
        await self.engine.home.configure(self.config)

    async def ask(self, home: str, **ask: object) -> bytes:
        """Return what a home is answered."""
        friends = self.engine.components.active_friends
        assert friends is not None
        parts = friends.serving.answer(home, Ask(**ask))  # type: ignore[arg-type]
        return b"".join([part async for part in parts])

    async def listed(self, home: str, have: Have | None = None) -> set[str]:
        """Return the items that a home is told of, which says what it has."""
        said = "" if have is None else encode(have).decode()
        told = await self.ask(home, do="catalogue", have=said)
        found, at = set(), 0
        while at < len(told):
            size = int.from_bytes(told[at : at + 4])
            page = read(told[at + 4 : at + 4 + size])
            found |= {
                item_id(entry["row"], bytes.fromhex(entry["nonce"]))
                for part in page.parts
                for entry in part.items
            }
            at += 4 + size
        return found


async def read_item(engine: Engine, share: str) -> Item:
    """Return the item of a share, as soon as all is known of it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await engine.components.library.search(SearchQuery(text=share))
            for item in found.items:
                if item.has_thumbnail and item.subtitles and item.duration:
                    return item
            await asyncio.sleep(0.05)


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    with tempfile.TemporaryDirectory(prefix="pemus-") as name:
        folder = Path(name)
        shares = []
        for share in SHARES:
            root = folder / share
            root.mkdir()
            film = make.film(root / f"{share}.mp4", seconds=1, title=share)
            subtitles = root / f"{share}.srt"
            subtitles.write_text("1\n00:00:01,000 --> 00:00:02,000\nHi\n")
            for path in (film, subtitles):
                os.utime(path, (LONG_AGO, LONG_AGO))
            shares.append(
                ShareConfig(id=share, path=str(root), name=share, kinds=(Kind.VIDEO,))
            )
        engine = Engine(
            data=folder / "data", cache=folder / "cache", socket=folder / "socket"
        )
        config = EngineConfig(home_name="Bob", shares=tuple(shares))
        async with engine.running(config):
            items = {share: await read_item(engine, share) for share in SHARES}
            made = Home(engine, config, items)
            await made.grant("open")
            yield made


def requests(item: Item) -> list[dict[str, object]]:
    """Return all that can be asked for of an item by who knows everything about it."""
    return [
        {"do": "ticket", "item": item.id},
        {
            "do": "range",
            "item": item.id,
            "etag": item.etag,
            "start": 0,
            "stop": item.size,
        },
        {"do": "thumbnail", "item": item.id},
        {"do": "subtitles", "item": item.id, "index": 0},
    ]


async def test_ids_of_another_share_are_ids_of_nothing(home: Home) -> None:
    for ask in requests(home.items["open"]):
        assert await home.ask(FRIEND, **ask)
    for ask in requests(home.items["secret"]):
        with pytest.raises(NotFound, match="there is no such item"):
            await home.ask(FRIEND, **ask)
    for item in home.items.values():
        for ask in requests(item):
            with pytest.raises(NotFound, match="there is no such item"):
                await home.ask(STRANGER, **ask)


async def test_a_list_tells_of_one_share_whatever_the_friend_says_it_has(
    home: Home,
) -> None:
    wanted = {home.items["open"].id}
    assert await home.listed(FRIEND) == wanted
    for sequence in (0, 1, 2**63 - 1):
        last = Checkpoint(sequence=sequence, id=1)
        have = Have(
            shares=tuple(
                Known(share=share, sequence=sequence, checkpoint=last)
                for share in range(50)
            )
        )
        assert await home.listed(FRIEND, have) == wanted
    assert await home.listed(STRANGER) == set()


async def test_what_was_granted_for_a_while_is_gone_afterwards(home: Home) -> None:
    await home.grant(*SHARES)
    secret = home.items["secret"]
    for ask in requests(secret):
        assert await home.ask(FRIEND, **ask)
    await home.grant("open")
    for ask in requests(secret):
        with pytest.raises(NotFound, match="there is no such item"):
            await home.ask(FRIEND, **ask)
    assert await home.listed(FRIEND) == {home.items["open"].id}
