"""The pictures that are made of real files."""

from __future__ import annotations

import io
import os
from pathlib import Path
import struct
from typing import Any

from PIL import Image, ImageCms
import pytest

from p2p.media.reader import MediaReader
from p2p.models import Kind
from tests.p2p.media import handed, make

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def picture_of(
    reader: MediaReader, path: Path, kind: Kind, size: int = 512
) -> Image.Image | None:
    """Make the picture, and check what holds for each."""
    target = path.parent / "cache" / "ab" / "picture.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    made = await reader.picture(handed.File(str(path)), kind, target, size)
    assert made is target.exists()
    if not made:
        return None
    assert [each.name for each in target.parent.iterdir()] == ["picture.jpg"]
    image = Image.open(io.BytesIO(target.read_bytes()))
    image.load()
    assert (image.format, image.mode) == ("JPEG", "RGB")
    assert max(image.size) <= size
    assert not set(image.info) & {"exif", "icc_profile", "comment"}
    return image


@pytest.mark.parametrize(
    ("options", "size", "places"),
    [
        ({}, (320, 180), {"green": (0.1, 0.5), "red": (0.9, 0.5)}),
        ({"rotation": 90}, (180, 320), {"red": (0.5, 0.1), "green": (0.5, 0.9)}),
        ({"rotation": 180}, (320, 180), {"red": (0.1, 0.5), "green": (0.9, 0.5)}),
        ({"rotation": -90}, (180, 320), {"green": (0.5, 0.1), "red": (0.5, 0.9)}),
        ({"aspect": 2, "size": (320, 240)}, (512, 192), {"green": (0.1, 0.5)}),
        ({"size": (1280, 720)}, (512, 288), {"green": (0.1, 0.5), "red": (0.9, 0.5)}),
    ],
)
async def test_the_poster_of_a_film_looks_as_the_film_does(
    shared_reader: MediaReader,
    tmp_path: Path,
    options: dict[str, Any],
    size: tuple[int, int],
    places: dict[str, tuple[float, float]],
) -> None:
    path = make.film(tmp_path / "a.mp4", **options)
    poster = await picture_of(shared_reader, path, Kind.VIDEO)
    assert poster is not None
    assert poster.size == size
    for colour, (x, y) in places.items():
        assert make.colour_at(poster, x, y) == colour


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.webm"])
async def test_a_film_that_begins_black_has_a_poster_that_is_not(
    shared_reader: MediaReader, tmp_path: Path, name: str
) -> None:
    codec = "libvpx" if name == "a.webm" else "libx264"
    path = make.film(tmp_path / name, codec=codec, sound=None, seconds=6, black=2.5)
    poster = await picture_of(shared_reader, path, Kind.VIDEO)
    assert poster is not None
    assert make.colour_at(poster, 0.1, 0.5) == "green"
    assert max(poster.getpixel((5, 90))) > 100


async def test_a_film_that_is_all_black_has_a_black_poster(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.film(tmp_path / "a.mp4", sound=None, black=9)
    assert await picture_of(shared_reader, path, Kind.VIDEO)


async def test_the_cover_inside_a_film_comes_before_its_frames(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    cover = make.jpeg(Image.new("RGB", (200, 300), make.BLUE))
    path = make.film(tmp_path / "a.mp4", cover=cover)
    poster = await picture_of(shared_reader, path, Kind.VIDEO)
    assert poster is not None
    assert (poster.size, make.colour_at(poster, 0.5, 0.5)) == ((200, 300), "blue")


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".m4a", ".ogg", ".opus"])
async def test_the_cover_of_a_song_is_the_front_one(
    shared_reader: MediaReader, tmp_path: Path, suffix: str
) -> None:
    cover = make.jpeg(make.halves((600, 600)))
    path = make.tag(make.song(tmp_path / f"a{suffix}"), cover)
    picture = await picture_of(shared_reader, path, Kind.MUSIC, 256)
    assert picture is not None
    assert picture.size == (256, 256)
    assert make.colour_at(picture, 0.9, 0.5) == "red"


@pytest.mark.parametrize("inside", [None, b"\xff\xd8\xff no picture at all"])
async def test_a_song_without_a_good_cover_has_that_of_its_folder(
    shared_reader: MediaReader, tmp_path: Path, inside: bytes | None
) -> None:
    path = make.tag(make.song(tmp_path / "a.mp3"), inside)
    (tmp_path / "album.png").write_bytes(b"not asked for")
    make.halves((90, 90)).save(tmp_path / "Cover.PNG")
    picture = await picture_of(shared_reader, path, Kind.MUSIC)
    assert picture is not None
    assert picture.size == (90, 90)


