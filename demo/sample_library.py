"""Makes the sample library: films, songs and photos as a household has them, odd names and broken files included.

`python -m demo.sample_library` prints the folder of the library, and makes it first where it is missing. It is kept in
the cache under the hash of the code that makes it, so that a change here makes a new one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
import hashlib
import io
import multiprocessing
import os
from pathlib import Path
import shutil
import sys
import tempfile

import av
import mutagen
import numpy as np
import PIL
from PIL import ExifTags, Image, ImageDraw, ImageFont

from . import films
from .encoding import FLAC, M4A, MKV, MP3, MP4_FAST, MP4_SLOW, OGG, WEBM, Format, write
from .melodies import Tune, waves
from .painting import (
    AUTUMN,
    DESERT,
    EVENING,
    MORNING,
    NIGHT,
    NOON,
    WINTER,
    Landscape,
    color,
)
from .tagging import Tags, tag


@dataclass(frozen=True, slots=True)
class Video:
    """A film of the library."""

    path: str
    film: Callable[[], films.Film]
    seconds: float
    form: Format
    tune: Tune
    sea: bool = False
    """Whether waves are heard."""
    subtitles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Lines of each sidecar, by what comes between the film's name and `.srt`."""


@dataclass(frozen=True, slots=True)
class Song:
    """A song of an album."""

    title: str
    seconds: float
    tune: Tune


