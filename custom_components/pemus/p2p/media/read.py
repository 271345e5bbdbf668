"""Reading one file: which library is asked about it, and what is made of the answers.

Each library is optional. Where one is missing, less is known, and that is no fault of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import os
import re
from typing import BinaryIO

from ..models import Kind
from .content import HEAD, Content, merged, sniff
from .facts import MediaFacts
from .text import clean, number_in, year_in

try:
    from . import probe
except ImportError:
    HAVE_AV = False
else:
    HAVE_AV = True
try:
    from . import tags
except ImportError:
    HAVE_MUTAGEN = False
else:
    HAVE_MUTAGEN = True
try:
    from . import photo
except ImportError:
    HAVE_PILLOW = False
else:
    HAVE_PILLOW = True

_NO_TITLE = re.compile(
    r"https?:|www\.|\.(com|net|org|to)\b|@"
    r"|^(video|videoplayback|untitled|title|titel|titre|track|no name|output|dvd_?video)[\s_\d.]*$",
    re.IGNORECASE,
)
"""What programs and pirates write as the title of a film."""


def read(file: BinaryIO, likely: Kind, *, has_cover: bool) -> MediaFacts:
    """Describe a file, which its name makes a `likely` one. Whatever is wrong with it is the facts' fault.

    `has_cover` tells whether there is a cover in its folder.
    """
    try:
        return _read(file, likely, has_cover=has_cover)
    except MemoryError:
        return MediaFacts(fault="Reading it takes too much memory.")
    except OSError as err:
        return MediaFacts(fault=f"The file cannot be read: {reason(err)}.")


def reason(error: BaseException) -> str:
    """Return why something failed, on one line and without a full stop."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return (clean(text) or type(error).__name__).rstrip(".")


def _read(file: BinaryIO, likely: Kind, *, has_cover: bool) -> MediaFacts:
    size = os.fstat(file.fileno()).st_size
    if not size:
        return MediaFacts(fault="The file is empty.")
    content = sniff(file.read(HEAD))
    if content and content.photo:
        if HAVE_PILLOW:
            return photo.read_photo(file, size, content)
        return MediaFacts(kind=Kind.PHOTO, content_type=content.photo)
    return _read_stream(file, size, content, likely, has_cover=has_cover)


def _read_stream(
    file: BinaryIO,
    size: int,
    content: Content | None,
    likely: Kind,
    *,
    has_cover: bool,
) -> MediaFacts:
    """Describe a film or a song."""
    facts, fault = MediaFacts(), None
    if HAVE_AV:
        probed, fault = _tried(lambda: probe.probe(file, size))
        if probed:
            content = merged(content, probed.content)
            facts = _of_probe(probed, content)
    kind = facts.kind or (content.likely(likely) if content else None)
    if HAVE_MUTAGEN and (kind or likely) is Kind.MUSIC:
        found, tags_fault = _tried(
            lambda: tags.read_tags(file, content.music if content else None)
        )
        if found:
            facts = _with_tags(facts, found)
        if found and found.duration:
            kind, fault = Kind.MUSIC, None
        elif not HAVE_AV:
            fault = tags_fault
    if kind is None:
        unknown = "It is neither a film nor a song nor a photo."
        return MediaFacts(fault=unknown if HAVE_AV else None)
    if kind is Kind.MUSIC and not facts.has_picture:
        facts = replace(facts, has_picture=has_cover)
    return replace(
        facts,
        kind=kind,
        content_type=content.of(kind) if content else None,
        fault=facts.fault or (f"The file is damaged: {fault}." if fault else None),
    )


def _tried[T](parse: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return what a parser makes of a file, or why it fails."""
    try:
        return parse(), None
    except MemoryError:
        raise
    except Exception as err:  # noqa: BLE001 - a parser that is fed garbage may raise anything
        return None, reason(err)


def _of_probe(probed: probe.Probe, content: Content) -> MediaFacts:
    metadata = probed.metadata
    title = clean(metadata.get("title", ""))
    if probed.kind is Kind.VIDEO and title and _NO_TITLE.search(title):
        title = None
    return MediaFacts(
        kind=probed.kind,
        content_type=content.of(probed.kind),
        title=title,
        duration=probed.duration,
        width=probed.width,
        height=probed.height,
        video_codec=probed.video_codec,
        audio_codec=probed.audio_codec,
        bit_rate=probed.bit_rate,
        artist=clean(metadata.get("artist", "")),
        album=clean(metadata.get("album", "")),
        album_artist=clean(metadata.get("album_artist", "")),
        genre=clean(metadata.get("genre", "")),
        track=number_in(metadata.get("track", "")),
        disc=number_in(metadata.get("disc", "")),
        year=year_in(metadata.get("date", "")),
        has_picture=probed.has_picture,
        fault=probed.fault,
    )


def _with_tags(facts: MediaFacts, found: tags.Tags) -> MediaFacts:
    """Return the facts with what the tags of a song say."""
    return replace(
        facts,
        title=found.title or facts.title,
        artist=found.artist or facts.artist,
        album=found.album or facts.album,
        album_artist=found.album_artist or facts.album_artist,
        genre=found.genre or facts.genre,
        track=found.track or facts.track,
        disc=found.disc or facts.disc,
        year=found.year or facts.year,
        duration=facts.duration or found.duration,
        bit_rate=facts.bit_rate or found.bit_rate,
        audio_codec=facts.audio_codec or found.codec,
        has_picture=facts.has_picture or bool(found.cover),
    )
