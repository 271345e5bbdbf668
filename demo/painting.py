"""Landscapes out of gradients, ridges and light: the pictures in the sample library's photos, covers and films.

Everything is drawn from a seed, so the same code makes the same picture again.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

type Color = tuple[int, int, int]
type Size = tuple[int, int]
type Grid = NDArray[np.float64]


def color(code: str) -> Color:
    """Return `#rrggbb` as a triple."""
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of an hour of the day."""

    sky: tuple[str, ...]
    """From the top to the horizon, at equal distances."""
    hills: tuple[str, str]
    """The farthest ridge, which haze has paled, and the nearest."""
    light: str
    """Of the sun or the moon, and of what they shine on."""
    cloud: str
    dark: bool = False
    """Whether stars are out."""


MORNING = Palette(
    ("#5b8fc7", "#a9c8e4", "#fbe3c4", "#ffc98f"),
    ("#b9bfd6", "#2f4a4f"),
    "#fff1cf",
    "#fff6ea",
)
NOON = Palette(
    ("#2a78c8", "#69aee6", "#c4e4f6"), ("#9cc3cf", "#2e6b3c"), "#fffbe8", "#ffffff"
)
EVENING = Palette(
    ("#2b2d6b", "#8a4a8f", "#ef7e5c", "#ffc46b"),
    ("#a35d83", "#1d1c39"),
    "#ffdf9e",
    "#f7a58c",
)
NIGHT = Palette(
    ("#060a24", "#101c4a", "#2b3f7a"),
    ("#2a3a6b", "#060917"),
    "#f4f1de",
    "#3a4a80",
    dark=True,
)
AUTUMN = Palette(
    ("#7397b8", "#c9cfcb", "#f6dcae"), ("#c08f66", "#5a2a16"), "#fff0c9", "#f7efe2"
)
WINTER = Palette(
    ("#7ea6d6", "#bcd3ec", "#f3e6ea"), ("#d4dff0", "#5d7aa6"), "#fff8ec", "#ffffff"
)
DESERT = Palette(
    ("#3a6ea8", "#9cc0d0", "#ffe0ae"), ("#e3b37c", "#8a3f1c"), "#fff3d0", "#fff4e2"
)


