"""A film of another home, in this home's media browser: it plays and seeks while it arrives from a second engine."""

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
from demo.second_engine import NAME, SecondEngine

ENGINE_PYTHON = Path(__file__).parents[2] / ".venvs" / "engine" / "bin" / "python"
pytestmark = pytest.mark.timeout(240)
LAG = 2
LINE = 10_000_000
"""Bytes per second that the second home's line takes."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def second(
    home: Home, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[str]:
    """Have a second engine give this home tickets for its films; return the node of its home."""
    folder = tmp_path_factory.mktemp("second")
    async with SecondEngine(folder, python=ENGINE_PYTHON) as engine:
        await engine.share(library, upload_limit=LINE, lan_exempt=False)
        assert await engine.give_all(home.engine_socket()) >= len(VIDEOS)
        root = await home.browse()
        (node,) = [
            child["media_content_id"].removeprefix("media-source://pemus/")
            for child in root["children"]
            if child["title"] == NAME
        ]
        yield node


async def link(home: Home, node: str, title: str) -> str:
    """Return a signed link to a film of the second home."""
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
    screen: Screen, second: str, video: Video
) -> None:
    await screen.open_node("")
    await screen.enter(NAME)
    await screen.enter(Path(video.path).stem)
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
    home: Home, second: str, library: Path, video: Video
) -> None:
    url = await link(home, second, Path(video.path).stem)
    for share in (0.7, 0):
        picture = await frame(url, video.seconds * share)
        assert progress(picture) == pytest.approx(share, abs=0.02)
    async with home.session.get(url) as answer:
        assert answer.status == 200
        received = await answer.read()
    there = (library / video.path).read_bytes()
    assert sha256(received).digest() == sha256(there).digest()
