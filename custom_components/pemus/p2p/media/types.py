"""Which files are media, told from their names alone, so that a scan need not open them."""

from __future__ import annotations

from ..models import Kind

_VIDEO = {
    "3g2": "video/3gpp2",
    "3gp": "video/3gpp",
    "asf": "video/x-ms-asf",
    "avi": "video/x-msvideo",
    "divx": "video/x-msvideo",
    "flv": "video/x-flv",
    "m2ts": "video/mp2t",
    "m4v": "video/mp4",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "mts": "video/mp2t",
    "ogv": "video/ogg",
    "ts": "video/mp2t",
    "vob": "video/mpeg",
    "webm": "video/webm",
    "wmv": "video/x-ms-wmv",
}
_MUSIC = {
    "aac": "audio/aac",
    "aif": "audio/aiff",
    "aifc": "audio/aiff",
    "aiff": "audio/aiff",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "mka": "audio/x-matroska",
    "mp2": "audio/mpeg",
    "mp3": "audio/mpeg",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "weba": "audio/webm",
    "wma": "audio/x-ms-wma",
}
_PHOTO = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "jfif": "image/jpeg",
    "jpe": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "webp": "image/webp",
}

EXTENSIONS: dict[str, tuple[Kind, str]] = {
    extension: (kind, content_type)
    for kind, table in (
        (Kind.VIDEO, _VIDEO),
        (Kind.MUSIC, _MUSIC),
        (Kind.PHOTO, _PHOTO),
    )
    for extension, content_type in table.items()
}
"""Extension in lower case, without its dot -> kind and content type."""

SUBTITLE_EXTENSIONS = frozenset({"ass", "srt", "ssa", "vtt"})
"""Extensions of the subtitle files that `MediaReader.subtitles` can convert."""


def kind_of(name: str) -> tuple[Kind, str] | None:
    """Return what a file of this name is likely to be, or None if it is no media file."""
    stem, dot, extension = name.rpartition(".")
    return EXTENSIONS.get(extension.lower()) if stem and dot else None