@dataclass(frozen=True, slots=True)
class Album:
    """Songs that share an artist, a cover and a file format."""

    artist: str
    title: str
    year: int
    genre: str
    extension: str
    form: Format
    cover: Landscape
    songs: tuple[Song, ...]

    def path(self, number: int) -> str:
        """Return where the song of this number, from 1, lies in the library."""
        song = self.songs[number - 1]
        return f"Music/{self.artist}/{self.title}/{number:02} {song.title}.{self.extension}"


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo of the library."""

    path: str
    view: Landscape
    taken: str | None
    """Local time as ISO 8601 without a zone, as a camera knows it."""
    size: tuple[int, int] = (1600, 1200)
    """As shown."""
    orientation: int = 1
    """The EXIF value; the pixels are stored turned the other way."""


LIGHTHOUSE = "Videos/Films/The Paper Lighthouse (2021)/The Paper Lighthouse (2021).mkv"

VIDEOS = (
    Video(
        LIGHTHOUSE,
        films.PaperLighthouse,
        45,
        MKV,
        Tune(11, key=50, minor=True, beats_per_minute=72),
        sea=True,
        subtitles={
            "": (
                "Nobody had lit the lamp for twenty years.",
                "Then, one night, it turned by itself.",
                "“Who is up there?” she called.",
                "Only the paper moon answered.",
            ),
            ".de": (
                "Zwanzig Jahre lang hatte niemand die Lampe angezündet.",
                "Dann, eines Nachts, drehte sie sich von selbst.",
                "„Wer ist da oben?“, rief sie.",
                "Nur der Papiermond gab Antwort.",
            ),
        },
    ),
    Video(
        "Videos/Films/Night Train to Nowhere (2019).webm",
        films.NightTrain,
        30,
        WEBM,
        Tune(12, key=52, minor=True, beats_per_minute=126),
    ),
    Video(
        "Videos/Holidays/2024 Baltic coast/Sunset at the pier.mp4",
        films.SunsetAtThePier,
        40,
        MP4_FAST,
        Tune(13, key=55, beats_per_minute=80),
        sea=True,
    ),
    Video(
        "Videos/Holidays/2023 Mountains/Morning in the mountains.mp4",
        films.MorningInTheMountains,
        30,
        MP4_SLOW,
        Tune(14, key=57, beats_per_minute=92),
    ),
    Video(
        "Videos/Family/Lina's 7th birthday #1 – 100% fun.mp4",
        films.Balloons,
        24,
        MP4_FAST,
        Tune(15, key=60, beats_per_minute=132, partials=(1, 0.1, 0.4, 0.05)),
    ),
    Video(
        "Videos/Family/Kätzchen am Fenster 小猫.mp4",
        films.CatAtTheWindow,
        20,
        MP4_SLOW,
        Tune(16, key=62, beats_per_minute=84),
    ),
)

EMPTY = "Videos/Family/Empty recording.mp4"
TRUNCATED = "Videos/Family/Half a download.mp4"
"""The first part of a film whose index would have come last."""

_GLASS = (1, 0.05, 0.1)
_STRINGS = (1, 0.5, 0.3, 0.2, 0.1)

ALBUMS = (
    Album(
        "The Tin Lanterns",
        "Salt & Cedar",
        2018,
        "Folk",
        "mp3",
        MP3,
        Landscape(EVENING, 8, sun=(0.6, 0.48), lake=0.62),
        (
            Song("Harbour in June", 18, Tune(21, key=57, beats_per_minute=104)),
            Song("Cedar Smoke", 15, Tune(22, key=55, minor=True, beats_per_minute=88)),
            Song("What the Tide Left", 16, Tune(23, key=60, beats_per_minute=96)),
        ),
    ),
    Album(
        "The Tin Lanterns",
        "Tidewater",
        2022,
        "Folk",
        "flac",
        FLAC,
        Landscape(NOON, 23, sun=(0.8, 0.15), roughness=1.3, lake=0.6),
        (
            Song("Low Water", 12, Tune(24, key=52, beats_per_minute=76)),
            Song("Two Boats", 14, Tune(25, key=57, beats_per_minute=112)),
            Song("Rope and Lantern", 12, Tune(26, key=59, minor=True)),
        ),
    ),
    Album(
        "Mirabel Quist",
        "Northern Rooms",
        2020,
        "Ambient",
        "m4a",
        M4A,
        Landscape(WINTER, 17, roughness=1.2, relief=0.22, snow=0.09),
        (
            Song(
                "Första snön",
                20,
                Tune(31, key=53, beats_per_minute=60, partials=(1, 0.05, 0.1)),
            ),
            Song(
                "Blue Hour",
                18,
                Tune(
                    32, key=50, minor=True, beats_per_minute=56, partials=(1, 0.05, 0.1)
                ),
            ),
            Song(
                "A Room Facing North",
                20,
                Tune(33, key=48, beats_per_minute=64, partials=(1, 0.05, 0.1)),
            ),
        ),
    ),
    Album(
        "Orchestra of Small Hours",
        "Four O'Clock Pieces",
        2015,
        "Classical",
        "ogg",
        OGG,
        Landscape(NIGHT, 11, sun=(0.75, 0.22), cloudy=0.3, lake=0.7),
        (
            Song(
                "Nocturne for Kettle and Rain",
                16,
                Tune(
                    41,
                    key=50,
                    minor=True,
                    beats_per_minute=70,
                    partials=(1, 0.5, 0.3, 0.2, 0.1),
                ),
            ),
            Song(
                "Waltz of the Last Tram",
                15,
                Tune(
                    42, key=55, beats_per_minute=138, partials=(1, 0.5, 0.3, 0.2, 0.1)
                ),
            ),
            Song(
                "Dawn, Slowly",
                18,
                Tune(43, key=48, beats_per_minute=58, partials=(1, 0.5, 0.3, 0.2, 0.1)),
            ),
        ),
    ),
)

_PORTRAIT = (1200, 1600)

PHOTOS = (
    Photo("Photos/2023/Mountains/First light.jpg", Landscape(MORNING, 3, roughness=1.3, snow=0.05), "2023-06-03T05:41:12"),
    Photo("Photos/2023/Mountains/Meadow below the hut.jpg", Landscape(NOON, 5, sun=(0.25, 0.2), trees=False, flowers=True), "2023-06-04T12:20:03"),
    Photo("Photos/2023/Mountains/The long way down.jpg", Landscape(NOON, 27, sun=(0.7, 0.12), relief=0.2), "2023-06-05T14:08:55", _PORTRAIT, 6),
    Photo("Photos/2023/Autumn/Leaves at Oak Hill.jpg", Landscape(AUTUMN, 14, sun=(0.3, 0.35)), "2023-10-21T16:02:40"),
    Photo("Photos/2023/Autumn/Fog #2 (50% zoom).jpg", Landscape(AUTUMN, 29, sun=(0.75, 0.3), cloudy=0.7, relief=0.1), "2023-10-22T08:15:00"),
    Photo("Photos/2023/Winter/Neujahr über den Gipfeln ❄.jpg", Landscape(WINTER, 17, roughness=1.2, relief=0.22, snow=0.09), "2023-12-31T15:30:09"),
    Photo("Photos/2024/Desert trip/Dunes.jpg", Landscape(DESERT, 21, sun=(0.2, 0.25), roughness=2.0, cloudy=0.25, trees=False), "2024-03-09T10:44:31"),
    Photo("Photos/2024/Desert trip/Rest stop.webp", Landscape(DESERT, 35, sun=(0.7, 0.3), roughness=1.9, cloudy=0.4, trees=False), "2024-03-10T17:01:19"),
    Photo("Photos/2024/Baltic coast/Evening at the lake.jpg", Landscape(EVENING, 8, sun=(0.6, 0.48), lake=0.62), "2024-07-14T21:03:22"),
    Photo("Photos/2024/Baltic coast/Quiet water.jpg", Landscape(NOON, 23, sun=(0.8, 0.15), roughness=1.3, lake=0.6), "2024-07-15T11:12:45", _PORTRAIT, 8),
    Photo("Photos/2024/Baltic coast/Moonrise.jpg", Landscape(NIGHT, 11, sun=(0.75, 0.22), cloudy=0.3, lake=0.7), "2024-07-15T23:48:02", (1600, 1200), 3),
    Photo("Photos/Wallpaper.png", Landscape(EVENING, 33, sun=(0.3, 0.42), relief=0.2), None, (1280, 800)),
)  # fmt: skip

_STORED = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""How the pixels are stored so that a viewer that heeds the orientation shows them upright."""


