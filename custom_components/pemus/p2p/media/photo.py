"""Photos: their dimensions, when they were taken, and opening them for pictures, by Pillow.

Importing this fails where Pillow is missing.
"""

from __future__ import annotations

from datetime import datetime
import os
from typing import BinaryIO
import warnings

from PIL import Image, features

from ..models import Kind
from .content import HEAD, Content
from .facts import MediaFacts

try:
    import pillow_heif
except ImportError:
    HAVE_HEIF = False
else:
    HAVE_HEIF = True
    # Decoding goes on in one thread, as this process is meant to be a small and quiet one.
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False
    )

MAX_PIXELS = 512 * 1024 * 1024
"""Pixels of an image that is opened at all. JPEGs of this size can still be decoded at a smaller scale."""
MAX_DECODED_PIXELS = 50_000_000
"""Pixels that are held in memory, at four bytes each and twice while they are scaled. A small file can unfold into more."""

MAX_HEIF = 256 * 1024 * 1024
"""Bytes of a HEIC photo, which its library reads whole."""

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF") + (
    ("HEIF",) if HAVE_HEIF else ()
)
"""Only what people's photos are: some of Pillow's other formats start programs. The most common come first."""
_CONTENT_TYPES = {
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}
_HEIF = {"image/heic", "image/heif"}
_UNDECODED = (set() if HAVE_HEIF else _HEIF) | (
    set() if features.check("avif") else {"image/avif"}
)
_ORIENTATION, _CHANGED, _EXIF_IFD, _TAKEN, _SCANNED = (
    *(0x0112, 0x0132, 0x8769),
    *(0x9003, 0x9004),
)
_EARLIEST = 1826
"""The year of the first photograph."""
_END_MISSING = "The end of the picture is missing."
_END_OF_JPEG = b"\xff\xd9"
_START_OF_SCAN = 0xDA

# Twice this many pixels raise an error, and more than this a warning, which says nothing that is not known here.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image without decoding it yet. Raises UnidentifiedImageError, OSError, and others for broken files."""
    formats = _FORMATS
    if file.seek(0, os.SEEK_END) > MAX_HEIF:
        formats = tuple(each for each in formats if each != "HEIF")
    file.seek(0)
    return Image.open(file, formats=formats)


def read_photo(file: BinaryIO, size: int, content: Content | None) -> MediaFacts:
    """Describe a photo of which the first bytes say that it is `content`."""
    sniffed = content.photo if content else None
    try:
        image = open_image(file)
    except Image.DecompressionBombError:
        fault = "The picture is too large to be opened."
        return MediaFacts(kind=Kind.PHOTO, content_type=sniffed, fault=fault)
    except Exception:  # noqa: BLE001 - a decoder that is fed garbage may raise anything
        if sniffed in _UNDECODED:
            return MediaFacts(kind=Kind.PHOTO, content_type=sniffed)
        cut_short = _is_cut_short(file, size, sniffed)
        fault = _END_MISSING if cut_short else "The picture is damaged."
        return MediaFacts(kind=Kind.PHOTO, content_type=sniffed, fault=fault)
    with image:
        content_type = _CONTENT_TYPES.get(image.format or "", sniffed)
        orientation, taken = _exif(image)
        width, height = image.size
        if orientation and orientation >= 5:
            width, height = height, width
        cut_short = _is_cut_short(file, size, content_type)
        return MediaFacts(
            kind=Kind.PHOTO,
            content_type=content_type,
            width=width,
            height=height,
            orientation=orientation,
            taken=taken,
            has_picture=can_be_decoded(image),
            fault=_END_MISSING if cut_short else None,
        )


def can_be_decoded(image: Image.Image) -> bool:
    """Tell whether the pixels of an image that is not decoded yet fit in the memory meant for them."""
    return image.width * image.height <= (
        MAX_PIXELS if image.format in ("JPEG", "MPO") else MAX_DECODED_PIXELS
    )


def _exif(image: Image.Image) -> tuple[int | None, str | None]:
    """Return the orientation and the time of the photo."""
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION)
        details = exif.get_ifd(_EXIF_IFD)
        dates = (details.get(_TAKEN), details.get(_SCANNED), exif.get(_CHANGED))
    except Exception:  # noqa: BLE001 - a parser that is fed garbage may raise anything
        return None, None
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        orientation = None
    return orientation, next((when for each in dates if (when := _moment(each))), None)


def _moment(value: object) -> str | None:
    """Return an EXIF time as ISO 8601. Cameras whose clock was never set write zeros."""
    try:
        when = datetime.strptime(str(value)[:19], "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007 - EXIF knows no zone
    except ValueError:
        return None
    return when.isoformat() if when.year >= _EARLIEST else None


def _is_cut_short(file: BinaryIO, size: int, content_type: str | None) -> bool:
    """Tell whether the end of an image is missing, without decoding it."""
    if content_type == "image/webp":
        file.seek(4)
        return int.from_bytes(file.read(4), "little") + 8 > size
    if content_type not in ("image/jpeg", "image/png"):
        return False
    mark = _END_OF_JPEG if content_type == "image/jpeg" else b"IEND"
    file.seek(max(0, size - HEAD))
    if mark in file.read(HEAD):
        return False
    # Phones append films and depth maps to their JPEGs, so that the end of the image is somewhere before.
    return content_type == "image/png" or not _jpeg_ends(file)


def _jpeg_ends(file: BinaryIO) -> bool:
    """Look for the end mark behind the headers, which may hold a thumbnail with an end mark of its own."""
    file.seek(2)
    while len(marker := file.read(4)) == 4 and marker[0] == 0xFF:
        if marker[1] == _START_OF_SCAN:
            break
        file.seek(int.from_bytes(marker[2:], "big") - 2, os.SEEK_CUR)
    last = b""
    while block := file.read(1 << 20):
        if _END_OF_JPEG in last + block:
            return True
        last = block[-1:]
    return False
