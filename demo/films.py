"""The moving pictures of the sample library.

Each film is a class that paints its still parts once and then any moment on demand. A clock and a line that grows with
the time show where a film is, so that a seek can be seen - and measured.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .painting import (
    AUTUMN,
    EVENING,
    MORNING,
    NIGHT,
    NOON,
    WINTER,
    Palette,
    clouds,
    color,
    disc,
    firs,
    glow,
    gradient,
    hill,
    mirror,
    put,
    ridge,
    stars,
)

SIZE = (768, 432)
WIDTH, HEIGHT = SIZE
PROGRESS_LINE = 5
"""Rows at the lower edge that hold the line of time."""


class Film(Protocol):
    """Something that can paint any moment of itself."""

    def frame(self, t: float, duration: float) -> Image.Image:
        """Return the picture at t seconds."""


def stamped(film: Film, t: float, duration: float) -> Image.Image:
    """Return a moment of the film with its clock and the line of time."""
    picture = film.frame(t, duration)
    draw = ImageDraw.Draw(picture, "RGBA")
    draw.rounded_rectangle((16, 16, 122, 44), 14, fill=(0, 0, 0, 110))
    minutes, seconds = divmod(t, 60)
    draw.text(
        (69, 30),
        f"{int(minutes):02}:{seconds:05.2f}",
        font=_CLOCK,
        fill=(255, 255, 255, 235),
        anchor="mm",
    )
    top = HEIGHT - PROGRESS_LINE
    draw.rectangle((0, top, WIDTH, HEIGHT), fill=(20, 20, 24))
    draw.rectangle((0, top, round(WIDTH * t / duration), HEIGHT), fill=(255, 255, 255))
    return picture


_CLOCK = ImageFont.load_default(18)


class _Drift:
    """A layer that is wider than the picture and moves past it without an end."""

    def __init__(self, layer: Image.Image, top: int = 0) -> None:
        self._layer = Image.new("RGBA", (layer.width + WIDTH, layer.height))
        self._layer.paste(layer, (0, 0))
        self._layer.paste(layer.crop((0, 0, WIDTH, layer.height)), (layer.width, 0))
        self._length = layer.width
        self._top = top

    def paint(self, picture: Image.Image, way: float) -> None:
        """Lay the layer upon the picture after it moved `way` pixels to the left."""
        left = round(way) % self._length
        part = self._layer.crop((left, 0, left + WIDTH, self._layer.height))
        picture.paste(part, (0, self._top), part)


def _range(
    palette: Palette,
    near: float,
    base: float,
    relief: float,
    seed: int,
    *,
    trees: bool = False,
    snow: float = 0,
    width: int = 2 * WIDTH,
) -> _Drift:
    far, close = (color(code) for code in palette.hills)
    mixed = [round(a + (b - a) * near) for a, b in zip(far, close, strict=True)]
    shade = "#{:02x}{:02x}{:02x}".format(*mixed)
    foot = "#{:02x}{:02x}{:02x}".format(*(round(c * 0.72) for c in mixed))
    tops = (base - ridge(width, 1.5, seed) * relief) * HEIGHT
    layer = hill((width, HEIGHT), tops, shade, foot=foot, snow=snow * HEIGHT)
    if trees:
        firs(layer, tops, shade, seed, 0.11)
    top = (layer.getbbox() or (0, 0, 0, 0))[1]
    return _Drift(layer.crop((0, top, width, HEIGHT)), top)


class SunsetAtThePier:
    """The sun sinks into the sea, a boat sails by."""

    def __init__(self) -> None:
        """Paint what does not move."""
        self._horizon = int(HEIGHT * 0.6)
        self._early = gradient((WIDTH, self._horizon), (*NOON.sky[1:], "#ffe3b0"))
        self._late = gradient((WIDTH, self._horizon), EVENING.sky)
        self._clouds = _Drift(
            clouds((2 * WIDTH, self._horizon - 30), EVENING.cloud, 4, 0.5)
        )
        self._glow = glow(300, EVENING.light, 0.85)
        self._sun = disc(34, "#fff0c4")
        self._glints = np.random.default_rng(9).uniform(0, 1, (150, 4))

    def frame(self, t: float, duration: float) -> Image.Image:
        """Return the picture at t seconds."""
        done = t / duration
        picture = Image.new("RGB", SIZE)
        dusk = min(1.0, 0.25 + done)
        picture.paste(Image.blend(self._early, self._late, dusk), (0, 0))
        sun_x, sun_y = WIDTH * 0.62, self._horizon * (0.42 + 0.62 * done)
        put(picture, self._glow, sun_x, sun_y)
        put(picture, self._sun, sun_x, sun_y)
        self._clouds.paint(picture, t * 9)
        mirror(picture, self._horizon, "#2c3f73")
        draw = ImageDraw.Draw(picture, "RGBA")
        for row, phase, speed, length in self._glints:
            depth = row**1.6 * (HEIGHT - self._horizon)
            y = self._horizon + depth
            spread = 14 + depth * 0.5
            x = sun_x + spread * math.sin(phase * 6.283 + t * (0.5 + speed))
            half = (3 + length * 16) * (0.4 + depth / 120)
            alpha = int(
                150 * (0.5 + 0.5 * math.sin(t * 3 * (speed + 0.4) + phase * 20))
            )
            draw.line((x - half, y, x + half, y), fill=(255, 226, 160, alpha), width=2)
        self._boat(draw, WIDTH * (0.08 + 0.62 * done), self._horizon + 26, t)
        self._pier(draw)
        return picture

    def _boat(self, draw: ImageDraw.ImageDraw, x: float, y: float, t: float) -> None:
        y += 2.5 * math.sin(t * 1.7)
        lean = 4 * math.sin(t * 1.1)
        dark, sail = (27, 22, 48, 255), (250, 238, 222, 245)
        draw.polygon([(x - 34, y), (x + 34, y), (x + 24, y + 12), (x - 25, y + 12)], fill=dark)  # fmt: skip
        draw.line((x, y, x + lean, y - 76), fill=dark, width=2)
        draw.polygon([(x + 3, y - 6), (x + 32, y - 8), (x + 2 + lean, y - 74)], fill=sail)  # fmt: skip
        draw.polygon([(x - 3, y - 6), (x - 24, y - 8), (x - 2 + lean, y - 60)], fill=(255, 196, 150, 235))  # fmt: skip

    def _pier(self, draw: ImageDraw.ImageDraw) -> None:
        dark = (24, 18, 40, 255)
        deck = HEIGHT - 78
        draw.polygon([(WIDTH, deck - 12), (WIDTH - 236, deck), (WIDTH - 236, deck + 9), (WIDTH, deck + 6)], fill=dark)  # fmt: skip
        for post in range(5):
            x = WIDTH - 226 + post * 54
            draw.rectangle((x, deck - 24 - post, x + 6 + post, HEIGHT), fill=dark)


class MorningInTheMountains:
    """Mountains pass by while the sun rises and birds fly."""

    def __init__(self) -> None:
        """Paint what does not move."""
        self._dawn = gradient(SIZE, ("#39406f", "#8b6f9b", "#f0a98a", "#ffd3a0"))
        self._day = gradient(SIZE, MORNING.sky)
        self._clouds = _Drift(clouds((2 * WIDTH, 260), MORNING.cloud, 12, 0.45))
        self._glow, self._sun = glow(260, MORNING.light, 0.9), disc(26, MORNING.light)
        self._ridges = [
            _range(MORNING, 0.0, 0.46, 0.22, 21, snow=0.1),
            _range(MORNING, 0.3, 0.6, 0.15, 22, snow=0.03),
            _range(MORNING, 0.65, 0.74, 0.1, 23, trees=True),
            _range(MORNING, 1.0, 0.9, 0.06, 24, trees=True),
        ]

    def frame(self, t: float, duration: float) -> Image.Image:
        """Return the picture at t seconds."""
        done = t / duration
        picture = Image.blend(self._dawn, self._day, min(1.0, done * 1.4))
        put(picture, self._glow, WIDTH * 0.34, HEIGHT * (0.62 - 0.42 * done))
        put(picture, self._sun, WIDTH * 0.34, HEIGHT * (0.62 - 0.42 * done))
        self._clouds.paint(picture, t * 7)
        for index, layer in enumerate(self._ridges):
            layer.paint(picture, t * (4, 9, 18, 34)[index])
        draw = ImageDraw.Draw(picture, "RGBA")
        for bird in range(7):
            x = (WIDTH * 1.2 - t * (38 + 3 * bird) - bird * 46) % (WIDTH * 1.3) - 60
            y = 96 + 18 * math.sin(bird * 2.1 + t * 0.6) + bird % 3 * 20
            flap = 7 * math.sin(t * 7 + bird)
            draw.line([(x - 11, y - flap), (x, y), (x + 11, y - flap)], fill=(30, 34, 54, 230), width=2)  # fmt: skip
        return picture


class PaperLighthouse:
    """A lighthouse turns its beam over the sea at night."""

    def __init__(self) -> None:
        """Paint what does not move."""
        horizon = int(HEIGHT * 0.66)
        sky = gradient(SIZE, NIGHT.sky)
        stars(sky, horizon, 31)
        put(sky, glow(210, NIGHT.light, 0.55), WIDTH * 0.2, HEIGHT * 0.24)
        put(sky, disc(25, NIGHT.light), WIDTH * 0.2, HEIGHT * 0.24)
        self._still = sky
        self._horizon = horizon
        self._clouds = _Drift(clouds((2 * WIDTH, 240), "#3d4d86", 32, 0.4))
        self._cliff = _cliff()
        self._halo = glow(70, "#fff3c0", 1.0)
        self._lamp = (WIDTH * 0.755, HEIGHT * 0.29)

    def frame(self, t: float, duration: float) -> Image.Image:
        """Return the picture at t seconds."""
        picture = self._still.copy()
        self._clouds.paint(picture, t * 11)
        x, y = self._lamp
        turn = t * 1.1
        light = Image.new("L", (WIDTH // 4, HEIGHT // 4))
        beam = ImageDraw.Draw(light)
        for side in (0.0, math.pi):
            swing, toward = math.cos(turn + side), math.sin(turn + side)
            reach, wide = swing * WIDTH, 34 + 46 * max(0.0, toward)
            shade = int(95 * (0.35 + 0.65 * abs(swing)))
            tip = (x + reach) / 4
            beam.polygon([(x / 4, y / 4), (tip, (y - wide) / 4), (tip, (y + wide) / 4)], fill=shade)  # fmt: skip
        light = light.filter(ImageFilter.GaussianBlur(2.2)).resize(SIZE)
        picture.paste((255, 243, 196), (0, 0), light)
        mirror(picture, self._horizon, "#0b1638")
        draw = ImageDraw.Draw(picture, "RGBA")
        for wave in range(26):
            depth = (wave / 26) ** 1.5
            row = self._horizon + 4 + depth * (HEIGHT - self._horizon)
            at = (wave * 173 + t * (12 + 30 * depth)) % (WIDTH + 160) - 80
            half = 14 + 50 * depth
            draw.line((at - half, row, at + half, row), fill=(150, 175, 235, 70), width=1 + int(2 * depth))  # fmt: skip
        picture.paste(self._cliff, (0, 0), self._cliff)
        size = 0.6 + 0.4 * abs(math.sin(turn))
        halo = self._halo.resize((int(140 * size), int(140 * size)))
        put(picture, halo, x, y)
        return picture


def _cliff() -> Image.Image:
    """Return the cliff with its lighthouse, drawn large and made small for smooth edges."""
    layer = Image.new("RGBA", (WIDTH * 2, HEIGHT * 2))
    draw = ImageDraw.Draw(layer)
    rock, dark = (13, 16, 34), (9, 11, 24)
    draw.polygon([(860, 864), (930, 690), (1010, 640), (1080, 606), (1300, 598), (1410, 640), (1536, 628), (1536, 864)], fill=rock)  # fmt: skip
    draw.polygon([(1120, 610), (1138, 300), (1182, 300), (1200, 610)], fill=(236, 230, 220))  # fmt: skip
    for band in range(3):
        top = 350 + band * 90
        draw.polygon([(1135 - band * 5, top), (1185 + band * 5, top), (1188 + band * 5, top + 42), (1132 - band * 5, top + 42)], fill=(196, 62, 58))  # fmt: skip
    draw.rectangle((1126, 286, 1194, 302), fill=dark)
    draw.rectangle((1142, 226, 1178, 286), fill=(255, 240, 190))
    draw.polygon([(1134, 228), (1186, 228), (1160, 190)], fill=(150, 44, 46))
    draw.rectangle((1240, 540, 1330, 602), fill=(44, 40, 62))
    draw.polygon([(1228, 542), (1342, 542), (1310, 500), (1258, 500)], fill=dark)
    draw.rectangle((1264, 562, 1284, 582), fill=(255, 206, 120))
    return layer.resize(SIZE, Image.Resampling.LANCZOS)


class NightTrain:
    """A lit train runs through the hills."""

    def __init__(self) -> None:
        """Paint what does not move."""
        self._sky = gradient(SIZE, ("#141a4a", "#3b2f73", "#7d4a86"))
        stars(self._sky, 240, 41)
        put(self._sky, glow(180, "#ffe9c7", 0.5), WIDTH * 0.8, 84)
        put(self._sky, disc(22, "#fff2d8"), WIDTH * 0.8, 84)
        self._far = _range(NIGHT, 0.1, 0.58, 0.14, 42)
        self._middle = _range(NIGHT, 0.5, 0.7, 0.1, 43, trees=True)
        self._near = _range(NIGHT, 1.0, 0.93, 0.03, 44)
        self._train = _train()

    def frame(self, t: float, duration: float) -> Image.Image:
        """Return the picture at t seconds."""
        picture = self._sky.copy()
        self._far.paint(picture, t * 14)
        self._middle.paint(picture, t * 60)
        draw = ImageDraw.Draw(picture, "RGBA")
        draw.rectangle((0, 352, WIDTH, HEIGHT), fill=(10, 12, 28, 255))
        arrive = WIDTH * 0.1 - (WIDTH + 200) * max(0.0, 1 - t / 4) ** 2
        left = round(arrive + 8 * math.sin(t * 0.7))
        picture.paste(self._train, (left, 276 + round(math.sin(t * 9))), self._train)
        self._near.paint(picture, t * 260)
        for pole in range(2):
            x = (pole * 560 - t * 420) % 1120 - 80
            draw.rectangle((x, 150, x + 7, HEIGHT), fill=(6, 7, 18, 255))
            draw.rectangle((x - 26, 168, x + 33, 173), fill=(6, 7, 18, 255))
        return picture


def _train() -> Image.Image:
    layer = Image.new("RGBA", (1400, 170))
    draw = ImageDraw.Draw(layer)
    for car in range(3):
        x = car * 440
        draw.rounded_rectangle((x + 6, 16, x + 424, 132), 18, fill=(134, 38, 52, 255))
        draw.rectangle((x + 6, 96, x + 424, 104), fill=(236, 206, 150, 255))
        for window in range(6):
            at = x + 30 + window * 66
            lit = (255, 224, 150) if (car * 6 + window) % 5 else (60, 52, 84)
            draw.rounded_rectangle((at, 36, at + 46, 82), 8, fill=(*lit, 255))
        for wheel in (60, 120, 310, 370):
            draw.ellipse((x + wheel - 18, 118, x + wheel + 18, 154), fill=(16, 16, 28, 255))  # fmt: skip
        draw.rectangle((x + 424, 108, x + 446, 118), fill=(16, 16, 28, 255))
    return layer.resize((700, 85), Image.Resampling.LANCZOS)


class Balloons:
    """Balloons rise through confetti."""

    _SHADES = ("#ff5d73", "#ffb23e", "#3ec6a8", "#4f8cff", "#b06bff", "#ff85c8")

    def __init__(self) -> None:
        """Paint what does not move."""
        self._back = gradient(SIZE, ("#8fd3ff", "#d9f0ff", "#fff3dc"))
        self._clouds = _Drift(clouds((2 * WIDTH, 300), "#ffffff", 52, 0.5))
        rng = np.random.default_rng(51)
        self._balloons = rng.uniform(0, 1, (14, 4))
        self._confetti = rng.uniform(0, 1, (130, 4))
        self._sprites = [
            _balloon(shade, radius) for radius in (30, 44) for shade in self._SHADES
        ]

    def frame(self, t: float, duration: float) -> Image.Image:
        """Return the picture at t seconds."""
        picture = self._back.copy()
        self._clouds.paint(picture, t * 10)
        draw = ImageDraw.Draw(picture, "RGBA")
        for x, y, speed, shade in self._confetti:
            row = (y * 500 + t * (40 + 70 * speed)) % 500 - 30
            at = x * WIDTH + 14 * math.sin(t * 2 + y * 30)
            wide = 4 * abs(math.cos(t * 4 * speed + x * 9)) + 1
            fill = (*color(self._SHADES[int(shade * 6)]), 235)
            draw.rectangle((at - wide, row - 3, at + wide, row + 3), fill=fill)
        for number, (x, y, speed, sway) in enumerate(self._balloons):
            row = HEIGHT + 90 - (y * 620 + t * (46 + 34 * speed)) % 620
            at = x * WIDTH + 20 * math.sin(t * 0.9 + sway * 6.3)
            put(picture, self._sprites[number % 12], at, row)
        return picture


def _balloon(shade: str, radius: int) -> Image.Image:
    big = radius * 2
    layer = Image.new("RGBA", (big * 2 + 8, big * 5))
    draw = ImageDraw.Draw(layer)
    middle = big + 4
    fill = color(shade)
    draw.line([(middle, big * 2.3), (middle - 8, big * 3.4), (middle + 6, big * 5)], fill=(90, 90, 110, 150), width=3)  # fmt: skip
    draw.ellipse((4, 2, big * 2 + 4, big * 2.35), fill=(*fill, 240))
    draw.polygon([(middle - 10, big * 2.44), (middle + 10, big * 2.44), (middle, big * 2.28)], fill=(*fill, 240))  # fmt: skip
    draw.ellipse((big * 0.5, big * 0.35, big * 0.95, big * 0.95), fill=(255, 255, 255, 110))  # fmt: skip
    return layer.resize((layer.width // 2, layer.height // 2), Image.Resampling.LANCZOS)


class CatAtTheWindow:
    """A cat watches the snow, and its tail moves."""

    def __init__(self) -> None:
        """Paint what does not move."""
        outside = gradient(SIZE, WINTER.sky)
        _range(WINTER, 0.2, 0.6, 0.16, 61, snow=0.1).paint(outside, 40)
        _range(WINTER, 0.8, 0.8, 0.07, 62, trees=True).paint(outside, 90)
        self._outside = outside
        self._flakes = np.random.default_rng(63).uniform(0, 1, (170, 3))

    def frame(self, t: float, duration: float) -> Image.Image:
        """Return the picture at t seconds."""
        picture = self._outside.copy()
        draw = ImageDraw.Draw(picture, "RGBA")
        for x, y, near in self._flakes:
            row = (y * 450 + t * (30 + 50 * near)) % 450 - 10
            at = (x * WIDTH + 16 * math.sin(t + y * 40) + t * 8) % WIDTH
            radius = 1 + 2.4 * near
            draw.ellipse((at - radius, row - radius, at + radius, row + radius), fill=(255, 255, 255, 215))  # fmt: skip
        wood, light = color(AUTUMN.hills[1]), (148, 92, 58)
        draw.rectangle((0, 0, WIDTH, 22), fill=wood)
        for x in (0, WIDTH // 2 - 9, WIDTH - 22):
            draw.rectangle((x, 0, x + 22, HEIGHT), fill=wood)
        draw.rectangle((0, HEIGHT - 86, WIDTH, HEIGHT), fill=light)
        draw.rectangle((0, HEIGHT - 86, WIDTH, HEIGHT - 78), fill=(180, 120, 78))
        self._cat(draw, t)
        return picture

    def _cat(self, draw: ImageDraw.ImageDraw, t: float) -> None:
        fur, x, foot = (38, 32, 44, 255), 250, HEIGHT - 80
        points = []
        for step in range(22):
            along = step / 21
            curl = math.sin(t * 1.8 - along * 2.4) * 26 * along
            points.append((x + 52 + along * 118, foot - 12 - along * 16 + curl))
        draw.line(points, fill=fur, width=15, joint="curve")
        draw.ellipse((points[-1][0] - 7, points[-1][1] - 7, points[-1][0] + 7, points[-1][1] + 7), fill=fur)  # fmt: skip
        draw.ellipse((x - 58, foot - 150, x + 72, foot + 8), fill=fur)
        turn = 7 * math.sin(t * 0.8)
        head = x - 8 + turn
        draw.ellipse((head - 48, foot - 214, head + 48, foot - 128), fill=fur)
        for side in (-1, 1):
            twitch = 5 * max(0.0, math.sin(t * 5 + side)) ** 8
            draw.polygon([(head + side * 44, foot - 180), (head + side * (38 + twitch), foot - 240), (head + side * 10, foot - 208)], fill=fur)  # fmt: skip
        if t % 3.4 > 0.16:
            for side in (-1, 1):
                draw.ellipse((head + side * 20 - 8, foot - 184, head + side * 20 + 8, foot - 168), fill=(170, 214, 120, 255))  # fmt: skip
                draw.ellipse((head + side * 20 - 2 + turn / 3, foot - 183, head + side * 20 + 3 + turn / 3, foot - 169), fill=(20, 20, 24, 255))  # fmt: skip