def identity() -> str:
    """Return the hash of all that decides what the library looks like."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.name != "home.py":
            digest.update(source.read_bytes())
    for module in (av, mutagen, np, PIL):
        version = getattr(module, "version_string", None) or module.__version__
        digest.update(f"{module.__name__} {version}\n".encode())
    return digest.hexdigest()[:16]


def default_cache() -> Path:
    """Return the folder that the scripts keep their downloads in, too."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PEMUS_DEV_CACHE") or Path(caches, "pemus-dev"))


def ensure(
    cache: Path, report: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Return the folder of the library below the cache; made first where it is missing, whole or not at all."""
    target = cache / f"sample-library-{identity()}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix="sample-library.", dir=cache))
    try:
        make(half, report)
        half.chmod(0o755)
        half.rename(target)
    except OSError:
        # Another run was faster; what it made is the same.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return target


def make(
    root: Path, report: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write the whole library into a folder, with as many processes as there are cores."""
    work: list[tuple[Callable[..., None], tuple[object, ...]]] = [
        *((_make_video, (root, video)) for video in VIDEOS),
        *((_make_album, (root, album)) for album in ALBUMS),
        *((_make_photo, (root, photo)) for photo in PHOTOS),
    ]
    processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=processes) as pool:
        jobs = [pool.submit(function, *arguments) for function, arguments in work]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            report(done, len(jobs))
    _place(root, EMPTY).touch()
    whole = next(root / video.path for video in VIDEOS if video.form is MP4_SLOW)
    _place(root, TRUNCATED).write_bytes(
        whole.read_bytes()[: whole.stat().st_size * 2 // 5]
    )
    _date_files(root)


def _place(root: Path, path: str) -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    return root / path


def _date_files(root: Path) -> None:
    """Give every file a fixed time, so that two makings are alike to the second."""
    base = datetime(2024, 8, 1, 12, tzinfo=UTC).timestamp()
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, (base + 3600 * number, base + 3600 * number))


def _make_video(root: Path, video: Video) -> None:
    sound = video.tune.play(video.seconds) * 0.7
    if video.sea:
        sound = sound * 0.6 + waves(video.tune.seed, video.seconds)
    path = _place(root, video.path)
    write(path, video.form, sound, video.seconds, video.film())
    for mark, lines in video.subtitles.items():
        text = "\n".join(
            f"{number}\n{_clock(start)} --> {_clock(start + 6)}\n{line}\n"
            for number, (start, line) in enumerate(
                zip(range(3, 45, 10), lines, strict=False), 1
            )
        )
        path.with_name(f"{path.stem}{mark}.srt").write_text(text, "utf-8")


def _clock(seconds: int) -> str:
    return f"00:{seconds // 60:02}:{seconds % 60:02},000"


def _make_album(root: Path, album: Album) -> None:
    cover = _cover(album)
    for number, song in enumerate(album.songs, 1):
        path = _place(root, album.path(number))
        write(path, album.form, song.tune.play(song.seconds), song.seconds)
        tag(
            path,
            Tags(
                title=song.title,
                artist=album.artist,
                album=album.title,
                year=album.year,
                genre=album.genre,
                track=number,
                tracks=len(album.songs),
                cover=cover,
            ),
        )


def _cover(album: Album) -> bytes:
    """Return the album's cover: a landscape with the names upon it, as JPEG."""
    picture = album.cover.paint((640, 640))
    draw = ImageDraw.Draw(picture, "RGBA")
    for text, size, y in (
        (album.title, 54, 84),
        (album.artist.upper(), 22, 138),
    ):
        font = ImageFont.load_default(size)
        draw.text((322, y + 2), text, font=font, fill=(0, 0, 0, 90), anchor="mm")
        draw.text((320, y), text, font=font, fill=(*color("#ffffff"), 245), anchor="mm")
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=86)
    return out.getvalue()


def _make_photo(root: Path, photo: Photo) -> None:
    picture = photo.view.paint(photo.size)
    turn = _STORED[photo.orientation]
    if turn is not None:
        picture = picture.transpose(turn)
    exif = Image.Exif()
    if photo.taken:
        exif[ExifTags.Base.Make] = "Pinhole"
        exif[ExifTags.Base.Model] = "Shoebox II"
        exif[ExifTags.Base.Orientation] = photo.orientation
        stamp = photo.taken.replace("-", ":").replace("T", " ")
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = stamp
    picture.save(_place(root, photo.path), quality=88, exif=exif)


def _show(done: int, total: int) -> None:
    sys.stderr.write(f"\r    {done} of {total} parts" + ("\n" if done == total else ""))
    sys.stderr.flush()


def main() -> None:
    """Print the folder of the library, made first where it is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="its place")
    parser.add_argument("--copy-to", type=Path, help="print a copy there instead")
    arguments = parser.parse_args()
    library = ensure(arguments.cache, _show)
    if arguments.copy_to:
        library = copy(library, arguments.copy_to)
    sys.stdout.write(f"{library}\n")


def copy(library: Path, target: Path) -> Path:
    """Return `target` as a copy of the library, made anew only where it is of another library."""
    mark = target.with_name(f".{target.name}")
    if target.is_dir() and mark.is_file() and mark.read_text() == library.name:
        return target
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(library, target)
    mark.write_text(library.name)
    return target


if __name__ == "__main__":
    main()
