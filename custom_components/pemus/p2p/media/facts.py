"""What is known of a media file once it was read, and what cannot be had from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..core.errors import EngineError
from ..models import ErrorKey, Kind

MAX_DURATION = 60 * 24 * 3600
"""Seconds that are believed. Broken files claim centuries."""


class MediaError(EngineError):
    """What was asked for cannot be made of this file. The message says why and is fit to be shown."""

    key: ClassVar[ErrorKey] = ErrorKey.NOT_FOUND


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """What a file says about itself. What is not known is None, also where only a missing library would know."""

    kind: Kind | None = None
    """What the content is, whatever the file is called; None when that cannot be told."""
    content_type: str | None = None
    """Of the content, not of the file name."""
    title: str | None = None
    duration: float | None = None
    """Seconds."""
    width: int | None = None
    height: int | None = None
    """Dimensions as shown: after rotation and in square pixels."""
    video_codec: str | None = None
    audio_codec: str | None = None
    bit_rate: int | None = None
    """Bits per second of the whole file."""
    artist: str | None = None
    album: str | None = None
    album_artist: str | None = None
    genre: str | None = None
    track: int | None = None
    disc: int | None = None
    year: int | None = None
    taken: str | None = None
    """When a photo was taken: local time as ISO 8601 without a zone."""
    orientation: int | None = None
    """The EXIF orientation of a photo, 1 to 8. Width and height are given after it was applied."""
    has_picture: bool = False
    """Whether a picture of it is known or likely."""
    fault: str | None = None
    """Why the file could not be read in full, in plain English; None for a healthy file."""
