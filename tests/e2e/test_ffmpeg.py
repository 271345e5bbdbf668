"""A signed link in the hands of a stock player."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import imageio_ffmpeg
import numpy as np
import pytest

from demo.films import HEIGHT, PROGRESS_LINE, WIDTH
from demo.home import Home
from demo.sample_library import VIDEOS, Video

FRAME_BYTES = WIDTH * HEIGHT * 3


async def frame(url: str, at: float) -> np.ndarray:
    """Return the picture that ffmpeg finds at a time."""
    command = ("-v", "error", "-ss", str(at), "-i", url, "-frames:v", "1")
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    process = await asyncio.create_subprocess_exec(
        imageio_ffmpeg.get_ffmpeg_exe(),
        *command,
        *raw,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        picture, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert len(picture) == FRAME_BYTES, said.decode()
    return np.frombuffer(picture, np.uint8).reshape(HEIGHT, WIDTH, 3)


def progress(picture: np.ndarray) -> float:
    """Return how far the film's own line of time has come in a picture, 0 to 1."""
    line = picture[HEIGHT - PROGRESS_LINE // 2 - 1, :, 0]
    return np.count_nonzero(line > 128) / WIDTH


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: Path(video.path).name)
async def test_ffmpeg_reads_the_first_frame_and_seeks(home: Home, video: Video) -> None:
    listing = await home.browse("all/video/recent")
    item = next(
        child["media_content_id"]
        for child in listing["children"]
        if child["title"] == Path(video.path).stem
    )
    resolved = await home.ask("media_source/resolve_media", media_content_id=item)
    path = urlsplit(resolved["url"]).path
    signed = await home.ask("auth/sign_path", path=path, expires=60)
    url = f"{home.url}{signed['path']}"
    for share in (0, 0.7):
        picture = await frame(url, video.seconds * share)
        assert progress(picture) == pytest.approx(share, abs=0.02)
        assert picture.std() > 10
