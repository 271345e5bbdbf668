"""What a film or a song is made of, by FFmpeg's libraries through PyAV. Importing this fails where PyAV is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import math
from typing import BinaryIO

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..models import Kind
from .content import DEMUXERS, Content
from .facts import MAX_DURATION, MediaError

MAX_SIDE = 65535
"""Pixels of a picture's side that are believed."""
PACKETS_TO_FIRST_FRAME = 300
"""A recording may start between two key frames: this many packets are tried for the first frame."""

_READ_SIZE = 128 * 1024
_MICROSECONDS = 1_000_000
_MAX_ASPECT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What FFmpeg's libraries know of a file."""

    kind: Kind
    content: Content
    duration: float | None
    width: int | None
    height: int | None
    video_codec: str | None
    audio_codec: str | None
    bit_rate: int | None
    metadata: dict[str, str]
    """As written in the file, keys in lower case."""
    has_picture: bool
    fault: str | None


@contextmanager
def open_container(file: BinaryIO) -> Iterator[InputContainer]:
    """Open a film or a song.

    The library gets the open file and not its name: the content alone decides, and nothing else can be opened by it.
    """
    file.seek(0)
    with av.open(
        _Nameless(file),
        mode="r",
        options={"format_whitelist": ",".join(DEMUXERS)},
        buffer_size=_READ_SIZE,
    ) as container:
        yield container


def probe(file: BinaryIO, size: int) -> Probe:
    """Describe the film or song in a file of `size` bytes.

    Raises:
        MediaError: it is neither.
        av.FFmpegError: it cannot be read.

    """
    with open_container(file) as container:
        film = film_stream(container)
        sound = _first_with_decoder(container.streams.audio)
        if film is None and sound is None:
            raise MediaError("there is neither picture nor sound in it")
        duration = duration_of(container)
        metadata: dict[str, str] = {}
        # Ogg has its tags in the stream, the others in the container.
        for tags in (container.metadata, *([sound.metadata] if sound else [])):
            for key, value in tags.items():
                metadata.setdefault(key.lower(), value)
        width = height = None
        fault = _end_missing(container, size)
        if film is not None:
            width, height, undecodable = _dimensions(container, film)
            fault = fault or undecodable
        elif sound is not None and _first_frame(container, sound, AudioFrame) is None:
            fault = fault or "Its sound is damaged: nothing of it can be decoded."
        return Probe(
            kind=Kind.VIDEO if film else Kind.MUSIC,
            content=DEMUXERS[container.format.name.split(",")[0]],
            duration=duration,
            width=width,
            height=height,
            video_codec=film.codec.canonical_name if film else None,
            audio_codec=sound.codec.canonical_name if sound else None,
            bit_rate=_bit_rate(container, size, duration),
            metadata=metadata,
            has_picture=film is not None or cover_stream(container) is not None,
            fault=fault,
        )


def film_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream of moving pictures, if there is one that can be decoded; a cover is none."""
    return next(
        (
            each
            for each in container.streams.video
            if not each.disposition & Disposition.attached_pic and each.codec_context
        ),
        None,
    )


def cover_stream(container: InputContainer) -> VideoStream | None:
    """Return the stream that is the cover of the film or the song: the front one, if there are several."""
    covers = [
        each
        for each in container.streams.video
        if each.disposition & Disposition.attached_pic
    ]
    covers.sort(key=lambda each: each.metadata.get("comment") != "Cover (front)")
    return covers[0] if covers else None


def duration_of(container: InputContainer) -> float | None:
    """Return the duration in seconds, if it is known and can be true."""
    if not container.duration:
        return None
    seconds = container.duration / _MICROSECONDS
    return seconds if 0 < seconds <= MAX_DURATION else None


def frames[F: VideoFrame | AudioFrame](
    container: InputContainer, stream: Stream, frame_type: type[F]
) -> Iterator[F]:
    """Decode frames of a stream from where the container stands, skipping packets that are damaged.

    Decoding goes on in one thread, as this process is meant to be a small and quiet one.
    """
    if not stream.codec_context.is_open:
        stream.codec_context.thread_count = 1
    without_frame = 0
    for packet in container.demux(stream):
        without_frame += 1
        try:
            decoded = packet.decode()
        except av.InvalidDataError:
            decoded = []
        for frame in decoded:
            if isinstance(frame, frame_type):
                without_frame = 0
                yield frame
        if without_frame > PACKETS_TO_FIRST_FRAME:
            return


def shown_size(film: VideoStream, frame: VideoFrame | None) -> tuple[int, int] | None:
    """Return width and height in square pixels and after rotation; None if there are none to believe."""
    width, height = film.codec_context.width, film.codec_context.height
    aspect = film.sample_aspect_ratio
    if aspect and 1 / _MAX_ASPECT < aspect < _MAX_ASPECT:
        width = round(width * float(aspect))
    if frame is not None and frame.rotation % 180:
        width, height = height, width
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        return None
    return width, height


def _dimensions(
    container: InputContainer, film: VideoStream
) -> tuple[int | None, int | None, str | None]:
    """Return width, height and what is wrong with the picture. Only a frame tells how it is rotated."""
    frame = _first_frame(container, film, VideoFrame)
    fault = None if frame else "Its picture is damaged: no frame can be decoded."
    width, height = shown_size(film, frame) or (None, None)
    return width, height, fault


def _first_frame[F: VideoFrame | AudioFrame](
    container: InputContainer, stream: Stream, frame_type: type[F]
) -> F | None:
    try:
        return next(frames(container, stream, frame_type), None)
    except av.FFmpegError:
        return None


def _end_missing(container: InputContainer, size: int) -> str | None:
    """Tell whether the file ends before its last frame, by the index that mp4 files have."""
    if not container.format.name.startswith("mov"):
        return None
    for stream in container.streams:
        index = stream.index_entries
        if len(index) and index[len(index) - 1].pos + index[len(index) - 1].size > size:
            return "The end of the file is missing."
    return None


def _bit_rate(
    container: InputContainer, size: int, duration: float | None
) -> int | None:
    if container.bit_rate > 0:
        return container.bit_rate
    return math.ceil(size * 8 / duration) if duration else None


def _first_with_decoder[S: Stream](streams: tuple[S, ...]) -> S | None:
    return next((each for each in streams if each.codec_context), None)


class _Nameless:
    """A file of which the library sees the content only."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell
