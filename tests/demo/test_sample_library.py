"""The sample library is what it says: real files, some of them odd and some broken on purpose."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import av
import mutagen
import numpy as np
from PIL import ExifTags, Image, ImageOps
import pytest

from demo import encoding, sample_library
from demo.films import HEIGHT, PROGRESS_LINE, SIZE, WIDTH, Balloons
from demo.melodies import Tune
from demo.sample_library import ALBUMS, EMPTY, LIGHTHOUSE, PHOTOS, TRUNCATED, VIDEOS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def library() -> Path:
    """Return the library, made once for all runs."""
    return sample_library.ensure(sample_library.default_cache())


def _progress(picture: np.ndarray) -> float:
    """Return how far a film is by the line at its lower edge."""
    row = picture[HEIGHT - PROGRESS_LINE // 2 - 1, :, 0]
    return float(np.count_nonzero(row > 128) / WIDTH)


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: Path(video.path).name)
def test_a_film_has_its_codecs_and_moves_from_start_to_end(
    library: Path, video: sample_library.Video
) -> None:
    codecs = {
        encoding.WEBM: ("vp9", "opus"),
    }.get(video.form, ("h264", "aac"))
    with av.open(str(library / video.path)) as film:
        picture, sound = film.streams.video[0], film.streams.audio[0]
        assert (picture.codec.canonical_name, sound.codec.canonical_name) == codecs
        assert (picture.width, picture.height) == SIZE
        assert film.duration is not None
        assert film.duration / av.time_base == pytest.approx(video.seconds, abs=0.2)
        film.seek(int(video.seconds / 2 * av.time_base))
        middle = next(film.decode(video=0))
        assert middle.time is not None and middle.time > video.seconds / 4
        shown = middle.to_ndarray(format="rgb24")
        assert _progress(shown) == pytest.approx(middle.time / video.seconds, abs=0.02)
        film.seek(0)
        first = next(film.decode(video=0)).to_ndarray(format="rgb24")
        assert np.abs(first.astype(int) - shown.astype(int)).mean() > 3
        film.seek(0)
        loudest = max(
            np.abs(frame.to_ndarray().astype(float)).max()
            for frame, _ in zip(film.decode(audio=0), range(200), strict=False)
        )
        assert loudest > 0.01


def test_both_orders_of_an_mp4_occur(library: Path) -> None:
    for video in VIDEOS:
        if video.path.endswith(".mp4"):
            content = (library / video.path).read_bytes()
            moov_first = content.index(b"moov") < content.index(b"mdat")
            assert moov_first == (video.form is encoding.MP4_FAST)
    forms = {video.form for video in VIDEOS}
    assert {encoding.MP4_FAST, encoding.MP4_SLOW, encoding.WEBM, encoding.MKV} <= forms


def test_songs_are_tagged_and_carry_their_cover(library: Path) -> None:
    for album in ALBUMS:
        for number, song in enumerate(album.songs, 1):
            path = library / album.path(number)
            file = mutagen.File(path, easy=True)
            assert file["title"] == [song.title]
            assert file["artist"] == file["albumartist"] == [album.artist]
            assert file["album"] == [album.title]
            assert file["date"] == [str(album.year)]
            assert file["tracknumber"][0].split("/")[0] == str(number)
            assert file.info.length == pytest.approx(song.seconds, abs=0.3)
            # Each format wraps the picture in its own way; Ogg in base64.
            content = path.read_bytes()
            assert b"JFIF" in content or b"metadata_block_picture" in content.lower()
    assert len({album.artist for album in ALBUMS}) == 3
    assert len({album.title for album in ALBUMS}) == 4
    assert {album.extension for album in ALBUMS} == {"mp3", "flac", "m4a", "ogg"}


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: Path(photo.path).name)
def test_a_photo_knows_its_day_and_is_upright_once_turned(
    library: Path, photo: sample_library.Photo
) -> None:
    with Image.open(library / photo.path) as picture:
        exif = picture.getexif()
        taken = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
        assert exif.get(ExifTags.Base.Orientation, 1) == photo.orientation
        upright = ImageOps.exif_transpose(picture)
        assert upright.size == photo.size
        assert taken == (photo.taken and photo.taken.replace("-", ":").replace("T", " "))  # fmt: skip
        thumbnail = upright.convert("RGB").resize((64, 64))
        painted = photo.view.paint(photo.size).resize((64, 64))
        difference = np.asarray(thumbnail, int) - np.asarray(painted, int)
        assert np.abs(difference).mean() < 6


def test_photos_are_of_two_years_and_some_are_turned() -> None:
    assert {photo.taken[:4] for photo in PHOTOS if photo.taken} == {"2023", "2024"}
    assert {photo.orientation for photo in PHOTOS} > {1, 6}


def test_the_lighthouse_has_subtitles_in_two_languages(library: Path) -> None:
    film = library / LIGHTHOUSE
    english = film.with_suffix(".srt").read_text("utf-8")
    german = film.with_suffix(".de.srt").read_text("utf-8")
    assert "00:00:03,000 --> 00:00:09,000\nNobody had lit the lamp" in english
    assert "Wer ist da oben" in german


def test_names_are_as_odd_as_in_a_household(library: Path) -> None:
    names = "".join(path.name for path in library.rglob("*"))
    assert all(sign in names for sign in " #%'–ä小❄(")


def test_one_file_is_empty_and_one_is_cut_off(library: Path) -> None:
    assert (library / EMPTY).stat().st_size == 0
    assert (library / TRUNCATED).stat().st_size > 100_000
    with pytest.raises(av.error.FFmpegError):
        av.open(str(library / TRUNCATED))


def test_the_same_film_is_made_of_the_same_bytes(tmp_path: Path) -> None:
    for form in (encoding.MP4_FAST, encoding.MKV, encoding.WEBM):
        sound = Tune(1).play(1)
        for name in ("one", "two"):
            encoding.write(tmp_path / name, form, sound, 1, Balloons())
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_library_that_was_cut_short_is_never_taken_for_one(tmp_path: Path) -> None:
    making = subprocess.Popen(
        [sys.executable, "-m", "demo.sample_library", "--cache", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("*/*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.glob("*/*"))
    finally:
        os.killpg(making.pid, signal.SIGKILL)
        making.wait()
    assert not (tmp_path / f"sample-library-{sample_library.identity()}").exists()


def test_a_copy_is_made_anew_only_for_another_library(tmp_path: Path) -> None:
    library = tmp_path / "library-1"
    library.mkdir()
    (library / "song.mp3").write_bytes(b"la")
    copied = sample_library.copy(library, tmp_path / "shown")
    (copied / "mine.mp3").write_bytes(b"lala")
    sample_library.copy(library, copied)
    assert (copied / "mine.mp3").exists()
    sample_library.copy(library.rename(tmp_path / "library-2"), copied)
    assert [path.name for path in copied.iterdir()] == ["song.mp3"]
