"""Tags and covers out of music files, by mutagen. Importing this fails where mutagen is missing."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, BinaryIO

import mutagen
from mutagen.asf import ASFTags
from mutagen.flac import FLAC, Picture
from mutagen.id3 import ID3
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4Tags

from .covers import MAX_COVER
from .facts import MAX_DURATION
from .text import clean, number_in, year_in

_FRONT_COVER = 3
_FIELDS = ("title", "artist", "album", "album_artist", "genre", "track", "disc", "date")
_ID3 = ("TIT2", "TPE1", "TALB", "TPE2", "TCON", "TRCK", "TPOS", "TDRC")
_MP4 = ("\xa9nam", "\xa9ART", "\xa9alb", "aART", "\xa9gen", "trkn", "disk", "\xa9day")
_ASF = (
    *("Title", "Author", "WM/AlbumTitle", "WM/AlbumArtist"),
    *("WM/Genre", "WM/TrackNumber", "WM/PartOfSet", "WM/Year"),
)
_VORBIS = (
    *("title", "artist", "album", "albumartist"),
    *("genre", "tracknumber", "discnumber", "date"),
)
_CODECS = {
    "AAC": "aac",
    "AIFF": "pcm",
    "FLAC": "flac",
    "MP3": "mp3",
    "OggFLAC": "flac",
    "OggOpus": "opus",
    "OggSpeex": "speex",
    "OggVorbis": "vorbis",
    "WAVE": "pcm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """What the tags of a song say, and what mutagen learned about the sound on the way."""

    title: str | None
    artist: str | None
    album: str | None
    album_artist: str | None
    genre: str | None
    track: int | None
    disc: int | None
    year: int | None
    duration: float | None
    bit_rate: int | None
    codec: str | None
    cover: bytes | None


def read_tags(file: BinaryIO, content_type: str | None) -> Tags | None:
    """Read the tags of a song, or return None if mutagen does not know such files.

    Raises whatever mutagen raises about a broken file, which is nearly anything.
    """
    file.seek(0)
    # A file without a name is not recognised as MP3 unless it starts with a tag.
    reader: Any = MP3 if content_type == "audio/mpeg" else mutagen.File
    song = reader(file)
    if song is None:
        return None
    values = _values(song.tags)
    length = getattr(song.info, "length", None)
    return Tags(
        title=_joined(values["title"]),
        artist=_joined(values["artist"]),
        album=_joined(values["album"]),
        album_artist=_joined(values["album_artist"]),
        genre=_joined(values["genre"]),
        track=_first(values["track"], number_in),
        disc=_first(values["disc"], number_in),
        year=_first(values["date"], year_in),
        duration=float(length) if length and 0 < length <= MAX_DURATION else None,
        bit_rate=int(getattr(song.info, "bitrate", 0)) or None,
        codec=_codec(song),
        cover=_cover(song),
    )


def _values(tags: Any) -> dict[str, list[Any]]:
    """Return the raw values of each field, whichever way this kind of file calls it."""
    if tags is None:
        return {field: [] for field in _FIELDS}
    if isinstance(tags, ID3):
        getall: Any = tags.getall
        return {
            field: _id3_values(getall(key))
            for field, key in zip(_FIELDS, _ID3, strict=True)
        }
    keys = _VORBIS
    if isinstance(tags, MP4Tags):
        keys = _MP4
    elif isinstance(tags, ASFTags):
        keys = _ASF
    return {
        field: _as_list(tags.get(key)) for field, key in zip(_FIELDS, keys, strict=True)
    }


def _id3_values(frames: list[Any]) -> list[Any]:
    if not frames:
        return []
    # Genres may be numbers of a fixed list; mutagen names them.
    return list(getattr(frames[0], "genres", frames[0].text))


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _joined(values: list[Any]) -> str | None:
    texts = [text for value in values[:8] if (text := clean(value))]
    return clean(", ".join(dict.fromkeys(texts)))


def _first(values: list[Any], parse: Any) -> int | None:
    # MP4 keeps (number, total) pairs.
    if values and isinstance(values[0], tuple):
        values = list(values[0])
    result: int | None = parse(values[0]) if values else None
    return result


def _codec(song: Any) -> str | None:
    name = str(getattr(song.info, "codec", "")).lower()
    if name.startswith("mp4a"):
        return "aac"
    return name or _CODECS.get(type(song).__name__)


def _cover(song: Any) -> bytes | None:
    """Return the front cover as an image file, or any other picture of the song."""
    tags: Any = song.tags
    pictures: list[tuple[int, bytes]] = []
    if isinstance(song, FLAC):
        pictures = [(each.type, each.data) for each in song.pictures]
    elif isinstance(song.tags, ID3):
        pictures = [(each.type, each.data) for each in tags.getall("APIC")]
    elif isinstance(song.tags, MP4Tags):
        pictures = [(_FRONT_COVER, bytes(each)) for each in tags.get("covr", [])]
    elif song.tags is not None and not isinstance(song.tags, ASFTags):
        block: Any = Picture
        blocks = [
            block(base64.b64decode(each))
            for each in tags.get("metadata_block_picture", [])[:8]
        ]
        pictures = [(each.type, each.data) for each in blocks]
    fitting = [each for each in pictures if 0 < len(each[1]) <= MAX_COVER]
    fitting.sort(key=lambda each: each[0] != _FRONT_COVER)
    return fitting[0][1] if fitting else None
