"""Under an interpreter that lacks some libraries the reader knows less, and blames no file for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
import socket
import sys
import venv

import pytest

from p2p.core.landlock import landlock_version
from p2p.media.facts import MediaError, MediaFacts
from p2p.media.reader import MediaReader
from p2p.models import Kind
from tests.p2p.media import handed, make

_FILES = {
    "av": ("av", "av.libs"),
    "mutagen": ("mutagen",),
    "PIL": ("PIL", "pillow.libs"),
    "pillow_heif": ("pillow_heif", "_pillow_heif*", "pillow_heif.libs"),
    "pysubs2": ("pysubs2",),
}
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def interpreter_with(place: Path, *libraries: str) -> str:
    """Make a real environment that has these libraries and no others."""
    venv.create(place, symlinks=True)
    packages = place / "lib" / PYTHON / "site-packages"
    for library in libraries:
        spec = find_spec(library)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).parent.parent
        for name in _FILES[library]:
            for found in source.glob(name):
                (packages / found.name).symlink_to(found)
    return str(place / "bin" / "python")


NOSY = """
import os, signal, socket
def attempt(action):
    try:
        action()
    except OSError as err:
        return type(err).__name__
    return "done"
__version__ = ", ".join(map(attempt, [
    lambda: open({secret!r}),
    lambda: os.listdir({folder!r}),
    lambda: open({folder!r} + "/new", "w"),
    lambda: os.listdir("/proc"),
    lambda: os.listdir("/etc"),
    lambda: socket.create_connection(("127.0.0.1", {port})),
    lambda: os.kill(os.getppid(), 0),
]))
"""


@pytest.mark.skipif(
    landlock_version() < 6, reason="the kernel's Landlock knows less, or there is none"
)
async def test_a_library_that_was_taken_over_reaches_nothing(tmp_path: Path) -> None:
    """Whoever makes a decoder run code of theirs gets the files that the reader was handed, and nothing else."""
    python = interpreter_with(tmp_path / "venv")
    library = tmp_path / "venv" / "lib" / PYTHON / "site-packages" / "mutagen.py"
    secret = tmp_path / "identity"
    secret.write_text("the private key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        library.write_text(
            NOSY.format(
                secret=str(secret),
                folder=str(tmp_path),
                port=server.getsockname()[1],
            )
        )
        reader = MediaReader(python=python)
        await reader.start()
        await reader.stop()
    said = reader.capabilities["mutagen"]
    assert said == ", ".join(["PermissionError"] * 7)


@asynccontextmanager
async def reader_with(place: Path, *libraries: str) -> AsyncIterator[MediaReader]:
    reader = MediaReader(python=interpreter_with(place, *libraries))
    await reader.start()
    present = {name for name, version in reader.capabilities.items() if version}
    assert present == set(libraries)
    yield reader
    await reader.stop()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, handed.File]:
    """A film, a song with a cover, a photo and subtitles."""
    cover = make.jpeg(make.halves((100, 100)))
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.ass").write_text("Dialogue: 0,0:00:01.00,0:00:02.00,D,,0,0,0,,Hi\n")
    (folder / "a.srt").write_text("00:00:01,000 --> 00:00:02,000\nHi\n")
    make.film(folder / "a.mp4", seconds=1, title="Film")
    make.tag(make.song(folder / "a.mp3"), cover)
    make.photo(folder / "a.jpg")
    return {each.suffix[1:]: handed.File(str(each)) for each in folder.iterdir()}


async def all_facts(
    reader: MediaReader, files: dict[str, handed.File]
) -> list[MediaFacts]:
    return [
        await reader.read(files["mp4"], Kind.VIDEO),
        await reader.read(files["mp3"], Kind.MUSIC),
        await reader.read(files["jpg"], Kind.PHOTO),
    ]


async def all_pictures(
    reader: MediaReader, files: dict[str, handed.File], tmp_path: Path
) -> list[bool]:
    return [
        await reader.picture(files["mp4"], Kind.VIDEO, tmp_path / "film.jpg"),
        await reader.picture(files["mp3"], Kind.MUSIC, tmp_path / "song.jpg"),
        await reader.picture(files["jpg"], Kind.PHOTO, tmp_path / "photo.jpg"),
    ]


async def test_with_no_library_at_all_contents_are_recognised(
    tmp_path: Path, files: dict[str, handed.File]
) -> None:
    async with reader_with(tmp_path / "env") as reader:
        assert reader.level == "1:"
        assert await all_facts(reader, files) == [
            MediaFacts(kind=Kind.VIDEO, content_type="video/mp4"),
            MediaFacts(kind=Kind.MUSIC, content_type="audio/mpeg"),
            MediaFacts(kind=Kind.PHOTO, content_type="image/jpeg"),
        ]
        assert await all_pictures(reader, files, tmp_path) == [False, False, False]
        unknown = make.random_bytes(tmp_path / "a.mp4")
        assert await reader.read(handed.File(str(unknown)), Kind.VIDEO) == MediaFacts()


async def test_subtitles_of_the_common_formats_need_no_library(
    tmp_path: Path, files: dict[str, handed.File]
) -> None:
    target = tmp_path / "a.vtt"
    async with reader_with(tmp_path / "env") as reader:
        await reader.subtitles(files["srt"], target)
        assert target.read_text().endswith("\nHi\n")
        with pytest.raises(MediaError, match="library that is missing"):
            await reader.subtitles(files["ass"], target)


async def test_without_pyav_songs_and_photos_are_read_as_ever(
    tmp_path: Path, files: dict[str, handed.File]
) -> None:
    async with reader_with(tmp_path / "env", "mutagen", "PIL") as reader:
        film, song, photo = await all_facts(reader, files)
        assert film == MediaFacts(kind=Kind.VIDEO, content_type="video/mp4")
        assert {key: getattr(song, key) for key in make.TAGS} == make.TAGS
        assert song.duration == pytest.approx(2, abs=0.1)
        assert (song.audio_codec, song.has_picture, song.fault) == ("mp3", True, None)
        assert (photo.width, photo.taken) == (400, "2023-07-14T18:03:22")
        assert await all_pictures(reader, files, tmp_path) == [False, True, True]
        broken = make.random_bytes(tmp_path / "a.flac")
        broken.write_bytes(b"fLaC" + broken.read_bytes())
        facts = await reader.read(handed.File(str(broken)), Kind.MUSIC)
        assert facts.fault
        assert facts.kind is Kind.MUSIC


async def test_without_mutagen_tags_and_covers_come_from_pyav(
    tmp_path: Path, files: dict[str, handed.File]
) -> None:
    async with reader_with(tmp_path / "env", "av", "PIL") as reader:
        _, song, _ = await all_facts(reader, files)
        assert {key: getattr(song, key) for key in make.TAGS} == make.TAGS
        assert song.has_picture
        assert await all_pictures(reader, files, tmp_path) == [True, True, True]


async def test_without_pillow_there_are_no_pictures_but_facts(
    tmp_path: Path, files: dict[str, handed.File]
) -> None:
    async with reader_with(tmp_path / "env", "av", "mutagen") as reader:
        film, song, photo = await all_facts(reader, files)
        assert (film.title, film.width, film.fault) == ("Film", 320, None)
        assert song.title == make.TAGS["title"]
        assert photo == MediaFacts(kind=Kind.PHOTO, content_type="image/jpeg")
        assert await all_pictures(reader, files, tmp_path) == [False, False, False]


async def test_a_library_that_prints_does_not_disturb_the_answers(
    tmp_path: Path, files: dict[str, handed.File]
) -> None:
    place = tmp_path / "env"
    python = interpreter_with(place)
    noisy = place / "lib" / PYTHON / "site-packages" / "mutagen.py"
    noisy.write_text(
        "import os, sys\n"
        'print(\'{"id": 0, "facts": 1}\', flush=True)\n'
        "os.write(1, b'noise ' * 100_000)\n"
        "assert sys.stdin.read() == ''\n"
        "__version__ = 'noisy'\n"
    )
    reader = MediaReader(python=python)
    await reader.start()
    assert reader.capabilities["mutagen"] == "noisy"
    assert (await reader.read(files["jpg"], Kind.PHOTO)).kind is Kind.PHOTO
    await reader.stop()
