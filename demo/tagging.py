"""Writes tags and covers into songs, each format in its own way."""

# mutagen has annotations in few places.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from mutagen import flac, id3, mp4, oggvorbis


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """What is written into a song."""

    title: str
    artist: str
    album: str
    year: int
    genre: str
    track: int
    tracks: int
    cover: bytes
    """A JPEG of 640 by 640."""


def tag(path: Path, tags: Tags) -> None:
    """Write the tags into an mp3, m4a, flac or ogg file that has none yet."""
    {".mp3": _mp3, ".m4a": _m4a, ".flac": _flac, ".ogg": _ogg}[path.suffix](path, tags)


def _mp3(path: Path, tags: Tags) -> None:
    frames = id3.ID3()
    for frame in (
        id3.TIT2(encoding=3, text=tags.title),
        id3.TPE1(encoding=3, text=tags.artist),
        id3.TPE2(encoding=3, text=tags.artist),
        id3.TALB(encoding=3, text=tags.album),
        id3.TDRC(encoding=3, text=str(tags.year)),
        id3.TCON(encoding=3, text=tags.genre),
        id3.TRCK(encoding=3, text=f"{tags.track}/{tags.tracks}"),
        id3.APIC(encoding=3, mime="image/jpeg", type=3, desc="Cover", data=tags.cover),
    ):
        frames.add(frame)
    frames.save(path)


def _m4a(path: Path, tags: Tags) -> None:
    atoms = mp4.MP4(path)
    atoms["\xa9nam"] = tags.title
    atoms["\xa9ART"] = atoms["aART"] = tags.artist
    atoms["\xa9alb"] = tags.album
    atoms["\xa9day"] = str(tags.year)
    atoms["\xa9gen"] = tags.genre
    atoms["trkn"] = [(tags.track, tags.tracks)]
    atoms["covr"] = [mp4.MP4Cover(tags.cover, mp4.MP4Cover.FORMAT_JPEG)]
    atoms.save()


def _flac(path: Path, tags: Tags) -> None:
    file = flac.FLAC(path)
    file.update(_comments(tags))
    file.add_picture(_picture(tags))
    file.save()


def _ogg(path: Path, tags: Tags) -> None:
    file = oggvorbis.OggVorbis(path)
    file.update(_comments(tags))
    file["metadata_block_picture"] = [base64.b64encode(_picture(tags).write()).decode()]
    file.save()


def _comments(tags: Tags) -> dict[str, str]:
    return {
        "title": tags.title,
        "artist": tags.artist,
        "albumartist": tags.artist,
        "album": tags.album,
        "date": str(tags.year),
        "genre": tags.genre,
        "tracknumber": str(tags.track),
    }


def _picture(tags: Tags) -> flac.Picture:
    picture = flac.Picture()
    picture.type, picture.mime, picture.desc = 3, "image/jpeg", "Cover"
    picture.width = picture.height = 640
    picture.depth, picture.data = 24, tags.cover
    return picture
