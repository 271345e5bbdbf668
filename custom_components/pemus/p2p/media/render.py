"""Turning any image into the small JPEG that is shown for an item, by Pillow. Importing this fails where it is missing."""

from __future__ import annotations

import io

from PIL import Image, ImageCms, ImageFile, ImageOps

from .facts import MediaError
from .photo import MAX_DECODED_PIXELS, can_be_decoded

QUALITY = 82
_BACKGROUND = (255, 255, 255)
_MAX_PROFILE = 4 * 1024 * 1024
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

# Half a photo is a better thumbnail than none.
ImageFile.LOAD_TRUNCATED_IMAGES = True


def render(image: Image.Image, size: int) -> Image.Image:
    """Return an image as it is shown, in RGB and no larger than `size` on either side.

    Raises:
        MediaError: it is too large to be decoded.
        Exception: it is damaged; decoders raise nearly anything.

    """
    if not can_be_decoded(image):
        raise MediaError("The picture is too large.")
    # JPEGs can be decoded at a half, a quarter or an eighth of their size, which takes far less time and memory.
    image.draft(None, (size, size))
    if image.width * image.height > MAX_DECODED_PIXELS:
        raise MediaError("The picture is too large.")
    image.load()
    image = _plain_mode(image)
    image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    image = ImageOps.exif_transpose(image)
    return _flat(_in_srgb(image))


def jpeg(image: Image.Image) -> bytes:
    """Return an RGB image as a JPEG file."""
    # Comments and profiles of the original would be written along.
    image.info = {}
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def _plain_mode(image: Image.Image) -> Image.Image:
    """Turn indexed and deep pixels into such that can be scaled."""
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image)
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey levels of 16 bits and more down to the 256 that are shown."""
    extrema = image.getextrema()
    top = extrema[1] if isinstance(extrema[1], int | float) else 0
    if image.mode.startswith("I;16") or (image.mode == "I" and top > 255):
        return image.convert("I").point(lambda level: level * (1 / 256)).convert("L")
    if image.mode == "F" and 0 < top <= 1:
        return image.point(lambda level: level * 255).convert("L")
    return image.convert("L")


def _in_srgb(image: Image.Image) -> Image.Image:
    """Apply the image's colour profile, so that photos of phones and cameras with wide colours do not look pale."""
    profile = image.info.get("icc_profile")
    if not profile or len(profile) > _MAX_PROFILE or image.mode not in ("RGB", "CMYK"):
        return image
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            _SRGB,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted or image


def _flat(image: Image.Image) -> Image.Image:
    """Return the image in RGB, on white where it was transparent."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, _BACKGROUND)
        flat.paste(image, mask=image.getchannel("A"))
        return flat
    return image.convert("RGB")
