"""HEIC photos, of which the boxes are read: those of an AVIF file, which is built the same way, under their brand."""

from __future__ import annotations

import io
import os
from pathlib import Path

from hypothesis import given, strategies as st
from PIL import Image
import pytest

from p2p.media.heif import HeifError, read_heif
from p2p.media.reader import MediaReader
from p2p.models import Kind
from tests.p2p.media import make


def heic(path: Path, *, orientation: int | None = None) -> Path:
    """Write a file with the boxes of a HEIC photo of 400 x 300."""
    make.photo(path, orientation=orientation, format="AVIF")
    content = path.read_bytes()
    assert content[8:12] == b"avif"
    path.write_bytes(content[:8] + b"heic" + content[12:])
    return path


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    ("orientation", "size"), [(None, (400, 300)), (6, (300, 400)), (3, (400, 300))]
)
async def test_a_heic_photo_tells_its_size_and_when_it_was_taken(
    shared_reader: MediaReader,
    tmp_path: Path,
    orientation: int | None,
    size: tuple[int, int],
) -> None:
    path = heic(tmp_path / "a.heic", orientation=orientation)
    facts = await shared_reader.read(make.File(str(path)), Kind.PHOTO)
    assert (facts.kind, facts.content_type) == (Kind.PHOTO, "image/heic")
    assert (facts.width, facts.height) == size
    assert facts.taken == "2023-07-14T18:03:22"
    assert (facts.has_picture, facts.fault) == (False, None)
    assert not await shared_reader.picture(
        make.File(str(path)), Kind.PHOTO, tmp_path / "thumbnail.jpg"
    )


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("kept", [16, 40, 100, 200])
async def test_half_a_heic_photo_has_a_fault(
    shared_reader: MediaReader, tmp_path: Path, kept: int
) -> None:
    path = heic(tmp_path / "a.heic")
    os.truncate(path, kept)
    facts = await shared_reader.read(make.File(str(path)), Kind.PHOTO)
    assert facts.fault == "The picture is damaged."
    assert facts.content_type == "image/heic"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = heic(tmp_path_factory.mktemp("heic") / "a.heic", orientation=6)
    return path.read_bytes()


@given(
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=6)
)
def test_no_damage_raises_anything_else(
    whole: bytes, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(whole)
    for at, value in changes:
        content[at % len(content)] = value
    try:
        facts = read_heif(io.BytesIO(content))
    except HeifError:
        return
    if facts.exif is not None:
        assert len(facts.exif) <= len(content)


def test_a_heic_photo_is_opened_by_no_library_here() -> None:
    # When one can, the boxes need not be read any more.
    Image.init()
    assert "HEIF" not in Image.OPEN
