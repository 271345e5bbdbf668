"""Making the picture that is shown for a file. Importing this fails where Pillow is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import io
from typing import BinaryIO

from PIL import Image

from ..models import Kind
from .content import HEAD, sniff
from .photo import open_image
from .render import jpeg, render

try:
    from . import poster
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


def make_picture(
    file: BinaryIO, cover: BinaryIO | None, kind: Kind, size: int
) -> bytes | None:
    """Return the picture of a file, which is a `kind`, as JPEG, None if there is none.

    `cover` is the one in the folder of a song.
    """
    image = _first_picture(file, cover, kind, size)
    return jpeg(image) if image is not None else None


def _first_picture(
    file: BinaryIO, cover: BinaryIO | None, kind: Kind, size: int
) -> Image.Image | None:
    """Return the first picture that can be made: any of them may be missing or broken."""
    try:
        for make in _ways(file, cover, kind, size):
            try:
                image = make()
            except Exception:  # noqa: BLE001, S112 - a decoder that is fed garbage may raise anything
                continue
            if image is not None:
                return image
    except OSError:
        pass
    return None


def _ways(
    file: BinaryIO, cover: BinaryIO | None, kind: Kind, size: int
) -> Iterator[Callable[[], Image.Image | None]]:
    """Yield the ways to a picture of a file, the best first."""
    content = sniff(file.read(HEAD))
    if content and content.photo:
        yield lambda: _of_image(file, size)
        return
    if HAVE_MUTAGEN and content and content.music:
        yield lambda: _of_tags(file, content.music, size)
    if HAVE_AV:
        yield lambda: _of_bytes(poster.embedded_cover(file), size)
        yield lambda: poster.poster(file, size)
    if kind is Kind.MUSIC and cover is not None:
        yield lambda: _of_image(cover, size)


def _of_image(file: BinaryIO, size: int) -> Image.Image:
    with open_image(file) as image:
        return render(image, size)


def _of_bytes(data: bytes | None, size: int) -> Image.Image | None:
    return _of_image(io.BytesIO(data), size) if data else None


def _of_tags(file: BinaryIO, content_type: str | None, size: int) -> Image.Image | None:
    found = tags.read_tags(file, content_type)
    return _of_bytes(found.cover, size) if found else None
