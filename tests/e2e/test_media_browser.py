"""The sample library in Home Assistant's media browser: seen, searched, played."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import expect
import pytest
from screen import Screen

from demo.sample_library import ALBUMS, LIGHTHOUSE, PHOTOS, VIDEOS, Photo, Video

LAG = 2
"""Seconds that the picture may be behind the clock: a busy machine without a graphics card leaves pictures out."""


async def test_the_library_is_found_by_clicking_through_the_media_browser(
    screen: Screen,
) -> None:
    await screen.go("/media-browser")
    await screen.enter("PeMuS")
    await expect(screen.entry("Videos")).to_be_visible()
    assert await screen.titles() == ["Videos", "Music", "Photos"]
    await screen.shoot("library")
    for title in ("Videos", "Folders", "Videos", "Holidays", "2024 Baltic coast"):
        await screen.enter(title)
    await expect(screen.entry("Sunset at the pier")).to_be_visible()


async def test_films_show_their_posters(screen: Screen) -> None:
    await screen.open_node("all/video/recent")
    titles = await screen.titles()
    assert {Path(video.path).stem for video in VIDEOS} <= set(titles)
    # The two broken files have none.
    assert min(await screen.thumbnail_widths(len(VIDEOS))) > 100
    await screen.shoot("posters")


async def test_albums_show_their_covers(screen: Screen) -> None:
    await screen.open_node("all/music/albums")
    assert min(await screen.thumbnail_widths(len(ALBUMS))) > 100
    await screen.shoot("albums")


async def test_photos_are_found_by_year_and_month(screen: Screen) -> None:
    await screen.open_node("all/photo/years")
    await screen.shoot("years")
    await screen.enter("2024")
    await screen.enter("July")
    await expect(screen.entry("Moonrise")).to_be_visible()
    assert min(await screen.thumbnail_widths(3)) > 100
    await screen.shoot("photos")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lighthouse", "The Paper Lighthouse (2021)"),
        ("100% fun", "Lina's 7th birthday #1 – 100% fun"),
        ("kätzchen", "Kätzchen am Fenster 小猫"),
        ("forsta snon", "Första snön – Mirabel Quist"),
        ("tin lant", "The Tin Lanterns"),
    ],
)
async def test_a_search_finds_it(screen: Screen, text: str, found: str) -> None:
    await screen.open_node("")
    await screen.search(text)
    await expect(screen.entry(found).first).to_be_visible()
    if text == "tin lant":
        await screen.shoot("search")


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: Path(video.path).name)
async def test_a_film_plays_and_seeks(screen: Screen, video: Video) -> None:
    title = Path(video.path).stem
    await screen.open_node("all/video/recent")
    await screen.enter(title)
    early = await screen.wait_for_video("video.currentTime > 0.5")
    later = await screen.wait_for_video(f"video.currentTime > {early.time} + 1")
    assert later.frames > early.frames + 5
    assert later.sum != early.sum
    assert later.line * video.seconds == pytest.approx(later.time, abs=LAG)
    aim = video.seconds * 0.75
    await screen.video.evaluate("(video, time) => { video.currentTime = time; }", aim)
    sought = await screen.wait_for_video(
        f"!video.seeking && video.currentTime > {aim} + 0.5"
    )
    assert sought.frames > later.frames
    assert sought.line * video.seconds == pytest.approx(sought.time, abs=LAG)
    # And backwards, to what may have been thrown away already.
    await screen.video.evaluate("(video) => { video.currentTime = 2; }")
    back = await screen.wait_for_video("!video.seeking && video.currentTime < 8")
    assert back.line * video.seconds == pytest.approx(back.time, abs=LAG)
    if video.path == LIGHTHOUSE:
        await screen.shoot("video")


@pytest.mark.parametrize("album", ALBUMS, ids=lambda album: album.extension)
async def test_a_song_plays(screen: Screen, album) -> None:
    await screen.open_node("all/music/albums")
    await screen.enter(f"{album.title} – {album.artist}")
    song = album.songs[1]
    await screen.enter(song.title)
    await screen.page.wait_for_function(
        "players.length && (players[0].error || players[0].currentTime > 1.5)"
    )
    heard = await screen.page.evaluate(
        "[players[0].duration, players[0].webkitAudioDecodedByteCount, players[0].error?.message]"
    )
    assert heard[2] is None
    assert heard[0] == pytest.approx(song.seconds, abs=0.3)
    assert heard[1] > 1000
    await expect(screen.bar).to_contain_text(song.title)
    await screen.page.evaluate("players[0].currentTime = 8")
    await screen.page.wait_for_function("players[0].currentTime > 8.5")
    await screen.shoot(f"song-{album.extension}")


@pytest.mark.parametrize(
    "photo",
    [photo for photo in PHOTOS if photo.orientation == 6 or "Evening" in photo.path],
    ids=lambda photo: Path(photo.path).name,
)
async def test_a_photo_is_shown_upright(screen: Screen, photo: Photo) -> None:
    assert photo.taken
    await screen.open_node(f"all/photo/years/{photo.taken[:4]}/{photo.taken[5:7]}")
    await screen.enter(Path(photo.path).stem)
    await expect(screen.photo).to_be_visible()
    shown = await screen.photo.evaluate(
        "async (image) => { await image.decode(); return [image.naturalWidth, image.naturalHeight]; }"
    )
    assert tuple(shown) == photo.size
    await screen.shoot(f"photo-{'upright' if photo.orientation == 6 else 'landscape'}")
