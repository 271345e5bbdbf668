"""A picture for a film: its cover, or a frame from near its beginning. Importing this needs PyAV and Pillow."""

from __future__ import annotations

from time import monotonic
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageStat

from .covers import MAX_COVER
from .probe import (
    cover_stream,
    duration_of,
    film_stream,
    frames,
    open_container,
    shown_size,
)

PLACES = (0.1, 0.2, 0.35, 0.5, 0.05)
"""Where to look for a frame, as parts of the duration, until one is not black."""
FRAMES_PER_PLACE = 120
"""Frames decoded from the key frame before a place on the way to it: more would take seconds on a small machine."""
TIME_LIMIT = 15
"""Seconds after which the brightest frame so far has to do."""

_BLACK = 20
"""Mean grey level, 0 to 255, up to which a frame counts as black."""
_MICROSECONDS = 1_000_000


def embedded_cover(file: BinaryIO) -> bytes | None:
    """Return the cover inside a film or a song as an image file."""
    with open_container(file) as container:
        stream = cover_stream(container)
        if stream is None:
            return None
        packet = next(container.demux(stream), None)
        if packet is None or not 0 < packet.size <= MAX_COVER:
            return None
        return bytes(packet)


def poster(file: BinaryIO, size: int) -> Image.Image | None:
    """Return a telling frame of a film, no larger than `size` on either side; None if none can be decoded."""
    best, best_brightness = None, -1.0
    deadline = monotonic() + TIME_LIMIT
    with open_container(file) as container:
        film = film_stream(container)
        if film is None:
            return None
        duration = duration_of(container)
        for place in PLACES if duration else (0.0,):
            seconds = place * (duration or 0)
            try:
                frame = _frame_at(container, film, seconds, deadline)
            except av.FFmpegError:
                continue
            if frame is None:
                continue
            image = _shown(film, frame, size)
            brightness = ImageStat.Stat(image.convert("L")).mean[0]
            if brightness > best_brightness:
                best, best_brightness = image, brightness
            if brightness > _BLACK or monotonic() > deadline:
                break
    return best


def _frame_at(
    container: InputContainer, film: VideoStream, seconds: float, deadline: float
) -> VideoFrame | None:
    """Return the frame shown at a time, or the last one on the way there that was worth decoding."""
    begin = (container.start_time or 0) / _MICROSECONDS
    if seconds:
        container.seek(int((begin + seconds) * _MICROSECONDS))
    found = None
    for count, frame in enumerate(frames(container, film, VideoFrame), start=1):
        found = frame
        if (
            (frame.pts is not None and frame.time >= begin + seconds)
            or count >= FRAMES_PER_PLACE
            or monotonic() > deadline
        ):
            break
    return found


def _shown(film: VideoStream, frame: VideoFrame, size: int) -> Image.Image:
    """Return a frame as it is shown, scaled down before anything else is done with its many pixels."""
    width, height = shown_size(film, None) or (frame.width, frame.height)
    scale = min(1.0, size / max(width, height))
    small: Any = frame.reformat(
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        format="rgb24",
        interpolation="AREA",
    )
    image: Image.Image = small.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
