"""Makes a large library of real, tiny files: tagged songs, dated photos and short films, in folders as people have them."""

from __future__ import annotations

import io
from pathlib import Path
import random
import struct

import av
from PIL import ExifTags, Image

_SYLLABLES = ["ba", "be", "da", "do", "el", "fa", "ga", "ha", "in", "jo", "ka", "la", "lu", "ma", "mi", "na", "no", "or", "pa", "ra", "ri", "sa", "so", "ta", "te", "un", "va", "wi", "ya", "zu"]  # fmt: skip
_SONGS_PER_ALBUM = 12
_ALBUMS_PER_ARTIST = 3
_PHOTOS_PER_FOLDER = 80
_FILMS_PER_FOLDER = 20


def make(root: Path, files: int) -> list[str]:
    """Write about this many files below a new folder; return words to search for, as people type them."""
    chance = random.Random(2024)
    words = sorted({_word(chance) for _ in range(2000)})
    songs, photos = files // 2, files * 2 // 5
    _make_songs(root / "Music", songs, words, chance)
    _make_photos(root / "Photos", photos, words, chance)
    _make_films(root / "Films", files - songs - photos, words, chance)
    beginnings = [word[: chance.randint(3, 5)] for word in chance.choices(words, k=200)]
    pairs = [" ".join(chance.sample(words, 2)) for _ in range(50)]
    return [*chance.choices(words, k=200), *beginnings, *pairs, "nothing like it"]


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))).capitalize()


def _title(words: list[str], chance: random.Random, length: int = 3) -> str:
    return " ".join(chance.choices(words, k=chance.randint(1, length)))


def _make_songs(
    root: Path, count: int, words: list[str], chance: random.Random
) -> None:
    artist = album = ""
    folder = root
    for number in range(count):
        track = number % _SONGS_PER_ALBUM
        if track == 0:
            if number // _SONGS_PER_ALBUM % _ALBUMS_PER_ARTIST == 0:
                artist = _title(words, chance, 2)
            album = _title(words, chance)
            folder = root / artist / f"{album} {number}"
            folder.mkdir(parents=True)
        title = _title(words, chance)
        tags = (("TIT2", title), ("TPE1", artist), ("TALB", album), ("TRCK", str(track + 1)), ("TDRC", str(1970 + number % 50)))  # fmt: skip
        name = f"{track + 1:02} {title}.mp3"
        (folder / name).write_bytes(_id3(tags) + _SILENCE * 4)


# One frame of MPEG 1 layer III: 128 kbit/s, 44.1 kHz, nothing in it.
_SILENCE = b"\xff\xfb\x90\x00" + bytes(413)


def _id3(tags: tuple[tuple[str, str], ...]) -> bytes:
    """Return an ID3v2.4 tag."""
    frames = b""
    for name, text in tags:
        body = b"\x03" + text.encode()
        frames += name.encode() + _syncsafe(len(body)) + b"\0\0" + body
    return b"ID3\x04\0\0" + _syncsafe(len(frames)) + frames


def _syncsafe(value: int) -> bytes:
    return struct.pack(">4B", *((value >> shift) & 0x7F for shift in (21, 14, 7, 0)))


def _make_photos(
    root: Path, count: int, words: list[str], chance: random.Random
) -> None:
    folder = root
    for number in range(count):
        if number % _PHOTOS_PER_FOLDER == 0:
            year = 2000 + number * 25 // count
            folder = root / str(year) / f"{_title(words, chance, 2)} {number}"
            folder.mkdir(parents=True)
        month, day = chance.randint(1, 12), chance.randint(1, 28)
        exif = Image.Exif()
        stamp = f"{year}:{month:02}:{day:02} 12:{number % 60:02}:00"
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = stamp
        shade = chance.randrange(1 << 24)
        picture = Image.new("RGB", (32, 24), f"#{shade:06x}")
        out = io.BytesIO()
        picture.save(out, "JPEG", exif=exif)
        (folder / f"IMG_{number:06}.jpg").write_bytes(out.getvalue())


def _make_films(
    root: Path, count: int, words: list[str], chance: random.Random
) -> None:
    content = _film()
    folder = root
    for number in range(count):
        if number % _FILMS_PER_FOLDER == 0:
            folder = root / f"{_title(words, chance, 2)} {number}"
            folder.mkdir(parents=True)
        # Content of their own, as films have.
        tail = struct.pack(">I4sI", 12, b"free", number)
        name = f"{_title(words, chance)} ({1950 + number % 75}).mp4"
        (folder / f"{number % _FILMS_PER_FOLDER:02} {name}").write_bytes(content + tail)


def _film() -> bytes:
    """Return a film of a few pictures."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for shade in (40, 120, 200):
            picture = Image.new("RGB", (64, 36), (shade, shade, shade))
            frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()
