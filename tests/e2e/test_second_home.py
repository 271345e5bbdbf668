"""A film of a friend, in this home's media browser: it plays and seeks while it arrives from a friend's engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from screen import Screen
from test_ffmpeg import frame, progress

from demo.home import Home
from demo.sample_library import LIGHTHOUSE, VIDEOS, Video
from demo.two_homes import remove_friends
from tests.lab.engine_home import EngineHome
from tests.lab.friends import befriend, introduce

ENGINE_PYTHON = Path(__file__).parents[2] / ".venvs" / "engine" / "bin" / "python"
pytestmark = pytest.mark.timeout(240)
LAG = 2
LINE = 10_000_000
"""Bytes per second that the second home's line takes."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def second(
    home: Home, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[dict[str, str]]:
    """Start a friend's home that shares the films; return the folder of each by the film's title."""
    folder = tmp_path_factory.mktemp("second")
    async with EngineHome(folder, python=ENGINE_PYTHON) as owner:
        await owner.share(library, upload_limit=LINE, lan_exempt=False)
        await introduce(home, owner)
        await befriend(home, owner)
        folders = await films(home, f"home/{owner.id}/all/video/folders")
        assert len(folders) >= len(VIDEOS)
        yield folders
    # Other tests use this home, and know of no friends.
    await remove_friends(home)


async def films(home: Home, node: str) -> dict[str, str]:
    """Return the folder of each film in a folder and its folders, by the film's title."""
    found: dict[str, str] = {}
    for child in (await home.browse(node))["children"]:
        if child["can_play"]:
            found[child["title"]] = node
        else:
            place = child["media_content_id"].removeprefix("media-source://pemus/")
            found |= await films(home, place)
    return found


async def link(home: Home, node: str, title: str) -> str:
    """Return a signed link to a film in a folder of the second home."""
    listing = await home.browse(node)
    item = next(
        child["media_content_id"]
        for child in listing["children"]
        if child["title"] == title
    )
    resolved = await home.ask("media_source/resolve_media", media_content_id=item)
    signed = await home.ask(
        "auth/sign_path", path=urlsplit(resolved["url"]).path, expires=60
    )
    return f"{home.url}{signed['path']}"


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: Path(video.path).name)
async def test_a_film_of_another_home_plays_and_seeks(
    screen: Screen, second: dict[str, str], video: Video
) -> None:
    title = Path(video.path).stem
    await screen.open_node(second[title])
    await screen.enter(title)
    early = await screen.wait_for_video("video.currentTime > 0.5")
    later = await screen.wait_for_video(f"video.currentTime > {early.time} + 1")
    assert later.frames > early.frames + 5
    assert later.line * video.seconds == pytest.approx(later.time, abs=LAG)
    aim = video.seconds * 0.75
    await screen.video.evaluate("(video, time) => { video.currentTime = time; }", aim)
    sought = await screen.wait_for_video(
        f"!video.seeking && video.currentTime > {aim} + 0.5"
    )
    assert sought.frames > later.frames
    assert sought.line * video.seconds == pytest.approx(sought.time, abs=LAG)
    if video.path == LIGHTHOUSE:
        await screen.shoot("second-home")


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: Path(video.path).name)
async def test_ffmpeg_seeks_in_it_and_what_arrives_is_the_film(
    home: Home, second: dict[str, str], library: Path, video: Video
) -> None:
    title = Path(video.path).stem
    url = await link(home, second[title], title)
    for share in (0.7, 0):
        picture = await frame(url, video.seconds * share)
        assert progress(picture) == pytest.approx(share, abs=0.02)
    async with home.session.get(url) as answer:
        assert answer.status == 200
        received = await answer.read()
    there = (library / video.path).read_bytes()
    assert sha256(received).digest() == sha256(there).digest()