async def test_a_cover_that_appears_in_a_folder_is_seen(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.song(tmp_path / "a.mp3")
    assert await picture_of(shared_reader, path, Kind.MUSIC) is None
    make.halves((90, 90)).save(tmp_path / "cover.jpg")
    assert await picture_of(shared_reader, path, Kind.MUSIC)


async def test_a_cover_that_leads_out_of_the_folder_is_not_followed(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    (tmp_path / "music").mkdir()
    path = make.song(tmp_path / "music" / "a.mp3")
    make.halves((90, 90)).save(tmp_path / "secret.jpg")
    (tmp_path / "music" / "cover.jpg").symlink_to(tmp_path / "secret.jpg")
    assert await picture_of(shared_reader, path, Kind.MUSIC) is None


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff", "a.avif"])
async def test_a_photo_is_scaled_down_and_never_up(
    shared_reader: MediaReader, tmp_path: Path, name: str
) -> None:
    path = make.photo(tmp_path / name, size=(1600, 1200))
    picture = await picture_of(shared_reader, path, Kind.PHOTO)
    assert picture is not None
    assert picture.size == (512, 384)
    assert make.colour_at(picture, 0.1, 0.5) == "green"
    path = make.photo(tmp_path / name, size=(100, 80))
    picture = await picture_of(shared_reader, path, Kind.PHOTO)
    assert picture is not None
    assert picture.size == (100, 80)


@pytest.mark.parametrize(
    ("orientation", "green"),
    [
        *((1, (0.1, 0.5)), (2, (0.9, 0.5)), (3, (0.9, 0.5)), (4, (0.1, 0.5))),
        *((5, (0.5, 0.1)), (6, (0.5, 0.1)), (7, (0.5, 0.9)), (8, (0.5, 0.9))),
    ],
)
async def test_a_photo_is_turned_as_its_camera_was_held(
    shared_reader: MediaReader,
    tmp_path: Path,
    orientation: int,
    green: tuple[float, float],
) -> None:
    path = make.photo(tmp_path / "a.jpg", size=(1200, 900), orientation=orientation)
    picture = await picture_of(shared_reader, path, Kind.PHOTO)
    assert picture is not None
    assert picture.size == ((384, 512) if orientation >= 5 else (512, 384))
    assert make.colour_at(picture, *green) == "green"


def _odd(mode: str) -> Image.Image:
    """A picture in an unusual mode: grey in the middle of its range on the left, bright on the right."""
    if mode == "I;16":
        row = struct.pack("<100H", *[30_000] * 50, *[65_000] * 50)
        return Image.frombytes("I;16", (100, 60), row * 60)
    if mode == "P":
        return make.halves((100, 60)).quantize(16)
    if mode == "RGBA":
        image = Image.new("RGBA", (100, 60), (0, 0, 0, 0))
        image.paste((*make.GREEN, 255), (0, 0, 50, 60))
        return image
    return make.halves((100, 60)).convert(mode)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *(("CMYK", "a.jpg"), ("CMYK", "a.tiff"), ("L", "a.jpg"), ("1", "a.png")),
        *(("I;16", "a.png"), ("I;16", "a.tiff"), ("F", "a.tiff"), ("LA", "a.png")),
        *(("P", "a.gif"), ("P", "a.png"), ("RGBA", "a.png"), ("RGBA", "a.webp")),
        ("YCbCr", "a.tiff"),
        ("LAB", "a.tiff"),
    ],
)
async def test_pictures_of_any_mode_become_rgb(
    shared_reader: MediaReader, tmp_path: Path, mode: str, name: str
) -> None:
    image = make.halves((100, 60))
    if mode == "LAB":
        profiles = [ImageCms.createProfile(each) for each in ("sRGB", "LAB")]
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    else:
        image = _odd(mode)
    image.save(tmp_path / name)
    picture = await picture_of(shared_reader, tmp_path / name, Kind.PHOTO)
    assert picture is not None
    assert picture.size == (100, 60)
    left, right = picture.getpixel((10, 30)), picture.getpixel((90, 30))
    if mode in ("CMYK", "P", "RGBA", "YCbCr", "LAB"):
        assert make.colour_at(picture, 0.1, 0.5) == "green"
    if mode == "RGBA":
        assert min(right) > 240
    if mode == "I;16":
        assert left == pytest.approx((117, 117, 117), abs=4)
        assert right == pytest.approx((253, 253, 253), abs=4)
    assert left != right


