"""Two engines that are friends: one shares, the other fetches; and what outlives the end of either."""

from __future__ import annotations

from pathlib import Path

from tests.lab.engine_home import EngineHome

from .test_friends import digest, two_homes
from .test_grants import by_link, port_of, torrent_of
from .torrent.owned import fetching

BLOCK = b"a private key "


async def ocean(ann: EngineHome, bob: EngineHome) -> str:
    """Make them friends; return the id of Bob's film."""
    await ann.pair(bob)
    return {title: item for item, title in (await ann.listed(bob, 2)).items()}["Ocean"]


async def test_an_engine_sends_nothing_but_the_file_that_was_shared(
    tmp_path: Path,
) -> None:
    """With Landlock where the kernel has it; `tests/p2p/torrent/test_swaps.py` is the same without."""
    async with two_homes() as (ann, bob, films):
        ticket = await by_link(ann, bob, await ocean(ann, bob))
        meta, port = torrent_of(ticket), await port_of(bob)
        await ann.stop()
        film = films / "Ocean.mp4"
        assert film.name not in str(ticket.torrent)
        content = film.read_bytes()
        # The most secret file of all, made long enough for a block.
        secret = bob.folder / "data" / "identity"
        secret.write_bytes(BLOCK * (len(content) // len(BLOCK)))
        async with fetching(tmp_path) as fetcher:
            assert await fetcher.fetch(meta, port) == content
            for number in range(6):
                if number % 2:
                    film.rename(aside := film.with_name("aside"))
                    film.symlink_to(secret)
                else:
                    films.rename(aside := films.with_name("aside"))
                    films.symlink_to(private := tmp_path / f"private{number}")
                    private.mkdir()
                    (private / film.name).symlink_to(secret)
                assert BLOCK not in await fetcher.whatever(meta, port, 2)
                if number % 2:
                    aside.replace(film)
                else:
                    films.unlink()
                    aside.rename(films)


async def test_what_was_fetched_is_there_when_the_owner_is_gone_and_after_a_crash() -> (
    None
):
    async with two_homes() as (ann, bob, films):
        item = await ocean(ann, bob)
        await ann.play(bob, item)
        await bob.kill()
        await ann.kill()
        await ann.start()
        assert await ann.play(bob, item) == digest(films / "Ocean.mp4")


async def test_a_home_keeps_its_id() -> None:
    async with two_homes() as (ann, _, _):
        former = ann.id
        await ann.stop()
        await ann.start()
        assert ann.id == former
