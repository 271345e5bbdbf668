"""HEIC photos, as phones write them by the thousand."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image
import pytest

from p2p.media.reader import MediaReader
from p2p.models import Kind
from tests.p2p.media import handed, make
from tests.p2p.media.test_missing_libraries import reader_with
from tests.patience import Stopwatch

SIZE = (400, 300)


def heic(path: Path, *, orientation: int | None = None) -> Path:
    """Write a HEIC photo whose left half is green and whose right half is red, before it is turned."""
    # The environment's own process knows the format only from here on.
    from pillow_heif import HeifFile, from_pillow

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2023:07:14 18:03:22"
    if orientation is not None:
        exif[0x0112] = orientation
    image: HeifFile = from_pillow(make.halves(SIZE))
    image.save(path, quality=80, exif=exif.tobytes())
    return path


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    ("orientation", "size", "green", "red"),
    [
        (None, (400, 300), (0.1, 0.5), (0.9, 0.5)),
        (6, (300, 400), (0.5, 0.1), (0.5, 0.9)),
        (3, (400, 300), (0.9, 0.5), (0.1, 0.5)),
    ],
)
async def test_a_heic_photo_is_known_and_shown(
    shared_reader: MediaReader,
    tmp_path: Path,
    orientation: int | None,
    size: tuple[int, int],
    green: tuple[float, float],
    red: tuple[float, float],
) -> None:
    path = heic(tmp_path / "a.heic", orientation=orientation)
    facts = await shared_reader.read(handed.File(str(path)), Kind.PHOTO)
    assert (facts.kind, facts.content_type) == (Kind.PHOTO, "image/heic")
    assert (facts.width, facts.height) == size
    assert facts.taken == "2023-07-14T18:03:22"
    assert (facts.has_picture, facts.fault) == (True, None)
    target = tmp_path / "thumbnail.jpg"
    assert await shared_reader.picture(handed.File(str(path)), Kind.PHOTO, target)
    with Image.open(io.BytesIO(target.read_bytes())) as image:
        assert (image.format, image.size) == ("JPEG", size)
        shown = image.convert("RGB")
    for place, channel in ((green, 1), (red, 0)):
        pixel = shown.getpixel((int(size[0] * place[0]), int(size[1] * place[1])))
        assert isinstance(pixel, tuple)
        assert pixel[channel] == max(pixel)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("kept", [16, 40, 100, 200])
async def test_half_a_heic_photo_has_a_fault(
    shared_reader: MediaReader, tmp_path: Path, kept: int
) -> None:
    path = heic(tmp_path / "a.heic")
    os.truncate(path, kept)
    facts = await shared_reader.read(handed.File(str(path)), Kind.PHOTO)
    assert facts.fault == "The picture is damaged."
    assert facts.content_type == "image/heic"


@pytest.mark.asyncio(loop_scope="session")
async def test_a_description_of_half_a_million_boxes_takes_no_time(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    meta = bytes(4) + b"\0\0\0\x08free" * 500_000
    path = tmp_path / "a.heic"
    path.write_bytes(
        b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"
        + (len(meta) + 8).to_bytes(4)
        + b"meta"
        + meta
    )
    with Stopwatch() as watch:
        facts = await shared_reader.read(handed.File(str(path)), Kind.PHOTO)
    assert facts.fault == "The picture is damaged."
    assert watch.seconds < 2


async def test_without_the_library_a_heic_photo_is_a_photo_without_a_picture(
    tmp_path: Path,
) -> None:
    path = handed.File(str(heic(tmp_path / "a.heic")))
    async with reader_with(tmp_path / "venv", "PIL") as reader:
        facts = await reader.read(path, Kind.PHOTO)
        assert (facts.kind, facts.content_type) == (Kind.PHOTO, "image/heic")
        assert (facts.has_picture, facts.fault) == (False, None)
        assert not await reader.picture(path, Kind.PHOTO, tmp_path / "a.jpg")