def gradient(size: Size, stops: tuple[str, ...]) -> Image.Image:
    """Return a picture that runs through the stops from top to bottom."""
    width, height = size
    at = np.linspace(0, len(stops) - 1, height)
    column = np.stack(
        [
            np.interp(at, range(len(stops)), [color(stop)[band] for stop in stops])
            for band in range(3)
        ],
        axis=-1,
    )
    # A little noise keeps the bands of a wide gradient from showing.
    noise = np.random.default_rng(7).uniform(-1, 1, (height, width, 1))
    pixels = np.clip(column[:, None, :] + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def glow(radius: int, light: str, strength: float = 1.0) -> Image.Image:
    """Return a round soft light, twice the radius wide, brightest in its middle."""
    y, x = np.mgrid[-radius:radius, -radius:radius] / radius
    fade = np.clip(1 - np.hypot(x, y), 0, 1) ** 2.4 * 255 * strength
    sprite = Image.new("RGBA", (2 * radius, 2 * radius), color(light))
    sprite.putalpha(Image.fromarray(fade.astype(np.uint8)))
    return sprite


def disc(radius: int, light: str) -> Image.Image:
    """Return a filled circle with a smooth edge."""
    y, x = np.mgrid[-radius:radius, -radius:radius] + 0.5
    edge = np.clip(radius - np.hypot(x, y), 0, 1) * 255
    sprite = Image.new("RGBA", (2 * radius, 2 * radius), color(light))
    sprite.putalpha(Image.fromarray(edge.astype(np.uint8)))
    return sprite


def put(picture: Image.Image, sprite: Image.Image, x: float, y: float) -> None:
    """Lay a sprite upon the picture, its middle at x, y."""
    picture.paste(
        sprite, (round(x - sprite.width / 2), round(y - sprite.height / 2)), sprite
    )


def ridge(width: int, roughness: float, seed: int) -> Grid:
    """Return the heights of a ridge, -1 to 1; its right end continues at its left."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 2 * math.pi, width, endpoint=False)
    line = np.zeros(width)
    for wave in range(1, 28):
        line += np.sin(wave * x + rng.uniform(0, 2 * math.pi)) * wave**-roughness
    return np.asarray(line / np.abs(line).max())


def hill(
    size: Size, tops: Grid, shade: str, *, foot: str | None = None, snow: float = 0
) -> Image.Image:
    """Return what lies below a ridge. `tops` are rows from the top of the picture, `snow` those that are white on a peak."""
    width, height = size
    rows = np.arange(height)[:, None] + 0.5
    depth = rows - tops[None, :]
    stops = (shade, foot or shade)
    layer = gradient(size, stops)
    if snow:
        # Snow lies on the peaks: the lower the ridge, the thinner.
        peak = np.clip((np.median(tops) - tops) / np.ptp(tops) * 2.5, 0, 1)
        edge = snow * peak * (1 + 0.12 * np.sin(np.arange(width) / 3))
        white = np.clip(edge - depth, 0, 4) / 4
        layer.paste(
            color("#f8fbff"), mask=Image.fromarray((white * 235).astype(np.uint8))
        )
    layer.putalpha(Image.fromarray((np.clip(depth, 0, 1) * 255).astype(np.uint8)))
    return layer


def clouds(size: Size, shade: str, seed: int, amount: float = 0.5) -> Image.Image:
    """Return drifting clouds; the right end continues at the left."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0]))
    for octave, weight in ((3, 1.0), (6, 0.55), (12, 0.3), (24, 0.15)):
        cells = rng.uniform(0, 1, (octave * 2, octave))
        wrapped = np.concatenate([cells, cells[:, :1]], axis=1)
        field = Image.fromarray(wrapped.astype(np.float32)).resize(
            size, Image.Resampling.BICUBIC
        )
        total += np.asarray(field) * weight
    total = (total - total.min()) / np.ptp(total)
    alpha = np.clip((total - (1 - amount)) / amount, 0, 1) ** 1.3 * 190
    layer = Image.new("RGBA", size, color(shade))
    layer.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return layer


def stars(picture: Image.Image, horizon: int, seed: int) -> None:
    """Scatter stars over the sky of a night."""
    rng = np.random.default_rng(seed)
    scale = picture.width / 768
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(220):
        x, y = rng.uniform(0, picture.width), rng.uniform(0, horizon)
        radius = rng.uniform(0.4, 1.3) * scale
        alpha = int(rng.uniform(80, 240) * (1 - 0.6 * y / horizon))
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=(255, 255, 255, alpha),
        )


def firs(layer: Image.Image, tops: Grid, shade: str, seed: int, share: float) -> None:
    """Let fir trees stand along a ridge."""
    rng = np.random.default_rng(seed)
    draw = ImageDraw.Draw(layer)
    width = layer.width
    x = 0.0
    while x < width:
        height = layer.height * rng.uniform(0.5, 1) * share
        foot = float(tops[int(x) % width]) + height * 0.18
        for tier in range(4):
            top = foot - height * (1 - tier * 0.2)
            half = height * (0.09 + 0.05 * tier)
            draw.polygon(
                [(x, top), (x - half, top + height * 0.36), (x + half, top + height * 0.36)],
                fill=(*color(shade), 255),
            )  # fmt: skip
        x += height * rng.uniform(0.25, 0.9)


