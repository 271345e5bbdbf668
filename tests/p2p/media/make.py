"""Real media files, small and quickly encoded, for the tests of the readers."""

from __future__ import annotations

import base64
import io
from pathlib import Path
import random
import struct
from typing import Any

import av
import mutagen
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, TALB, TCON, TDRC, TIT2, TPE1, TPE2, TPOS, TRCK
from mutagen.mp4 import MP4, MP4Cover
from PIL import Image

RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)
RATE = 48_000


def halves(size: tuple[int, int], left: Any = GREEN, right: Any = RED) -> Image.Image:
    """A picture whose left half is green and whose right half is red: it shows how it was turned."""
    image = Image.new("RGB", size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    return image


def jpeg(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def film(
    path: Path,
    *,
    codec: str | None = "libx264",
    sound: str | None = "aac",
    seconds: float = 2,
    size: tuple[int, int] = (320, 180),
    rotation: int | None = None,
    aspect: int | None = None,
    black: float = 0,
    title: str | None = None,
    cover: bytes | None = None,
    options: dict[str, str] | None = None,
    container: str | None = None,
) -> Path:
    """Encode a film of which the first `black` seconds are black."""
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        if title is not None:
            output.metadata["title"] = title
        picture: Any = output.add_stream(codec, rate=10) if codec else None
        if picture is not None:
            picture.width, picture.height = size
            picture.pix_fmt = "yuv420p"
            if rotation is not None:
                picture.set_display_rotation(rotation)
            if aspect is not None:
                picture.sample_aspect_ratio = aspect
        audio: Any = output.add_stream(sound, rate=RATE) if sound else None
        if audio is not None and sound == "wmav2":
            audio.bit_rate = 96_000
        attached: Any = None
        if cover is not None:
            attached = output.add_stream("mjpeg", rate=1)
            image = Image.open(io.BytesIO(cover))
            attached.width, attached.height = image.size
            attached.pix_fmt = "yuvj420p"
            attached.disposition = av.stream.Disposition.attached_pic
        output.start_encoding()
        if attached is not None:
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.dts = attached, 0, 0
            output.mux(packet)
        if picture is not None:
            bright, dark = halves(size), Image.new("RGB", size)
            for number in range(round(seconds * 10)):
                image = dark if number < black * 10 else bright
                output.mux(picture.encode(av.VideoFrame.from_image(image)))
            output.mux(picture.encode(None))
        if audio is not None:
            _silence(output, audio, seconds)
    return path


def _silence(output: Any, audio: Any, seconds: float) -> None:
    layout, at = "stereo", 0
    while at < seconds * RATE:
        frame = av.AudioFrame(format=audio.format.name, layout=layout, samples=960)
        frame.sample_rate, frame.pts = RATE, at
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        output.mux(audio.encode(frame))
        at += 960
    output.mux(audio.encode(None))


SOUNDS = {
    ".mp3": "libmp3lame",
    ".flac": "flac",
    ".m4a": "aac",
    ".ogg": "libopus",
    ".opus": "libopus",
    ".wav": "pcm_s16le",
    ".aiff": "pcm_s16be",
    ".wma": "wmav2",
    ".aac": "aac",
    ".mka": "aac",
}


def song(path: Path, *, seconds: float = 2) -> Path:
    """Encode silence, in the codec that belongs to the name."""
    return film(path, codec=None, sound=SOUNDS[path.suffix], seconds=seconds)


TAGS = {
    "title": "Träume & <b>Räume</b>",
    "artist": "Die Künstlerin",
    "album": "Erstes Album",
    "album_artist": "Verschiedene",
    "genre": "Jazz",
    "track": 3,
    "disc": 2,
    "year": 1987,
}


def tag(path: Path, cover: bytes | None = None) -> Path:
    """Write `TAGS` into a song, each kind in its own way."""
    text = {key: str(value) for key, value in TAGS.items()}
    match path.suffix:
        case ".mp3":
            tags = ID3()
            for frame, value in (
                (TIT2, text["title"]),
                (TPE1, text["artist"]),
                (TALB, text["album"]),
                (TPE2, text["album_artist"]),
                (TCON, "(8)"),
                (TRCK, "03/12"),
                (TPOS, "2/2"),
                (TDRC, "1987-05-01"),
            ):
                tags.add(frame(encoding=3, text=[value]))
            if cover:
                tags.add(APIC(encoding=3, mime="image/jpeg", type=4, data=b"back"))
                tags.add(
                    APIC(encoding=3, mime="image/jpeg", type=3, desc="f", data=cover)
                )
            tags.save(path)
        case ".m4a":
            mp4 = MP4(path)
            mp4["\xa9nam"], mp4["\xa9ART"] = text["title"], text["artist"]
            mp4["\xa9alb"], mp4["aART"] = text["album"], text["album_artist"]
            mp4["\xa9gen"], mp4["\xa9day"] = "Jazz", "1987-05-01T07:00:00Z"
            mp4["trkn"], mp4["disk"] = [(3, 12)], [(2, 2)]
            if cover:
                mp4["covr"] = [MP4Cover(cover)]
            mp4.save()
        case _:
            vorbis = mutagen.File(path)
            vorbis["title"], vorbis["artist"] = text["title"], text["artist"]
            vorbis["album"] = text["album"]
            vorbis["albumartist"], vorbis["genre"] = text["album_artist"], "Jazz"
            vorbis["tracknumber"], vorbis["discnumber"] = "3", "2"
            vorbis["date"] = "1987"
            if cover:
                picture = Picture()
                picture.type, picture.mime, picture.data = 3, "image/jpeg", cover
                if isinstance(vorbis, FLAC):
                    vorbis.add_picture(picture)
                else:
                    block = base64.b64encode(picture.write()).decode()
                    vorbis["metadata_block_picture"] = [block]
            vorbis.save()
    return path


def photo(
    path: Path,
    *,
    size: tuple[int, int] = (400, 300),
    taken: str | None = "2023:07:14 18:03:22",
    orientation: int | None = None,
    **options: Any,
) -> Path:
    """Write a photo as a camera does: orientation and time in its EXIF."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    if taken is not None:
        exif.get_ifd(0x8769)[0x9003] = taken
    halves(size).save(path, exif=exif.tobytes(), **options)
    return path


def png_bomb(path: Path, side: int) -> Path:
    """Write a tiny file that claims to be a picture of `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        import zlib

        return (
            struct.pack(">I", len(data))
            + kind
            + data
            + struct.pack(">I", zlib.crc32(kind + data))
        )

    import zlib

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(50_000_000), 9)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )
    return path


def random_bytes(path: Path, size: int = 200_000, seed: int = 0) -> Path:
    """Write bytes without any sense; of all there are, one in some thousand happens to look like a song of its own."""
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def colour_at(image: Image.Image, x: float, y: float) -> str:
    """Name the strongest of red, green and blue at a place given in parts of width and height."""
    pixel: Any = image.convert("RGB").getpixel(
        (int(x * (image.width - 1)), int(y * (image.height - 1)))
    )
    return ("red", "green", "blue")[max(range(3), key=lambda index: pixel[index])]
