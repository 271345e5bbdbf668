"""Real files out of moving pictures and sound, with PyAV's encoders. The same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
import numpy as np

from .films import SIZE, Film, stamped
from .melodies import RATE, Sound

FRAME_RATE = 24


@dataclass(frozen=True, slots=True)
class Format:
    """How a file is encoded."""

    container: str
    audio: str
    audio_rate: int
    """Bits per second; of no account where nothing is lost."""
    video: str | None = None
    video_options: tuple[tuple[str, str], ...] = ()
    container_options: tuple[tuple[str, str], ...] = ()


_X264 = (("preset", "superfast"), ("crf", "23"))
_VP9 = (
    ("deadline", "realtime"),
    ("cpu-used", "8"),
    ("crf", "34"),
    ("b", "0"),
    ("row-mt", "1"),
)

MP4_FAST = Format(
    "mp4", "aac", 128_000, "libx264", _X264, (("movflags", "+faststart"),)
)
"""The index (moov) comes first, as a file made for the web has it."""
MP4_SLOW = Format("mp4", "aac", 128_000, "libx264", _X264)
"""The index comes last, as a camera writes it."""
MKV = Format("matroska", "aac", 128_000, "libx264", _X264)
WEBM = Format("webm", "libopus", 96_000, "libvpx-vp9", _VP9)
MP3 = Format("mp3", "libmp3lame", 160_000)
FLAC = Format("flac", "flac", 0)
M4A = Format("ipod", "aac", 160_000)
OGG = Format("ogg", "vorbis", 128_000)


def write(
    path: Path, form: Format, sound: Sound, seconds: float, film: Film | None = None
) -> None:
    """Encode the sound, and the film if there is one, into a file."""
    options = {"fflags": "+bitexact", **dict(form.container_options)}
    with av.open(str(path), "w", format=form.container, options=options) as container:
        video = _video_stream(container, form.video, form) if form.video else None
        audio = _audio_stream(container, form)
        samples = _frames_of_sound(sound, audio)
        for number in range(round(seconds * FRAME_RATE) if video else 0):
            assert video is not None and film is not None
            at = number / FRAME_RATE
            pixels = np.asarray(stamped(film, at, seconds))
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, FRAME_RATE)
            container.mux(video.encode(picture.reformat(format="yuv420p")))
            if number % FRAME_RATE == 0:
                _write_sound(container, audio, samples, until=at + 1)
        _write_sound(container, audio, samples)
        for stream in (video, audio):
            if stream is not None:
                container.mux(stream.encode(None))


def _video_stream(container: OutputContainer, codec: str, form: Format) -> VideoStream:
    stream = cast(
        VideoStream,
        container.add_stream(codec, rate=FRAME_RATE, options=dict(form.video_options)),
    )
    stream.width, stream.height = SIZE
    stream.pix_fmt = "yuv420p"
    # A seek lands at most two seconds before where it was aimed.
    stream.codec_context.gop_size = 2 * FRAME_RATE
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    return stream


def _audio_stream(container: OutputContainer, form: Format) -> AudioStream:
    # FFmpeg calls its own Vorbis encoder experimental; for these tunes it does.
    stream = cast(
        AudioStream,
        container.add_stream(form.audio, rate=RATE, options={"strict": "experimental"}),
    )
    if form.audio_rate:
        stream.bit_rate = form.audio_rate
    stream.layout = "stereo"
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    formats = stream.codec.audio_formats or []
    names = [sample.name for sample in formats]
    stream.format = next(
        name for name in ("fltp", "s16", "s16p", *names) if name in names
    )
    stream.codec_context.open()
    return stream


def _frames_of_sound(sound: Sound, stream: AudioStream) -> Iterator[av.AudioFrame]:
    """Yield the sound in the pieces and in the sample format that the encoder takes."""
    step = stream.codec_context.frame_size or 4096
    resampler = av.AudioResampler(format=stream.format, layout="stereo", rate=RATE)
    data = np.ascontiguousarray(sound, dtype=np.float32)
    for start in range(0, data.shape[1], step):
        piece = np.ascontiguousarray(data[:, start : start + step])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = start
        yield from resampler.resample(frame)


def _write_sound(
    container: OutputContainer,
    stream: AudioStream,
    samples: Iterator[av.AudioFrame],
    until: float | None = None,
) -> None:
    for frame in samples:
        container.mux(stream.encode(frame))
        if until is not None and frame.time is not None and frame.time >= until:
            return
