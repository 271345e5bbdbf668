"""Whatever takes the place of a shared file or of its folder, nobody is sent anything else than the file that was shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import os
from pathlib import Path

import pytest

from tests.p2p.torrent.owned import ANN, FILM, LONG_AGO, Fetcher, Owner
from tests.patience import until

SALT = b"a" * 16
SIZE = 1_000_000
SECRET = b"what nobody may ever see" * (SIZE // 20)
ROUNDS = 12


@pytest.fixture
def film(owner: Owner) -> Path:
    """A film in a folder of a share."""
    path = owner.folder.root / "series" / "film.mp4"
    path.parent.mkdir()
    path.write_bytes(os.urandom(SIZE))
    os.utime(path, (LONG_AGO, LONG_AGO))
    owner.folder.names[FILM] = "series/film.mp4"
    return path


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A file outside of the share, of the same name."""
    path = tmp_path / "private" / "film.mp4"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    return path


def swap_file(film: Path, private: Path) -> Callable[[], None]:
    aside = film.with_name("aside")
    film.rename(aside)
    film.symlink_to(private)

    def back() -> None:
        aside.replace(film)

    return back


def swap_folder(film: Path, private: Path) -> Callable[[], None]:
    aside = film.parent.with_name("aside")
    film.parent.rename(aside)
    film.parent.symlink_to(private.parent)

    def back() -> None:
        film.parent.unlink()
        aside.rename(film.parent)

    return back


@pytest.mark.parametrize("swap", [swap_file, swap_folder], ids=["file", "folder"])
async def test_what_takes_the_place_of_a_seeded_file_is_never_sent(
    owner: Owner,
    fetcher: Fetcher,
    film: Path,
    private: Path,
    swap: Callable[[Path, Path], Callable[[], None]],
) -> None:
    content = film.read_bytes()
    owner.seeds.activate(ANN, FILM, SALT)
    meta = await owner.meta()
    # libtorrent compares each piece with its hash the first time that it sends it, and not again.
    assert await fetcher.whatever(meta, owner.session.port) == content
    complete = 0
    for _ in range(ROUNDS):
        back = swap(film, private)
        got = await fetcher.whatever(meta, owner.session.port)
        back()
        assert SECRET[:40] not in got
        complete += got == content
    assert complete


async def test_a_seed_that_is_prepared_while_its_folder_is_swapped_serves_no_other_file(
    owner: Owner, fetcher: Fetcher, film: Path, private: Path
) -> None:
    content = film.read_bytes()
    # As long, as old, and of the same name.
    private.write_bytes(SECRET[:SIZE])
    os.utime(private, (LONG_AGO, LONG_AGO))

    async def swapping() -> None:
        while True:
            back = swap_folder(film, private)
            try:
                await asyncio.sleep(0.001)
            finally:
                back()
            await asyncio.sleep(0.001)

    swapper = asyncio.create_task(swapping())
    served = []
    try:
        for number in range(40):
            owner.seeds.activate(ANN, FILM, number.to_bytes(16))
            ready = await owner.seeds.ready(ANN, FILM, 5)
            if ready is not None:
                served.append(ready.meta)
                got = await fetcher.whatever(ready.meta, owner.session.port)
                assert SECRET[:40] not in got
            await owner.seeds.deactivate(ANN)
    finally:
        swapper.cancel()
        await asyncio.gather(swapper, return_exceptions=True)
    owner.seeds.activate(ANN, FILM, SALT)
    await until(lambda: owner.seeds.served(ANN, FILM), 60)
    assert film.read_bytes() == content
