"""What guests of a room are told of it, once they may know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from ..models import Item, Kind
from ..models.codec import encode
from ..models.rooms import MAX_FILES, RoomConfig

MAX_MANIFEST: Final = 8 * 1024 * 1024
"""Bytes of a manifest. A file takes about 500."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSubtitles:
    """Subtitles of a file."""

    index: int
    name: str
    language: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as guests see it."""

    item: str
    name: str
    title: str
    folder: str
    kind: Kind
    content_type: str
    size: int
    etag: str
    modified: float
    duration: float | None
    width: int | None
    height: int | None
    video_codec: str | None
    audio_codec: str | None
    has_thumbnail: bool
    available: bool
    subtitles: tuple[FileSubtitles, ...]

    @classmethod
    def of(cls, item: Item, folder: str) -> Self:
        """Describe an item, as if its room began at the folder that it is shown in."""
        return cls(
            item=item.id,
            name=item.name,
            title=item.title,
            folder=folder,
            kind=item.kind,
            content_type=item.content_type,
            size=item.size,
            etag=item.etag,
            modified=item.modified,
            duration=item.duration,
            width=item.width,
            height=item.height,
            video_codec=item.video_codec,
            audio_codec=item.audio_codec,
            has_thumbnail=item.has_thumbnail,
            available=item.available,
            subtitles=tuple(
                FileSubtitles(index=each.index, name=each.name, language=each.language)
                for each in item.subtitles
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of a room."""

    room: str
    home: str
    note: str
    expires: float
    files: tuple[File, ...]
    truncated: bool
    """Whether the room has more files than it shows."""

    @classmethod
    def of(cls, config: RoomConfig, home: str, items: list[Item]) -> Self:
        """Describe a room of the home with this name."""
        return cls(
            room=config.name,
            home=home,
            note=config.note,
            expires=config.expires,
            files=tuple(
                File.of(each, _folder(each, config)) for each in items[:MAX_FILES]
            ),
            truncated=len(items) > MAX_FILES,
        )

    def encode(self) -> bytes:
        """Return the manifest as JSON."""
        return encode(self)


def _folder(item: Item, config: RoomConfig) -> str:
    """Return where an item lies in its room. Nobody learns in which folders of the home the room itself lies."""
    if item.id in config.items:
        return ""
    for folder in config.folders:
        inside = item.folder
        if folder.share == item.share and folder.path:
            inside = item.folder.removeprefix(folder.path).lstrip("/")
        if folder.share == item.share:
            return inside
    return ""
