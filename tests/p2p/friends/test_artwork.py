"""Pictures of friends' items: how many are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from p2p.friends import artwork as module
from p2p.friends.artwork import Pictures

HOME, OTHER = "A" * 28, "B" * 28


def of(size: int) -> Callable[[int], Awaitable[bytes]]:
    async def fetch(limit: int) -> bytes:
        assert size <= limit
        return bytes(size)

    return fetch


def kept(folder: Path, home: str) -> list[Path]:
    return list((folder / home).iterdir())


async def test_a_picture_is_fetched_once(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    path = await pictures.get(HOME, "1", of(5), "a")
    assert path.read_bytes() == bytes(5)
    assert await pictures.get(HOME, "1", of(6), "a") == path
    assert await pictures.get(HOME, "2", of(6), "a") != path
    await pictures.remove(HOME)
    assert not path.exists()


async def test_what_is_kept_of_a_home_is_bounded_whatever_others_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10_000_000)
    monkeypatch.setattr(module, "SWEEP", 4_000_000)
    pictures = Pictures(tmp_path)
    for number in range(20):
        await pictures.get(HOME, "1", of(1_000_000), f"{number}")
        for more in range(3):
            await pictures.get(OTHER, "1", of(10), f"{number} {more}")
        size = sum(each.stat().st_size for each in kept(tmp_path, HOME))
        assert size <= 14_000_000
    assert len(kept(tmp_path, OTHER)) == 60
    last = await pictures.get(HOME, "1", of(7), "19")
    assert last.stat().st_size == 1_000_000


async def test_many_small_ones_are_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 20)
    monkeypatch.setattr(module, "SWEEP", 10 * 64 * 1024)
    pictures = Pictures(tmp_path)
    for number in range(100):
        await pictures.get(HOME, "1", of(1), f"{number}")
        assert len(kept(tmp_path, HOME)) <= 30