async def test_colours_are_shown_as_the_profile_of_the_picture_means_them(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ")
    swapped = swapped.replace(b"swap", b"gXYZ")
    for profile, left in ((srgb, "green"), (swapped, "red")):
        make.halves((64, 64)).save(path, icc_profile=profile)
        picture = await picture_of(shared_reader, path, Kind.PHOTO)
        assert picture is not None
        assert make.colour_at(picture, 0.1, 0.5) == left


@pytest.mark.parametrize("profile", [b"rubbish", b"\0" * 200, b"acsp" * 30_000])
async def test_a_broken_profile_is_ignored(
    shared_reader: MediaReader, tmp_path: Path, profile: bytes
) -> None:
    make.halves((64, 64)).save(tmp_path / "a.jpg", icc_profile=profile)
    picture = await picture_of(shared_reader, tmp_path / "a.jpg", Kind.PHOTO)
    assert picture is not None
    assert make.colour_at(picture, 0.1, 0.5) == "green"


async def test_of_an_animation_the_first_picture_is_shown(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    more = [Image.new("RGB", (80, 40), make.BLUE) for _ in range(5)]
    for name in ("a.gif", "a.webp", "a.png"):
        path = tmp_path / name
        make.halves((80, 40)).save(path, save_all=True, append_images=more)
        picture = await picture_of(shared_reader, path, Kind.PHOTO)
        assert picture is not None
        assert make.colour_at(picture, 0.1, 0.5) == "green"


@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1), (20_000, 40)])
async def test_extreme_shapes_are_no_problem(
    shared_reader: MediaReader, tmp_path: Path, size: tuple[int, int]
) -> None:
    Image.new("RGB", size, make.GREEN).save(tmp_path / "a.png")
    picture = await picture_of(shared_reader, tmp_path / "a.png", Kind.PHOTO)
    assert picture is not None
    assert max(picture.size) == min(512, max(size))


async def test_a_photo_of_many_megapixels_is_decoded_at_a_smaller_scale(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (16_320, 12_240), make.GREEN).save(path, quality=30)
    picture = await picture_of(shared_reader, path, Kind.PHOTO)
    assert picture is not None
    assert picture.size == (512, 384)


async def test_half_a_photo_has_half_a_picture(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    noise = Image.effect_noise((900, 900), 90).convert("RGB")
    for name in ("a.jpg", "a.png"):
        noise.save(tmp_path / name)
        os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 2)
        assert await picture_of(shared_reader, tmp_path / name, Kind.PHOTO)


@pytest.mark.parametrize("name", ["a.jpg", "a.mp4", "a.mp3", "a.png", "a.heic"])
@pytest.mark.parametrize("content", [b"", b"hello" * 1000, None])
@pytest.mark.parametrize("kind", list(Kind))
async def test_where_there_is_no_picture_none_is_made(
    shared_reader: MediaReader,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    kind: Kind,
) -> None:
    path = tmp_path / name
    if content is None:
        make.random_bytes(path, 20_000)
    else:
        path.write_bytes(content)
    assert await picture_of(shared_reader, path, kind) is None


async def test_a_missing_file_has_no_picture(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("gone.jpg", "pipe.jpg"):
        assert await picture_of(shared_reader, tmp_path / name, Kind.PHOTO) is None


async def test_a_picture_replaces_the_one_before_and_a_failure_leaves_it(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    target = tmp_path / "out.jpg"
    target.write_bytes(b"old")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff rubbish")
    bad = handed.File(str(tmp_path / "bad.jpg"))
    good = handed.File(str(make.photo(tmp_path / "good.jpg")))
    assert not await shared_reader.picture(bad, Kind.PHOTO, target)
    assert target.read_bytes() == b"old"
    assert await shared_reader.picture(good, Kind.PHOTO, target)
    assert target.read_bytes().startswith(b"\xff\xd8\xff")


async def test_a_place_that_cannot_be_written_is_an_error_and_not_a_missing_picture(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    photo = handed.File(str(make.photo(tmp_path / "a.jpg")))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        await shared_reader.picture(photo, Kind.PHOTO, tmp_path / "file" / "b.jpg")
    (tmp_path / "c.jpg").mkdir()
    with pytest.raises(IsADirectoryError):
        await shared_reader.picture(photo, Kind.PHOTO, tmp_path / "c.jpg")
    assert not list(tmp_path.glob(".*"))
