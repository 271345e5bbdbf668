"""What was taken back while no engine ran stays taken back: real engines, and somebody who kept an old ticket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
import json
from pathlib import Path
import shutil
import sqlite3

import pytest

from p2p.access.ticket import Ticket, read
from p2p.net.identity import Identity
from p2p.torrent.metainfo import Metainfo
from tests.lab.engine_home import EngineHome
from tests.p2p.torrent.owned import fetching
from tests.patience import until

from .test_friends import two_homes

STRANGER = Identity.of(bytes([9] * 32)).id
BYSTANDER = Identity.of(bytes([8] * 32)).id
type Change = Callable[[EngineHome], Awaitable[None]]


def torrent_of(ticket: Ticket) -> Metainfo:
    meta = ticket.metainfo()
    assert meta is not None
    return meta


async def by_link(receiver: EngineHome, owner: EngineHome, item: str) -> Ticket:
    """Return the ticket that a friend was given over the link, with its torrent."""
    database = receiver.folder / "cache" / "downloads" / "downloads.db"

    async def kept() -> Ticket | None:
        await receiver.play(owner, item)
        with closing(sqlite3.connect(database)) as db:
            for (payload,) in db.execute("SELECT ticket FROM downloads"):
                ticket = read(payload)
                if ticket.item.id == item and ticket.torrent is not None:
                    return ticket
        return None

    found: Ticket = await receiver.until(kept, "a ticket with a torrent")
    return found


async def port_of(home: EngineHome) -> int:
    port: int = (await home.ask("GET", "status"))["swarm"]["port"]
    return port


async def seeds_of(home: EngineHome) -> int:
    count: int = (await home.ask("GET", "status"))["swarm"]["active_seeds"]
    return count


async def remove(owner: EngineHome) -> None:
    """Remove all friends but one that has nothing, and for which there is a port to ask at."""
    owner.config["friends"] = [{"id": BYSTANDER, "name": "Carl", "shares": []}]


async def narrow(owner: EngineHome) -> None:
    owner.config["friends"] = [
        each | {"shares": []} for each in owner.config["friends"]
    ]


async def unshare(owner: EngineHome) -> None:
    owner.config["shares"] = []


async def replace_identity(owner: EngineHome) -> None:
    owner.config["friends"] = [
        each | {"id": STRANGER} for each in owner.config["friends"]
    ]


async def lose_item(owner: EngineHome) -> None:
    """Move what is shared into a share that no friend may see."""
    (share,) = owner.config["shares"]
    private = Path(share["path"]).parent / "Private"
    private.mkdir()
    for film in Path(share["path"]).iterdir():
        shutil.move(film, private / film.name)
    owner.config["shares"] = [
        share | {"path": str(private), "id": "private", "name": "Private"}
    ]


CHANGES = [remove, narrow, unshare, replace_identity, lose_item]


@pytest.fixture
async def homes() -> AsyncIterator[tuple[EngineHome, EngineHome, str]]:
    """Ann, Bob whose friend she is, and the id of a film of his."""
    async with two_homes() as (ann, bob, _):
        await ann.pair(bob)
        items = {title: item for item, title in (await ann.listed(bob, 2)).items()}
        yield ann, bob, items["Ocean"]


async def delivers(home: EngineHome, meta: Metainfo, folder: Path) -> bool:
    """Tell whether a home sends anything of a torrent to whoever knows it."""
    async with fetching(folder) as fetcher:
        _, _, heard = await fetcher.begin(meta, await port_of(home))
        # Who does not serve a torrent hangs up on those who ask for it.
        await until(lambda: heard.finished or heard.lost)
        return bool(heard.finished)


@pytest.mark.parametrize(
    ("change", "ending"),
    [*((change, EngineHome.stop) for change in CHANGES), (remove, EngineHome.kill)],
)
async def test_what_a_friend_was_given_is_worth_nothing_once_it_may_not_have_it(
    homes: tuple[EngineHome, EngineHome, str],
    tmp_path: Path,
    change: Change,
    ending: Callable[[EngineHome], Awaitable[None]],
) -> None:
    ann, bob, item = homes
    given = torrent_of(await by_link(ann, bob, item))
    await ann.stop()
    assert await delivers(bob, given, tmp_path)
    await ending(bob)
    await change(bob)
    await bob.start()
    assert await seeds_of(bob) == 0
    assert not await delivers(bob, given, tmp_path)
    # Nor does it come back when the engine is killed once more.
    await bob.kill()
    await bob.start()
    assert await seeds_of(bob) == 0
    assert not await delivers(bob, given, tmp_path)


async def test_what_a_friend_may_still_have_goes_on(
    homes: tuple[EngineHome, EngineHome, str], tmp_path: Path
) -> None:
    ann, bob, item = homes
    given = torrent_of(await by_link(ann, bob, item))
    await bob.stop()
    await bob.start()

    async def served() -> bool:
        return await seeds_of(bob) > 0

    await bob.until(served, "that the film is served again")
    assert await delivers(bob, given, tmp_path)


async def test_of_who_was_a_friend_nothing_is_left(
    homes: tuple[EngineHome, EngineHome, str],
) -> None:
    ann, bob, item = homes
    await ann.play(bob, item)
    friends = ann.folder / "cache" / "friends"
    pictures = friends / "pictures" / bob.id
    pictures.mkdir(parents=True)
    (pictures / "picture").write_bytes(b"\xff\xd8")
    assert (friends / f"{bob.id}.db").exists()
    await ann.stop()
    # It is there again after a restart in which nothing changed.
    await ann.start()
    assert (friends / f"{bob.id}.db").exists()
    assert (pictures / "picture").exists()
    await ann.stop()
    await remove(ann)
    await ann.start()
    assert not list(friends.glob(f"{bob.id}*"))
    assert not pictures.exists()
    assert not (await ann.ask("GET", "transfers"))["items"]
    assert bob.id not in json.dumps(await ann.ask("GET", "browse", node=""))
    memory = ann.folder / "data" / "peers.json"
    await ann.stop()
    assert bob.id not in memory.read_text()