def mirror(picture: Image.Image, horizon: int, tint: str) -> None:
    """Turn what lies below the horizon into water that shows what lies above it."""
    width, height = picture.size
    depth = height - horizon
    top = max(0, horizon - depth)
    pixels = np.asarray(picture.crop((0, top, width, horizon)))[::-1]
    water = np.empty((depth, width, 3), np.uint8)
    waves = np.sin(np.arange(depth) ** 0.8 * 0.9) * (1 + np.arange(depth) / 22)
    for row, shift in enumerate((waves * width / 768).astype(int) % width):
        source = pixels[min(row, len(pixels) - 1)]
        # A loop over rows, since a film needs a thousand of these and one big index costs five times as much.
        water[row, shift:] = source[: width - shift]
        water[row, :shift] = source[width - shift :]
    tinted = Image.blend(
        Image.fromarray(water), Image.new("RGB", (width, depth), color(tint)), 0.28
    )
    picture.paste(tinted, (0, horizon))


@dataclass(frozen=True, slots=True)
class Landscape:
    """A view to be painted in any size."""

    palette: Palette
    seed: int
    sun: tuple[float, float] = (0.68, 0.4)
    """Where the sun or moon stands, as shares of width and height."""
    ridges: int = 4
    roughness: float = 1.5
    horizon: float = 0.52
    """Where the farthest ridge begins, as a share of the height."""
    relief: float = 0.16
    cloudy: float = 0.45
    trees: bool = True
    lake: float | None = None
    """Where the water begins, as a share of the height."""
    snow: float = 0
    flowers: bool = False

    def paint(self, size: Size) -> Image.Image:
        """Return the picture."""
        width, height = size
        picture = gradient(size, self.palette.sky)
        if self.palette.dark:
            stars(picture, int(height * 0.6), self.seed)
        sun_x, sun_y = self.sun[0] * width, self.sun[1] * height
        put(picture, glow(int(height * 0.62), self.palette.light, 0.75), sun_x, sun_y)
        put(picture, disc(int(height * 0.055), self.palette.light), sun_x, sun_y)
        if self.cloudy:
            sky = (width, int(height * 0.7))
            veil = clouds(sky, self.palette.cloud, self.seed + 1, self.cloudy)
            picture.paste(veil, (0, 0), veil)
        for index in range(self.ridges):
            self._ridge(picture, index)
            if self.lake is not None and index == self.ridges - 2:
                mirror(picture, int(height * self.lake), self.palette.hills[0])
        if self.flowers:
            self._flowers(picture)
        return picture

    def _ridge(self, picture: Image.Image, index: int) -> None:
        width, height = picture.size
        near = index / max(1, self.ridges - 1)
        base = self.horizon + (0.9 - self.horizon) * near
        if self.lake is not None and index < self.ridges - 1:
            base = min(base, self.lake - 0.02)
        relief = self.relief * (1 - 0.55 * near)
        tops = (
            base - ridge(width, self.roughness, self.seed * 31 + index) * relief
        ) * height
        shade, foot = (self._shade(near), self._shade(min(1.0, near + 0.22)))
        snow = self.snow * height * (1 - near) if near < 0.6 else 0
        layer = hill(picture.size, tops, shade, foot=foot, snow=snow)
        if self.trees and near >= 0.6:
            firs(layer, tops, shade if near < 1 else foot, self.seed + index, 0.07 + 0.08 * near)  # fmt: skip
        picture.paste(layer, (0, 0), layer)

    def _shade(self, near: float) -> str:
        far, close = (color(code) for code in self.palette.hills)
        mixed = (
            round(a + (b - a) * near**0.8) for a, b in zip(far, close, strict=True)
        )
        return "#{:02x}{:02x}{:02x}".format(*mixed)

    def _flowers(self, picture: Image.Image) -> None:
        rng = np.random.default_rng(self.seed + 5)
        draw = ImageDraw.Draw(picture)
        width, height = picture.size
        shades = ("#ffdf5a", "#ff6f7d", "#ffffff", "#c58bff", "#ff9f45")
        for _ in range(700):
            y = height * (1 - 0.17 * rng.uniform(0, 1) ** 1.5)
            radius = height * 0.0035 * (1 + (y / height - 0.83) * 9)
            x = rng.uniform(0, width)
            draw.ellipse(
                (x - radius, y - radius, x + radius, y + radius),
                fill=color(shades[rng.integers(len(shades))]),
            )
