"""The cache of pictures stays within its bounds and holds nothing that nobody needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2p.library import picture_cache as pictures
from p2p.library.ids import NONCE_SIZE, item_id
from p2p.library.picture_cache import PictureCache

ID = item_id(7, bytes(NONCE_SIZE))


def write(cache: PictureCache, path: Path, size: int = 100, at: int = 0) -> Path:
    cache.prepare(path)
    path.write_bytes(b"x" * size)
    if at:
        os.utime(path, (at, at))
    cache.added(path)
    return path


def test_each_version_of_a_file_has_its_own_picture(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path)
    assert cache.picture(ID, '"1-2-3"') != cache.picture(ID, '"1-2-4"')
    assert cache.picture(ID, '"1-2-3"') == cache.picture(ID, '"1-2-3"')
    assert cache.picture(ID, '"1-2-3"').parent.name == ID[:2]
    assert cache.subtitle(ID, "../../etc/passwd", 1, 1).is_relative_to(tmp_path)


def test_a_new_picture_replaces_that_of_the_version_before(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path)
    old = write(cache, cache.picture(ID, "old"))
    new = write(cache, cache.picture(ID, "new"), size=300)
    assert not old.exists() and new.exists()
    assert cache.size == 300


def test_the_oldest_pictures_go_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_SIZE", 1000)
    monkeypatch.setattr(pictures, "_SHRINK_TO", 800)
    cache = PictureCache(tmp_path)
    made = [
        write(cache, cache.picture(item_id(row, bytes(NONCE_SIZE)), "v"), at=1000 + row)
        for row in range(1, 30)
    ]
    left = [path for path in made if path.exists()]
    assert 5 <= len(left) <= 10
    assert left == made[-len(left) :]
    assert cache.size == sum(path.stat().st_size for path in left)


def test_all_that_was_made_of_an_item_goes_with_it(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path)
    kept = write(cache, cache.picture(item_id(8, bytes(NONCE_SIZE)), "v"))
    picture = write(cache, cache.picture(ID, "v"))
    text = cache.subtitle(ID, "a.srt", 1, 1)
    cache.prepare(text)
    text.write_text("WEBVTT")
    cache.remove([ID, item_id(9, bytes(NONCE_SIZE))])
    assert kept.exists() and not picture.exists() and not text.exists()
    assert cache.size == 100


def test_a_sweep_keeps_what_is_of_the_present_versions(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path)
    present = write(cache, cache.picture(ID, "present"))
    text = cache.subtitle(ID, "a.srt", 1, 1)
    cache.prepare(text)
    text.write_text("WEBVTT")
    strangers = [
        present.with_name(f"{ID}-0123456789abcdef.jpg"),
        present.with_name(f".{present.name}.partial"),
        present.with_name("nonsense"),
        tmp_path / "thumbnails" / "zz" / f"{'z' * 26}-0.jpg",
    ]
    for stranger in strangers:
        stranger.parent.mkdir(exist_ok=True)
        stranger.write_bytes(b"x")
    other = PictureCache(tmp_path)
    other.sweep(lambda ids: {ID: "present"} if ID in ids else {})
    assert present.exists() and text.exists()
    assert not [stranger for stranger in strangers if stranger.exists()]
    assert other.size == 100


def test_a_sweep_leaves_alone_what_is_made_meanwhile(tmp_path: Path) -> None:
    """An item changes, and its new picture is made, right after the sweep asked for the version of the old one."""
    write(PictureCache(tmp_path), PictureCache(tmp_path).picture(ID, "old"))
    cache = PictureCache(tmp_path)
    new = cache.picture(ID, "new")
    other = cache.picture(item_id(8, bytes(NONCE_SIZE)), "v")
    partial = other.with_name(f".{other.name}.7.partial")

    def current(_: list[str]) -> dict[str, str]:
        write(cache, new, size=300)
        cache.prepare(other)
        partial.write_bytes(b"half")
        return {ID: "old"}

    cache.sweep(current)
    assert new.exists() and partial.exists()
    partial.replace(other)
    cache.added(other)
    assert cache.size == 300 + 4
    assert {*new.parent.iterdir()} == {new, other}


def test_a_file_that_goes_away_does_not_end_a_sweep(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path)
    gone = cache.picture(ID, "v")
    paths = [gone, cache.picture(item_id(8, bytes(NONCE_SIZE)), "v")]
    for path in paths:
        write(PictureCache(tmp_path), path)
    old = paths[1].with_name(f"{paths[1].name.partition('-')[0]}-0123456789abcdef.jpg")
    old.write_bytes(b"x")

    def current(ids: list[str]) -> dict[str, str]:
        gone.unlink(missing_ok=True)
        return dict.fromkeys(ids, "v")

    cache.sweep(current)
    assert paths[1].exists() and not old.exists()
    assert cache.size == 100


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path / "nowhere")
    cache.sweep(lambda ids: {})
    cache.remove([ID])
    assert cache.size == 0
